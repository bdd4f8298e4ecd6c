//! One PostgreSQL server.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Mutex;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::environment::{client_program, server_program};
use super::scratch::{forget_process, register_process};
use super::template::{DATABASE, as_server_user, copy_to};
use super::wait::PATIENCE;
use super::{LOGIN, Network, Wire, eventually, frontend, ports, process_title, wait_for};

/// PostgreSQL's ways to stop.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stop {
    /// Wait for the sessions to end.
    Smart,
    /// End the sessions with a message.
    Fast,
    /// End at once, without a message.
    Immediate,
}

impl Stop {
    pub fn signal(self) -> Signal {
        match self {
            Stop::Smart => Signal::SIGTERM,
            Stop::Fast => Signal::SIGINT,
            Stop::Immediate => Signal::SIGQUIT,
        }
    }
}

/// A server with its data directory; stopped when dropped.
pub struct Node {
    pub id: usize,
    pub port: u16,
    /// Its own network, if its cable is to be pulled.
    network: Option<Network>,
    data: PathBuf,
    log: PathBuf,
    process: Mutex<Option<Child>>,
}

const SETTINGS: &str = "
listen_addresses = '127.0.0.1'
fsync = off
full_page_writes = off
shared_buffers = 32MB
max_connections = 100
max_prepared_transactions = 10
wal_keep_size = 64MB
wal_retrieve_retry_interval = 100ms
wal_receiver_status_interval = 1s
checkpoint_timeout = 1h
max_wal_size = 1GB
jit = off
password_encryption = 'scram-sha-256'
log_line_prefix = '%m [%p] %a '
";

impl Node {
    /// Copies the template to `directory/node<id>`, configured but not started. `is_apart`: in a network of its own.
    pub fn new(directory: &Path, id: usize, settings: &[(String, String)], is_apart: bool) -> Node {
        let data = directory.join(format!("node{id}"));
        copy_to(&data);
        let port = ports::free_port();
        let node = Node {
            id,
            port,
            network: is_apart.then(|| Network::new(port)),
            log: directory.join(format!("node{id}.log")),
            data,
            process: Mutex::new(None),
        };
        let mut text = SETTINGS.to_owned();
        text += &format!("port = {}\ncluster_name = 'node{id}'\n", node.port);
        text += &format!("unix_socket_directories = '{}'\n", directory.display());
        for (name, value) in settings {
            text += &format!("{name} = '{value}'\n");
        }
        node.append_settings(&text);
        node
    }

    /// Where it listens, as seen from this machine.
    pub fn host(&self) -> String {
        self.network.as_ref().map_or_else(|| "127.0.0.1".to_owned(), Network::there)
    }

    /// Lets this stopped server listen, and let others in, in all networks.
    pub fn open_to_networks(&self) {
        self.append_settings("listen_addresses = '*'\n");
        let rules = "host all all 198.18.0.0/15 trust\nhost replication all 198.18.0.0/15 trust\n";
        self.append("pg_hba.conf", rules);
    }

    /// Makes this stopped server a streaming standby of another.
    pub fn follow(&self, primary: &Node) {
        let application = format!("application_name=node{}", self.id);
        let host = self.network.as_ref().map_or_else(|| primary.host(), Network::here);
        let source = format!("host={host} port={} user=postgres {application}", primary.port);
        self.append_settings(&format!("primary_conninfo = '{source}'\n"));
        let signal = self.data.join("standby.signal");
        fs::write(&signal, "").expect("standby.signal");
        super::scratch::give_to_server_user(&signal);
    }

    /// Replaces pg_hba.conf, and waits until the server goes by it, which `user`, who needs a password now, finds out.
    pub fn set_hba(&self, text: &str, user: &str) {
        fs::write(self.data.join("pg_hba.conf"), text).expect("pg_hba.conf");
        self.sql("SELECT pg_reload_conf()");
        wait_for("the server to take its new pg_hba.conf", || {
            let mut wire = Wire::open(self.port).expect("connect");
            wire.send(frontend::startup(0, &[("user", user), ("database", DATABASE)]));
            let asked = wire.read();
            asked.kind == b'R' && asked.body != [0; 4]
        });
    }

    fn append_settings(&self, text: &str) {
        self.append("postgresql.conf", text);
    }

    fn append(&self, file: &str, text: &str) {
        let mut opened = OpenOptions::new().append(true).open(self.data.join(file)).expect(file);
        opened.write_all(text.as_bytes()).expect(file);
    }

