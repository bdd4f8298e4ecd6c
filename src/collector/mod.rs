//! The log collector: the process that writes what the others say to log files (process-model 10.6).
//!
//! All processes have the same pipe as standard output and error. The parent keeps it open, so a collector that dies takes
//! only what it was just writing; what comes meanwhile waits in the pipe for its successor. It ends when nobody is left
//! that could say something: signals that stop pgpool mean nothing to it.
//!
//! Lines that no file takes, because the disk is full or the directory is gone, go to what was standard error when pgpool
//! was started, and the log tells how many when it can be written again. Memory is bounded by [`assemble`].

mod assemble;
mod file;
mod schedule;

pub use file::LogFile;

use crate::config::Settings;
use crate::report::{self, Report, Sink};
use crate::state::Shared;
use crate::sys::signal::{Signals, ToCollector};
use crate::sys::{descriptor, title};
use assemble::{Assembler, Piece};
use chrono::{DateTime, Local};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::read;
use schedule::Schedule;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a file that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// It sleeps no longer than this while rotation by age is on: the clock may have been set.
const NAP: Duration = Duration::from_secs(600);
/// How often messages without end are looked at.
const GLANCE: Duration = Duration::from_secs(1);

/// Exit status of one that is to be replaced (process-model 9).
const EXIT_RESTART: i32 = 1;

/// What it starts with.
#[derive(Debug)]
pub struct Start {
    /// Where messages come from.
    pub pipe: OwnedFd,
    /// What was standard error when pgpool was started.
    pub fallback: OwnedFd,
    /// The first file; `None`: this one takes the place of another.
    pub first: Option<LogFile>,
    /// The settings in force.
    pub settings: Arc<Settings>,
    /// Shared memory.
    pub shared: Shared,
}

/// Opens the file for now, at start.
///
/// # Errors
/// It cannot be opened.
pub fn first_file(settings: &Settings) -> report::Result<LogFile> {
    let path = file::name(settings, Local::now());
    let name = path.display().to_string();
    LogFile::open(path, settings, None).map_err(|error| {
        Report::fatal(format!("could not open log file \"{name}\""))
            .detail(error.to_string())
            .hint("log_directory must be writable; only its last part is made if it is missing.")
    })
}

/// The life of the forked process. Returns its exit status.
pub fn run(start: Start) -> i32 {
    // The pipe must end when the others have ended.
    report::to_collector(None);
    for stream in [1, 2] {
        let _ = descriptor::replace(&start.fallback, stream);
    }
    report::set_process("logger", "");
    title::set("PgpoolLogger");
    let signals = match Signals::install(ToCollector::HANDLED) {
        Ok(signals) => signals,
        Err(errno) => {
            Report::fatal("the log collector cannot handle signals").detail(errno.desc()).log();
            return EXIT_RESTART;
        }
    };
    let Start { pipe, first, settings, shared, .. } = start;
    let plan = Schedule::after(Local::now(), settings.log_rotation_age);
    let mut collector = Collector {
        settings,
        shared,
        file: first,
        tried: None,
        plan,
        rotates: true,
        lost: 0,
        stderr: Sink::default(),
        assembler: Assembler::default(),
    };
    if collector.file.is_none() {
        let written_last = collector.shared.log_file();
        collector.open_now(if written_last.as_os_str().is_empty() { None } else { Some(written_last) });
    }
    collector.publish();
    collector.live(&pipe, &signals)
}

struct Collector {
    settings: Arc<Settings>,
    shared: Shared,
    file: Option<LogFile>,
    /// When a file was last tried to be opened in vain.
    tried: Option<Instant>,
    /// The next rotation by age.
    plan: Option<Schedule>,
    /// Rotation by size and age is not disabled.
    rotates: bool,
    /// Lines that no file has taken since it last could be written.
    lost: usize,
    stderr: Sink,
    assembler: Assembler,
}

