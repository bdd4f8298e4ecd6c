//! Under a service manager: what it is told, and the sockets it opens (docs/systemd.md).

use std::cell::RefCell;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};

use crate::harness::frontend::startup;
use crate::harness::{
    Config, LOGIN, Pgpool, Program, Scratch, Stop, Wire, give_to_server_user, pgpool_program, process_title, shared,
    wait_for,
};
use crate::only_ours;

/// A service manager's ear.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    heard: RefCell<Vec<String>>,
    _scratch: Scratch,
}

impl Manager {
    fn new() -> Manager {
        let scratch = Scratch::new("manager");
        let path = scratch.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("notify socket");
        socket.set_nonblocking(true).expect("non-blocking");
        give_to_server_user(&path);
        Manager { socket, path, heard: RefCell::default(), _scratch: scratch }
    }

    /// Makes a pgpool its service.
    fn owns(&self, config: Config) -> Config {
        config.env("NOTIFY_SOCKET", self.path.display())
    }

    /// How many messages with this in them have come.
    fn count(&self, text: &str) -> usize {
        let mut buffer = [0; 1024];
        while let Ok(length) = self.socket.recv(&mut buffer) {
            self.heard.borrow_mut().push(String::from_utf8_lossy(&buffer[..length]).into_owned());
        }
        self.heard.borrow().iter().filter(|message| message.contains(text)).count()
    }

    #[track_caller]
    fn wait_for(&self, text: &str, times: usize) {
        wait_for(text, || self.count(text) >= times);
        assert_eq!(self.count(text), times, "{:?}", self.heard.borrow());
    }
}

#[test]
fn it_is_told_when_pgpool_serves_reloads_and_ends() {
    only_ours!("the original does not know service managers");
    let manager = Manager::new();
    let mut pool = manager.owns(Pgpool::on(shared())).start();
    manager.wait_for("READY=1\nSTATUS=3 of 3 nodes attached, node 0 takes writes", 1);
    for (port, times) in [("0", 1), ("nonsense", 2)] {
        pool.set("health_check_period", port);
        pool.signal(Signal::SIGHUP);
        manager.wait_for("RELOADING=1\nMONOTONIC_USEC=", times);
        manager.wait_for("READY=1\n", times + 1);
    }
    assert_eq!(manager.count("STOPPING=1") + manager.count("WATCHDOG=1"), 0);
    let session = pool.connect();
    pool.signal(Signal::SIGTERM);
    manager.wait_for("STOPPING=1\nSTATUS=waiting for sessions to end", 1);
    drop(session);
    pool.stop(Stop::Fast);
}

#[test]
fn it_gets_signs_of_life_when_it_wants_them() {
    only_ours!("the original does not know service managers");
    let manager = Manager::new();
    let _pool = manager.owns(Pgpool::on(shared())).env("WATCHDOG_USEC", 200_000).start();
    wait_for("signs of life", || manager.count("WATCHDOG=1") > 5);
    // They are of the process that is meant.
    let others = Manager::new();
    let _other = others.owns(Pgpool::on(shared())).env("WATCHDOG_USEC", 200_000).env("WATCHDOG_PID", 1).start();
    others.wait_for("READY=1", 1);
    let begun = manager.count("WATCHDOG=1");
    wait_for("more of them", || manager.count("WATCHDOG=1") > begun + 5);
    assert_eq!(others.count("WATCHDOG=1"), 0);
}

/// Listening sockets that outlive the pgpool they are passed to.
struct Sockets {
    /// Numbers above those that a shell uses. They stay open as long as this test program.
    descriptors: Vec<RawFd>,
    names: Vec<&'static str>,
}

