//! The worker's side: a process that asks PAM or a directory, and what it reports.

use super::line::{Kind, Line, said};
use super::orphans::Orphans;
use super::{Request, VERB};
use crate::auth::Secret;
use crate::net::{Deadline, Waited, wait};
use crate::report::Report;
use nix::poll::PollFlags;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

/// A process that was sent to ask; it is gone when this is dropped, and without a verdict all that it has started, too.
#[derive(Debug)]
pub struct Errand {
    process: Child,
    line: Line,
    /// There is a verdict: the process ends by itself, and what a module has started meanwhile is its own affair.
    is_done: bool,
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
        let (line, its_end) = Line::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg0("pgpool")
            .arg(VERB)
            .stdin(Stdio::from(its_end))
            .stdout(Stdio::null())
            .spawn()?;
        let errand = Self { process, line, is_done: false };
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
        let event = match self.line.receive() {
            Ok((Kind::Ask, _)) => Event::Asked,
            Ok((Kind::Say, content)) => said(content.bytes()).map_or(Event::Lost, Event::Said),
            Ok((Kind::Granted, _)) => Event::Granted,
            Ok((Kind::Refused, _)) => Event::Refused,
            Ok((Kind::Request | Kind::Secret, _)) => Event::Lost,
            Err(error) if is_end(&error) => Event::Lost,
            Err(error) => return Err(error),
        };
        self.is_done |= matches!(event, Event::Granted | Event::Refused);
        Ok(event)
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
        let orphans = (!self.is_done).then(Orphans::adopt);
        let _ = self.process.kill();
        // A moment is enough, unless the process hangs in the kernel. Then it stays a zombie until this worker ends.
        for _ in 0..PATIENCE {
            if !matches!(self.process.try_wait(), Ok(None)) {
                break;
            }
            sleep(Duration::from_millis(1));
        }
        if let Some(orphans) = orphans {
            orphans.end();
        }
    }
}

/// How long the end of a killed process is waited for, in milliseconds.
const PATIENCE: u32 = 1000;
