//! The log as one JSON object a line (`log_format = json`). Fields that have no value are left out.

use super::identity::Identity;
use super::logger::Verbosity;
use super::{Report, Severity};
use chrono::{DateTime, Local, SecondsFormat};
use serde::Serialize;
use serde_json::Value;

/// The fields, in the order in which they are written.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    pid: u32,
    #[serde(skip_serializing_if = "str::is_empty")]
    process: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    application_name: Option<&'a str>,
    severity: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    location: Option<String>,
}

/// `report` as a line. `number` counts the lines of this process.
pub(super) fn line(
    report: &Report,
    identity: &Identity,
    now: DateTime<Local>,
    number: u64,
    verbosity: Verbosity,
) -> String {
    let session = identity.session.as_ref();
    let further = |text| Option::as_deref(text).filter(|_| verbosity != Verbosity::Terse);
    write(&Line {
        timestamp: written(now),
        pid: std::process::id(),
        process: identity.process,
        line: Some(number),
        user: session.map(|session| session.0.as_str()),
        database: session.map(|session| session.1.as_str()),
        application_name: identity.application.as_deref(),
        severity: report.severity.word(),
        code: (report.severity >= Severity::Warning).then(|| report.code.as_str()),
        message: &report.message,
        detail: further(&report.detail),
        hint: further(&report.hint),
        context: further(&report.context),
        location: (verbosity == Verbosity::Verbose).then(|| report.origin.to_string()),
    })
}

/// Whether `text` is a line as [`line`] makes it, of whatever pgpool.
pub(super) fn is_line(text: &[u8]) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(text) else { return false };
    let is_text = |name| fields.get(name).is_some_and(Value::is_string);
    ["timestamp", "severity", "message"].into_iter().all(is_text) && fields.get("pid").is_some_and(Value::is_u64)
}

/// A line of `text` that is not ours, of whoever writes to stderr.
pub(super) fn foreign(text: &str, pid: u32) -> String {
    write(&Line {
        timestamp: written(Local::now()),
        pid,
        process: "stderr",
        line: None,
        user: None,
        database: None,
        application_name: None,
        severity: Severity::Log.word(),
        code: None,
        message: text,
        detail: None,
        hint: None,
        context: None,
        location: None,
    })
}

fn written(now: DateTime<Local>) -> String {
    now.to_rfc3339_opts(SecondsFormat::Millis, false)
}

fn write(line: &Line<'_>) -> String {
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_a_pgpool_is_known() {
        let report = Report::fatal("it does not come up");
        let line = line(&report, &Identity::default(), Local::now(), 1, Verbosity::Default);
        assert!(is_line(line.as_bytes()) && is_line(line.trim_end().as_bytes()));
        for other in ["", "plain", "{}", "[1]", "{\"pid\": 1, \"message\": \"m\"}", &line[1..], &line[..line.len() - 2]]
        {
            assert!(!is_line(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn a_report_is_one_object_with_what_is_known() {
        let mut identity = Identity { process: "child", label: "CHILD", ..Identity::default() };
        let report = Report::error("two\nlines \"quoted\"").detail("why\u{1b}").context("where");
        let parse = |identity: &Identity, verbosity| {
            let text = line(&report, identity, Local::now(), 7, verbosity);
            assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
            serde_json::from_str::<Value>(&text).expect("JSON")
        };
        let value = parse(&identity, Verbosity::Default);
        assert_eq!(value["message"], "two\nlines \"quoted\"");
        assert_eq!((&value["severity"], &value["code"]), (&"ERROR".into(), &"XX000".into()));
        assert_eq!((&value["detail"], &value["context"]), (&"why\u{1b}".into(), &"where".into()));
        assert_eq!((&value["pid"], &value["line"]), (&std::process::id().into(), &7.into()));
        assert!(value.get("hint").is_none() && value.get("user").is_none());
        let stamp = value["timestamp"].as_str().expect("a timestamp");
        assert!(DateTime::parse_from_rfc3339(stamp).is_ok(), "{stamp}");
        identity.session = Some(("alice".into(), "shop".into()));
        let terse = parse(&identity, Verbosity::Terse);
        assert_eq!((&terse["user"], &terse["database"]), (&"alice".into(), &"shop".into()));
        let place = parse(&identity, Verbosity::Verbose)["location"].to_string();
        assert!(place.starts_with("\"src/report/json.rs:"), "{place}");
        assert!(terse.get("detail").is_none() && terse.get("location").is_none() && terse.get("context").is_none());
    }
}
