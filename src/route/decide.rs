//! The tests a statement passes on its way to the load balance node, in order (routing 4.2, 5).

use super::adaptive::written_obstacle;
use super::catalog::{Catalog, Known, RelationKind, Volatility};
use super::class::{Class, begins_like_a_read, classify};
use super::delay::exceeds_limit;
use super::{Reason, Route, SessionView, Target, Transaction};
use crate::config::{BackendClusteringMode, CheckTempTable, DisableLoadBalanceOnWrite as OnWrite, Settings};
use crate::sql::{Isolation, Kind, Name, Statement};

/// Decides. `text` is the statement as sent; it is looked at only if `primary_routing_query_pattern_list` is set.
///
/// With [`Reason::FactsMissing`] the answer is safe but may be better once the names in [`missing`] are known; with
/// [`Reason::IsolationUnknown`], once the transaction's isolation level is.
pub fn decide(statement: &Statement, text: &[u8], session: SessionView<'_>, catalog: &impl Catalog) -> Route {
    match session.settings.backend_clustering_mode {
        BackendClusteringMode::StreamingReplication | BackendClusteringMode::LogicalReplication => {}
        BackendClusteringMode::Raw => return Route::new(Target::Main, Reason::Raw),
        BackendClusteringMode::NativeReplication | BackendClusteringMode::SnapshotIsolation => {
            return Route::new(Target::Main, Reason::ModeWithoutBalance);
        }
    }
    let obstacle = match classify(statement, &session) {
        Class::Fixed(route) if route.reason == Reason::WherePrepared => {
            return follow_prepared(route, statement, &session, catalog);
        }
        Class::Fixed(Route { target: Target::Both, .. }) if on_primary_only(&session) => {
            Some(Reason::TransactionOnPrimary)
        }
        Class::Fixed(route) => return route,
        Class::Either => beginning_obstacle(statement, session.settings)
            .or_else(|| session_obstacle(&session))
            .or_else(|| text_obstacle(text, session.settings))
            .or_else(|| contents_obstacle(statement, &session, catalog))
            .or_else(|| delay_obstacle(&session)),
    };
    match obstacle {
        Some(reason) => Route::primary(reason),
        None => Route::new(Target::Balance, Reason::Read),
    }
}

/// EXECUTE and DEALLOCATE go where the statement was prepared (routing 10). What was prepared on the load balance node is
/// carried out there only as long as it could be read there, and if the arguments call nothing that writes; else the
/// session prepares it on the primary first.
fn follow_prepared(route: Route, statement: &Statement, session: &SessionView<'_>, catalog: &impl Catalog) -> Route {
    if route.target != Target::Balance {
        return route;
    }
    let obstacle = match statement.kind {
        Kind::Execute(_) => session_obstacle(session)
            .or_else(|| function_obstacle(statement, session.settings, catalog))
            .or_else(|| session.runs.and_then(|runs| contents_obstacle(runs, session, catalog)))
            .or_else(|| delay_obstacle(session)),
        // Elsewhere there is nothing to deallocate.
        _ => (session.transaction == Transaction::Failed).then_some(Reason::FailedTransaction),
    };
    obstacle.map_or(route, Route::primary)
}

fn beginning_obstacle(statement: &Statement, settings: &Settings) -> Option<Reason> {
    if !settings.load_balance_mode {
        return Some(Reason::BalanceOff);
    }
    (!begins_like_a_read(statement, settings)).then_some(Reason::LeadingComment)
}

/// Tests that the session's state decides (routing 5, 1 and 2).
fn session_obstacle(session: &SessionView<'_>) -> Option<Reason> {
    if !session.has_balance_node {
        return Some(Reason::OnlyHome);
    }
    if session.tied {
        return Some(Reason::Tied);
    }
    if session.writing && session.settings.disable_load_balance_on_write == OnWrite::Always {
        return Some(Reason::WroteBefore);
    }
    match session.transaction {
        Transaction::Idle => None,
        Transaction::Failed => Some(Reason::FailedTransaction),
        Transaction::Open { .. } if session.writing => Some(Reason::WritingTransaction),
        Transaction::Open { isolation: Some(Isolation::Serializable), .. } => Some(Reason::SerializableTransaction),
        // A read beside the transaction would see another state than a read inside it.
        Transaction::Open { on_primary_only: true, .. } => Some(Reason::TransactionOnPrimary),
        Transaction::Open { .. } if !session.balance_in_transaction => Some(Reason::InTransaction),
        Transaction::Open { isolation: None, .. } => Some(Reason::IsolationUnknown),
        Transaction::Open { .. } => None,
    }
}

