//! Printing records: plain, verbose, JSON (pcp 9.5).

use super::connection::Failure;
use serde_json::{Map, Number, Value};

/// A column of a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// What verbose output calls it.
    title: &'static str,
    /// What JSON calls it.
    key: &'static str,
    number: bool,
}

/// A column of text.
pub(super) const fn text(title: &'static str, key: &'static str) -> Column {
    Column { title, key, number: false }
}

/// A column of numbers.
pub(super) const fn number(title: &'static str, key: &'static str) -> Column {
    Column { title, key, number: true }
}

/// Appends the values with a blank between.
pub(super) fn plain(out: &mut Vec<u8>, values: &[Vec<u8>]) {
    out.extend(values.join(&b' '));
    out.push(b'\n');
}

/// Appends a line per value, and an empty one. Columns for which there is no value are left out.
pub(super) fn verbose(out: &mut Vec<u8>, columns: &[Column], values: &[Vec<u8>]) {
    let width = columns.iter().map(|column| column.title.len()).max().unwrap_or(0);
    for (column, value) in columns.iter().zip(values) {
        out.extend(format!("{:<width$} : ", column.title).bytes());
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out.push(b'\n');
}

/// The record as a JSON object. A number that is none is null; of one with a remark behind it, such as
/// `8 (1:32 before client disconnected)`, the number counts.
pub(super) fn object(columns: &[Column], values: &[Vec<u8>]) -> Map<String, Value> {
    let json = |column: &Column, value: &[u8]| {
        let value = String::from_utf8_lossy(value);
        if !column.number {
            return value.into();
        }
        let number = value.split_once(" (").map_or(&*value, |(number, _)| number);
        number.parse::<Number>().map_or(Value::Null, Value::Number)
    };
    columns.iter().zip(values).map(|(column, value)| (column.key.to_owned(), json(column, value))).collect()
}

/// JSON as it is printed.
pub(super) fn json(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// What is said of a reply that does not follow the protocol.
pub(super) fn invalid() -> Failure {
    Failure::trouble("command failed. invalid response")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms() {
        let columns = [text("Name", "name"), number("How many", "count"), number("Gone", "gone")];
        let values = [b"a \"b\"".to_vec(), b"3".to_vec(), b"".to_vec()];
        let (mut plainly, mut verbosely) = (Vec::new(), Vec::new());
        plain(&mut plainly, &values);
        assert_eq!(plainly, b"a \"b\" 3 \n");
        verbose(&mut verbosely, &columns, &values[..2]);
        assert_eq!(verbosely, b"Name     : a \"b\"\nHow many : 3\n\n");
        let json = Value::Object(object(&columns, &values)).to_string();
        assert_eq!(json, r#"{"count":3,"gone":null,"name":"a \"b\""}"#);
        let idle = object(&columns[1..2], &[b"8 (1:32 before client disconnected)".to_vec()]);
        assert_eq!(idle["count"], Value::from(8));
    }
}