impl Collector {
    fn live(mut self, pipe: &OwnedFd, signals: &Signals) -> i32 {
        let mut buffer = vec![0; 64 * 1024];
        let mut pieces = Vec::new();
        loop {
            let mut ready =
                [PollFd::new(signals.fd(), PollFlags::POLLIN), PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
            let _ = poll(&mut ready, self.nap());
            let is_readable = ready[1].any() == Some(true);
            let taken = signals.take();
            if taken.has(ToCollector::Reload) {
                self.reload();
            }
            if taken.has(ToCollector::Point) {
                self.publish();
            }
            if taken.has(ToCollector::Rotate) {
                self.rotate(Local::now(), None);
            }
            self.heed_age();
            let mut is_over = false;
            if is_readable {
                match read(pipe, &mut buffer) {
                    Ok(0) => is_over = true,
                    Ok(count) => self.assembler.take(&buffer[..count], &mut pieces),
                    Err(Errno::EINTR | Errno::EAGAIN) => {}
                    Err(_) => return EXIT_RESTART,
                }
            }
            if is_over {
                self.assembler.finish(&mut pieces);
            } else {
                self.assembler.give_up_old(&mut pieces);
            }
            self.write(std::mem::take(&mut pieces));
            if is_over {
                return 0;
            }
        }
    }

    /// How long there is nothing to do unless somebody speaks.
    fn nap(&self) -> PollTimeout {
        let plan = self.plan.filter(|_| self.rotates).map(|plan| plan.remaining(Local::now()).min(NAP));
        let glance = self.assembler.waits().then_some(GLANCE);
        let nap = plan.into_iter().chain(glance).min();
        // A little later than planned rather than a little earlier, again and again.
        nap.map_or(PollTimeout::NONE, |nap| {
            PollTimeout::try_from(nap + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        })
    }

    /// SIGHUP: a new directory or pattern is a new file, and what was disabled is tried again.
    fn reload(&mut self) {
        let Some(settings) = Settings::from_snapshot(&self.shared.published_settings()) else { return };
        let before = std::mem::replace(&mut self.settings, Arc::new(settings));
        report::configure(self.settings.log_settings());
        self.rotates = true;
        self.plan = Schedule::after(Local::now(), self.settings.log_rotation_age);
        let place = |settings: &Settings| (settings.log_directory.clone(), settings.log_filename.clone());
        if self.file.is_none() || place(&before) != place(&self.settings) {
            self.rotate(Local::now(), None);
        }
    }

    fn heed_age(&mut self) {
        let Some(time) = self.plan.filter(|_| self.rotates).and_then(|plan| plan.due(Local::now())) else { return };
        self.plan = Schedule::after(Local::now(), self.settings.log_rotation_age);
        self.rotate(time, self.settings.log_truncate_on_rotation.then_some(time));
    }

    fn heed_size(&mut self) {
        let limit = u64::try_from(self.settings.log_rotation_size).unwrap_or(0) * 1024;
        let Some(file) = &self.file else { return };
        if limit == 0 || !self.rotates || file.size() < limit || self.has_just_tried() {
            return;
        }
        let now = Local::now();
        // The pattern may give the same name for a while: that file goes on growing.
        if file::name(&self.settings, now) != file.path() {
            self.rotate(now, None);
        }
    }

    /// Goes on in the file of `time`. What another file of that name holds is overwritten if it is older than `outdated`.
    fn rotate(&mut self, time: DateTime<Local>, outdated: Option<DateTime<Local>>) {
        let path = file::name(&self.settings, time);
        let is_same = self.file.as_ref().is_some_and(|file| file.path() == path);
        match LogFile::open(path.clone(), &self.settings, outdated.filter(|_| !is_same)) {
            Ok(file) => {
                (self.file, self.tried) = (Some(file), None);
                self.publish();
            }
            Err(error) => {
                // First of all: what is told is written, and what is written looks whether to rotate.
                self.tried = Some(Instant::now());
                self.rotates = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE));
                let report = Report::log_line(format!("could not open log file \"{}\"", path.display()));
                self.tell(&report.detail(error.to_string()));
                if !self.rotates {
                    self.tell(&Report::log_line("disabling automatic rotation (use SIGHUP to re-enable)"));
                }
            }
        }
    }

    /// Opens `path`, else the file of now, when there is none.
    fn open_now(&mut self, path: Option<PathBuf>) {
        if self.has_just_tried() {
            return;
        }
        let path = path.unwrap_or_else(|| file::name(&self.settings, Local::now()));
        match LogFile::open(path.clone(), &self.settings, None) {
            Ok(file) => {
                (self.file, self.tried) = (Some(file), None);
                self.publish();
            }
            Err(error) => {
                self.tried = Some(Instant::now());
                if self.lost == 0 {
                    troubled(&path.display().to_string(), &error);
                }
            }
        }
    }

    fn has_just_tried(&self) -> bool {
        self.tried.is_some_and(|tried| tried.elapsed() < RETRY)
    }

    /// Tells the others who collects, and where to.
    fn publish(&self) {
        if let Some(file) = &self.file {
            self.shared.publish_log_file(file.path());
            // Until this pgpool serves, it is the file of the one that it replaces.
            if !self.shared.hold().is_shut() {
                file.point_at();
            }
        }
        self.shared.publish_collector(std::process::id());
    }

    /// A message of its own: to the file as long as there is one.
    fn tell(&mut self, report: &Report) {
        self.write(vec![Piece::Message(report::render(report).into_bytes())]);
    }

    fn write(&mut self, pieces: Vec<Piece>) {
        if pieces.is_empty() {
            return;
        }
        let mut lines = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Message(text) => lines.extend_from_slice(&text),
                Piece::Foreign(line) => lines.extend_from_slice(&report::foreign_line(&line)),
            }
        }
        self.heed_size();
        if self.file.is_none() {
            self.open_now(None);
        }
        if !self.put(&lines) {
            self.lost += lines.iter().filter(|byte| **byte == b'\n').count();
            let _ = self.stderr.write(&lines);
        }
    }

    /// Writes `lines` to the file, behind a word about those that are missing in it. Returns whether it has taken them.
    fn put(&mut self, lines: &[u8]) -> bool {
        let Some(file) = &mut self.file else { return false };
        if self.lost > 0 {
            let report = Report::warning(format!("{} log lines are missing here", self.lost))
                .detail("The log file could not be written; they went to the standard error pgpool was started with.");
            if file.write(report::render(&report).as_bytes()).is_err() {
                return false;
            }
            self.lost = 0;
        }
        match file.write(lines) {
            Ok(()) => true,
            Err(error) => {
                troubled(&file.path().display().to_string(), &error);
                false
            }
        }
    }
}

/// The one word to standard error when files are of no use any more.
fn troubled(path: &str, error: &io::Error) {
    Report::warning(format!("could not write to log file \"{path}\""))
        .detail(error.to_string())
        .hint("The log goes to standard error until the file can be written again.")
        .log();
}
