//! The start sequence (process-model 2).

use super::children::{Children, Role};
use super::failover::Failover;
use super::fork::ReadyPipe;
use super::listen::{Listeners, Offered};
use super::log_pipe::LogPipe;
use super::pid_file::PidFile;
use super::service::Service;
use super::spare::Spare;
use super::upgrade::{Again, Handed, use_stderr};
use super::{Supervisor, nodes, status_file};
use crate::auth::hba::Rules;
use crate::auth::{self, passwords};
use crate::backend;
use crate::cache;
use crate::catalog;
use crate::config::{FileLocations, Settings};
use crate::net::tls::{Connector, Front};
use crate::report::{self, Report, Result, Severity};
use crate::state::{Limits, NodeSet, Shared};
use crate::sys::inherited;
use crate::sys::service_manager::ServiceManager;
use crate::sys::signal::{self, Signal, Signals, ToParent};
use nix::errno::Errno;
use std::error::Error as _;
use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

/// Exit status of a start that failed (process-model 9).
const EXIT_NOT_STARTED: i32 = 3;
/// Exit status when the parent could not go on.
pub(super) const EXIT_GAVE_UP: i32 = 1;

/// Starts pgpool and runs it to its end. Returns the exit status. With `starter` this process is a daemon: `starter` gets
/// one byte when the service is complete, and standard input, output and error are given up at the same moment. `again`:
/// how a pgpool that replaces this one is to be started.
pub fn run(
    settings: Settings,
    files: FileLocations,
    discard_status: bool,
    starter: Option<OwnedFd>,
    again: Again,
) -> i32 {
    let mut supervisor = match prepare(settings, files, discard_status, starter) {
        Ok(supervisor) => Supervisor { again, ..supervisor },
        Err(report) => {
            with_remedy(report).log();
            return EXIT_NOT_STARTED;
        }
    };
    let outcome = report::guarded(|| supervisor.live()).and_then(|outcome| {
        outcome.map_err(|error| Report::error("waiting for events failed").detail(error.to_string()))
    });
    let status = outcome.unwrap_or_else(|report| {
        report.log();
        Report::fatal("the parent process cannot go on").log();
        supervisor.give_up();
        EXIT_GAVE_UP
    });
    supervisor.end_log();
    status
}

/// Everything before the first fork.
fn prepare(
    settings: Settings,
    files: FileLocations,
    discard_status: bool,
    starter: Option<OwnedFd>,
) -> Result<Supervisor> {
    // A reader that is gone, and a file beyond the limit of sizes, are errors like others.
    signal::ignore(&[Signal::SIGPIPE, Signal::SIGXFSZ]).map_err(failed("signals cannot be ignored"))?;
    let signals = Signals::install(ToParent::HANDLED).map_err(failed("signals cannot be handled"))?;
    let mut handed = Handed::take();
    let service = Service::new(ServiceManager::from_environment(), handed.is_none());
    let mut offered = match &mut handed {
        Some(handed) => Offered::new(std::mem::take(&mut handed.sockets), true),
        None => Offered::new(inherited::take(), false),
    };
    Listeners::check_change(&settings, &offered)?;
    let rules = admission(&settings, &files)?;
    let front = tls(&settings)?;
    let failover = Failover::new().map_err(failed("no pipe can be made"))?;
    let ready = ReadyPipe::new().map_err(failed("no pipe can be made"))?;
    let shared = share(&settings)?;
    let status_file = status_file::path(&settings.work_dir);
    let mut listeners = Listeners::open(&settings, &mut offered)?;
    // Only now: who did not get the sockets must not touch the files of the pgpool that has them. Who is to replace another
    // has them later.
    let pid_file = match &handed {
        Some(_) => None,
        None => Some(PidFile::write(Path::new(&settings.pid_file_name)).inspect_err(|_| listeners.remove())?),
    };
    if handed.is_some() {
        shared.share_servers(true);
        shared.hold().shut();
    }
    let filled = nodes::fill(&shared, &settings, &status_file, discard_status)
        .and_then(|()| handed.as_ref().map_or(Ok(()), |handed| handed.adopt_nodes(&shared)));
    let log_pipe = filled
        .map_err(failed("the nodes cannot be prepared"))
        // What goes wrong before this is for whoever starts pgpool.
        .and_then(|()| {
            let stderr = handed.as_mut().and_then(|handed| handed.stderr.take());
            if let Some(stderr) = &stderr {
                use_stderr(stderr);
            }
            settings.logging_collector.then(|| LogPipe::open(&settings)).transpose()
        });
    let log_pipe = match log_pipe {
        Ok(log_pipe) => log_pipe,
        Err(report) => {
            listeners.remove();
            if let Some(pid_file) = pid_file {
                pid_file.remove();
            }
            return Err(report);
        }
    };
    report::serve();
    let pcp_listeners = Listeners::open_pcp(&settings, &mut offered);
    let mut children = Children::default();
    // The first, so that no other child has its file open.
    if log_pipe.is_some() {
        children.start(Role::Collector);
    }
    let metrics_listeners = Listeners::open_metrics(&settings, &mut offered);
    let unwanted = offered.rest();
    // Workers come when it is known which node is the primary: until then clients wait in the listen queue.
    children.start(Role::Finder);
    Ok(Supervisor {
        settings: Arc::new(settings),
        files,
        rules,
        front,
        renewal: None,
        shared,
        listeners,
        pcp_listeners,
        metrics_listeners,
        children,
        orphans: Vec::new(),
        signals,
        service,
        pid_file,
        status_file,
        starter,
        ready,
        failover,
        spare: Spare::default(),
        log_pipe,
        search_writer: None,
        written: NodeSet::EMPTY,
        announced: false,
        stopping: None,
        again: Again::default(),
        predecessor: handed.map(|handed| handed.by(unwanted)),
        successor: None,
        retired: None,
        cancels: None,
        registry: None,
    })
}

