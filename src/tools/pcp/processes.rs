//! `pcp_proc_count` and `pcp_proc_info` (pcp 5.3, 5.4, 9.5).

use super::connection::Failure;
use super::options::{Form, Options};
use super::records::{self, Column, invalid, number, text};
use super::reply::Record;
use serde_json::{Value, json};

/// The columns as they are printed, each with its place in the record.
const COLUMNS: &[(usize, Column)] = &[
    (5, text("Database", "database")),
    (6, text("Username", "username")),
    (1, text("Start time", "start_time")),
    (2, number("Client connection count", "client_connection_count")),
    (11, number("Major", "major")),
    (12, number("Minor", "minor")),
    (7, text("Backend connection time", "backend_connection_time")),
    (8, text("Client connection time", "client_connection_time")),
    (10, number("Client idle duration", "client_idle_duration")),
    (9, text("Client disconnection time", "client_disconnection_time")),
    (13, number("Pool Counter", "pool_counter")),
    (14, number("Backend PID", "backend_pid")),
    (15, number("Connected", "connected")),
    (0, number("PID", "pid")),
    (4, number("Backend ID", "backend_id")),
    (16, text("Status", "status")),
    (17, number("Load balance node", "load_balance_node")),
    (18, text("client_host", "client_host")),
    (19, text("client_port", "client_port")),
    (20, text("statement", "statement")),
];
/// Records of release 4.3 have so many fields; later ones have more at the end.
const FEWEST_FIELDS: usize = 17;

/// The process ids.
pub(super) fn count(options: &Options, answer: &[Record]) -> Result<Vec<u8>, Failure> {
    let (count, pids) = answer.first().and_then(|record| record.split_first()).ok_or_else(invalid)?;
    let pids = pids.iter().map(|pid| String::from_utf8_lossy(pid)).collect::<Vec<_>>();
    if count != pids.len().to_string().as_bytes() {
        return Err(invalid());
    }
    Ok(match options.form {
        Form::Plain => {
            pids.iter().map(|pid| format!("{pid} ")).chain(["\n".to_owned()]).collect::<String>().into_bytes()
        }
        Form::Verbose => {
            let lines: String = pids.iter().enumerate().map(|(at, pid)| format!("{at} \t | \t {pid}\n")).collect();
            let total = pids.len();
            format!("No \t | \t PID\n_____________________\n{lines}\nTotal Processes:{total}\n").into_bytes()
        }
        Form::Json => records::json(&json!(pids.iter().map(|pid| pid.parse::<i64>().ok()).collect::<Vec<_>>())),
    })
}

/// The slots of the processes.
pub(super) fn info(options: &Options, answer: &[Record]) -> Result<Vec<u8>, Failure> {
    let mut out = Vec::new();
    let mut objects = Vec::new();
    for record in answer {
        if record.len() < FEWEST_FIELDS {
            return Err(invalid());
        }
        let (columns, values): (Vec<_>, Vec<_>) =
            COLUMNS.iter().filter_map(|(place, column)| Some((*column, record.get(*place)?.clone()))).unzip();
        if values[0].is_empty() && !options.all {
            continue;
        }
        match options.form {
            Form::Plain => records::plain(&mut out, &values),
            Form::Verbose => records::verbose(&mut out, &columns, &values),
            Form::Json => objects.push(Value::Object(records::object(&columns, &values))),
        }
    }
    Ok(match options.form {
        Form::Json => records::json(&Value::Array(objects)),
        _ if out.is_empty() => b"No process information available\n\n".to_vec(),
        _ => out,
    })
}
