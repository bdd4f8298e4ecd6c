//! `pcp_pool_status` (pcp 5.5, 9.5).

use super::connection::Failure;
use super::options::{Form, Options};
use super::records::{self, Column, invalid, text};
use super::reply::Record;
use serde_json::Value;

const COLUMNS: &[Column] = &[text("Name", "name"), text("Value", "value"), text("Description", "description")];

/// The parameters and their values.
pub(super) fn items(options: &Options, answer: &[Record]) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let mut objects = Vec::new();
    for (place, record) in answer.iter().enumerate() {
        let [name, value, description, ..] = record.as_slice() else { return Err(invalid()) };
        let labels = match options.form {
            Form::Plain => ["name : ".to_owned(), "value: ".to_owned(), "desc : ".to_owned()],
            Form::Verbose => [format!("Name [{place:3}]:\t"), "Value:      \t".to_owned(), "Description:\t".to_owned()],
            Form::Json => {
                objects.push(Value::Object(records::object(COLUMNS, record)));
                continue;
            }
        };
        for (label, text) in labels.iter().zip([name, value, description]) {
            out.extend_from_slice(label.as_bytes());
            out.extend_from_slice(text);
            out.push(b'\n');
        }
        out.push(b'\n');
    }
    Ok(if options.form == Form::Json { records::json(&Value::Array(objects)) } else { out })
}
