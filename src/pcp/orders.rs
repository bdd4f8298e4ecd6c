//! Requests that order something (pcp 5.8 to 5.14, 7). Nodes are the business of [`operator`]; this file only speaks for it.

use super::answers::Context;
use super::reply;
use super::request::Number;
use crate::cache::Memcached;
use crate::config::BackendClusteringMode;
use crate::failover::operator::{self, Pause};
use crate::report::{Report, Result};
use crate::state::{MAX_NODES, Progress, RequestKind, Shared};
use crate::sys::signal::{ToCollector, ToParent};
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// `C`. The reply does not wait for the node: scripts attach nodes from within a failover.
pub(super) fn attach(context: &Context<'_>, node: &Number, out: &mut Vec<u8>) -> Result<()> {
    let id = node.below(MAX_NODES).ok_or_else(|| out_of_range("failback", node))?;
    let _asked = operator::attach(context.shared, context.settings, id)?;
    reply::complete::<&str>(out, b'c', &[]);
    Ok(())
}

/// `D`; with `pause`, which lets time pass, `d`: then it has been done when the reply is written.
pub(super) fn detach(context: &Context<'_>, node: &Number, pause: Option<Pause<'_>>, out: &mut Vec<u8>) -> Result<()> {
    let id = node.below(MAX_NODES).ok_or_else(|| out_of_range("degenerate backend", node))?;
    match pause {
        Some(pause) => operator::detach_gracefully(context.shared, context.settings, id, pause)?,
        None => _ = operator::detach(context.shared, id)?,
    }
    reply::complete::<&str>(out, b'd', &[]);
    Ok(())
}

/// `J`; with `pause` `j`.
pub(super) fn promote(
    context: &Context<'_>,
    node: &Number,
    switchover: bool,
    pause: Option<Pause<'_>>,
    out: &mut Vec<u8>,
) -> Result<()> {
    let Context { settings, shared } = *context;
    let Some(id) = node.below(context.nodes()) else {
        return Err(
            Report::error("could not process promote request").detail(format!("node id {} is not valid", node.text))
        );
    };
    match pause {
        Some(pause) => operator::promote_gracefully(shared, settings, id, switchover, pause)?,
        None => _ = operator::promote(shared, settings, id, switchover)?,
    }
    reply::complete::<&str>(out, b'd', &[]);
    Ok(())
}

fn out_of_range(what: &str, node: &Number) -> Report {
    Report::error(format!(
        "invalid {what} request, node id: {} is out of range. node id must be between [0 and {MAX_NODES}]",
        node.text
    ))
}

/// `G`. It is done when the reply is written.
pub(super) fn invalidate_cache(context: &Context<'_>, out: &mut Vec<u8>) -> Result<()> {
    let cache = context.shared.query_cache().ok_or_else(|| Report::error("query cache is not enabled"))?;
    match Memcached::new(context.settings, context.shared).map(|mut memcached| memcached.clear()) {
        None => {
            cache.clear();
            Report::log_line("all query cache in shared memory deleted").log();
        }
        Some(true) => Report::log_line("all query cache in memcached deleted").log(),
        Some(false) => {
            return Err(Report::error("memcached could not be told to forget the query cache")
                .detail("This pgpool does not use it before it has been told; others that share it still do."));
        }
    }
    reply::complete::<&str>(out, b'g', &[]);
    Ok(())
}

/// `O`: there is no online recovery yet. Refusals come in the order of the reference.
pub(super) fn recover(context: &Context<'_>, node: &Number) -> Report {
    use BackendClusteringMode::{NativeReplication, SnapshotIsolation, StreamingReplication};
    if let Err(report) = not_in_failover(context.shared) {
        return report;
    }
    let mode = context.settings.backend_clustering_mode;
    let cluster = context.shared.nodes().view();
    let failed = |detail: &str| Report::error("process recovery request failed").detail(detail);
    match node.below(cluster.nodes.len()) {
        None => failed(&format!("node id {} is not valid", node.text)),
        Some(id) if mode == StreamingReplication && cluster.primary == Some(id) => {
            failed("primary server cannot be recovered by online recovery.")
        }
        Some(_) if !matches!(mode, StreamingReplication | NativeReplication | SnapshotIsolation) => {
            failed("recovery request is only allowed in replication and streaming replication modes.")
        }
        Some(_) => failed("online recovery is not configured: this version does not have it yet")
            .hint("Make the standby anew with pg_basebackup or pg_rewind, and attach the node."),
    }
}

/// `T`, `t`: the signal that stops pgpool this way. Only that of a whole cluster does not wait for the end of a failover.
pub(super) fn stop(shared: &Shared, mode: u8, cluster: bool) -> Result<ToParent> {
    let signal = match mode {
        b's' => ToParent::SmartStop,
        b'f' => ToParent::FastStop,
        b'i' => ToParent::ImmediateStop,
        mode => {
            return Err(Report::error("PCP: error while processing shutdown request")
                .detail(format!("invalid shutdown mode \"{}\"", char::from(mode).escape_default())));
        }
    };
    if !cluster {
        not_in_failover(shared)?;
    }
    Ok(signal)
}

/// `V`: the log collector goes on in a new file.
pub(super) fn rotate_log(context: &Context<'_>, out: &mut Vec<u8>) -> Result<()> {
    let failed = |detail: &str| Report::error("process log rotation request failed").detail(detail);
    if !context.settings.logging_collector {
        return Err(failed("logging_collector is disabled"));
    }
    let pid = context.shared.collector().ok_or_else(|| failed("the log collector has not started yet"))?;
    kill(Pid::from_raw(pid.cast_signed()), ToCollector::Rotate).map_err(|errno| failed(errno.desc()))?;
    reply::complete::<&str>(out, b'v', &[]);
    Ok(())
}

fn not_in_failover(shared: &Shared) -> Result<()> {
    if shared.failover().progress() == Progress::Idle {
        return Ok(());
    }
    Err(Report::error("failed to process PCP request at the moment").detail(match shared.failover().under_way() {
        Some(RequestKind::Down | RequestKind::Switchover) => "failover is in progress",
        Some(RequestKind::Up) => "failback is in progress",
        Some(RequestKind::Promote | RequestKind::Takeover) => "promote node operation is in progress",
        None => "operation is in progress",
    }))
}
