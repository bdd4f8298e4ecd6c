//! What an administrator asks for: attach, detach and promote (failover 13, pcp 5.8 to 5.10 and 7).
//!
//! A request that makes no sense is refused with the words of the reference; FATAL means that the connection it came over
//! ends. An accepted one is on its way when these functions return. Who wants to know what became of it [waits](wait);
//! the graceful forms first wait for all sessions to leave, holding new ones back, and wait for the end as well.

use super::{admit_detach, received, wake_parent};
use crate::config::{BackendClusteringMode, Settings};
use crate::report::{Report, Result};
use crate::state::{Cluster, MAX_NODES, Node, NodeStatus, Request, RequestKind, Shared};
use crate::sys::signal::ToParent;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use std::time::{Duration, Instant};

/// How often something is looked at that tells nobody when it changes.
const LOOK: Duration = Duration::from_millis(100);
/// Just to see whether whoever asked is still there.
const GLANCE: Duration = Duration::from_millis(1);
/// How long new clients are held back while a failover is under way: then they wait as in every failover, or are served.
const HOLD_LIMIT: Duration = Duration::from_secs(30);

/// A request that is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Asked {
    kind: RequestKind,
    node: usize,
    number: u64,
}

/// Lets some time pass, or tells why whoever waits is to give up.
pub type Pause<'a> = &'a mut dyn FnMut(Duration) -> std::result::Result<(), GivenUp>;

/// Why nobody waits for the end of a request any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GivenUp {
    /// Whoever has asked has left.
    Left,
    /// pgpool is being stopped.
    Stopped,
}

/// Asks for the node to be attached. One that is attached already is no error: scripts attach nodes blindly.
///
/// # Errors
/// There is no such node; or it is attached, in raw mode.
pub fn attach(shared: &Shared, settings: &Settings, node: usize) -> Result<Asked> {
    let cluster = shared.nodes().view();
    let Some(state) = cluster.nodes.get(node).filter(|node| node.port != 0) else {
        return Err(out_of_range("failback", node, &cluster));
    };
    if settings.backend_clustering_mode == BackendClusteringMode::Raw && state.status.is_attached() {
        let status = state.status as u8;
        return Err(Report::error(format!(
            "invalid failback request, node id : {node} status: [{status}] not valid for failback"
        )));
    }
    received("failback", node);
    ask(shared, RequestKind::Up, node, "attached by an administrator")
}

/// Asks for the node to be detached, or to be kept out if it is down and would come back by itself.
///
/// # Errors
/// There is no such node, it is kept out already, or it must not be detached (`DISALLOW_TO_FAILOVER`).
pub fn detach(shared: &Shared, node: usize) -> Result<Asked> {
    admit_keep_out(&shared.nodes().view(), node)?;
    received("degenerate backend", node);
    ask(shared, RequestKind::Down, node, "detached by an administrator")
}

/// Asks for the node to be the primary from now on. With `switchover` the primary is detached and failover_command is to
/// promote the node; without, the node has been promoted by other means.
///
/// # Errors
/// There is no such node, this mode has no primary, the node is the primary, it is not attached; or with `switchover` it or
/// the primary must not be detached, or there is no primary.
pub fn promote(shared: &Shared, settings: &Settings, node: usize, switchover: bool) -> Result<Asked> {
    Report::log_line(format!("pcp_promote_node: promote option: {}", if switchover { 's' } else { 'n' })).log();
    admit_promote(&shared.nodes().view(), settings, node, switchover)?;
    if switchover {
        received("degenerate backend", node);
        ask(shared, RequestKind::Switchover, node, &format!("an administrator promotes DB node {node}"))
    } else {
        received("promote backend", node);
        ask(shared, RequestKind::Promote, node, "promoted by an administrator")
    }
}

/// As [`detach`], once all clients have left; returns when it is done.
///
/// # Errors
/// As [`detach`]; another request waits for clients; they do not leave within `recovery_timeout`; or it was not done.
pub fn detach_gracefully(shared: &Shared, settings: &Settings, node: usize, pause: Pause<'_>) -> Result<()> {
    admit_keep_out(&shared.nodes().view(), node)?;
    gracefully(shared, settings, pause, || detach(shared, node))
}

/// As [`promote`], once all clients have left; returns when it is done.
///
/// # Errors
/// As [`promote`]; another request waits for clients; they do not leave within `recovery_timeout`; or it was not done.
pub fn promote_gracefully(
    shared: &Shared,
    settings: &Settings,
    node: usize,
    switchover: bool,
    pause: Pause<'_>,
) -> Result<()> {
    admit_promote(&shared.nodes().view(), settings, node, switchover)?;
    gracefully(shared, settings, pause, || promote(shared, settings, node, switchover))
}

/// Waits until the request is dealt with, and tells whether it was carried out.
///
/// # Errors
/// It was not, or `pause` does not want to wait any more.
pub fn wait(shared: &Shared, asked: Asked, pause: Pause<'_>) -> Result<()> {
    while shared.failover().answered() < asked.number {
        pause(LOOK).map_err(|why| given_up(why).detail("It may be carried out all the same."))?;
    }
    outcome(&shared.nodes().view(), asked)
}

fn admit_keep_out(cluster: &Cluster, id: usize) -> Result<()> {
    let may_return = |node: &Node| node.status == NodeStatus::Down && !node.kept_out && !node.disallow_to_failover;
    if cluster.nodes.get(id).is_some_and(may_return) {
        return Ok(());
    }
    admit_detach(cluster, id).map_err(Report::error)
}

