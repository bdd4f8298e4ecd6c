//! The worker's side: a process that asks PAM or a directory, and what it reports.

use super::line::{Kind, Line, said};
use super::{Request, VERB};
use crate::auth::Secret;
use crate::net::{Deadline, Waited, wait};
use crate::report::Report;
use nix::poll::PollFlags;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A process that was sent to ask; it is gone when this is dropped.
#[derive(Debug)]
pub struct Errand {
    process: Child,
    line: Line,
}

/// What it reports.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// It wants the client's password: [`Errand::answer`].
    Asked,
    /// A line for the log.
    Said(Report),
    /// The user may come in.
    Granted,
    /// The user may not.
    Refused,
    /// It has ended without a verdict: it has crashed.
    Lost,
    /// The deadline has passed.
    TooLate,
    /// This worker is to stop at once.
    Stopped,
}

impl Errand {
    /// Sends a process with `request`. `password` is that of `ldapbinddn`, if it has one.
    ///
    /// # Errors
    /// Out of processes, memory or descriptors.
    pub fn start(request: &Request, password: &Secret) -> io::Result<Self> {
        let request = serde_json::to_vec(request).map_err(io::Error::other)?;
        // What modules have started must not outlive the errand; when its process is gone, that comes to us.
        let _ = set_child_subreaper(true);
        let (line, its_end) = Line::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg0("pgpool")
            .arg(VERB)
            .stdin(Stdio::from(its_end))
            .stdout(Stdio::null())
            .spawn()?;
        let errand = Self { process, line };
        errand.line.send(Kind::Request, &request)?;
        errand.line.send(Kind::Secret, password.bytes())?;
        Ok(errand)
    }

    /// What comes next, until `deadline`.
    ///
    /// # Errors
    /// Those of poll(2) and recv(2).
    pub fn next(&mut self, deadline: Deadline) -> io::Result<Event> {
        match wait(&self.line, PollFlags::POLLIN, deadline)? {
            Waited::Ready => {}
            Waited::TooLate => return Ok(Event::TooLate),
            Waited::Stopped => return Ok(Event::Stopped),
        }
        Ok(match self.line.receive() {
            Ok((Kind::Ask, _)) => Event::Asked,
            Ok((Kind::Say, content)) => said(content.bytes()).map_or(Event::Lost, Event::Said),
            Ok((Kind::Granted, _)) => Event::Granted,
            Ok((Kind::Refused, _)) => Event::Refused,
            Ok((Kind::Request | Kind::Secret, _)) => Event::Lost,
            Err(error) if is_end(&error) => Event::Lost,
            Err(error) => return Err(error),
        })
    }

    /// The client's password. If the process is gone [`Self::next`] says so.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn answer(&mut self, password: &Secret) -> io::Result<()> {
        match self.line.send(Kind::Secret, password.bytes()) {
            Err(error) if is_end(&error) => Ok(()),
            sent => sent,
        }
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Drop for Errand {
    fn drop(&mut self) {
        let _ = self.process.kill();
        // A moment is enough, unless a process hangs in the kernel. Then it stays until this worker ends.
        let limit = Deadline::after(PATIENCE);
        while !limit.passed() {
            if !matches!(self.process.try_wait(), Ok(None)) && !end_orphans() {
                break;
            }
            sleep(Duration::from_millis(1));
        }
        let _ = set_child_subreaper(false);
    }
}

/// How long the end of killed processes is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Kills what the process has left behind: a worker has no other children. Whether there is something still.
fn end_orphans() -> bool {
    let this = getpid();
    let children = fs::read_to_string(format!("/proc/{this}/task/{this}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw);
    let mut are_there = false;
    for child in children {
        are_there = true;
        let _ = kill(child, Signal::SIGKILL);
        let _ = waitpid(child, Some(WaitPidFlag::WNOHANG));
    }
    are_there
}
