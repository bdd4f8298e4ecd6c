//! A program that runs beside the test, such as a repmgrd.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::eventually;
use super::scratch::{forget_process, register_process};
use super::template::as_server_user;

/// A background program, run as the servers' user; ended with all it has started when dropped.
pub struct Service(Child);

impl Service {
    /// Starts it; what it prints goes to the end of this file.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Service {
        let log = File::options().create(true).append(true).open(log).expect("log");
        let child = as_server_user(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("log"))
            .stderr(log)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        register_process(child.id());
        Service(child)
    }

    /// Signals it.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).expect("kill");
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let _ = kill(pid, Signal::SIGCONT);
        eventually(Duration::from_secs(5), || matches!(self.0.try_wait(), Ok(Some(_))));
        let _ = killpg(pid, Signal::SIGKILL);
        let _ = self.0.wait();
        forget_process(self.0.id());
    }
}
