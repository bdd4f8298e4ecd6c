//! Running the external command (failover 14.6): no host name reaches a shell, and neither its time nor its output has no
//! end.

use crate::net::Deadline;
use crate::report::Report;
use crate::sys::thread::without_signals;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// Bytes of output that are looked at.
const MAX_OUTPUT: usize = 4095;
/// What helps when it fails.
const TRY: &str = "Run it by hand, as the user that runs pgpool.";

/// What a command has printed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub text: String,
    /// It has printed more than that.
    pub cut: bool,
}

/// Why there is no output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// This process was told to leave meanwhile.
    Interrupted,
    /// What to tell the administrator.
    Told(Box<Report>),
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Told(Box::new(report))
    }
}

/// Runs `command`, with `arguments` behind it that no shell looks at. Everything together takes no longer than `seconds`,
/// then all of it is killed; so it is when `interrupted`, asked whenever `wake` becomes readable, says that nobody wants to
/// know any more.
///
/// # Errors
/// It could not be started, failed, was killed or took too long.
pub(super) fn run(
    command: &str,
    arguments: &[String],
    seconds: u64,
    wake: BorrowedFd<'_>,
    mut interrupted: impl FnMut() -> bool,
) -> Result<Output, Failure> {
    let deadline = Deadline::after(Duration::from_secs(seconds));
    let failed = |error: io::Error| {
        Report::error(format!("failed to read output from replication delay command: {command}"))
            .detail(error.to_string())
    };
    let (mut group, pipe) = Group::start(command, arguments).map_err(|error| {
        Report::error(format!("replication delay command could not be run: {command}")).detail(error.to_string())
    })?;
    let mut printed = Printed::by(pipe).map_err(failed)?;
    let status = loop {
        // In this order: what it has printed before its end is there when its end is seen. One read takes a whole pipe.
        let ended = group.end().map_err(failed)?;
        printed.read().map_err(failed)?;
        if let Some(status) = ended {
            break status;
        }
        if deadline.passed() {
            return Err(Report::error(format!(
                "replication delay command timed out after {seconds} seconds: {command}"
            ))
            .hint("Consider increasing replication_delay_source_timeout or optimizing the command")
            .into());
        }
        if wait(wake, &group, printed.pipe.as_ref(), deadline) && interrupted() {
            return Err(Failure::Interrupted);
        }
    };
    judge(status, command)?;
    let cut = printed.total > MAX_OUTPUT;
    Ok(Output { text: String::from_utf8_lossy(&printed.kept).into_owned(), cut })
}

fn judge(status: ExitStatus, command: &str) -> Result<(), Report> {
    match (status.signal(), status.code()) {
        (_, Some(0)) => Ok(()),
        (Some(signal), _) => {
            Err(Report::error(format!("replication delay command terminated by signal {signal}: {command}")).hint(TRY))
        }
        (None, code) => {
            let code = code.unwrap_or(-1);
            Err(Report::error(format!("replication delay command failed with exit code {code}: {command}")).hint(TRY))
        }
    }
}