fn on_primary_only(session: &SessionView<'_>) -> bool {
    matches!(session.transaction, Transaction::Open { on_primary_only: true, .. })
}

/// `primary_routing_query_pattern_list` (routing 5.5).
fn text_obstacle(text: &[u8], settings: &Settings) -> Option<Reason> {
    let patterns = &settings.primary_routing_query_pattern_list;
    if patterns.is_empty() {
        return None;
    }
    let text = String::from_utf8_lossy(text).replace('"', "");
    patterns.is_match(&text).then_some(Reason::QueryPattern)
}

/// Tests of what the statement reads and calls (routing 5, 3 to 8).
fn contents_obstacle(statement: &Statement, session: &SessionView<'_>, catalog: &impl Catalog) -> Option<Reason> {
    relation_obstacle(statement, session.settings, catalog)
        .or_else(|| function_obstacle(statement, session.settings, catalog))
        .or_else(|| written_obstacle(statement, session))
}

/// What kind of relations it reads (routing 5.2-5.4). `check_temp_table = trace` is the same as `catalog`: the catalog is
/// asked in the session itself, so it knows of this session's tables and of no other's.
fn relation_obstacle(statement: &Statement, settings: &Settings, catalog: &impl Catalog) -> Option<Reason> {
    statement.reads().find_map(|name| match catalog.relation(name) {
        Known::Yes(RelationKind::Temporary) if settings.check_temp_table == CheckTempTable::None => None,
        Known::Yes(RelationKind::Unlogged) if !settings.check_unlogged_table => None,
        Known::NotYet => Some(Reason::FactsMissing),
        Known::Yes(RelationKind::Ordinary | RelationKind::View | RelationKind::RowSecurity) => None,
        Known::Yes(RelationKind::System) => Some(Reason::SystemCatalog(name.clone())),
        Known::Yes(RelationKind::Temporary) => Some(Reason::TemporaryTable(name.clone())),
        Known::Yes(RelationKind::Unlogged) => Some(Reason::UnloggedTable(name.clone())),
        Known::Yes(RelationKind::None) => Some(Reason::UnknownRelation(name.clone())),
    })
}

/// Functions that the catalog calls stable or immutable, and that a server in recovery refuses nevertheless.
const REFUSED_BY_STANDBY: [&str; 4] =
    ["pg_current_xact_id", "pg_walfile_name", "pg_walfile_name_offset", "txid_current"];

/// What the functions may do (routing 5.6).
pub(super) fn function_obstacle(statement: &Statement, settings: &Settings, catalog: &impl Catalog) -> Option<Reason> {
    let (reading, writing) = (&settings.read_only_function_list, &settings.write_function_list);
    statement.functions.iter().find_map(|name| {
        if !reading.is_empty() {
            return (!reading.is_match(&name.to_string())).then(|| Reason::UnlistedFunction(name.clone()));
        }
        if !writing.is_empty() {
            return writing.is_match(&name.to_string()).then(|| Reason::ListedFunction(name.clone()));
        }
        match catalog.function(name) {
            Known::NotYet => Some(Reason::FactsMissing),
            Known::Yes(Volatility::Immutable | Volatility::Reads) => {
                REFUSED_BY_STANDBY.contains(&&*name.name).then(|| Reason::RefusedFunction(name.clone()))
            }
            Known::Yes(Volatility::Volatile) => Some(Reason::WritingFunction(name.clone())),
            Known::Yes(Volatility::None) => Some(Reason::UnknownFunction(name.clone())),
        }
    })
}

/// A load balance node too far behind (routing 2.4). A better one, if `prefer_lower_delay_standby` is on, must have been
/// chosen before (routing 2.5).
fn delay_obstacle(session: &SessionView<'_>) -> Option<Reason> {
    exceeds_limit(session.delay, session.settings).then_some(Reason::Delayed)
}

/// The names whose facts are missing: relations, then functions. Where lists decide about functions only the query cache has
/// to know them. Before an EXECUTE ask for those of [`SessionView::runs`], too.
pub fn missing<'s>(
    statement: &'s Statement,
    settings: &Settings,
    catalog: &impl Catalog,
) -> (Vec<&'s Name>, Vec<&'s Name>) {
    let relations = statement.reads().filter(|name| catalog.relation(name) == Known::NotYet).collect();
    let has_list = !settings.read_only_function_list.is_empty() || !settings.write_function_list.is_empty();
    let by_list = has_list && !settings.memory_cache_enabled;
    let functions = statement.functions.iter().filter(|name| !by_list && catalog.function(name) == Known::NotYet);
    (relations, functions.collect())
}
