//! The pipe to the log collector: standard output and error of all processes while `logging_collector` is on
//! (process-model 10.6).
//!
//! The parent keeps both of its ends. So what is said while no collector lives waits for the next one.

use super::Supervisor;
use super::children::Role;
use super::start::failed;
use crate::collector::{self, LogFile};
use crate::config::Settings;
use crate::net::Deadline;
use crate::report::{self, Report, Result};
use crate::sys::descriptor;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollTimeout, poll};
use nix::unistd::pipe2;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that wait in the pipe: for the time in which a collector is replaced.
const ROOM: i32 = 1 << 20;
/// How long the collector may take to write the last lines when pgpool has ended.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pipe, before and after it has become standard output and error.
#[derive(Debug)]
pub(super) struct LogPipe {
    reader: OwnedFd,
    /// What was standard error.
    fallback: OwnedFd,
    /// For the first collector.
    first: Option<LogFile>,
}

impl LogPipe {
    /// Opens the first log file and becomes standard output and error.
    ///
    /// # Errors
    /// The log file cannot be opened, or out of descriptors.
    pub fn open(settings: &Settings) -> Result<Self> {
        let first = Some(collector::first_file(settings)?);
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(failed("no pipe can be made"))?;
        // More room is a help, not a need.
        let _ = fcntl(&reader, FcntlArg::F_SETPIPE_SZ(ROOM));
        let fallback = io::stderr().as_fd().try_clone_to_owned().map_err(failed("no descriptor is left"))?;
        // Not waiting is a property of the open file; scripts, which write to the same pipe, rely on waiting.
        let own = File::options()
            .write(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(format!("/proc/self/fd/{}", writer.as_raw_fd()))
            .map_err(failed("the pipe cannot be opened"))?;
        Report::log_line("redirecting log output to logging collector process")
            .hint(format!("Future log output will appear in directory \"{}\".", settings.log_directory))
            .log();
        for stream in [1, 2] {
            descriptor::replace(&writer, stream).map_err(failed("standard error cannot be replaced"))?;
        }
        report::to_collector(Some(own));
        Ok(Self { reader, fallback, first })
    }

    /// What was standard error.
    pub fn fallback(&self) -> &OwnedFd {
        &self.fallback
    }

    /// A daemon has no terminal.
    pub fn leave_terminal(&mut self) -> io::Result<()> {
        self.fallback = descriptor::stdin_to_null()?;
        Ok(())
    }

    /// The collector has been forked: its file is no business of the parent's any more.
    pub fn collector_started(&mut self) {
        self.first = None;
    }

    /// In a collector that was forked: its life.
    pub fn collect(self, supervisor: &Supervisor) -> i32 {
        let Self { reader: pipe, fallback, first } = self;
        let (settings, shared) = (Arc::clone(&supervisor.settings), supervisor.shared.clone());
        collector::run(collector::Start { pipe, fallback, first, settings, shared })
    }
}

impl Supervisor {
    /// pgpool has ended: the collector, which ends last, writes what is still in the pipe.
    pub(super) fn end_log(&mut self) {
        report::finish();
        let Some(LogPipe { fallback, .. }) = self.log_pipe.take() else { return };
        report::to_collector(None);
        for stream in [1, 2] {
            let _ = descriptor::replace(&fallback, stream);
        }
        let limit = Deadline::after(PATIENCE);
        while self.children.has_living(Role::Collector) && !limit.passed() {
            self.children.reap();
            let pause = Duration::from_millis(20).min(limit.remaining().unwrap_or_default());
            let _ = poll(&mut [], PollTimeout::try_from(pause).unwrap_or(PollTimeout::ZERO));
        }
    }
}
