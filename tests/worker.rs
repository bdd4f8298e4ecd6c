//! The life of a worker process, seen from its parent: forked here, without servers behind it.

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pgpool::config::Settings;
use pgpool::net::tls::Front;
use pgpool::state::{Limits, ProcessStatus, Shared};
use pgpool::sys::{Fork, fork};
use pgpool::worker::{self, Start};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

/// The first worker's life, to its end.
fn work(listener: TcpListener, settings: Settings, shared: Shared) -> ! {
    let front = Front::new().expect("front");
    let (listeners, settings) = (vec![listener.into()], Arc::new(settings));
    let start = Start { index: 0, listeners, settings, rules: None, front, shared, former: None };
    std::process::exit(worker::run(start))
}

/// One forked worker on a socket of its own; killed when dropped.
struct Worker {
    pid: Pid,
    address: SocketAddr,
    shared: Shared,
    ended: bool,
}

impl Worker {
    fn start(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        listener.set_nonblocking(true).expect("non-blocking");
        let address = listener.local_addr().expect("address");
        let shared = Shared::create(Limits { workers: 2, pool_slots: 2, ..Limits::default() }).expect("shared");
        match fork().expect("fork") {
            Fork::Child => work(listener, settings, shared),
            Fork::Parent(pid) => {
                shared.worker(0).occupy(pid.as_raw().unsigned_abs());
                Self { pid, address, shared, ended: false }
            }
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream
    }

    /// Connects, asks for TLS, then for a session. Returns the answer to the latter, up to the end of the stream.
    fn refused_session(&self) -> String {
        let mut stream = self.connect();
        stream.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").expect("SSLRequest");
        let mut answer = [0];
        stream.read_exact(&mut answer).expect("answer");
        assert_eq!(&answer, b"N");
        stream.write_all(b"\0\0\0\x10\0\x03\0\0user\0u\0\0").expect("startup");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the end");
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("kill");
    }

    /// Whether the process still lives.
    fn lives(&self) -> bool {
        state(self.pid) != 'Z'
    }

    fn exit_status(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
                Ok(WaitStatus::Exited(_, status)) => {
                    self.ended = true;
                    return status;
                }
                other => panic!("{other:?}"),
            }
            assert!(Instant::now() < deadline, "the worker does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn wait_for(&self, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline && self.lives(), "the worker does not come this far");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if !self.ended {
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

#[test]
fn clients_are_served_one_after_another_up_to_the_limit() {
    let mut worker = Worker::start(Settings { child_max_connections: 2, ..Settings::default() });
    let slot = worker.shared.worker(0);
    // A probe is not a session.
    drop(worker.connect());
    assert!(worker.refused_session().contains("pgpool is not accepting any new connections"));
    worker.wait_for(|| slot.finished_sessions() == 1 && slot.status() == ProcessStatus::WaitForConnection);
    assert!(worker.shared.workers().connected() == 0);
    assert!(worker.refused_session().contains("08S01"));
    assert_eq!(worker.exit_status(), 1);
}

#[test]
fn reserved_places_are_refused_after_the_startup_packet() {
    let settings = Settings { num_init_children: 2, reserved_connections: 2, ..Settings::default() };
    let mut worker = Worker::start(settings);
    assert!(worker.refused_session().contains("53300"));
    assert!(worker.refused_session().contains("Sorry, too many clients already"));
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.exit_status(), 0);
}

#[test]
fn an_idle_worker_leaves_when_told_and_heeds_the_other_signals() {
    let mut worker = Worker::start(Settings::default());
    for signal in [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        worker.refused_session();
        worker.signal(signal);
    }
    assert!(!worker.refused_session().is_empty());
    worker.shared.worker(0).wish_restart();
    worker.signal(Signal::SIGUSR2);
    assert_eq!(worker.exit_status(), 1);
}

#[test]
fn a_dismissed_worker_leaves_unless_a_client_comes_first() {
    let mut worker = Worker::start(Settings::default());
    let slot = worker.shared.worker(0);
    worker.refused_session();
    // Stopped, so that the dismissal and the client are there together when it goes on.
    worker.wait_for(|| state(worker.pid) == 'S');
    worker.signal(Signal::SIGSTOP);
    worker.wait_for(|| state(worker.pid) == 'T');
    slot.dismiss();
    worker.signal(Signal::SIGUSR2);
    let client = worker.connect();
    worker.signal(Signal::SIGCONT);
    worker.wait_for(|| slot.status() == ProcessStatus::Connecting && !slot.is_dismissed());
    slot.dismiss();
    assert!(!slot.is_dismissed(), "it has a client");
    drop(client);
    assert!(worker.refused_session().contains("08S01"), "it has stayed");
    worker.wait_for(|| slot.status() == ProcessStatus::WaitForConnection);
    slot.dismiss();
    worker.signal(Signal::SIGUSR2);
    assert_eq!(worker.exit_status(), 0);
}

#[test]
fn who_has_woken_a_worker_that_is_to_leave_is_served() {
    let mut worker = Worker::start(Settings::default());
    worker.refused_session();
    worker.wait_for(|| state(worker.pid) == 'S');
    worker.signal(Signal::SIGSTOP);
    worker.wait_for(|| state(worker.pid) == 'T');
    let mut client = worker.connect();
    worker.shared.worker(0).dismiss();
    worker.signal(Signal::SIGTERM);
    worker.signal(Signal::SIGCONT);
    client.write_all(b"\0\0\0\x10\0\x03\0\0user\0u\0\0").expect("startup");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("the end");
    assert!(String::from_utf8_lossy(&answer).contains("08S01"));
    assert_eq!(worker.exit_status(), 0);
}

#[test]
fn clients_that_are_held_back_wait_and_are_served_afterwards() {
    let worker = Worker::start(Settings::default());
    worker.refused_session();
    assert!(worker.shared.hold().take());
    worker.signal(Signal::SIGUSR2);
    worker.wait_for(|| state(worker.pid) == 'S');
    let mut client = worker.connect();
    client.write_all(b"\0\0\0\x08\x04\xd2\x16\x2f").expect("SSLRequest");
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("timeout");
    assert!(client.read_exact(&mut [0]).is_err() && worker.shared.workers().connected() == 0);
    worker.shared.hold().release();
    worker.signal(Signal::SIGUSR2);
    client.set_read_timeout(Some(PATIENCE)).expect("timeout");
    client.read_exact(&mut [0]).expect("an answer");
}

#[test]
fn the_life_time_ends_a_worker_that_has_served() {
    let mut worker = Worker::start(Settings { child_life_time: 1, ..Settings::default() });
    worker.refused_session();
    let served = Instant::now();
    assert_eq!(worker.exit_status(), 1);
    assert!(served.elapsed() > Duration::from_millis(800));
}

#[test]
fn the_life_time_does_not_count_before_the_first_client() {
    let mut worker = Worker::start(Settings { child_life_time: 1, ..Settings::default() });
    // A worker that sleeps with no timeout is asleep for good: its CPU time and its number of switches stand still.
    worker.wait_for(|| state(worker.pid) == 'S');
    let before = switches(worker.pid);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(worker.lives());
    assert_eq!(switches(worker.pid), before);
    worker.signal(Signal::SIGQUIT);
    assert_eq!(worker.exit_status(), 0);
}

#[test]
fn a_socket_shut_down_by_the_parent_does_not_make_workers_busy() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.set_nonblocking(true).expect("non-blocking");
    let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
    let address = listener.local_addr().expect("address");
    let Fork::Parent(pid) = fork().expect("fork") else { work(listener, Settings::default(), shared) };
    let mut worker = Worker { pid, address, shared, ended: false };
    worker.refused_session();
    worker.wait_for(|| state(worker.pid) == 'S');
    socket2::SockRef::from(&listener).shutdown(std::net::Shutdown::Both).expect("shutdown");
    worker.wait_for(|| state(worker.pid) == 'S');
    let before = switches(worker.pid);
    std::thread::sleep(Duration::from_millis(300));
    assert!(worker.lives() && switches(worker.pid) <= before + 5);
    worker.signal(Signal::SIGTERM);
    assert_eq!(worker.exit_status(), 0);
}

fn state(pid: Pid) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("state")
}

/// How often the process has gone to sleep.
fn switches(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches")).expect("line");
    line.split_whitespace().last().and_then(|number| number.parse().ok()).expect("number")
}
