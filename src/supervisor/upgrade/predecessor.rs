//! In the new pgpool: the one that it replaces.

use super::leash::{Leash, Word};
use super::{news, orders};
use crate::cluster;
use crate::net::Deadline;
use crate::report::{self, Report};
use crate::state::{NodeTableBusy, Shared};
use crate::supervisor::Supervisor;
use crate::supervisor::children::Role;
use crate::supervisor::listen::Listeners;
use crate::supervisor::pid_file::PidFile;
use crate::sys::inherited::{self, Inherited};
use crate::sys::signal::{Signal, ToCollector};
use nix::unistd::Pid;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

/// What the first descriptors are called.
pub(super) const LEASH: &str = "leash";
pub(super) const STDERR: &str = "stderr";
pub(super) const CANCELS: &str = "cancels";

/// The pgpool that this one replaces, as long as it lives.
#[derive(Debug)]
pub(in crate::supervisor) struct Predecessor {
    pid: Pid,
    leash: Leash,
    /// Where cancel requests go that are for its sessions.
    cancels: Option<UnixDatagram>,
    /// Sockets of its that are not configured any more.
    unwanted: Listeners,
    /// It was told that this one could serve.
    was_offered: bool,
    /// It has left everything to this one.
    has_retired: bool,
    /// The state of the node table that it knows.
    told: Option<u64>,
    /// The nodes as it had them when it started this process.
    uses: String,
    /// What of them is lacking here, as it was told.
    lack: Option<String>,
}

/// How often the node table is looked at for changes that nobody has woken the parent for, while somebody is to be told.
const LOOK: Duration = Duration::from_secs(1);

/// What it has handed over.
pub(in crate::supervisor) struct Handed {
    pid: Pid,
    leash: Leash,
    cancels: Option<UnixDatagram>,
    /// The nodes as it has them.
    uses: String,
    /// Standard error, which ours may not be: its log collector could never end.
    pub stderr: Option<OwnedFd>,
    pub sockets: Vec<Inherited>,
}

impl Handed {
    /// Takes it over; none if nobody is to be replaced.
    pub fn take() -> Option<Self> {
        let (pid, mut inherited) = inherited::take_handed_over()?;
        let mut named = |name: &str| {
            let found = inherited.iter().position(|one| one.name == name)?;
            Some(inherited.remove(found).descriptor)
        };
        let (leash, stderr, cancels) = (named(LEASH)?, named(STDERR), named(CANCELS).map(UnixDatagram::from));
        let leash = Leash::inherited(leash).ok()?;
        // It has said that before it started this process.
        let Some(Word::Nodes(uses)) = leash.hear() else { return None };
        Some(Self { pid, leash, cancels, uses, stderr, sockets: inherited })
    }

    /// Who has done that. `unwanted`: what of its sockets there is no use for.
    pub fn by(self, unwanted: Listeners) -> Predecessor {
        let Self { pid, leash, cancels, uses, .. } = self;
        let (was_offered, has_retired) = (false, false);
        Predecessor { pid, leash, cancels, unwanted, was_offered, has_retired, told: None, uses, lack: None }
    }

    /// Enters which of its nodes it has detached: it knows better than a file.
    pub fn adopt_nodes(&self, shared: &Shared) -> Result<(), NodeTableBusy> {
        shared.nodes().try_update(|cluster| news::adopt(&self.uses, cluster))
    }
}

impl Predecessor {
    /// Readable when there is something to [`heed`](Supervisor::heed_predecessor).
    pub fn leash(&self) -> &Leash {
        &self.leash
    }

    /// What of it is of use to a child.
    pub fn into_cancels(self) -> Option<UnixDatagram> {
        self.cancels
    }
}

impl Supervisor {
    /// Has ready what is needed to serve, and lets the predecessor know, as soon as it reaches all nodes that are used.
    ///
    /// # Errors
    /// There are no resources for a second pgpool.
    pub(in crate::supervisor) fn offer_to_take_over(&mut self) -> Result<(), Report> {
        if self.predecessor.as_ref().is_some_and(|predecessor| predecessor.was_offered) || !self.can_take_over() {
            return Ok(());
        }
        // They let nobody in yet.
        self.hire_first();
        let are_there = self.start_due();
        let Some(predecessor) = &mut self.predecessor else { return Ok(()) };
        if !are_there {
            let lack = "there is no room for its processes";
            predecessor.leash.say_lack(lack);
            return Err(Report::fatal(format!("upgrade: process {} is not replaced, {lack}", predecessor.pid)).hint(
                "Raise the limit of processes (ulimit -u, TasksMax, pids.max): for some time there are twice as many.",
            ));
        }
        predecessor.leash.say_ready();
        predecessor.was_offered = true;
        Ok(())
    }

