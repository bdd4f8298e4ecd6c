//! What is measured from outside the processes: who waits for one, and how much processor time they use. And a snapshot of
//! that with all the figures of [`admin`].

use crate::admin::{self, Figures};
use crate::config::Settings;
use crate::state::Shared;
use crate::sys::{listen_queue, processor_time};
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

/// Bytes of /proc/net/unix that are read at most.
const MAX_TABLE: u64 = 8 << 20;
/// State of a connection in it that nobody has accepted yet.
const NOT_ACCEPTED: &str = "02";

/// Everything there is to tell at one moment.
pub(super) struct Snapshot {
    /// Of nodes, sessions, connections.
    pub figures: Figures,
    /// Connections that wait for a process, by listening socket.
    pub waiting: Vec<(String, u64)>,
    /// For how many there is room, where that is known.
    pub room: Vec<(String, u64)>,
    /// Processor time of the processes for sessions since pgpool was started.
    pub cpu: Duration,
    /// How long it took to make this.
    pub took: Duration,
}

impl Snapshot {
    pub fn take(settings: &Settings, shared: &Shared, queues: &[Queue], meter: &mut Meter) -> Self {
        let began = Instant::now();
        let cpu = meter.read(shared);
        let waiting = waiting(queues);
        let room = |queue: &Queue| Some((queue.name.clone(), listen_queue::room(&queue.socket)?.into()));
        let room = queues.iter().filter_map(room).collect();
        let figures = admin::figures(settings, shared);
        Self { figures, waiting, room, cpu, took: began.elapsed() }
    }
}

/// A listening socket of the clients.
pub(super) struct Queue {
    name: String,
    socket: OwnedFd,
}

impl Queue {
    pub fn new(socket: OwnedFd) -> Self {
        Self { name: listen_queue::name(&socket), socket }
    }
}

fn waiting(queues: &[Queue]) -> Vec<(String, u64)> {
    let mut table = None;
    let length = |queue: &Queue| match listen_queue::waiting(&queue.socket) {
        Some(length) => length.into(),
        None => count_waiting(table.get_or_insert_with(local_sockets), &queue.name),
    };
    queues.iter().map(|queue| queue.name.clone()).zip(queues.iter().map(length)).collect()
}

fn local_sockets() -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open("/proc/net/unix") {
        let _ = file.take(MAX_TABLE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The connections to `path` that nobody has accepted.
fn count_waiting(table: &str, path: &str) -> u64 {
    table.lines().filter(|line| state_and_path(line) == Some((NOT_ACCEPTED, path))).count() as u64
}

/// Of a line of /proc/net/unix (proc_net(5)): the sixth field, and all that is behind the seventh.
fn state_and_path(line: &str) -> Option<(&str, &str)> {
    let (mut fields, mut rest) = ([""; 7], line);
    for field in &mut fields {
        (*field, rest) = rest.trim_start().split_once(' ')?;
    }
    Some((fields[5], rest))
}

/// Adds up the processor time of the processes for sessions.
#[derive(Default)]
pub(super) struct Meter {
    last: Duration,
}

impl Meter {
    /// What the living have used, and what the dead had. One that dies just now may be among neither: the sum does not become
    /// less for that.
    fn read(&mut self, shared: &Shared) -> Duration {
        let dead: Duration = shared.workers().iter().map(|slot| slot.processor_time_of_dead()).sum();
        let pids = shared.workers().iter().map(|slot| slot.pid()).filter(|pid| *pid != 0);
        let living: Duration = pids.filter_map(processor_time::of_process).sum();
        self.last = self.last.max(dead + living);
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Limits;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn those_who_wait_on_a_unix_socket_are_counted() {
        let path = std::env::temp_dir().join(format!("pgpool queue  {}", std::process::id()));
        let listener = UnixListener::bind(&path).expect("bind");
        let queue = [Queue::new(listener.try_clone().expect("clone").into())];
        let name = path.display().to_string();
        assert_eq!(waiting(&queue), [(name.clone(), 0)]);
        let _clients = [0, 1].map(|_| UnixStream::connect(&path).expect("connect"));
        assert_eq!(waiting(&queue), [(name.clone(), 2)]);
        let _accepted = listener.accept().expect("accept");
        assert_eq!(waiting(&queue), [(name, 1)]);
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn processor_time_is_that_of_the_living_and_the_dead_whoever_asks() {
        let shared = Shared::create(Limits { workers: 2, pool_slots: 1, ..Limits::default() }).expect("shared");
        let mut meter = Meter::default();
        assert_eq!(meter.read(&shared), Duration::ZERO);
        shared.worker(1).occupy(std::process::id());
        let first = meter.read(&shared);
        assert!(first > Duration::ZERO);
        shared.worker(1).reclaim();
        assert_eq!(meter.read(&shared), first, "it has just died");
        let hour = Duration::from_secs(3600);
        shared.worker(1).count_processor_time(hour);
        assert_eq!(meter.read(&shared), hour);
        shared.worker(1).occupy(std::process::id());
        assert!(Meter::default().read(&shared) > hour, "another process goes on with the figure");
    }
}
