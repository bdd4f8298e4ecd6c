//! SHOW POOL_POOLS (show-commands 5.5).

use super::processes::Process;
use super::{View, format};
use crate::config::Settings;
use crate::state::{ClientInfo, PoolEntry, PoolSlot, STATEMENT_LIMIT, WorkerSlot, now};

/// What the rows of one worker have in common.
struct Worker<'a> {
    settings: &'a Settings,
    now: u64,
    process: Process,
    client: ClientInfo,
    /// Since when its client is idle.
    idle_since: Option<u64>,
}

/// One server connection of one pool slot of one worker, whether it is there or not.
struct Row<'a> {
    worker: &'a Worker<'a>,
    id: usize,
    entry: &'a PoolEntry,
    slot: PoolSlot<'a>,
    node: usize,
}

columns! { row: Row<'_>;
    pool_pid => row.worker.process.pid,
    start_time => row.worker.process.start_time,
    client_connection_count => row.worker.process.finished_sessions,
    pool_id => row.id,
    backend_id => row.node,
    database => row.entry.database,
    username => row.entry.user,
    backend_connection_time => format::time(row.entry.created),
    client_connection_time => format::time(row.entry.client_connected),
    client_disconnection_time => format::time(row.entry.client_disconnected),
    client_idle_duration => row.client_idle_duration(),
    majorversion => row.entry.major,
    minorversion => row.entry.minor,
    pool_counter => row.entry.uses,
    pool_backendpid => row.slot.server(row.node).map_or(0, |server| server.pid),
    pool_connected => u8::from(row.entry.connected),
    status => row.worker.process.status,
    load_balance_node => u8::from(row.entry.connected && row.entry.load_balance_node == Some(row.node)),
    client_host => row.worker.client.host,
    client_port => row.client_port(),
    statement => row.statement(),
}

/// One row per worker slot, pool slot and node, nested in that order.
pub(super) fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    let (now, nodes) = (now(), view.shared.nodes().view().nodes.len());
    view.shared.workers().iter().flat_map(|slot| rows_of(&slot, view.settings, nodes, now)).collect()
}

fn rows_of(slot: &WorkerSlot, settings: &Settings, nodes: usize, now: u64) -> Vec<Vec<String>> {
    let process = Process::new(slot, settings, now);
    let worker = &Worker { settings, now, process, client: slot.client(), idle_since: slot.idle_since() };
    let mut rows = Vec::with_capacity(slot.pool_slots() * nodes);
    for id in 0..slot.pool_slots() {
        let pool = slot.pool(id);
        let entry = &pool.get();
        rows.extend((0..nodes).map(|node| values(&Row { worker, id, entry, slot: pool, node })));
    }
    rows
}

impl Row<'_> {
    fn client_idle_duration(&self) -> String {
        let Some(since) = self.worker.idle_since.filter(|_| self.entry.connected) else { return "0".to_owned() };
        let idle = self.worker.now.saturating_sub(since);
        match u64::try_from(self.worker.settings.client_idle_limit) {
            Ok(limit) if limit > 0 => {
                format!("{idle} ({} before client disconnected)", format::left(limit, since, self.worker.now))
            }
            _ => idle.to_string(),
        }
    }

    fn client_port(&self) -> String {
        Some(self.worker.client.port).filter(|port| *port != 0).map(|port| port.to_string()).unwrap_or_default()
    }

    /// Only while a client uses the connection: what an earlier one sent is nobody's business any more.
    fn statement(&self) -> String {
        if self.entry.connected { text(&self.slot.statement(self.node)) } else { String::new() }
    }
}

