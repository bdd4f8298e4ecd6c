//! What an administrator should know of pool_passwd: entries that cannot mean what they say.

use super::Entry;
use super::line::parse_line;
use crate::config::Settings;
use crate::report::Report;
use std::fs;

/// Lines named at most.
const NAMED: usize = 10;

/// Remarks on the file, one for each kind of slip. No entry is told.
pub fn review(settings: &Settings) -> Vec<Report> {
    let file = &settings.pool_passwd;
    fs::read(file).map(|content| remarks(file, &content)).unwrap_or_default()
}

fn remarks(file: &str, content: &[u8]) -> Vec<Report> {
    let (mut ends_in_cr, mut malformed, mut empty) = (Vec::new(), Vec::new(), Vec::new());
    for (line, number) in content.split(|byte| *byte == b'\n').zip(1..) {
        let Some((_, password)) = parse_line(line) else { continue };
        if password.ends_with(b"\r") {
            ends_in_cr.push(number);
        }
        match Entry::new(&password, |_| None) {
            Entry::Garbage => malformed.push(number),
            Entry::Empty => empty.push(number),
            _ => {}
        }
    }
    let remark = |lines: &[usize], what: &str, hint: &str| {
        (!lines.is_empty()).then(|| Report::warning(format!("\"{file}\": {what}")).detail(named(lines)).hint(hint))
    };
    let remarks = [
        remark(
            &ends_in_cr,
            "entries end in a carriage return, which counts as a part of the password",
            "Write the file with ends of lines as Unix has them.",
        ),
        remark(
            &malformed,
            "entries begin like a SCRAM verifier and are none that can be used",
            "Copy rolpassword of pg_authid as it is.",
        ),
        remark(&empty, "entries are empty passwords, which let in nobody", "Give the users a password, or no entry."),
    ];
    remarks.into_iter().flatten().collect()
}

/// Numbers of lines, the first of them.
fn named(lines: &[usize]) -> String {
    let numbers: Vec<String> = lines.iter().take(NAMED).map(usize::to_string).collect();
    let rest = lines.len().saturating_sub(NAMED);
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{} {}{more}.", if lines.len() == 1 { "Line" } else { "Lines" }, numbers.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_by_line_and_without_the_entry() {
        let content = b"a:secret\nb:secret\r\nc:TEXT\nd:SCRAM-SHA-512$1:x$y:z\ne:SCRAM-SHA-256$secret\r\n#\n";
        let told: Vec<String> = remarks("file", content)
            .iter()
            .map(|report| format!("{}: {}", report.message, report.detail.as_deref().unwrap_or_default()))
            .collect();
        assert_eq!(
            told,
            [
                "\"file\": entries end in a carriage return, which counts as a part of the password: Lines 2, 5.",
                "\"file\": entries begin like a SCRAM verifier and are none that can be used: Lines 4, 5.",
                "\"file\": entries are empty passwords, which let in nobody: Line 3.",
            ]
        );
        assert!(remarks("file", b"a:secret\nb:md5\n\n").is_empty());
        assert!(named(&(1..13).collect::<Vec<_>>()).ends_with("9, 10 and 2 more."));
    }
}
