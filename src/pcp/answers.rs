//! Requests that only ask (pcp 5.1 to 5.7, 5.15, 5.16). What they tell is made by `admin`, as for SHOW POOL_*.

use super::reply;
use super::request::Number;
use crate::admin::{self, Command, View};
use crate::config::Settings;
use crate::report::{Report, Result, Severity};
use crate::state::Shared;
use crate::wire::pcp::{ALL, NODE_INFO, PROCESS_CONFIG, PROCESS_INFO};

/// From what answers are made.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// The parameters in force.
    pub settings: &'a Settings,
    /// Shared memory.
    pub shared: &'a Shared,
}

impl<'a> Context<'a> {
    /// How many nodes there are, gaps in their numbers included.
    pub fn nodes(&self) -> usize {
        self.shared.nodes().view().nodes.len()
    }

    fn view(&self) -> View<'a> {
        View { settings: self.settings, shared: self.shared, load_balance_node: 0, listeners: &[] }
    }

    /// The rows of a SHOW command.
    fn rows(&self, command: &str) -> Vec<Vec<String>> {
        Command::from_name(command).map(|command| admin::table(command, &self.view()).rows).unwrap_or_default()
    }
}

/// `L`.
pub(super) fn node_count(context: &Context<'_>, out: &mut Vec<u8>) {
    reply::complete(out, b'l', &[context.nodes().to_string()]);
}

/// `I`.
pub(super) fn node_info(context: &Context<'_>, node: &Number, out: &mut Vec<u8>) -> Result<()> {
    let only = match node.below(context.nodes()) {
        None if node.value == Some(ALL.into()) => None,
        None => {
            return Err(Report::error("informing node info failed").detail(format!("invalid node ID : {}", node.text)));
        }
        id => id,
    };
    reply::records(out, b'i', NODE_INFO, &admin::node_info(&context.view(), only));
    Ok(())
}

/// `N`: the session processes that are there, in the order of their slots.
pub(super) fn process_count(context: &Context<'_>, out: &mut Vec<u8>) {
    let pids = context.shared.workers().iter().map(|worker| worker.pid()).filter(|pid| *pid != 0);
    let mut results: Vec<_> = pids.map(|pid| pid.to_string()).collect();
    results.insert(0, results.len().to_string());
    reply::complete(out, b'n', &results);
}

/// `P`: the records have the columns of SHOW POOL_POOLS.
pub(super) fn process_info(context: &Context<'_>, pid: &Number, out: &mut Vec<u8>) -> Result<()> {
    let mut rows = context.rows("pool_pools");
    if pid.value != Some(0) {
        let wanted = pid.value.map(|pid| pid.to_string());
        rows.retain(|row| row.first() == wanted.as_ref());
        if rows.is_empty() {
            return Err(
                Report::error("informing process info failed").detail(format!("invalid process ID : {}", pid.text))
            );
        }
    }
    reply::records(out, b'p', PROCESS_INFO, &rows);
    Ok(())
}

/// `B`: the records have the columns of SHOW POOL_STATUS.
pub(super) fn pool_status(context: &Context<'_>, out: &mut Vec<u8>) {
    reply::counted_records(out, b'b', PROCESS_CONFIG, &context.rows("pool_status"));
}

/// `H`: the results are a row of SHOW POOL_HEALTH_CHECK_STATS.
pub(super) fn health_check_stats(context: &Context<'_>, node: &Number, out: &mut Vec<u8>) -> Result<()> {
    let row = node.below(context.nodes()).and_then(|id| context.rows("pool_health_check_stats").into_iter().nth(id));
    let Some(row) = row else {
        return Err(
            Report::error("informing health check stats info failed").detail(format!("invalid node ID {}", node.text))
        );
    };
    reply::complete(out, b'h', &row);
    Ok(())
}

/// `W`: there is no watchdog yet.
pub(super) fn watchdog_info() -> Report {
    Report::error("PCP: informing watchdog info failed").detail("watchdog is not enabled")
}

/// `A`: from which severity on the client wants to hear of messages.
pub(super) fn min_messages(name: &str, value: &str) -> Result<Severity> {
    let failed = |detail| Err(Report::error("PCP: set configuration parameter failed").detail(detail));
    if !name.eq_ignore_ascii_case("client_min_messages") {
        return failed(format!("invalid parameter \"{name}\""));
    }
    Ok(match value.to_ascii_lowercase().as_str() {
        "debug5" => Severity::Debug5,
        "debug4" => Severity::Debug4,
        "debug3" => Severity::Debug3,
        "debug2" => Severity::Debug2,
        "debug1" => Severity::Debug1,
        "log" | "commerror" => Severity::Log,
        "info" => Severity::Info,
        "notice" => Severity::Notice,
        "warning" => Severity::Warning,
        "error" => Severity::Error,
        _ => return failed(format!("invalid value \"{value}\" for parameter \"{name}\"")),
    })
}