impl Sockets {
    fn of(sockets: Vec<(&'static str, OwnedFd)>) -> Sockets {
        let high = |socket: &OwnedFd| fcntl(socket, FcntlArg::F_DUPFD(200)).expect("descriptor");
        let descriptors = sockets.iter().map(|(_, socket)| high(socket)).collect();
        Sockets { descriptors, names: sockets.into_iter().map(|(name, _)| name).collect() }
    }

    /// Has `pool` started with them as its descriptors 3, 4, ...
    fn pass_to(&self, pool: &mut Pgpool) {
        self.pass_and_announce(pool, self.names.len());
    }

    /// The same, with a word of `count` descriptors.
    fn pass_and_announce(&self, pool: &mut Pgpool, count: usize) {
        let moves: String = self.descriptors.iter().zip(3..).map(|(from, to)| format!("exec {to}<&{from}; ")).collect();
        let names = self.names.join(":");
        // Whoever has started the tests may have left some open.
        let rest: String = (3 + self.names.len()..3 + count).map(|number| format!("exec {number}<&-; ")).collect();
        let words = format!("LISTEN_FDS={count} LISTEN_FDNAMES={names} LISTEN_PID=$$");
        pool.run_by(&["/bin/bash", "-c", &format!("{moves}{rest}export {words}; exec \"$@\""), "bash"]);
    }
}

fn tcp(address: &str) -> TcpListener {
    TcpListener::bind(address).expect("a TCP socket")
}

fn port(socket: &TcpListener) -> u16 {
    socket.local_addr().expect("address").port()
}

#[test]
fn its_sockets_are_used_and_outlive_pgpool() {
    only_ours!("the original does not know service managers");
    let (clients, metrics, pcp) = (tcp("0.0.0.0:0"), tcp("127.0.0.1:0"), tcp("127.0.0.1:0"));
    let (clients_port, metrics_port) = (port(&clients), port(&metrics));
    let mut pool = Pgpool::on(shared())
        // A wildcard covers the address that is configured.
        .set("port", clients_port)
        .set("pcp_port", port(&pcp))
        .set("pcp_listen_addresses", "")
        .prepare();
    pool.port = clients_port;
    let local = UnixListener::bind(pool.socket()).expect("a Unix socket");
    let stray = tcp("127.0.0.1:0");
    let sockets = Sockets::of(vec![
        ("", local.into()),
        ("pgpool.socket", clients.into()),
        ("metrics", metrics.into()),
        ("", pcp.into()),
        ("", stray.into()),
    ]);
    sockets.pass_to(&mut pool);
    let mut pool = pool.started();
    let log = pool.log();
    assert_eq!(log.matches(", which the service manager has opened").count(), 4, "{log}");
    assert_eq!(log.matches(", which pgpool has no use for").count(), 1, "{log}");
    assert!(!log.contains("Setting up socket"), "{log}");
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    let by_path = Program::client("psql").args(["-XAtq", "-h"]).args([pool.path("").display().to_string()]);
    let by_path = by_path.args(["-p", &clients_port.to_string(), "-U", "postgres", "-c", "SELECT 2", "test"]).run();
    assert_eq!(by_path.stdout.trim(), "2", "{by_path:?}");
    wait_for("metrics", || TcpStream::connect(("127.0.0.1", metrics_port)).is_ok());
    assert!(!pool.children("PCP: wait for connection request").is_empty());

    pool.stop(Stop::Fast);
    assert!(pool.socket().exists(), "it is not pgpool's");
    // Whoever comes now waits for the next pgpool.
    let mut waiting = Wire::open(clients_port).expect("somebody listens");
    waiting.send(startup(0, LOGIN));
    pool.launch(&[]);
    waiting.read_until('Z').succeeded();
    assert_eq!(waiting.value("SELECT 3"), "3");
}

#[test]
fn what_was_announced_and_not_passed_is_not_taken() {
    only_ours!("the original does not know service managers");
    let clients = tcp("127.0.0.1:0");
    let clients_port = port(&clients);
    let mut pool = Pgpool::on(shared()).set("port", clients_port).prepare();
    pool.port = clients_port;
    Sockets::of(vec![("clients", clients.into())]).pass_and_announce(&mut pool, 40);
    let mut pool = pool.started();
    assert!(!pool.log().contains("is no listening socket"), "{}", pool.log());
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0), "{}", pool.log());
}

#[test]
fn it_is_told_who_comes_in_an_upgrade_and_keeps_its_sockets() {
    only_ours!("the original does not know service managers");
    let manager = Manager::new();
    let clients = tcp("127.0.0.1:0");
    let clients_port = port(&clients);
    let config = Pgpool::on(shared()).set("port", clients_port).env("WATCHDOG_USEC", 200_000);
    let mut pool = manager.owns(config).prepare();
    pool.port = clients_port;
    Sockets::of(vec![("clients", clients.into())]).pass_to(&mut pool);
    let mut pool = pool.started();
    manager.wait_for("READY=1", 1);
    pool.run_by(&["/usr/bin/env"]);
    let new = pool.upgrade().expect("the upgrade");
    manager.wait_for(&format!("MAINPID={new}\nREADY=1\nSTATUS=3 of 3 nodes"), 1);
    assert_eq!(pool.wait_end(Duration::from_secs(30)).and_then(|status| status.code()), Some(0));
    assert_eq!(manager.count("READY=1"), 2, "{:?}", manager.heard.borrow());
    let before = manager.count("WATCHDOG=1");
    wait_for("signs of life of the new one", || manager.count("WATCHDOG=1") > before + 2);
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    assert_eq!(manager.count("STOPPING=1"), 0);
    kill(new, Signal::SIGINT).expect("kill");
    wait_for("the new one to end", || process_title(new.as_raw()).is_empty());
    manager.wait_for("STOPPING=1", 1);
    assert!(Wire::open(clients_port).is_ok(), "the socket is the manager's");
}

#[test]
fn the_unit_files_are_right() {
    only_ours!("they are ours");
    let Ok(found) = Command::new("systemd-analyze").arg("--version").output() else {
        println!("skipped: no systemd-analyze here");
        return;
    };
    assert!(found.status.success());
    let scratch = Scratch::new("units");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/systemd");
    for name in ["pgpool.service", "pgpool.socket"] {
        let text = fs::read_to_string(source.join(name)).expect(name);
        // Verifying looks for the programs.
        let text = text.replace("/usr/local/bin/pgpool", &pgpool_program().display().to_string());
        fs::write(scratch.path().join(name), text).expect("unit");
    }
    let units = ["pgpool.service", "pgpool.socket"].map(|name| scratch.path().join(name));
    let verified = Command::new("systemd-analyze").arg("verify").arg("--man=no").args(&units).output().expect("verify");
    let said = String::from_utf8_lossy(&verified.stderr);
    let ours: Vec<_> = said.lines().filter(|line| line.contains("pgpool")).collect();
    assert!(ours.is_empty() && verified.status.success(), "{said}");
}