/// Reads who may come in. Nothing is started on rules that cannot be used.
fn admission(settings: &Settings, files: &FileLocations) -> Result<Option<Arc<Rules>>> {
    auth::prepare(Path::new(&settings.work_dir));
    passwords::create(settings)?;
    passwords::review(settings).iter().for_each(Report::log);
    if !settings.enable_pool_hba {
        return Ok(None);
    }
    match Rules::load(&files.hba, settings.ssl) {
        Ok((rules, remarks, _)) => {
            remarks.log();
            Ok(Some(Arc::new(rules)))
        }
        Err(slips) => {
            slips.log();
            Err(Report::fatal(format!("could not load \"{}\"", files.hba.display()))
                .hint("Correct the file, or set enable_pool_hba = off."))
        }
    }
}

/// Prepares TLS in both directions. As with the original pgpool starts without TLS for clients if its files are wrong, but
/// not if the command for the pass phrase fails (auth 17.2, 17.3). Servers that are to be verified are not connected to if
/// they cannot be.
fn tls(settings: &Settings) -> Result<Front> {
    Connector::warn(settings);
    if let Err(report) = backend::configure_tls(settings) {
        report.log();
    }
    let mut front = Front::new()?;
    match front.begin(settings) {
        Err(report) if report.severity >= Severity::Error => Err(report),
        Err(report) => {
            report.hint("Clients that ask for TLS get \"no\" until this is mended and pgpool reloaded.").log();
            Ok(front)
        }
        Ok(()) => Ok(front),
    }
}

fn share(settings: &Settings) -> Result<Shared> {
    let count = |value: i32| usize::try_from(value).unwrap_or(1).max(1);
    let limits = Limits {
        workers: count(settings.num_init_children),
        pool_slots: count(settings.max_pool),
        relcache: catalog::shared_facts(settings),
        mutation_buckets: count(settings.track_table_mutation_table_buckets),
        mutation_places: count(settings.track_table_mutation_table_size),
        query_cache: cache::store(settings),
    };
    let shared = Shared::create(limits).map_err(|error| {
        let cause = error.source().map(|cause| format!("\n{cause}")).unwrap_or_default();
        Report::fatal("could not create shared memory").detail(format!("{error}{cause}")).hint(
            "Reduce num_init_children or max_pool, free memory, or raise the limits (ulimit -v and -f) it is short of.",
        )
    })?;
    Report::log_line(format!("allocating shared memory segment of size: {} ", shared.size())).log();
    Ok(shared)
}

/// Whatever could not be opened for want of descriptors: not the thing is to be looked at, but the limit.
fn with_remedy(report: Report) -> Report {
    let lacks = |errno: Errno| report.detail.as_ref().is_some_and(|detail| detail.contains(errno.desc()));
    if lacks(Errno::EMFILE) || lacks(Errno::ENFILE) {
        return report.hint("Raise the limit of open files: ulimit -n, LimitNOFILE of the service, fs.file-max.");
    }
    report
}

pub(super) fn failed<E: Display>(what: &'static str) -> impl Fn(E) -> Report {
    move |error| Report::fatal(what).detail(error.to_string())
}
