//! The end of a session: what the client is told, and what becomes of its server connections (protocol 10).

use super::client::Client;
use super::end::End;
use super::{Context, trace};
use crate::backend::{Group, ServerConnection, cancel, control};
use crate::net::Deadline;
use crate::report::{Report, Result, Severity};
use crate::wire::TransactionStatus;
use std::time::Duration;

/// How long one reset query may take.
const RESET_LIMIT: Duration = Duration::from_secs(10);
/// Databases whose connections are never pooled (protocol 10).
const NEVER_POOLED: [&[u8]; 4] = [b"template0", b"template1", b"postgres", b"regression"];

/// Tells the client, as far as there is something to tell and somebody to hear it, and lets it go. `who` it was is for the
/// log alone.
pub(super) fn dismiss(mut client: Client, end: &End, who: &str) {
    if let End::Failed(report) = end {
        log_end(report, who);
        report.encode(&mut client.output);
        let _ = client.flush();
    }
    // Who said goodbye does not wait for ours.
    if !matches!(end, End::Terminated) {
        client.stream.shutdown_sending();
    }
}

/// An ended session is an event for the log, whoever is to blame; pgpool itself goes on.
pub(super) fn log_end(report: &Report, who: &str) {
    let severity = if report.severity >= Severity::Error { report.severity } else { Severity::Log };
    let context = match &report.context {
        Some(context) if context.contains("host=") => context.clone(),
        Some(context) => format!("{context}; {who}"),
        None => who.to_owned(),
    };
    Report { severity, context: Some(context), ..report.clone() }.log();
}

/// Pools the connections of a session that ended in order, unless a cancel request may still reach them; closes all others.
pub(super) fn release(context: &mut Context, mut group: Group, end: &End) {
    context.forget_session_parameters();
    context.slot.hide_from_cancels();
    let keep = matches!(end, End::Terminated)
        && context.settings.connection_cache
        && !NEVER_POOLED.contains(&group.key.database.as_slice())
        && match reset(context, &mut group) {
            Ok(()) => true,
            Err(report) => {
                Report::log_line("unable to reset backend status").detail(report.to_string()).log();
                false
            }
        }
        && !context.slot.is_cancelled();
    if keep {
        trace::pooled(context, &group);
        context.pool.put(group);
    } else {
        cancel_running(context, &group);
        trace::discarded(context, group.slot);
        group.close();
    }
}

/// Runs `reset_query_list` on every node the session has used.
fn reset(context: &Context, group: &mut Group) -> Result<()> {
    let slot = group.slot;
    group.keeps_settings = !context.settings.reset_query_list.iter().any(|query| resets_settings(query));
    for server in group.connections.iter_mut().flatten() {
        for query in context.settings.reset_query_list.iter() {
            // As the original: nothing to abort, nothing to send.
            if query == "ABORT" && server.status == TransactionStatus::Idle {
                continue;
            }
            trace::reset_query(context, server, slot, query);
            let node = server.node;
            let detached = || !context.is_attached_now(node);
            control::query_unless(server, query, Deadline::after(RESET_LIMIT), &detached)?;
        }
        if !server.is_clean() {
            return Err(Report::error(format!("DB node id: {} is not ready for a new session", server.node)));
        }
    }
    Ok(())
}

fn resets_settings(query: &str) -> bool {
    let words = || query.trim_end_matches(';').split_ascii_whitespace();
    let is = |statement: [&str; 2]| words().map(str::to_ascii_uppercase).eq(statement);
    is(["DISCARD", "ALL"]) || is(["RESET", "ALL"])
}

/// A statement whose client is gone is cancelled: closing the connection alone would let it run to its end. A node that is
/// detached may hang: nobody waits for it.
fn cancel_running(context: &Context, group: &Group) {
    let is_running = |server: &&ServerConnection| !server.replies.is_empty() && context.is_attached_now(server.node);
    for server in group.connections.iter().flatten().filter(is_running) {
        let address = context.address(server.node);
        if let Err(error) = cancel::request(&address, server.pid, &server.cancel_key) {
            Report::log_line(format!(
                "could not cancel a statement on DB node {} that nobody waits for any more",
                server.node
            ))
            .detail(error.to_string())
            .log();
        }
    }
}