    /// Starts the server without waiting for it.
    pub fn launch(&self) {
        let log = File::options().create(true).append(true).open(&self.log).expect("server log");
        let program = server_program("postgres");
        let mut command = if self.network.is_some() { Network::command(&program) } else { as_server_user(&program) };
        let child = command
            .arg("-D")
            .arg(&self.data)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("server log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("postgres");
        register_process(child.id());
        if let Some(network) = &self.network {
            network.connect(child.id());
        }
        *self.process.lock().expect("node") = Some(child);
    }

    /// Waits until the server answers queries.
    pub fn wait_ready(&self) {
        wait_for(&format!("node {} to accept connections", self.id), || {
            assert!(self.is_running(), "node {} ended at start:\n{}", self.id, self.log_text());
            self.login().is_ok()
        });
    }

    /// Starts the server and waits until it answers.
    pub fn start(&self) {
        self.launch();
        self.wait_ready();
    }

    /// Stops the server and waits for its end. Nothing happens when it is not running.
    pub fn stop(&self, mode: Stop) {
        self.end(mode.signal());
    }

    /// Kills the postmaster; its children follow by themselves.
    pub fn kill(&self) {
        self.end(Signal::SIGKILL);
    }

    fn end(&self, signal: Signal) {
        if let Some(mut child) = self.process.lock().expect("node").take() {
            let pid = Pid::from_raw(child.id() as i32);
            let _ = kill(pid, signal);
            let _ = kill(pid, Signal::SIGCONT);
            child.wait().expect("postgres");
            forget_process(child.id());
        }
        if let Some(pid) = self.started_by_others() {
            let _ = kill(pid, signal);
            eventually(PATIENCE, || self.started_by_others().is_none());
        }
    }

    /// The postmaster that runs in this data directory without being our child: a script has started it.
    fn started_by_others(&self) -> Option<Pid> {
        let text = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        let pid: i32 = text.lines().next()?.trim().parse().ok()?;
        process_title(pid).contains(&*self.data.to_string_lossy()).then(|| Pid::from_raw(pid))
    }

    /// Stops (SIGSTOP) the postmaster and all its children, as a machine that hangs.
    pub fn pause(&self) {
        self.signal_all(Signal::SIGSTOP);
    }

    /// Lets a paused server go on.
    pub fn resume(&self) {
        self.signal_all(Signal::SIGCONT);
    }

    fn signal_all(&self, signal: Signal) {
        let postmaster = self.pid();
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
        let pids = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        for pid in std::iter::once(postmaster as i32).chain(pids) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Pulls the cable of its network: nothing comes through, and nobody is told.
    pub fn pull_cable(&self) {
        Network::pull(self.pid());
    }

    /// Plugs it in again.
    pub fn plug_cable(&self) {
        Network::plug(self.pid());
    }

    fn pid(&self) -> u32 {
        self.process.lock().expect("node").as_ref().expect("a running node").id()
    }

    /// Promotes a standby and waits until it takes writes.
    pub fn promote(&self) {
        self.sql("SELECT pg_promote(true, 30)");
        wait_for(&format!("node {} to be promoted", self.id), || self.sql("SELECT pg_is_in_recovery()") == "f");
    }

    /// A shell command that promotes it.
    pub fn promotion(&self) -> String {
        let (psql, host, port) = (client_program("psql"), self.host(), self.port);
        let sql = "SELECT pg_promote(true, 30)";
        format!("{} -X -h {host} -p {port} -U postgres -d postgres -c \"{sql}\"", psql.display())
    }

    /// Runs one statement directly on the server; the first value of its result, or nothing.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        self.connect().query(sql).succeeded().first_value().unwrap_or_default()
    }

    /// A session directly on the server.
    pub fn connect(&self) -> Wire {
        self.login().unwrap_or_else(|e| panic!("node {}: {e}", self.id))
    }

    fn login(&self) -> std::io::Result<Wire> {
        let mut wire = Wire::open_at(&self.host(), self.port)?;
        wire.start(LOGIN)?;
        Ok(wire)
    }

    pub fn is_running(&self) -> bool {
        let mut process = self.process.lock().expect("node");
        let is_child = process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)));
        is_child || self.started_by_others().is_some()
    }

    pub fn data_directory(&self) -> &Path {
        &self.data
    }

    /// The file that holds the server's log.
    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// What the server has logged.
    pub fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop(Stop::Immediate);
    }
}