/// A statement as text, its bytes that are not UTF-8 as `\xe4`: the client's encoding is not known here. A character that
/// the limit has cut in two is left out.
fn text(statement: &[u8]) -> String {
    let whole = match std::str::from_utf8(statement) {
        Err(error) if statement.len() >= STATEMENT_LIMIT && error.error_len().is_none() => error.valid_up_to(),
        _ => statement.len(),
    };
    let chunks = statement[..whole].utf8_chunks();
    chunks.map(|chunk| format!("{}{}", chunk.valid(), chunk.invalid().escape_ascii())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{Limits, ProcessStatus, ServerKey, Shared};

    fn show(slot: &WorkerSlot, settings: &Settings, now: u64) -> Vec<String> {
        rows_of(slot, settings, 2, now).into_iter().map(|row| row.join("|")).collect()
    }

    /// A worker whose client uses pool slot 1, with a connection to node 1 only.
    fn serve(slot: &WorkerSlot) {
        slot.occupy(4242);
        slot.begin_client(&ClientInfo { host: "10.0.0.1".to_owned(), port: 50_000 });
        slot.set_status(ProcessStatus::Idle);
        let pool = slot.pool(1);
        pool.update(|entry| {
            *entry = PoolEntry {
                database: "shop".to_owned(),
                user: "ann".to_owned(),
                major: 3,
                minor: 2,
                created: 1_795_376_000,
                client_connected: 1_795_376_294,
                client_disconnected: 1_795_376_200,
                uses: 7,
                connected: true,
                load_balance_node: Some(1),
            }
        });
        pool.set_server(1, &ServerKey { pid: 99, key: vec![1; 4] });
        pool.set_statement(1, b"SELECT 1");
    }

    #[test]
    fn every_slot_has_its_rows() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 2, ..Limits::default() }).expect("shared");
        let (slot, settings) = (shared.worker(0), Settings::default());
        assert_eq!(
            COLUMNS.join("|"),
            "pool_pid|start_time|client_connection_count|pool_id|backend_id|database|username|\
             backend_connection_time|client_connection_time|client_disconnection_time|client_idle_duration|\
             majorversion|minorversion|pool_counter|pool_backendpid|pool_connected|status|load_balance_node|\
             client_host|client_port|statement"
        );
        let empty = |id, node| format!("0||0|{id}|{node}||||||0|0|0|0|0|0|Wait for connection|0|||");
        assert_eq!(show(&slot, &settings, now()), [empty(0, 0), empty(0, 1), empty(1, 0), empty(1, 1)]);

        serve(&slot);
        let started = format::time(slot.started());
        let times = [1_795_376_000, 1_795_376_294, 1_795_376_200].map(format::time).join("|");
        let shown = show(&slot, &settings, now());
        assert_eq!(shown[0], format!("4242|{started}|0|0|0||||||0|0|0|0|0|0|Idle|0|10.0.0.1|50000|"));
        assert_eq!(shown[2], format!("4242|{started}|0|1|0|shop|ann|{times}|0|3|2|7|0|1|Idle|0|10.0.0.1|50000|"));
        let used = format!("4242|{started}|0|1|1|shop|ann|{times}|0|3|2|7|99|1|Idle|1|10.0.0.1|50000|SELECT 1");
        assert_eq!(shown[3], used);
    }

    #[test]
    fn a_pooled_connection_tells_nothing_about_its_last_client() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 2, ..Limits::default() }).expect("shared");
        let (slot, settings) = (shared.worker(0), Settings { child_life_time: 0, ..Settings::default() });
        serve(&slot);
        slot.pool(1).update(|entry| entry.connected = false);
        slot.end_client(true);
        let started = format::time(slot.started());
        let times = [1_795_376_000, 1_795_376_294, 1_795_376_200].map(format::time).join("|");
        let expected = format!("4242|{started}|1|1|1|shop|ann|{times}|0|3|2|7|99|0|Wait for connection|0|||");
        assert_eq!(show(&slot, &settings, now())[3], expected);
    }

    #[test]
    fn idle_clients_are_counted_down() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 2, ..Limits::default() }).expect("shared");
        let slot = shared.worker(0);
        let idle = |limit, now| {
            let settings = Settings { client_idle_limit: limit, ..Settings::default() };
            rows_of(&slot, &settings, 2, now).into_iter().map(|row| row[10].clone()).collect::<Vec<_>>()
        };
        serve(&slot);
        assert_eq!(idle(100, now()), ["0"; 4]);
        slot.set_idle(true);
        let since = slot.idle_since().expect("idle");
        assert_eq!(idle(0, since + 8), ["0", "0", "8", "8"]);
        let text = "8 (1:32 before client disconnected)";
        assert_eq!(idle(100, since + 8), ["0", "0", text, text]);
    }

    #[test]
    fn unix_sockets_have_no_port_and_cut_characters_are_left_out() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let slot = shared.worker(0);
        slot.begin_client(&ClientInfo { host: "[local]".to_owned(), port: 0 });
        slot.pool(0).update(|entry| entry.connected = true);
        slot.pool(0).set_statement(0, format!("{}ü", "x".repeat(STATEMENT_LIMIT - 1)).as_bytes());
        let rows = rows_of(&slot, &Settings::default(), 1, now());
        assert_eq!(rows[0][18..], ["[local]".to_owned(), String::new(), "x".repeat(STATEMENT_LIMIT - 1)]);
        assert_eq!(text(b"SELECT '\xfc' -- \xc3\xbc"), "SELECT '\\xfc' -- ü");
    }
}
