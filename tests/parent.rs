//! The parent process and the command line, seen from outside, with no server to be reached (process-model 1, 3, 9, 13).

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const WORKERS: usize = 3;

/// A directory with a pgpool.conf; whatever runs with it is killed when it is dropped.
struct Place {
    directory: PathBuf,
    port: u16,
    foreground: Option<Child>,
}

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("pgpool-parent-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let place = Self { directory, port: free_port(), foreground: None };
        place.write_config("");
        place
    }

    fn write_config(&self, more: &str) {
        let here = self.directory.display();
        let text = format!(
            "listen_addresses = '127.0.0.1'\nport = {}\nunix_socket_directories = '{here}'\npcp_socket_dir = '{here}'\n\
             work_dir = '{here}'\npid_file_name = '{here}/pgpool.pid'\nnum_init_children = {WORKERS}\n\
             backend_hostname0 = '{here}'\nbackend_port0 = 5432\nbackend_weight0 = 1\n{more}",
            self.port
        );
        fs::write(self.path("pgpool.conf"), text).expect("pgpool.conf");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpool"));
        command.arg("-f").arg(self.path("pgpool.conf")).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    fn run(&self, arguments: &[&str]) -> (i32, String) {
        let Output { status, stderr, .. } = self.command(arguments).output().expect("pgpool");
        (status.code().unwrap_or(-1), String::from_utf8_lossy(&stderr).into_owned())
    }

    /// Starts in the foreground and waits until it serves.
    fn serve(&mut self) -> Pid {
        let log = File::create(self.path("log")).expect("log");
        let child = self.command(&["-n"]).stdout(Stdio::null()).stderr(log).spawn().expect("pgpool");
        let pid = Pid::from_raw(child.id() as i32);
        self.foreground = Some(child);
        wait_for("pgpool to serve", || self.log().contains("successfully started"));
        pid
    }

    /// Starts in the foreground with `log` as its stderr and waits for the workers, whatever becomes of the log.
    fn serve_with_log(&mut self, log: impl Into<Stdio>) -> Pid {
        let child = self.command(&["-n"]).stdout(Stdio::null()).stderr(log).spawn().expect("pgpool");
        let pid = Pid::from_raw(child.id() as i32);
        self.foreground = Some(child);
        wait_for("the workers", || workers(pid).len() == WORKERS);
        pid
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn pid(&self) -> Option<Pid> {
        fs::read_to_string(self.path("pgpool.pid")).ok()?.trim().parse().ok().map(Pid::from_raw)
    }

    fn exit_status(&mut self) -> Option<i32> {
        let child = self.foreground.as_mut().expect("a foreground process");
        wait_for("pgpool to end", || matches!(child.try_wait(), Ok(Some(_))));
        child.wait().expect("wait").code()
    }

    fn client(&self) -> TcpStream {
        let client = TcpStream::connect(("127.0.0.1", self.port)).expect("connect");
        client.set_read_timeout(Some(PATIENCE)).expect("timeout");
        client
    }

    fn leaves_nothing(&self) -> bool {
        !self.path("pgpool.pid").exists() && !self.path(&format!(".s.PGSQL.{}", self.port)).exists()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pid) = self.pid().filter(|pid| title(*pid).contains("pgpool")) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Some(child) = &mut self.foreground {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn title(pid: Pid) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

fn lives(pid: Pid) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// The workers of a parent that wait for clients.
fn workers(parent: Pid) -> Vec<Pid> {
    let pids = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let pids = pids.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
    // The PCP main process waits in the same words, behind its name.
    pids.filter(|pid| title(*pid).contains("pgpool: wait for connection request")).collect()
}

#[test]
fn a_daemon_tells_whether_it_serves_and_is_alone() {
    let place = Place::new();
    let (status, text) = place.run(&[]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("nothing will be logged") && text.contains("successfully started"), "{text}");
    let pid = place.pid().expect("pid file");
    place.client();
    let (status, text) = place.run(&["-n"]);
    assert_eq!(status, 1);
    assert!(text.contains(&format!("ERROR: pid file found. is another pgpool({pid}) is running?")), "{text}");
    let (status, text) = place.run(&["-m", "fast", "stop"]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("stop request sent to pgpool") && text.ends_with("done.\n"), "{text}");
    assert!(place.leaves_nothing());
    assert_eq!((place.run(&["stop"]).0, place.run(&["reload"]).0), (3, 1));
}

#[test]
fn a_daemon_with_a_collector_logs_to_its_last_word() {
    let place = Place::new();
    let logs = place.path("logs");
    let more = format!("logging_collector = on\nlog_directory = '{}'\nlog_filename = 'x.log'\n", logs.display());
    place.write_config(&more);
    let (status, text) = place.run(&[]);
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("redirecting log output") && !text.contains("nothing will be logged"), "{text}");
    place.client();
    let (status, text) = place.run(&["-m", "fast", "stop"]);
    assert_eq!(status, 0, "{text}");
    let log = || fs::read_to_string(logs.join("x.log")).unwrap_or_default();
    wait_for("the last word", || log().ends_with("LOG:  Pgpool-II system is shutdown\n"));
    assert!(log().contains("successfully started"), "{}", log());
    fs::remove_dir_all(&logs).expect("remove");
    assert!(place.leaves_nothing());
}

#[test]
fn a_port_in_use_is_told_to_whoever_starts_a_daemon() {
    let place = Place::new();
    let _taken = TcpListener::bind(("127.0.0.1", place.port)).expect("bind");
    let (status, text) = place.run(&[]);
    assert_eq!(status, 3);
    let expected = [format!("127.0.0.1:{}", place.port), format!("process {} ", std::process::id())];
    assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    assert!(place.leaves_nothing());
}

#[test]
fn children_end_with_the_parent_and_a_new_start_works() {
    let mut place = Place::new();
    let first = place.serve();
    wait_for("the workers", || workers(first).len() == WORKERS);
    let orphans = workers(first);
    kill(first, Signal::SIGKILL).expect("kill");
    place.exit_status();
    wait_for("the children to end", || !orphans.iter().any(|pid| lives(*pid)));
    let second = place.serve();
    assert!(place.log().contains("NOTICE: pid file found but it seems bogus"));
    place.client();
    kill(second, Signal::SIGQUIT).expect("kill");
    assert_eq!(place.exit_status(), Some(0));
    assert!(place.leaves_nothing());
}

#[test]
fn a_killed_worker_is_replaced_and_the_others_stay() {
    let mut place = Place::new();
    let parent = place.serve();
    wait_for("the workers", || workers(parent).len() == WORKERS);
    let before = workers(parent);
    kill(before[0], Signal::SIGKILL).expect("kill");
    kill(before[1], Signal::SIGTERM).expect("kill");
    wait_for("the replacements", || {
        let now = workers(parent);
        now.len() == WORKERS && now.contains(&before[2]) && !now.contains(&before[0]) && !now.contains(&before[1])
    });
    let expected = format!("child process with pid: {} was terminated by sigkill", before[0]);
    assert!(place.log().contains(&expected), "{}", place.log());
}

/// Settings that are warned of at length.
fn talkative() -> String {
    (0..150).map(|number| format!("no_such_parameter{number} = 1\n")).collect()
}

/// The parent does its duty.
fn assert_replaces(parent: Pid) {
    let first = workers(parent)[0];
    kill(first, Signal::SIGKILL).expect("kill");
    wait_for("the replacement", || workers(parent).len() == WORKERS && !lives(first));
}

#[test]
fn a_log_that_nobody_reads_stops_nobody_and_losses_are_counted() {
    let mut place = Place::new();
    place.write_config(&talkative());
    let (mut reader, writer) = std::io::pipe().expect("pipe");
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(4096)).expect("a small pipe");
    let parent = place.serve_with_log(writer);
    assert_eq!(place.run(&["reload"]).0, 0);
    assert_replaces(parent);
    let read = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).map(|_| text)
    });
    let stopped = place.run(&["-m", "fast", "stop"]);
    assert_eq!(stopped.0, 0, "{}", stopped.1);
    assert_eq!(place.exit_status(), Some(0));
    let text = read.join().expect("thread").expect("text");
    assert!(text.contains("log messages were lost"), "{text}");
    assert!(text.contains("Pgpool-II system is shutdown"), "{text}");
    // Whole lines, each with its prefix or as continuation.
    let is_whole = |line: &str| line.is_empty() || line.starts_with('\t') || line.contains(":  ");
    assert!(text.lines().all(is_whole), "{text}");
}

