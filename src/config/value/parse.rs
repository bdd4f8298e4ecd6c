//! Text to value, by the parameter's kind, with the messages of (config 3).

use super::number::{NotANumber, parse_double, parse_int};
use super::{LogDestinations, NodeFlags, RedirectList, RegexList, RelationPairs, StringList, Value};
use crate::config::catalogue::{IntKind, Kind};
use crate::config::choices::Spellings;
use crate::config::suggest;
use crate::report::{Report, Result};

/// Reads `text` as a value of the parameter written as `name` in the file. What deserves a remark but is no error is
/// pushed on `warnings`.
pub fn parse(name: &str, kind: &Kind, text: &str, warnings: &mut Vec<Report>) -> Result<Value> {
    match *kind {
        Kind::Bool => bool(name, text).map(Value::Bool),
        Kind::Int(int) => whole_number(name, &int, text).map(Value::Int),
        Kind::Double { min, max } => fractional_number(name, min, max, text).map(Value::Double),
        Kind::Text => Ok(Value::Text(text.to_owned())),
        Kind::Enum(spellings) => choice(name, spellings, text, warnings).map(Value::Choice),
        Kind::StringList { separator } => Ok(Value::StringList(StringList::split(text, separator))),
        Kind::RegexList { separator } => Ok(Value::RegexList(RegexList::parse(name, text, separator, warnings))),
        Kind::RedirectList => RedirectList::parse(name, text, warnings).map(Value::RedirectList),
        Kind::RelationPairs => Ok(Value::RelationPairs(RelationPairs::parse(text))),
        Kind::LogDestinations => LogDestinations::parse(name, text).map(Value::LogDestinations),
        Kind::NodeFlags => NodeFlags::parse(name, text, warnings).map(Value::NodeFlags),
    }
}

fn invalid(name: &str, text: &str) -> Report {
    Report::error(format!("invalid value for parameter \"{name}\": \"{text}\""))
}

/// true, yes, on, 1, their opposites, and their unambiguous beginnings (config 3.1).
fn bool(name: &str, text: &str) -> Result<bool> {
    const WORDS: [(&str, bool); 6] =
        [("true", true), ("yes", true), ("on", true), ("false", false), ("no", false), ("off", false)];
    let lower = text.to_ascii_lowercase();
    match lower.as_str() {
        "1" => return Ok(true),
        "0" => return Ok(false),
        "" | "o" => {}
        _ => {
            if let Some((_, on)) = WORDS.iter().find(|(word, _)| word.starts_with(&lower)) {
                return Ok(*on);
            }
        }
    }
    let guess = suggest::closest(&lower, WORDS.iter().map(|(word, _)| *word));
    let hint = format!("Available values: on, off, true, false, yes, no, 1, 0.{}", suggest::question(guess));
    Err(invalid(name, text).hint(hint))
}

fn whole_number(name: &str, int: &IntKind, text: &str) -> Result<i64> {
    let value = parse_int(text, int.unit, int.bits).map_err(|problem| {
        let report = invalid(name, text);
        match (problem, int.unit) {
            (NotANumber::TooLarge, _) => report.hint("Value exceeds allowed range."),
            (NotANumber::BadUnit, Some(unit)) => report.hint(unit.hint()),
            (_, None) if int.octal => report.hint(octal(int)),
            (NotANumber::BadUnit, None) => report.detail("The value is a number without a unit."),
            (NotANumber::Garbage, _) => report.detail("The value is not a number."),
        }
    })?;
    let in_range = (int.min..=int.max).contains(&value) || (value == 0 && int.zero_is_unset);
    if in_range {
        return Ok(value);
    }
    let report = out_of_range(name, value, int.min, int.max);
    Err(if int.octal { report.hint(octal(int)) } else { report })
}

fn octal(int: &IntKind) -> String {
    format!("It is a mode in octal, with 0 in front: 0{:03o} to 0{:03o}.", int.min, int.max)
}

fn fractional_number(name: &str, min: f64, max: f64, text: &str) -> Result<f64> {
    let value = parse_double(text).ok_or_else(|| invalid(name, text).detail("The value is not a number."))?;
    if (min..=max).contains(&value) {
        return Ok(value);
    }
    Err(out_of_range(name, format!("{value:.6}"), format!("{min:.6}"), format!("{max:.6}")))
}

