//! SHOW POOL_QUEUE: the clients that wait for a free process, by listening socket (process-model 7.3). Ours.

use super::View;
use crate::sys::listen_queue;

/// One listening socket.
struct Row {
    socket: String,
    /// `None`: the kernel does not tell.
    waiting: Option<u32>,
    room: Option<u32>,
    /// Clients accepted since the start.
    accepted: Option<u64>,
}

columns! { row: Row;
    socket => row.socket,
    waiting => row.waiting.map_or_else(unknown, |waiting| waiting.to_string()),
    room => row.room.map_or_else(unknown, |room| room.to_string()),
    accepted => row.accepted.map_or_else(unknown, |accepted| accepted.to_string()),
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// One row per listening socket, in the order in which workers take clients from them.
pub(super) fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    let row = |(number, socket)| Row {
        socket: listen_queue::name(socket),
        waiting: listen_queue::waiting(socket),
        room: listen_queue::room(socket),
        accepted: view.shared.taken(number),
    };
    view.listeners.iter().enumerate().map(row).map(|row| values(&row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::state::{Limits, Shared};
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    #[test]
    fn who_waits_is_counted_by_socket() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let address = listener.local_addr().expect("address");
        let _client = TcpStream::connect(address).expect("connect");
        shared.count_taken(0);
        let listeners = [listener.into()];
        let view =
            View { settings: &Settings::default(), shared: &shared, load_balance_node: 0, listeners: &listeners };
        let begun = Instant::now();
        while rows(&view)[0][1] != "1" {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", rows(&view));
            std::thread::yield_now();
        }
        let row = &rows(&view)[0];
        assert_eq!((row[0].as_str(), row[3].as_str()), (address.to_string().as_str(), "1"));
        assert!(row[2].parse::<u32>().is_ok_and(|room| room > 0));
    }
}