#[test]
fn a_full_disk_for_the_log_stops_nobody() {
    let mut place = Place::new();
    place.write_config(&talkative());
    let parent = place.serve_with_log(File::options().write(true).open("/dev/full").expect("/dev/full"));
    assert_eq!(place.run(&["reload"]).0, 0);
    assert_replaces(parent);
    kill(parent, Signal::SIGTERM).expect("kill");
    assert_eq!(place.exit_status(), Some(0));
    assert!(place.leaves_nothing());
}

#[test]
fn a_broken_file_changes_nothing_and_does_not_prevent_a_stop() {
    let mut place = Place::new();
    place.serve();
    place.write_config("client_idle_limit = 'nonsense'\n");
    let (status, text) = place.run(&["reload"]);
    assert!(status == 0 && text.contains("client_idle_limit"), "{text}");
    wait_for("the refusal", || place.log().contains("the configuration was not reloaded"));
    assert_eq!(place.run(&["-n"]).0, 3);
    place.write_config("client_idle_limit = 7\n");
    assert_eq!(place.run(&["reload"]).0, 0);
    wait_for("the change", || place.log().contains("parameter \"client_idle_limit\" changed"));
    place.write_config("client_idle_limit = 'nonsense'\n");
    // Nobody reaps the child while the command waits: an ended process that is still listed counts as ended.
    let (status, text) = place.run(&["-m", "i", "stop"]);
    assert!(status == 0 && place.leaves_nothing(), "{text}");
}

#[test]
fn what_a_command_cannot_do_it_says_in_few_words() {
    let place = Place::new();
    let (status, said) = place.run(&["begin"]);
    assert_eq!(
        (status, said.as_str()),
        (1, "pgpool: unknown command \"begin\"\nTry \"pgpool --help\" for more information.\n")
    );
    // Nobody has this one: pid_max is below.
    fs::write(place.path("pgpool.pid"), "4194305\n").expect("pid file");
    let (status, said) = place.run(&["stop"]);
    assert!(status == 3 && said.contains("DETAIL:  No such process") && said.contains("the next start"), "{said}");
}
