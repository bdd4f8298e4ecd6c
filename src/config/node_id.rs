//! The file `pgpool_node_id` beside pgpool.conf (config 1.4).

use crate::report::{Report, Result};
use std::io::Read;
use std::path::Path;

/// Node ids are below this number.
const SLOTS: usize = 128;

/// Reads the watchdog node id of this pgpool.
pub fn read(directory: &Path) -> Result<usize> {
    let path = directory.join("pgpool_node_id");
    let path = path.display();
    let mut text = Vec::new();
    std::fs::File::open(directory.join("pgpool_node_id"))
        .and_then(|file| file.take(8).read_to_end(&mut text))
        .map_err(|error| {
            Report::error(format!("Pgpool node id file {path} does not exist"))
                .detail("If watchdog is enable, pgpool_node_id file is required")
                .hint(format!("{error}. The file holds one number, the N of this host's hostnameN."))
        })?;
    parse(&text, &path.to_string())
}

fn parse(text: &[u8], path: &str) -> Result<usize> {
    let digits = text.strip_suffix(b"\n").unwrap_or(text);
    let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
    if digits.is_empty() {
        return Err(Report::error("pgpool_node_id file is empty")
            .detail(format!("If watchdog is enable, we need to specify pgpool node id in {path} file")));
    }
    let number = std::str::from_utf8(digits).ok().filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    let number = number.and_then(|digits| digits.parse::<usize>().ok()).ok_or_else(|| {
        Report::error("pgpool_node_id is not a numeric value")
            .detail(format!("Please specify a numeric value in {path} file"))
    })?;
    if number < SLOTS {
        return Ok(number);
    }
    Err(Report::error(format!("Invalid pgpool node id \"{number}\", must be between 0 and {}", SLOTS - 1)))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn one_number_and_perhaps_a_line_end() {
        assert_eq!(parse(b"7", "f"), Ok(7));
        assert_eq!(parse(b"127\n", "f"), Ok(127));
        assert_eq!(parse(b"0\r\n", "f"), Ok(0));
        let message = |text: &[u8]| parse(text, "f").unwrap_err().message;
        assert_eq!(message(b"\n"), "pgpool_node_id file is empty");
        assert_eq!(message(b" 1"), "pgpool_node_id is not a numeric value");
        assert_eq!(message(b"1\n2"), "pgpool_node_id is not a numeric value");
        assert_eq!(message(b"128"), "Invalid pgpool node id \"128\", must be between 0 and 127");
    }
}