fn out_of_range<T: std::fmt::Display>(name: &str, value: T, min: T, max: T) -> Report {
    Report::error(format!("{value} is outside the valid range for parameter \"{name}\" ({min} .. {max})"))
}

fn choice(name: &str, spellings: &Spellings, text: &str, warnings: &mut Vec<Report>) -> Result<usize> {
    if let Some(position) = spellings.position(text) {
        return Ok(position);
    }
    if let Some(position) = spellings.old_position(text) {
        let today = spellings.values[position];
        warnings.push(Report::warning(format!("value \"{text}\" of \"{name}\" is changed to \"{today}\"")));
        return Ok(position);
    }
    let available = spellings.listed().collect::<Vec<_>>().join(", ");
    let guess = suggest::closest(&text.to_ascii_lowercase(), spellings.listed());
    Err(invalid(name, text).hint(format!("Available values: {available}.{}", suggest::question(guess))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::catalogue::parameter;

    fn read(name: &str, text: &str) -> Result<Value> {
        parse(name, &parameter(name).unwrap().kind, text, &mut Vec::new())
    }

    #[test]
    fn booleans_take_unambiguous_beginnings() {
        for on in ["on", "TRUE", "t", "tr", "yes", "y", "1", "On"] {
            assert_eq!(read("ssl", on), Ok(Value::Bool(true)), "{on}");
        }
        for off in ["off", "of", "F", "no", "n", "0", "false"] {
            assert_eq!(read("ssl", off), Ok(Value::Bool(false)), "{off}");
        }
        for bad in ["o", "2", "maybe", "disabled", "none", "", "truely"] {
            let error = read("ssl", bad).unwrap_err();
            assert_eq!(error.message, format!("invalid value for parameter \"ssl\": \"{bad}\""));
        }
        assert!(read("ssl", "onn").unwrap_err().hint.unwrap().ends_with("Did you mean \"on\"?"));
    }

    #[test]
    fn messages_of_numbers() {
        let error = read("port", "80").unwrap_err();
        assert_eq!(error.message, "80 is outside the valid range for parameter \"port\" (1024 .. 65535)");
        let error = read("port", "9999s").unwrap_err();
        assert_eq!((error.message.as_str(), error.hint), ("invalid value for parameter \"port\": \"9999s\"", None));
        let error = read("child_life_time", "5 weeks").unwrap_err();
        let units = r#"Valid units for this parameter are "us", "ms", "s", "min", "h", and "d"."#;
        assert_eq!(error.hint.as_deref(), Some(units));
        let error = read("child_life_time", "100000d").unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("Value exceeds allowed range."));
        for mode in ["999", "0888", "rwx"] {
            let hint = "It is a mode in octal, with 0 in front: 0000 to 0777.";
            assert_eq!(read("unix_socket_permissions", mode).unwrap_err().hint.as_deref(), Some(hint), "{mode}");
        }
        let error = read("backend_weight", "-1").unwrap_err();
        let expected =
            "-1.000000 is outside the valid range for parameter \"backend_weight\" (0.000000 .. 100000000.000000)";
        assert_eq!(error.message, expected);
    }

    #[test]
    fn messages_of_enums() {
        let error = read("check_temp_table", "catalogue").unwrap_err();
        let expected = "Available values: catalog, trace, none, on, off. Did you mean \"catalog\"?";
        assert_eq!(error.hint.as_deref(), Some(expected));
        assert_eq!(read("check_temp_table", "ON"), Ok(Value::Choice(0)));
        assert_eq!(read("log_min_messages", "Debug"), Ok(Value::Choice(3)));
        let error = read("log_min_messages", "loud").unwrap_err();
        assert!(error.hint.unwrap().starts_with("Available values: debug5, debug4, debug3, debug2, debug1, info, "));
    }

    #[test]
    fn spellings_of_earlier_releases_warn() {
        let mut warnings = Vec::new();
        let kind = &parameter("relcache_query_target").unwrap().kind;
        assert_eq!(parse("relcache_query_target", kind, "master", &mut warnings), Ok(Value::Choice(0)));
        assert_eq!(warnings.len(), 1);
    }
}