/// Waits until something has happened, or there is no more time. Whether it may have been `wake`.
fn wait(wake: BorrowedFd<'_>, group: &Group, pipe: Option<&ChildStdout>, deadline: Deadline) -> bool {
    let mut fds = vec![PollFd::new(wake, PollFlags::POLLIN), PollFd::new(group.bell.as_fd(), PollFlags::POLLIN)];
    fds.extend(pipe.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
    match poll(&mut fds, deadline.poll_timeout()) {
        Ok(_) => fds[0].any() == Some(true),
        Err(errno) => errno == Errno::EINTR,
    }
}

/// A process group, killed if this is dropped before its leader has ended. What a leader has left running in the background
/// is its own business.
struct Group {
    leader: Pid,
    /// How the leader has ended, from the thread that waits for that.
    end: Receiver<io::Result<ExitStatus>>,
    /// Readable when it has.
    bell: Arc<EventFd>,
    ended: bool,
}

impl Group {
    fn start(command: &str, arguments: &[String]) -> io::Result<(Self, ChildStdout)> {
        let bell = Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?);
        // The shell reads the command as it is written; the arguments it only passes on.
        let mut leader = Command::new("/bin/sh")
            .args(["-c", &format!("{command} \"$@\""), "sh"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let pipe = leader.stdout.take();
        let (sender, end) = channel();
        let group = Self { leader: Pid::from_raw(leader.id() as i32), end, bell: Arc::clone(&bell), ended: false };
        without_signals(|| {
            thread::Builder::new().spawn(move || {
                let _ = sender.send(leader.wait());
                let _ = bell.write(1);
            })
        })?;
        Ok((group, pipe.ok_or_else(|| io::Error::other("no pipe"))?))
    }

    /// How the leader has ended, if it has.
    fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        let Ok(end) = self.end.try_recv() else { return Ok(None) };
        self.ended = true;
        end.map(Some)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.ended {
            let _ = killpg(self.leader, Signal::SIGKILL);
        }
    }
}

/// What has come out of the pipe.
struct Printed {
    /// `None` behind its end.
    pipe: Option<ChildStdout>,
    kept: Vec<u8>,
    /// Bytes, also of what was not kept.
    total: usize,
}

impl Printed {
    fn by(pipe: ChildStdout) -> io::Result<Self> {
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { pipe: Some(pipe), kept: Vec::new(), total: 0 })
    }

    /// Takes what is there now, one pipe's content at most: a command that never stops printing must not hold us here.
    fn read(&mut self) -> io::Result<()> {
        let mut piece = [0; 64 * 1024];
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.read(&mut piece) {
            Ok(0) => self.pipe = None,
            Ok(length) => {
                let room = MAX_OUTPUT.saturating_sub(self.kept.len());
                self.kept.extend_from_slice(&piece[..length.min(room)]);
                self.total += length;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn run_with(command: &str, arguments: &[&str], seconds: u64) -> Result<Output, Failure> {
        let (never, _writer) = nix::unistd::pipe().expect("pipe");
        let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        run(command, &arguments, seconds, never.as_fd(), || false)
    }

    fn told(result: Result<Output, Failure>) -> String {
        match result {
            Err(Failure::Told(report)) => report.message,
            other => panic!("{other:?}"),
        }
    }

    fn output(text: &str) -> Result<Output, Failure> {
        Ok(Output { text: text.to_owned(), cut: false })
    }

    #[test]
    fn commands_and_how_they_end() {
        assert_eq!(run_with("echo 1", &["2", "$(echo 3);`id`"], 10), output("1 2 $(echo 3);`id`\n"));
        assert_eq!(run_with("sleep 0.2; echo late #", &[], 10), output("late\n"));
        assert_eq!(told(run_with("exit 3;", &[], 10)), "replication delay command failed with exit code 3: exit 3;");
        let killed = told(run_with("kill -9 $$;", &[], 10));
        assert_eq!(killed, "replication delay command terminated by signal 9: kill -9 $$;");
        let began = Instant::now();
        let late = told(run_with("sleep 60 | cat;", &[], 1));
        assert_eq!(late, "replication delay command timed out after 1 seconds: sleep 60 | cat;");
        assert_eq!(run_with("sleep 30 & echo 5;", &[], 10), output("5\n"), "what it leaves behind is not waited for");
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        let much = run_with("head -c 1000000 /dev/zero | tr '\\0' 7;", &[], 10).expect("output");
        assert_eq!((much.text.len(), much.cut), (MAX_OUTPUT, true));
        let endless = told(run_with("yes 0 |cat;", &[], 1));
        assert!(endless.contains("timed out after 1 seconds"), "{endless}");
    }

    #[test]
    fn nobody_waits_when_told_to_leave() {
        let (wake, writer) = nix::unistd::pipe().expect("pipe");
        nix::unistd::write(&writer, b"1").expect("write");
        let began = Instant::now();
        assert_eq!(run("sleep 60", &[], 60, wake.as_fd(), || true), Err(Failure::Interrupted));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
