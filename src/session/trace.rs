//! What others can see of a session: shared memory, process title, counters (process-model 5, 11). Log lines about single
//! messages are in `message_log`.
//!
//! Everything on the way of a statement is a few stores into memory.

use super::Context;
use crate::backend::{Group, ServerConnection};
use crate::report::{Report, Severity, is_logged};
use crate::sql::{Statement, StatementClass, command_word};
use crate::state::{NodeCounters, NodeSet, ProcessStatus, ServerKey, SessionInfo, now};
use crate::sys::title;
use crate::wire::TransactionStatus;
use crate::wire::backend::ErrorFields;
use std::time::{Duration, Instant};

/// `node` is at work for the client.
pub(super) fn busy(context: &Context, node: usize) {
    if context.asked.get().is_none() {
        context.asked.set(Some(Instant::now()));
    }
    context.slot.set_busy(NodeSet::of(node));
    context.slot.set_idle(false);
    context.slot.set_status(ProcessStatus::ExecuteCommand);
}

/// A statement is sent to `node`.
pub(super) fn statement(context: &Context, group: &Group, node: usize, facts: &Statement, text: &[u8]) {
    busy(context, node);
    count(context, node, facts.class());
    context.slot.pool(group.slot).set_statement(node, text);
    title::set_activity(command_word(text).as_str());
}

/// pgpool itself answers a statement.
pub(super) fn local(context: &Context, group: &Group, text: &[u8]) {
    context.slot.set_idle(false);
    context.slot.set_status(ProcessStatus::ExecuteCommand);
    title::set_activity(command_word(text).as_str());
    at_hand(context, group);
}

/// pgpool has the answer to a statement at hand: none of a server's is the last one any more (show-commands 2.5). That takes
/// no time in which anybody could see what the session does.
pub(super) fn at_hand(context: &Context, group: &Group) {
    let pool = context.slot.pool(group.slot);
    group.connections.iter().flatten().for_each(|server| pool.forget_statement(server.node));
}

/// A message too long to be read is sent to `node`. A statement counts as one that is not understood.
pub(super) fn unread(context: &Context, node: usize, is_statement: bool) {
    busy(context, node);
    if is_statement {
        count(context, node, StatementClass::Delete);
    }
}

fn count(context: &Context, node: usize, class: StatementClass) {
    let counters = context.slot.counters(node);
    NodeCounters::count(match class {
        StatementClass::Select => &counters.select,
        StatementClass::Insert => &counters.insert,
        StatementClass::Update => &counters.update,
        StatementClass::Delete => &counters.delete,
        StatementClass::Ddl => &counters.ddl,
        StatementClass::Other => &counters.other,
    });
}

/// A statement of the client that `node` has got late: to begin a transaction, to have its settings, to end the
/// transaction.
pub(super) fn replayed(context: &Context, node: usize) {
    NodeCounters::count(&context.slot.counters(node).other);
}

/// `node` has answered all that it was asked since it was last at rest.
pub(super) fn answered(context: &Context, group: &Group, node: usize) {
    if let Some(asked) = context.asked.take() {
        let time = asked.elapsed();
        context.slot.counters(node).latency.observe(time);
        // -1: none is slow.
        if u128::try_from(context.settings.log_min_duration_statement).is_ok_and(|limit| time.as_millis() >= limit) {
            slow(context, group, node, time);
        }
    }
}

/// The last statement sent to `node` has taken long (`log_min_duration_statement`).
fn slow(context: &Context, group: &Group, node: usize, time: Duration) {
    let text = context.slot.pool(group.slot).statement(node);
    let (text, time) = (String::from_utf8_lossy(&text), time.as_secs_f64() * 1000.0);
    Report::log_line(format!("duration: {time:.3} ms  DB node id: {node} statement: {text}")).log();
}

/// A server has answered with an error.
pub(super) fn server_error(context: &Context, node: usize, fields: &ErrorFields<'_>) {
    let counters = context.slot.counters(node);
    NodeCounters::count(match fields.severity() {
        b"PANIC" => &counters.panic,
        b"FATAL" => &counters.fatal,
        _ => &counters.error,
    });
    if is_logged(Severity::Log) {
        Report::log_line(format!("Error message from backend: DB node id: {node} message: \"{}\"", fields.message()))
            .log();
    }
}

/// Nothing is at work for the client any more.
pub(super) fn idle(context: &Context, status: TransactionStatus) {
    context.slot.set_busy(NodeSet::EMPTY);
    if context.settings.client_idle_limit > 0 || context.settings.client_idle_limit_in_recovery != 0 {
        context.slot.set_idle(true);
    }
    let (state, word) = match status {
        TransactionStatus::Idle => (ProcessStatus::Idle, "idle"),
        _ => (ProcessStatus::IdleInTransaction, "idle in transaction"),
    };
    context.slot.set_status(state);
    title::set_activity(word);
}

/// The session has its group: publishes who is served and by whom.
pub(super) fn opened(context: &Context, group: &Group, home: usize, balance: usize, minor: u16) {
    context.asked.set(None);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (user, database) = (text(&group.key.user), text(&group.key.database));
    let created = group.created.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    context.slot.pool(group.slot).update(|entry| {
        entry.database.clone_from(&database);
        entry.user.clone_from(&user);
        (entry.major, entry.minor) = (3, minor);
        entry.created = created;
        entry.client_connected = now();
        entry.uses = group.uses;
        entry.connected = true;
        entry.load_balance_node = Some(balance);
    });
    context.slot.set_session(&SessionInfo { user, database, pool_slot: Some(group.slot) });
    if let Some(server) = group.get(home) {
        joined(context, group, server);
    }
}

/// The session has a connection to one more node.
pub(super) fn joined(context: &Context, group: &Group, server: &ServerConnection) {
    let key = ServerKey { pid: server.pid, key: server.cancel_key.clone() };
    context.slot.pool(group.slot).set_server(server.node, &key);
}

/// The session has lost its connection to a node.
pub(super) fn left(context: &Context, group: &Group, node: usize) {
    context.slot.pool(group.slot).clear_server(node);
    context.asked.set(None);
}

/// The group goes back to the pool.
pub(super) fn pooled(context: &Context, group: &Group) {
    context.slot.pool(group.slot).update(|entry| {
        entry.connected = false;
        entry.client_disconnected = now();
    });
}

/// The group is closed.
pub(super) fn discarded(context: &Context, slot: usize) {
    let pool = context.slot.pool(slot);
    pool.update(|entry| entry.client_disconnected = now());
    pool.clear();
}

/// A reset query is sent.
pub(super) fn reset_query(context: &Context, server: &ServerConnection, slot: usize, query: &str) {
    context.slot.pool(slot).set_statement(server.node, query.as_bytes());
    if context.settings.log_statement {
        Report::log_line(format!("statement: {query}")).log();
    }
    if context.settings.log_per_node_statement {
        server.statement_line(query).log();
    }
}
