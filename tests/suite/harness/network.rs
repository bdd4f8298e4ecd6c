//! A network of its own for a server, whose cable can be pulled: a network namespace, which root may make.
//!
//! The namespace belongs to the server's process and vanishes with it, and so do both ends of the cable.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::environment::server_user;
use super::wait_for;

/// A network of two addresses between this machine and one server.
pub struct Network {
    number: u16,
    /// Keeps the port from other test programs: they would take the same addresses.
    _port: TcpListener,
}

/// Ends the test here, with a word, where processes cannot have networks or files of their own.
#[macro_export]
macro_rules! needs_namespaces {
    () => {
        if !$crate::harness::can_make_namespaces() {
            println!("skipped: only root can make namespaces, by ip and unshare");
            return;
        }
    };
}

/// Whether networks, and file systems, of their own can be made here for processes.
pub fn can_make_namespaces() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let script = "ip link add pgt0 type veth peer name pgt1 && ip link set pgt0 up";
        Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
            && server_user().is_some()
    })
}

impl Network {
    /// `number` tells it from others: a port of this machine that nobody else uses.
    pub fn new(number: u16) -> Network {
        Network { number, _port: TcpListener::bind(("127.0.0.1", number)).expect("a free port") }
    }

    /// The address of this machine in it. 198.18.0.0/15 is reserved for tests like this.
    pub fn here(&self) -> String {
        self.address(1)
    }

    /// The server's address.
    pub fn there(&self) -> String {
        self.address(2)
    }

    fn address(&self, host: u32) -> String {
        let bits = (198 << 24) + (18 << 16) + u32::from(self.number) * 4 + host;
        std::net::Ipv4Addr::from_bits(bits).to_string()
    }

    /// The command that runs `program` in a new namespace as the servers' user; `connect` then lays the cable.
    pub fn command(program: &Path) -> Command {
        let user = server_user().expect("root");
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", "ip link set lo up && exec setpriv \"$@\"", "sh", "--clear-groups"]);
        command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]);
        command.arg("--").arg(program).current_dir("/");
        command
    }

    /// Connects the process, which `command` has started, with this machine.
    pub fn connect(&self, pid: u32) {
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).expect("a process");
        wait_for("the namespace", || namespace(&pid.to_string()) != namespace("self"));
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let cable = format!("pg{}x{}", self.number, COUNT.fetch_add(1, Ordering::Relaxed));
        // An earlier one may be about to vanish.
        run(&format!("ip -o addr show to {}/32 | cut -d' ' -f2 | xargs -r -n1 ip link del; true", self.here()));
        run(&format!(
            "ip link add {cable} type veth peer name eth0 netns {pid} && ip addr add {}/30 dev {cable} && \
             ip link set {cable} up && nsenter -t {pid} -n sh -c 'ip addr add {}/30 dev eth0 && ip link set eth0 up'",
            self.here(),
            self.there()
        ));
    }

    /// Pulls the cable of the process: from now on nothing comes through, and nobody is told.
    pub fn pull(pid: u32) {
        run(&format!("nsenter -t {pid} -n ip link set eth0 down"));
    }

    /// Plugs it in again.
    pub fn plug(pid: u32) {
        run(&format!("nsenter -t {pid} -n ip link set eth0 up"));
    }
}

fn run(script: &str) {
    let output = Command::new("sh").args(["-c", script]).output().expect("sh");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}
