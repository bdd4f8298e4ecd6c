//! Commands of the user as child processes: the parent never waits for one, and what they print goes to the log.
//!
//! A command is the leader of a process group, so that one that takes too long is ended with all it has started. It
//! outlives a parent that is killed: a promotion is not stopped half-way.

use crate::net::Deadline;
use crate::report::Report;
use crate::sys::oom_score;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, pipe2, read};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of a command's output that are logged; the rest is read and dropped.
const LOGGED: usize = 64 * 1024;
/// Bytes of a line at most; a longer one is logged in pieces.
const LINE: usize = 1000;
/// Bytes read at one go, so that a command that prints for ever does not keep the parent from its other work.
const AT_ONCE: usize = 256 * 1024;
/// How long a command may take to end when it was told to, before it is killed.
const PATIENCE: Duration = Duration::from_secs(5);

/// What commands print, all of them into one pipe.
#[derive(Debug)]
pub(in crate::supervisor) struct Output {
    reader: OwnedFd,
    writer: OwnedFd,
    line: Vec<u8>,
    /// Bytes that are still logged.
    left: usize,
}

impl Output {
    /// # Errors
    /// Out of descriptors.
    pub fn new() -> nix::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC)?;
        nix::fcntl::fcntl(&reader, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { reader, writer, line: Vec::new(), left: LOGGED })
    }

    /// Readable when a command has printed something.
    pub fn reader(&self) -> &OwnedFd {
        &self.reader
    }

    /// Logs what has been printed.
    pub fn log(&mut self) {
        let mut buffer = [0; 16 * 1024];
        let mut total = 0;
        while total < AT_ONCE {
            match read(&self.reader, &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(count) => {
                    total += count;
                    self.take(&buffer[..count]).iter().for_each(Report::log);
                }
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
    }

    /// The lines that are complete with `bytes`.
    fn take(&mut self, bytes: &[u8]) -> Vec<Report> {
        let mut lines = Vec::new();
        for byte in bytes {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            if *byte != b'\n' {
                self.line.push(*byte);
            }
            if *byte == b'\n' || self.line.len() >= LINE {
                lines.extend(self.line());
            }
            if self.left == 0 {
                lines.extend(self.line());
                lines.push(
                    Report::warning(format!("a command has printed more than {LOGGED} bytes; the rest is not logged"))
                        .hint("Let it write to a file of its own."),
                );
            }
        }
        lines
    }

    fn line(&mut self) -> Option<Report> {
        let line = std::mem::take(&mut self.line);
        (!line.is_empty()).then(|| Report::log_line(format!("command output: {}", String::from_utf8_lossy(&line))))
    }

    /// A command has ended: what is left of its last line is logged.
    fn finish(&mut self) {
        self.log();
        if let Some(line) = self.line() {
            line.log();
        }
        self.left = LOGGED;
    }
}

/// A command that runs.
#[derive(Debug)]
pub(in crate::supervisor) struct Script {
    /// The parameter that names it.
    name: &'static str,
    pid: Pid,
    started: Instant,
    limit: Deadline,
    was_told: bool,
}

impl Script {
    /// Runs `text` by the shell. `seconds`: its limit, 0 = none.
    ///
    /// # Errors
    /// No process can be made.
    pub fn start(name: &'static str, text: &str, seconds: i32, output: &Output) -> io::Result<Self> {
        let child = Command::new("/bin/sh")
            .args(["-c", text])
            .stdin(Stdio::null())
            .stdout(output.writer.try_clone()?)
            .stderr(output.writer.try_clone()?)
            .process_group(0)
            .spawn()?;
        let pid = Pid::from_raw(child.id() as i32);
        // What it starts may be a server.
        oom_score::unprotect(pid);
        Ok(Self { name, pid, started: Instant::now(), limit: Deadline::after_seconds(seconds), was_told: false })
    }

    /// Its process, which is the leader of its group.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// When something is to be done about it.
    pub fn deadline(&self) -> Deadline {
        self.limit
    }

    /// Ends it if it takes too long: first by SIGTERM, then by force.
    pub fn heed_time(&mut self) {
        if !self.limit.passed() {
            return;
        }
        if self.was_told {
            let _ = killpg(self.pid, Signal::SIGKILL);
            self.limit = Deadline::NEVER;
            return;
        }
        Report::warning(format!("{} takes too long and is ended", self.name))
            .detail(format!("It runs for {} ms now.", self.started.elapsed().as_millis()))
            .hint("See failover_command_timeout.")
            .log();
        self.end();
    }

    /// Tells it to end, if it was not told before; by force if it does not.
    pub fn end(&mut self) {
        if !std::mem::replace(&mut self.was_told, true) {
            let _ = killpg(self.pid, Signal::SIGTERM);
            self.limit = Deadline::after(PATIENCE);
        }
    }

    /// It has ended; says how if that is worth a line.
    pub fn ended(self, how: &str, is_success: bool, output: &mut Output) {
        output.finish();
        let time = format!("It took {} ms.", self.started.elapsed().as_millis());
        if is_success {
            Report::debug(format!("{} has ended", self.name)).detail(time).log();
        } else {
            Report::warning(format!("{} {how}", self.name))
                .detail(time)
                .hint("What it has printed is in the lines before.")
                .log();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(lines: &[Report]) -> Vec<&str> {
        lines.iter().map(|line| line.message.as_str()).collect()
    }

    #[test]
    fn output_is_logged_line_by_line_up_to_a_limit() {
        let mut output = Output::new().expect("pipe");
        assert_eq!(texts(&output.take(b"one\ntw")), ["command output: one"]);
        assert_eq!(texts(&output.take(b"o\n\n")), ["command output: two"]);
        let long = output.take(&[b'x'; LINE + 1]);
        assert_eq!(long.len(), 1);
        let rest: Vec<Report> = (0..16).flat_map(|_| output.take(&[b'x'; 64 * 1024])).collect();
        assert!(rest.len() <= LOGGED / LINE + 2, "{}", rest.len());
        assert!(rest.last().expect("a line").message.contains("the rest is not logged"));
        output.finish();
        assert_eq!(texts(&output.take(b"next\n")), ["command output: next"]);
    }
}