fn admit_promote(cluster: &Cluster, settings: &Settings, id: usize, switchover: bool) -> Result<()> {
    let Some(node) = cluster.nodes.get(id).filter(|node| node.port != 0) else {
        return Err(Report::error("could not process promote request").detail(format!("node id {id} is not valid")));
    };
    if settings.backend_clustering_mode != BackendClusteringMode::StreamingReplication {
        return Err(Report::fatal("invalid pgpool mode for process promote request")
            .detail(format!("not in streaming replication mode, can't promote node id {id}")));
    }
    if cluster.primary == Some(id) {
        return Err(Report::fatal("invalid promote request")
            .detail(format!("specified node is already primary node, can't promote node id {id}")));
    }
    if !switchover {
        if !node.status.is_attached() {
            let status = node.status as u8;
            return Err(Report::error(format!(
                "invalid promote backend request, node id : {id} status: [{status}] not valid"
            )));
        }
        return Ok(());
    }
    admit_detach(cluster, id).map_err(Report::error)?;
    let Some(primary) = cluster.primary else {
        return Err(Report::error("could not process promote request")
            .detail("there is no primary that could be replaced")
            .hint("Promote the server and ask without switchover."));
    };
    admit_detach(cluster, primary).map_err(Report::error)
}

/// A node that is not there: no node can have this number, or none has.
fn out_of_range(what: &str, node: usize, cluster: &Cluster) -> Report {
    let report = Report::error(format!(
        "invalid {what} request, node id: {node} is out of range. node id must be between [0 and {MAX_NODES}]"
    ));
    if node >= MAX_NODES {
        return report;
    }
    let ids = cluster.nodes.iter().enumerate().filter(|(_, node)| node.port != 0).map(|(id, _)| id.to_string());
    report.detail(format!("These nodes are configured: {}.", ids.collect::<Vec<_>>().join(", ")))
}

fn ask(shared: &Shared, kind: RequestKind, node: usize, cause: &str) -> Result<Asked> {
    let request = Request { by_operator: true, ..Request::new(kind, node, cause) };
    let number = shared
        .failover()
        .ask(&request)
        .map_err(|error| Report::error("the request was not made").detail(error.to_string()))?;
    wake_parent(shared);
    Ok(Asked { kind, node, number })
}

/// Whether it was carried out, by what the nodes are now.
fn outcome(cluster: &Cluster, asked: Asked) -> Result<()> {
    let Asked { kind, node, .. } = asked;
    let is_attached = cluster.attached().contains(node);
    let (is_done, what) = match kind {
        RequestKind::Up => (is_attached, "is not attached"),
        RequestKind::Down => (!is_attached, "is attached"),
        RequestKind::Promote | RequestKind::Switchover | RequestKind::Takeover => {
            (cluster.primary == Some(node), "is not the primary")
        }
    };
    if is_done {
        return Ok(());
    }
    let detail = match (kind, cluster.primary, cluster.nodes.get(node)) {
        (RequestKind::Promote | RequestKind::Switchover, Some(primary), _) => {
            format!("The primary is node {primary}.")
        }
        (RequestKind::Promote | RequestKind::Switchover, None, _) => "There is no primary.".to_owned(),
        (_, _, Some(node)) => node.reason.clone(),
        (_, _, None) => String::new(),
    };
    Err(Report::error(format!("DB node {node} {what}")).detail(detail).hint("The log tells why."))
}

fn given_up(why: GivenUp) -> Report {
    Report::error(match why {
        GivenUp::Left => "nobody waits for the end of the request any more",
        GivenUp::Stopped => "pgpool is being stopped",
    })
}

/// Waits for all clients to leave, asks, and waits for the end; new clients wait meanwhile.
fn gracefully(
    shared: &Shared,
    settings: &Settings,
    pause: Pause<'_>,
    ask: impl FnOnce() -> Result<Asked>,
) -> Result<()> {
    if !shared.hold().take() {
        return Err(Report::error("could not process the request")
            .detail("Another request waits for the clients to leave.")
            .hint("Try again when that is done."));
    }
    Report::log_line("new clients wait until those that are connected have left").log();
    tell_workers(shared);
    let outcome = wait_for_clients(shared, settings, pause).and_then(|()| {
        let begun = Instant::now();
        wait(shared, ask()?, &mut |time| {
            if begun.elapsed() < HOLD_LIMIT {
                shared.hold().take();
            }
            pause(time)
        })
    });
    shared.hold().release();
    tell_workers(shared);
    outcome
}

fn wait_for_clients(shared: &Shared, settings: &Settings, pause: Pause<'_>) -> Result<()> {
    let seconds = settings.recovery_timeout;
    let limit = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    let begun = Instant::now();
    loop {
        let clients = shared.workers().connected();
        // Who has left does not want it any more, also if the clients leave at the same moment.
        pause(if clients == 0 { GLANCE } else { LOOK }).map_err(|why| given_up(why).detail("Nothing was changed."))?;
        if clients == 0 {
            return Ok(());
        }
        if begun.elapsed() >= limit {
            let text = format!("wait_connection_closed: existing connections did not close in {seconds} sec.");
            Report::log_line(&text).log();
            return Err(Report::error(text)
                .detail(format!("Still connected: {clients}. Nothing was changed."))
                .hint("Set client_idle_limit_in_recovery to end idle sessions, or raise recovery_timeout."));
        }
        shared.hold().take();
    }
}

/// Idle workers look whether clients are held back; the parent passes it on.
fn tell_workers(shared: &Shared) {
    let _ = kill(Pid::from_raw(shared.parent() as i32), ToParent::TellWorkers);
}