    /// This pgpool serves: what was the predecessor's is its own from now on.
    fn take_over(&mut self) {
        let Some(predecessor) = &mut self.predecessor else { return };
        predecessor.has_retired = true;
        self.write_status();
        match PidFile::take_over(Path::new(&self.settings.pid_file_name)) {
            Ok(file) => self.pid_file = Some(file),
            Err(report) => report.log(),
        }
        for listeners in [&mut self.listeners, &mut self.pcp_listeners, &mut self.metrics_listeners] {
            listeners.own();
        }
        if let Some(predecessor) = &mut self.predecessor {
            predecessor.unwanted.own();
            predecessor.unwanted.refuse();
            Report::log_line(format!("upgrade: process {} is replaced by this one", predecessor.pid)).log();
        }
        self.service.begin();
        // Before anything is decided here: what it hears first are no changes.
        self.tell_of_nodes();
        if self.stopping.is_some() {
            return self.stop_all_the_same();
        }
        self.receive_administrators();
        self.shared.hold().release();
        self.tell_workers();
        self.children.signal(ToCollector::Serve, |role| role == Role::Collector);
        // What the first look at the nodes has led to.
        self.take_requests();
    }

    /// Whether this one reaches all nodes that the one which serves uses. If not, what is lacking is told.
    fn can_take_over(&mut self) -> bool {
        let Some(predecessor) = self.predecessor.as_mut().filter(|predecessor| !predecessor.has_retired) else {
            return true;
        };
        let has_primary = cluster::has_primary(&self.settings);
        let lack = news::lack(&predecessor.uses, &self.shared.nodes().view(), has_primary);
        if let Some(lack) = lack.as_ref().filter(|lack| predecessor.lack.as_ref() != Some(lack)) {
            Report::warning(format!("upgrade: this process does not replace process {} yet", predecessor.pid))
                .detail(format!("It uses what is lacking here: {lack}."))
                .hint("Check the node, and what pgpool.conf says of it; or detach the node, and begin again.")
                .log();
            predecessor.leash.say_lack(lack);
        }
        predecessor.lack = lack;
        predecessor.lack.is_none()
    }

    /// Hears what it says, and whether it has ended.
    pub(in crate::supervisor) fn heed_predecessor(&mut self) {
        loop {
            let Some(predecessor) = &mut self.predecessor else { return };
            match predecessor.leash.hear() {
                None => return,
                Some(Word::End) => break,
                Some(Word::Orders(orders)) => self.take_orders(&orders),
                Some(Word::Go) => self.take_over(),
                Some(Word::Stop(signal)) => self.stop(signal),
                Some(_) => {}
            }
        }
        let Some(predecessor) = &self.predecessor else { return };
        let (pid, has_retired) = (predecessor.pid, predecessor.has_retired);
        if has_retired {
            Report::log_line(format!("upgrade: process {pid}, which this one has replaced, has ended")).log();
        } else {
            // What it had is left behind.
            Report::warning(format!("upgrade: process {pid} has ended before it was replaced")).log();
            self.take_over();
        }
        self.predecessor = None;
        self.mind_sharing();
        self.shared.relcache().bump();
    }

    /// It had been asked for this, and has left it to us.
    fn take_orders(&mut self, orders: &str) {
        let mut requests = Vec::new();
        for order in orders::read(orders, &self.shared.nodes().view()) {
            match order {
                Ok(request) => requests.push(request),
                Err(line) => Report::warning("upgrade: an order for a node that is not configured is not carried out")
                    .detail(line)
                    .log(),
            }
        }
        if self.stopping.is_none() && !requests.is_empty() {
            self.take_up(requests);
        }
    }

    /// Its sessions use the nodes that ours use: it gets to know of every change.
    pub(in crate::supervisor) fn tell_of_nodes(&mut self) {
        let Some(predecessor) = self.predecessor.as_mut().filter(|predecessor| predecessor.has_retired) else { return };
        if predecessor.told == Some(self.shared.nodes().generation()) {
            return;
        }
        let cluster = self.shared.nodes().view();
        if predecessor.leash.say_nodes(&news::write(&cluster)) {
            predecessor.told = Some(cluster.generation);
        }
    }

    /// When that is looked at again.
    pub(in crate::supervisor) fn next_tidings(&self) -> Deadline {
        self.predecessor.as_ref().map_or(Deadline::NEVER, |_| Deadline::after(LOOK))
    }

    /// It stops as well.
    pub(in crate::supervisor) fn stop_predecessor(&self, signal: Signal) {
        if let Some(predecessor) = &self.predecessor
            && predecessor.has_retired
        {
            predecessor.leash.say_stop(signal);
        }
    }

    /// This process was to replace another, which serves and has not handed over anything yet.
    pub(in crate::supervisor) fn is_before_its_time(&self) -> bool {
        self.predecessor.as_ref().is_some_and(|predecessor| !predecessor.has_retired)
    }

    /// Its end comes before that of this one, so that whoever waits for the one waits for both.
    pub(in crate::supervisor) fn is_waiting_for_predecessor(&self) -> bool {
        self.predecessor.as_ref().is_some_and(|predecessor| predecessor.has_retired)
    }
}

/// Makes what was handed over as standard error ours, where no log collector has it.
pub(in crate::supervisor) fn use_stderr(stderr: &OwnedFd) {
    for stream in [1, 2] {
        if let Err(error) = crate::sys::descriptor::replace(stderr, stream) {
            Report::warning("standard error cannot be taken over").detail(error.to_string()).log();
        }
    }
    report::finish();
}
