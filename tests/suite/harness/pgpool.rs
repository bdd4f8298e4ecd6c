//! The pgpool under test.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::cluster::shared_if_started;
use super::environment::pgpool_program;
use super::logs::keep_if_failed;
use super::scratch::{forget_process, register_process};
use super::{Config, Names, Outcome, Program, Scratch, Stop, Wire, children_of, eventually, process_title, wait_for};

/// A running pgpool in the foreground; ended, whatever state it is in, when dropped.
pub struct Pgpool {
    pub port: u16,
    process: Option<Child>,
    config: Config,
    /// Its own name service.
    names: Option<Arc<Names>>,
    /// Those that have replaced it.
    successors: Vec<Pid>,
    /// The program that runs it, with its arguments, if it is not to be run directly.
    runner: Vec<String>,
    scratch: Scratch,
}

/// What a pgpool says when it is ready (process-model 2).
const READY: &str = "successfully started";

impl Pgpool {
    /// Writes its files without starting it.
    pub(super) fn new(config: Config, scratch: Scratch, port: u16) -> Pgpool {
        let pool =
            Pgpool { port, process: None, config, names: None, successors: Vec::new(), runner: Vec::new(), scratch };
        pool.write_config();
        pool
    }

    /// Changes a parameter in the file; `reload` makes it count.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.config.settings.insert(name.to_owned(), value.to_string());
        self.write_config();
    }

    /// Sets a parameter that is a command to a shell script, which gets all placeholders as its arguments.
    pub fn set_script(&mut self, parameter: &str, text: &str) {
        let path = self.path(&format!("{parameter}.sh"));
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).expect("script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("mode");
        self.set(parameter, format!("{} %d %h %p %D %m %H %M %P %r %R %N %S", path.display()));
    }

    fn write_config(&self) {
        fs::write(self.path("pgpool.conf"), self.config.text()).expect("pgpool.conf");
    }

    /// Lets it know these names only.
    pub fn use_names(&mut self, names: &Arc<Names>) {
        self.names = Some(Arc::clone(names));
    }

    /// Starts it by this command, which gets pgpool's command line as further arguments and becomes pgpool.
    pub fn run_by(&mut self, command: &[&str]) {
        self.runner = command.iter().map(|word| (*word).to_owned()).collect();
    }

    /// Writes a file beside pgpool.conf.
    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect(name);
    }

    /// The command line that uses our files, without a verb.
    pub fn command(&self) -> Command {
        let program = pgpool_program();
        let mut command = match (&self.names, self.runner.split_first()) {
            (Some(names), _) => names.command(&program),
            (None, Some((runner, arguments))) => {
                let mut command = Command::new(runner);
                command.args(arguments).arg(&program);
                command
            }
            (None, None) => Command::new(&program),
        };
        for (option, file) in [("-f", "pgpool.conf"), ("-F", "pcp.conf"), ("-a", "pool_hba.conf")] {
            command.arg(option).arg(self.path(file));
        }
        command.envs(&self.config.environment).current_dir("/");
        command
    }

    /// Starts it in the foreground, in a process group of its own, without waiting.
    pub fn launch(&mut self, options: &[&str]) {
        let log = File::options().create(true).append(true).open(self.path("pgpool.log")).expect("log");
        let child = self
            .command()
            .arg("-n")
            .args(options)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", pgpool_program().display()));
        register_process(child.id());
        self.process = Some(child);
    }

    /// Starts it and waits until it is ready.
    #[track_caller]
    pub fn started(mut self) -> Pgpool {
        self.launch(&[]);
        self.wait_ready();
        self
    }

    /// Waits until it says that it has started.
    #[track_caller]
    pub fn wait_ready(&mut self) {
        wait_for("pgpool to start", || {
            assert!(self.is_running(), "pgpool ended at start:\n{}", self.log());
            self.log().contains(READY)
        });
    }

    pub fn is_running(&mut self) -> bool {
        self.process.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The parent's process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.as_ref().expect("a started pgpool").id() as i32)
    }

    /// Signals the parent.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("kill");
    }

    /// Tells the parent to stop and waits for its end.
    pub fn stop(&mut self, mode: Stop) -> ExitStatus {
        self.signal(mode.signal());
        self.wait_end(Duration::from_secs(30)).unwrap_or_else(|| panic!("pgpool did not stop:\n{}", self.log()))
    }

    /// Waits for the parent's end; None when it is still there after that time.
    pub fn wait_end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let child = self.process.as_mut().expect("a started pgpool");
        let mut status = None;
        eventually(patience, || {
            status = child.try_wait().expect("wait");
            status.is_some()
        });
        status
    }

    /// Has it replaced by the program it was started from; what the command said, and the new parent if there is one.
    pub fn upgrade(&mut self) -> Result<Pid, String> {
        let output = self.command().arg("upgrade").output().expect("pgpool upgrade");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(self.adopt())
    }

    /// Makes the process of the pid file one that is ended with this value, and returns its id.
    pub fn adopt(&mut self) -> Pid {
        let pid = fs::read_to_string(self.path("pgpool.pid")).expect("pid file").trim().parse().expect("a pid");
        register_process(pid);
        self.successors.push(Pid::from_raw(pid as i32));
        Pid::from_raw(pid as i32)
    }

    /// Logs in as postgres to the tests' database.
    #[track_caller]
    pub fn connect(&self) -> Wire {
        Wire::login(self.port).unwrap_or_else(|e| panic!("login: {e}\n{}", self.log()))
    }

    /// Logs in with these startup parameters.
    #[track_caller]
    pub fn connect_with(&self, parameters: &[(&str, &str)]) -> Wire {
        Wire::login_with(self.port, parameters).unwrap_or_else(|e| panic!("login: {e}\n{}", self.log()))
    }

    /// A connection on which nothing has been said.
    pub fn open(&self) -> Wire {
        Wire::open(self.port).expect("connect")
    }

    /// Runs psql with these commands.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> Outcome {
        let args = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"];
        Program::client("psql").at_port(self.port).args(args).input(sql).run()
    }

    /// A file in the directory of this pgpool.
    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// Where PCP listens.
    pub fn pcp_port(&self) -> u16 {
        self.config.settings["pcp_port"].parse().expect("pcp_port")
    }

    /// Where the metrics are; only `with_metrics`.
    pub fn metrics_port(&self) -> u16 {
        self.config.settings["metrics_port"].parse().expect("metrics_port")
    }

    /// The Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.path(&format!(".s.PGSQL.{}", self.port))
    }

    /// What it has noted of its nodes for the next start.
    pub fn status_file(&self) -> String {
        fs::read_to_string(self.path("pgpool_status")).unwrap_or_default()
    }

    /// All it has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.path("pgpool.log")).unwrap_or_default()).into_owned()
    }

    /// How often its log has this text.
    pub fn count(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// Process ids of the parent's children whose title contains this text. The PCP main process, which waits in the same
    /// words as workers, is meant only by a text with PCP in it.
    pub fn children(&self, title: &str) -> Vec<Pid> {
        children_of(self.pid(), title)
    }
}

impl Drop for Pgpool {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let pid = Pid::from_raw(child.id() as i32);
            // Politely first, so that the original removes its shared memory.
            let _ = kill(pid, Signal::SIGQUIT);
            eventually(Duration::from_secs(5), || matches!(child.try_wait(), Ok(Some(_))));
            let _ = killpg(pid, Signal::SIGKILL);
            let _ = child.wait();
            forget_process(child.id());
        }
        for pid in self.successors.drain(..) {
            let _ = kill(pid, Signal::SIGQUIT);
            eventually(Duration::from_secs(5), || process_title(pid.as_raw()).is_empty());
            let _ = killpg(pid, Signal::SIGKILL);
            forget_process(pid.as_raw() as u32);
        }
        // A shared cluster outlives a failed test: its logs are kept here.
        shared_if_started().for_each(|cluster| keep_if_failed(cluster.directory()));
    }
}
