//! `pcp_node_count` and `pcp_node_info` (pcp 5.1, 5.2, 9.5).

use super::connection::Failure;
use super::options::{Form, Options};
use super::records::{self, Column, invalid, number, text};
use super::reply::Record;
use chrono::{DateTime, Local};
use serde_json::{Map, Value, json};

const COLUMNS: &[Column] = &[
    text("Hostname", "hostname"),
    number("Port", "port"),
    number("Status", "status"),
    number("Weight", "weight"),
    text("Status Name", "status_name"),
    text("Backend Status Name", "backend_status_name"),
    text("Role", "role"),
    text("Backend Role", "backend_role"),
    number("Replication Delay", "replication_delay"),
    text("Replication State", "replication_state"),
    text("Replication Sync State", "replication_sync_state"),
    text("Last Status Change", "last_status_change"),
];

/// Where the delay is among the columns.
const DELAY: usize = 8;
/// By what the server multiplies weights.
const WEIGHT_SCALE: f64 = 2_147_483_647.0;

/// A node as it is printed.
struct Node {
    values: Vec<Vec<u8>>,
    /// Seconds, if the delay is a time.
    delay_seconds: Option<f64>,
}

/// The number of nodes.
pub(super) fn count(options: &Options, answer: &[Record]) -> Result<Vec<u8>, Failure> {
    let count = answer.first().and_then(|record| record.first()).ok_or_else(invalid)?;
    let count = String::from_utf8_lossy(count);
    Ok(match options.form {
        Form::Plain => format!("{count}\n").into_bytes(),
        Form::Verbose => format!("Node Count\n____________\n {count}\n").into_bytes(),
        Form::Json => records::json(&json!({ "node_count": count.parse::<i64>().ok() })),
    })
}

/// The nodes.
pub(super) fn info(options: &Options, answer: &[Record]) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let mut objects = Vec::new();
    for (place, record) in answer.iter().enumerate() {
        let node = Node::read(record).ok_or_else(invalid)?;
        if node.values[0].is_empty() && !options.all {
            continue;
        }
        match options.form {
            Form::Plain => records::plain(&mut out, &node.values),
            Form::Verbose => records::verbose(&mut out, COLUMNS, &node.verbose_values()),
            Form::Json => objects.push(Value::Object(node.object(options.id.map_or(place, |id| id as usize)))),
        }
    }
    Ok(match options.form {
        Form::Json => records::json(&Value::Array(objects)),
        _ if out.is_empty() => b"No node information available\n\n".to_vec(),
        _ => out,
    })
}

impl Node {
    /// From the fields of the protocol. Before release 4.4 there was none that tells whether the delay is a time.
    fn read(record: &Record) -> Option<Self> {
        let (front, delay_is_time, back) = match record.as_slice() {
            [front @ .., delay, state, sync, changed] if front.len() == 8 => {
                (front, false, [delay, state, sync, changed])
            }
            [front @ .., is_time, delay, state, sync, changed] if front.len() == 8 => {
                (front, is_time == b"1", [delay, state, sync, changed])
            }
            // Fields that a later release adds at the end.
            [_, _, _, _, _, _, _, _, is_time, delay, state, sync, changed, ..] => {
                (&record[..8], is_time == b"1", [delay, state, sync, changed])
            }
            _ => return None,
        };
        let [hostname, port, status, quarantine, backend_status, weight, role, backend_role] = front else {
            return None;
        };
        let [delay, state, sync, changed] = back;
        let delay_seconds = delay_is_time.then(|| parse::<f64>(delay).unwrap_or(0.0) / 1_000_000.0);
        let or_none = |text: &Vec<u8>| if text.is_empty() { b"none".to_vec() } else { text.clone() };
        let values = vec![
            hostname.clone(),
            port.clone(),
            status.clone(),
            format!("{:.6}", parse::<f64>(weight).unwrap_or(0.0) / WEIGHT_SCALE).into_bytes(),
            status_name(status, quarantine).into(),
            backend_status.clone(),
            role_name(role).into(),
            backend_role.clone(),
            delay_seconds.map_or_else(|| delay.clone(), |seconds| format!("{seconds:.6}").into_bytes()),
            or_none(state),
            or_none(sync),
            local_time(parse(changed).unwrap_or(0)).into_bytes(),
        ];
        Some(Self { values, delay_seconds })
    }

    fn verbose_values(&self) -> Vec<Vec<u8>> {
        let mut values = self.values.clone();
        if let Some(seconds) = self.delay_seconds {
            values[DELAY].extend_from_slice(if seconds >= 2.0 { b" seconds" } else { b" second" });
        }
        values
    }

    fn object(&self, id: usize) -> Map<String, Value> {
        let mut object = Map::from_iter([("node_id".to_owned(), id.into())]);
        object.append(&mut records::object(COLUMNS, &self.values));
        let unit = if self.delay_seconds.is_some() { "seconds" } else { "bytes" };
        object.insert("replication_delay_unit".to_owned(), unit.into());
        object
    }
}

fn status_name(status: &[u8], quarantine: &[u8]) -> &'static str {
    match (status, quarantine) {
        (b"0", _) => "unused",
        (b"1", _) => "waiting",
        (b"2", _) => "up",
        (b"3", b"1") => "quarantine",
        (b"3", _) => "down",
        _ => "unknown",
    }
}

fn role_name(role: &[u8]) -> &'static str {
    match role {
        b"0" => "main",
        b"1" => "replica",
        b"2" => "primary",
        b"3" => "standby",
        _ => "unknown",
    }
}

fn parse<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A time in seconds since 1970, in the time zone of whoever runs the program.
fn local_time(seconds: i64) -> String {
    let time = DateTime::from_timestamp(seconds, 0).unwrap_or_default();
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(fields: &str) -> Option<(String, String)> {
        let record: Record = fields.split(',').map(|field| field.as_bytes().to_vec()).collect();
        let node = Node::read(&record)?;
        let line = node.values.join(&b' ');
        let delay = node.verbose_values()[DELAY].clone();
        let text = |bytes| String::from_utf8(bytes).expect("text");
        // The last column depends on the time zone.
        Some((text(line).rsplitn(3, ' ').last().expect("a word").to_owned(), text(delay)))
    }

    /// The lines of pcp 10.1.
    #[test]
    fn nodes_as_observed() {
        let (line, delay) =
            printed("server1,5432,2,0,up,1073741823.500000,2,primary,0,0,,,1700000000").expect("a node");
        assert_eq!(line, "server1 5432 2 0.500000 up up primary primary 0 none none");
        assert_eq!(delay, "0");
        let (line, delay) =
            printed("server2,5432,2,0,up,1073741823.500000,3,standby,1,1234567,streaming,async,1700000001")
                .expect("two");
        assert_eq!(line, "server2 5432 2 0.500000 up up standby standby 1.234567 streaming async");
        assert_eq!(delay, "1.234567 second");
    }

    #[test]
    fn releases_before_and_after() {
        let (line, _) = printed("a,1,3,1,down,0.0,3,unknown,77,,,0").expect("4.3");
        assert_eq!(line, "a 1 3 0.000000 quarantine down standby unknown 77 none none");
        let (line, delay) = printed("a,1,3,0,down,0.0,3,unknown,1,2000000,,,0,more").expect("later");
        assert_eq!(line, "a 1 3 0.000000 down down standby unknown 2.000000 none none");
        assert_eq!(delay, "2.000000 seconds");
        assert_eq!(printed("a,1,3,1,down,0.0,3,unknown,77,,"), None);
    }
}
