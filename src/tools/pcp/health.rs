//! `pcp_health_check_stats` (pcp 5.6, 9.5).

use super::connection::Failure;
use super::options::{Form, Options};
use super::records::{self, Column, invalid, number, text};
use super::reply::Record;
use serde_json::Value;

const COLUMNS: &[Column] = &[
    number("Node Id", "node_id"),
    text("Host Name", "hostname"),
    number("Port", "port"),
    text("Status", "status"),
    text("Role", "role"),
    text("Last Status Change", "last_status_change"),
    number("Total Count", "total_count"),
    number("Success Count", "success_count"),
    number("Fail Count", "fail_count"),
    number("Skip Count", "skip_count"),
    number("Retry Count", "retry_count"),
    number("Average Retry Count", "average_retry_count"),
    number("Max Retry Count", "max_retry_count"),
    number("Max Health Check Duration", "max_duration_ms"),
    number("Minimum Health Check Duration", "min_duration_ms"),
    number("Average Health Check Duration", "average_duration_ms"),
    text("Last Health Check", "last_health_check"),
    text("Last Successful Health Check", "last_successful_health_check"),
    text("Last Skip Health Check", "last_skip_health_check"),
    text("Last Failed Health Check", "last_failed_health_check"),
];

/// The figures of one node.
pub(super) fn stats(options: &Options, answer: &[Record]) -> Result<Vec<u8>, Failure> {
    let record = answer.first().filter(|record| record.len() >= COLUMNS.len()).ok_or_else(invalid)?;
    let values = &record[..COLUMNS.len()];
    let mut out = Vec::new();
    match options.form {
        Form::Plain => records::plain(&mut out, values),
        Form::Verbose => records::verbose(&mut out, COLUMNS, values),
        Form::Json => out = records::json(&Value::Object(records::object(COLUMNS, values))),
    }
    Ok(out)
}
