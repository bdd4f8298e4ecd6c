//! Client programs, run with a deadline.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::scratch::{forget_process, register_process};
use super::template::DATABASE;
use super::{Scratch, environment, eventually};

/// A program about to be run.
pub struct Program {
    command: Command,
    name: String,
    input: Vec<u8>,
    patience: Duration,
}

/// What a program left: all of it is shown when an expectation fails.
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Any program.
    pub fn new(program: impl AsRef<Path>) -> Program {
        let path = program.as_ref();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Program { command: Command::new(path), name, input: Vec::new(), patience: Duration::from_secs(120) }
    }

    /// A program of PostgreSQL's client package, such as psql.
    pub fn client(name: &str) -> Program {
        Program::new(environment::client_program(name))
    }

    /// The environment that leads libpq programs, and drivers like it, to this port.
    pub fn at_port(mut self, port: u16) -> Program {
        self.command.env("PGHOST", "127.0.0.1").env("PGPORT", port.to_string());
        self.command.env("PGUSER", "postgres").env("PGDATABASE", DATABASE).env("PGCONNECT_TIMEOUT", "30");
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Program {
        self.command.env(name, value);
        self
    }

    pub fn args<S: AsRef<std::ffi::OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Program {
        self.command.args(args);
        self
    }

    /// What the program reads from stdin.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Program {
        self.input = input.into();
        self
    }

    /// How long it may run; two minutes when not said.
    pub fn patience(mut self, patience: Duration) -> Program {
        self.patience = patience;
        self
    }

    /// Runs it to its end. Fails the test, with what it had printed, when the deadline passes.
    #[track_caller]
    pub fn run(mut self) -> Outcome {
        // Files rather than pipes: no reader is needed, and nothing is lost when the program must be killed.
        let scratch = Scratch::new("program");
        let file = |name: &str| scratch.path().join(name);
        fs::write(file("stdin"), &self.input).expect("stdin file");
        let mut child = self
            .command
            .stdin(File::open(file("stdin")).expect("stdin file"))
            .stdout(Stdio::from(File::create(file("stdout.log")).expect("stdout file")))
            .stderr(Stdio::from(File::create(file("stderr.log")).expect("stderr file")))
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
        register_process(child.id());
        let ended = eventually(self.patience, || matches!(child.try_wait(), Ok(Some(_))));
        if !ended {
            let _ = killpg(Pid::from_raw(child.id() as i32), Signal::SIGKILL);
        }
        let status = child.wait().expect("wait");
        forget_process(child.id());
        let text = |name| String::from_utf8_lossy(&fs::read(file(name)).unwrap_or_default()).into_owned();
        let outcome = Outcome { name: self.name, status, stdout: text("stdout.log"), stderr: text("stderr.log") };
        assert!(ended, "killed after {:?}: {outcome:#?}", self.patience);
        outcome
    }
}

impl Outcome {
    /// Fails the test unless the program ended well; its standard output without the last newline.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert!(self.status.success(), "{} failed: {self:#?}", self.name);
        self.stdout.trim_end_matches('\n').to_owned()
    }
}
