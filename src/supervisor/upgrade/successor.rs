//! In the old pgpool: the one that is to replace it.

use super::cancels::Cancels;
use super::leash::{Leash, Word};
use super::news::{self, Heard};
use super::predecessor::{CANCELS, LEASH, STDERR};
use super::{orders, outcome};
use crate::net::Deadline;
use crate::report::Report;
use crate::state::Request;
use crate::supervisor::Supervisor;
use crate::supervisor::children::{Dead, End, Role};
use crate::supervisor::pid_file::{self, PidFile};
use crate::supervisor::stop::Stopping;
use crate::sys::inherited;
use crate::sys::signal::{Signal, ToHelper, ToParent};
use nix::sys::signal::{kill, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How this pgpool was started, to start the same once more.
#[derive(Clone, Debug, Default)]
pub struct Again {
    /// The program by the name by which it was found, not the file that it was: that may be an older one.
    pub program: PathBuf,
    /// For the foreground, and with absolute paths.
    pub arguments: Vec<OsString>,
}

/// A new pgpool that is starting.
#[derive(Debug)]
pub(in crate::supervisor) struct Successor {
    pid: Pid,
    leash: Leash,
    cancels: Cancels,
    limit: Deadline,
    seconds: i32,
    /// Why it does not serve yet, as far as it has said.
    lack: Option<String>,
    /// The files may have changed since it has read them.
    must_reload: bool,
}

/// After the new one has taken over.
#[derive(Debug)]
pub(in crate::supervisor) struct Retired {
    /// None: the new one has ended.
    leash: Option<Leash>,
    /// How long sessions may go on.
    limit: Deadline,
    seconds: i32,
    /// What is to be told, and when that is looked at again: as soon as no worker is left that could accept somebody.
    untold: Option<(String, Deadline)>,
    /// What the new one has said of the nodes.
    heard: Heard,
    /// It serves.
    has_begun: bool,
}

/// All other processes of a container are killed when this one ends.
const FIRST_OF_CONTAINER: Pid = Pid::from_raw(1);
/// Such a request would be lost.
const WAITS_FOR_CLIENTS: &str = "an administrator's request waits for clients to leave";
/// How often it is looked whether a worker has a client now, and tried to enter what was said of the nodes.
const LOOK: i32 = 20;

impl Supervisor {
    /// SIGURG: starts the program again, to be replaced by it.
    pub(in crate::supervisor) fn upgrade(&mut self) {
        if Pid::this() == FIRST_OF_CONTAINER {
            let hint = "Replace the container, or start pgpool in it by a process that stays.";
            return self.refuse_upgrade("upgrade: not possible, the container would end with this process", hint);
        }
        let refused = if self.successor.is_some() || self.retired.is_some() {
            // Whoever has asked hears how that ends. What becomes of later ones is the new one's to tell.
            return Report::log_line("upgrade: one is under way already").log();
        } else if self.stopping.is_some() {
            "pgpool is being stopped"
        } else if !self.announced {
            "pgpool has not started completely"
        } else if !self.failover.is_idle() {
            "a failover is under way"
        } else if self.shared.hold().left().is_some() {
            WAITS_FOR_CLIENTS
        } else {
            return self.start_successor().unwrap_or_else(|error| {
                self.end_upgrade(&format!("{} cannot be started: {error}", self.again.program.display()));
            });
        };
        self.refuse_upgrade(&format!("upgrade: not now, {refused}"), "Try again when that is over.");
    }

    fn refuse_upgrade(&self, text: &str, hint: &'static str) {
        Report::warning(text).hint(hint).log();
        self.tell_failure(text.trim_start_matches("upgrade: "));
    }

    fn start_successor(&mut self) -> io::Result<()> {
        let Again { program, arguments } = &self.again;
        Report::log_line(format!("upgrade: starting {}", program.display())).log();
        outcome::forget(Path::new(&self.settings.pid_file_name));
        // From the moment when it serves its sessions write, and nobody here is told.
        self.shared.share_servers(true);
        let (leash, its) = Leash::pair()?;
        // Said before it begins, so that it cannot miss that.
        leash.say_nodes(&news::write(&self.shared.nodes().view()));
        let (cancels, its_cancels) = Cancels::pair()?;
        let stderr = match &self.log_pipe {
            Some(pipe) => pipe.fallback().try_clone()?,
            None => io::stderr().as_fd().try_clone_to_owned()?,
        };
        let mut descriptors = vec![(its.as_fd(), LEASH.to_owned()), (stderr.as_fd(), STDERR.to_owned())];
        descriptors.push((its_cancels.as_fd(), CANCELS.to_owned()));
        for listeners in [&self.listeners, &self.pcp_listeners, &self.metrics_listeners] {
            descriptors.extend(listeners.for_successor());
        }
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).envs(self.service.environment());
        let pid = inherited::hand_over(command, &descriptors)?;
        let pid = Pid::from_raw(i32::try_from(pid).map_err(io::Error::other)?);
        self.children.add(pid, Role::Successor);
        self.watch(&leash);
        let seconds = self.settings.upgrade_start_timeout;
        self.successor = Some(Successor {
            pid,
            leash,
            cancels,
            limit: Deadline::after_seconds(seconds),
            seconds,
            lack: None,
            must_reload: false,
        });
        Ok(())
    }

    /// When something is to be done about an upgrade even if nothing happens.
    pub(in crate::supervisor) fn upgrade_deadline(&self) -> Deadline {
        let starting = self.successor.as_ref().map_or(Deadline::NEVER, |successor| successor.limit);
        let Some(retired) = &self.retired else { return starting };
        let untold = retired.untold.as_ref().map_or(Deadline::NEVER, |(_, again)| *again);
        let news = if retired.heard.is_behind() { Deadline::after_milliseconds(LOOK) } else { Deadline::NEVER };
        starting.min(retired.limit).min(untold).min(news)
    }

    /// Hears what the new pgpool says, and ends what takes too long.
    pub(in crate::supervisor) fn heed_successor(&mut self) {
        while let Some(successor) = &mut self.successor {
            match successor.leash.hear() {
                Some(Word::Ready) => self.retire(),
                Some(Word::Lack(what)) => successor.lack = Some(what),
                // Its end is told by the kernel, with the reason.
                None | Some(Word::End) => break,
                Some(_) => {}
            }
        }
        if let Some(successor) = self.successor.as_ref().filter(|successor| successor.limit.passed()) {
            let seconds = successor.seconds;
            let lack = self.last_words();
            self.end_upgrade(&format!("the new process was not ready within {seconds} seconds{lack}"));
        }
        while let Some(word) = self.retired.as_ref().and_then(|retired| retired.leash.as_ref()?.hear()) {
            match word {
                Word::Stop(signal) => {
                    self.give_up_telling("the new process is being stopped");
                    self.stop(signal);
                }
                Word::Nodes(news) => {
                    if let Some(retired) = &mut self.retired {
                        retired.heard.note(news);
                    }
                }
                Word::End => self.successor_is_gone(),
                Word::Serves => self.retired.iter_mut().for_each(|retired| retired.has_begun = true),
                _ => {}
            }
        }
        self.tell_when_all_have_left();
        self.heed_news();
        if let Some(retired) = self.retired.as_mut().filter(|retired| retired.limit.passed()) {
            retired.limit = Deadline::NEVER;
            Report::warning("upgrade: the sessions that are left are ended")
                .detail(format!("upgrade_session_timeout is {} seconds.", retired.seconds))
                .log();
            self.stop(Signal::SIGINT);
        }
    }

    /// The process that was to replace this one has ended.
    pub(in crate::supervisor) fn successor_ended(&mut self, dead: &Dead) {
        if self.successor.as_ref().is_some_and(|successor| successor.pid == dead.pid) {
            let lack = self.last_words();
            let how = match dead.end {
                End::Exit(status) => format!("the new process has ended with status {status}"),
                End::Signal(signal, _) => format!("the new process was ended by {signal}"),
            };
            self.end_upgrade(&format!("{how}{lack}"));
        }
    }

    /// What the new process has said it lacks, behind a colon.
    fn last_words(&mut self) -> String {
        let Some(successor) = &mut self.successor else { return String::new() };
        while let Some(word) = successor.leash.hear().filter(|word| *word != Word::End) {
            if let Word::Lack(what) = word {
                successor.lack = Some(what);
            }
        }
        successor.lack.as_ref().map(|what| format!(": {what}")).unwrap_or_default()
    }

    /// Nothing has happened: this process goes on.
    fn end_upgrade(&mut self, reason: &str) {
        if let Some(successor) = self.successor.take() {
            let _ = killpg(successor.pid, Signal::SIGKILL);
        }
        let failure = Report::error(format!("upgrade failed: {reason}"));
        match self.stopping {
            Some(_) => failure,
            None => failure
                .detail("This process goes on serving as before.")
                .hint("What the new process had to say is in the log, or on standard error."),
        }
        .log();
        self.tell_failure(reason);
        self.mind_sharing();
        if self.stopping.is_some() {
            return;
        }
        let path = Path::new(&self.settings.pid_file_name);
        // It may have come so far as to write its own.
        if !matches!(pid_file::read(path), Ok(Some(pid)) if pid == Pid::this()) {
            match PidFile::take_over(path) {
                Ok(file) => self.pid_file = Some(file),
                Err(report) => report.log(),
            }
        }
        // That, too.
        self.write_status();
    }

    /// The new pgpool serves: this one ends with its last session.
    fn retire(&mut self) {
        let Some(Successor { pid, leash, cancels, must_reload, .. }) = self.successor.take() else { return };
        let seconds = self.settings.upgrade_session_timeout;
        let sessions = self.shared.workers().iter().filter(|slot| !slot.client().host.is_empty()).count();
        let limit = if seconds > 0 { format!(", for at most {seconds} seconds") } else { String::new() };
        Report::log_line(format!("upgrade: process {pid} serves from now on"))
            .detail(format!("{sessions} sessions go on here until they end{limit}."))
            .log();
        std::mem::take(&mut self.service).main_process_is(pid.as_raw().unsigned_abs(), &self.in_one_line());
        if must_reload {
            let _ = kill(pid, ToParent::Reload);
        }
        self.pid_file = None;
        self.stopping = Some(Stopping::with_the_last_session());
        self.children.start_none();
        self.end_renewal();
        self.spare.forget();
        // Idle workers end, behind whoever has just woken them, and so do helpers: the new ones do their work.
        self.shared.workers().iter().for_each(|slot| slot.dismiss());
        self.children.signal_all(Signal::SIGTERM);
        self.children.signal(ToHelper::FastStop, |role| matches!(role, Role::Health(_)));
        for listeners in [&mut self.listeners, &mut self.pcp_listeners, &mut self.metrics_listeners] {
            listeners.leave_to_successor();
        }
        self.cancels = Some(cancels);
        self.children.start(Role::Cancel);
        let untold = Some((format!("ready: {pid}"), Deadline::after_milliseconds(LOOK)));
        let limit = Deadline::after_seconds(seconds);
        let heard = Heard::default();
        self.retired = Some(Retired { leash: Some(leash), limit, seconds, untold, heard, has_begun: false });
        self.pass_orders_on();
        if let Some(leash) = self.retired.as_ref().and_then(|retired| retired.leash.as_ref()) {
            leash.say_go();
        }
    }

    /// What administrators have asked for is left to the new one.
    pub(in crate::supervisor) fn pass_orders_on(&self) {
        self.pass_on(&self.shared.failover().take());
    }

    /// Of these requests.
    pub(in crate::supervisor) fn pass_on(&self, requests: &[Request]) {
        let Some(leash) = self.retired.as_ref().and_then(|retired| retired.leash.as_ref()) else { return };
        let orders = orders::write(requests, &self.shared.nodes().view());
        if !orders.is_empty() && !leash.say_orders(&orders) {
            Report::warning("upgrade: an order could not be left to the new process").detail(orders).log();
        }
    }

    /// The sessions that are left use the nodes as those of the new one do.
    fn heed_news(&mut self) {
        let Some(retired) = self.retired.as_mut().filter(|retired| retired.heard.is_behind()) else { return };
        // Else another process changes the table at this moment: in a while again.
        if self.shared.nodes().try_update(|cluster| retired.heard.apply(cluster)).is_ok() {
            self.tell_workers();
        }
    }

    /// The new one ends after this one, unless it is killed or fails: as with one pgpool, the sessions end then. Nobody
    /// would rule them, and their workers would keep the ports from the pgpool that is started next.
    fn successor_is_gone(&mut self) {
        let Some(retired) = self.retired.as_mut() else { return };
        retired.leash = None;
        self.give_up_telling("the new process has ended when it was to serve");
        Report::error("upgrade: the process that has replaced this one has ended")
            .detail("The sessions that are left here are ended.")
            .log();
        self.stop(Signal::SIGINT);
    }

    /// The query cache rests while there are sessions of another pgpool, whichever of both is the older one.
    pub(super) fn mind_sharing(&self) {
        let is_shared = self.predecessor.is_some() || self.successor.is_some() || self.retired.is_some();
        self.shared.share_servers(is_shared);
    }

    /// This process was told to stop when nobody knew yet that the new one serves: whoever has asked has meant both.
    pub(in crate::supervisor) fn stop_successor(&self, signal: Signal) {
        let Some(Retired { leash: Some(leash), untold: Some(_), .. }) = &self.retired else { return };
        leash.say_stop(signal);
    }

    /// It will never say that it serves.
    fn give_up_telling(&mut self, reason: &str) {
        if self.retired.as_mut().and_then(|retired| retired.untold.take()).is_some() {
            self.tell_failure(reason);
        }
    }

    /// Nobody knows yet that it serves.
    pub(in crate::supervisor) fn is_waiting_for_successor(&self) -> bool {
        self.retired.as_ref().is_some_and(|retired| retired.untold.is_some())
    }

    /// Whoever has asked for the upgrade is told of it when all who come are the new one's.
    fn tell_when_all_have_left(&mut self) {
        let may_accept = self.shared.workers().iter().any(|slot| slot.pid() != 0 && slot.client().host.is_empty());
        let Some(retired) = self.retired.as_mut() else { return };
        match retired.untold.take() {
            Some((text, _)) if may_accept || !retired.has_begun => {
                retired.untold = Some((text, Deadline::after_milliseconds(LOOK)))
            }
            Some((text, _)) => self.tell_outcome(&text),
            None => {}
        }
    }

    /// A reload was asked for: also of the new one, as soon as it heeds signals.
    pub(in crate::supervisor) fn let_successor_reload(&mut self) {
        if let Some(successor) = &mut self.successor {
            successor.must_reload = true;
        }
    }

    /// Nodes are to be changed, and no other process is to do that at the same time: it goes before an upgrade that is not
    /// complete.
    pub(in crate::supervisor) fn put_off_upgrade(&mut self, reason: &str) {
        if self.successor.is_some() {
            // It may have said that it serves. Then it looks for itself.
            self.heed_successor();
        }
        if self.successor.is_some() {
            self.end_upgrade(reason);
        }
    }

    /// Clients may be held back now, for a request that would be lost with the process that waits for them.
    pub(in crate::supervisor) fn heed_hold(&mut self) {
        if self.successor.is_some() && self.shared.hold().left().is_some() {
            self.put_off_upgrade(WAITS_FOR_CLIENTS);
        }
    }

    /// A stop ends an upgrade that is not complete.
    pub(in crate::supervisor) fn abandon_upgrade(&mut self) {
        if self.successor.is_some() {
            self.end_upgrade("pgpool is being stopped");
        }
    }

    /// It has not come to an upgrade.
    fn tell_failure(&self, reason: &str) {
        let what = if self.stopping.is_some() { "stopped" } else { "failed" };
        self.tell_outcome(&format!("{what}: {reason}"));
    }

    fn tell_outcome(&self, text: &str) {
        outcome::tell(Path::new(&self.settings.pid_file_name), text);
    }
}
