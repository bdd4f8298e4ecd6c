//! The tests a statement passes, in order (routing 4, 5, 6).

use super::{Reason, Route, Target};
use crate::config::{BackendClusteringMode, Settings};
use crate::sql::{CopyPeer, Kind, Name, Statement};

/// What the catalog says of a function name: the worst of all functions with that name (routing 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// IMMUTABLE or STABLE: it does not write.
    Reads,
    /// VOLATILE: it may write.
    Volatile,
    /// There is no such function.
    None,
}

/// What the catalog says of a relation name (routing 5.2-5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary table, view, sequence, ...
    Ordinary,
    /// In `pg_catalog`.
    System,
    /// Temporary.
    Temporary,
    /// Unlogged: a standby cannot read it.
    Unlogged,
    /// There is no such relation.
    None,
}

/// A fact that may not have been asked for yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// Known.
    Yes(T),
    /// Not asked yet.
    NotYet,
}

/// Facts from the server's catalog.
pub trait Catalog {
    /// A function name as the statement writes it.
    fn function(&self, name: &Name) -> Known<Volatility>;
    /// A relation name as the statement writes it.
    fn relation(&self, name: &Name) -> Known<RelationKind>;
}

/// The session's part in the decision.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a> {
    /// The parameters in force.
    pub settings: &'a Settings,
    /// A node other than the primary is there to read from, and can be brought to the session's state.
    pub has_balance_node: bool,
    /// The session is inside a transaction block.
    pub in_transaction: bool,
}

/// Decides. `text` is the statement as sent.
pub fn decide(statement: &Statement, text: &[u8], session: SessionView<'_>, catalog: &impl Catalog) -> Route {
    let settings = session.settings;
    if let Err(route) = class(statement, settings) {
        return route;
    }
    let primary = |reason| Route { target: Target::Primary, reason };
    if !settings.load_balance_mode {
        return primary(Reason::BalanceOff);
    }
    if leads_with_comment(statement, settings) {
        return primary(Reason::LeadingComment);
    }
    if session.in_transaction {
        return primary(Reason::InTransaction);
    }
    if !session.has_balance_node {
        return primary(Reason::OnlyHome);
    }
    let patterns = &settings.primary_routing_query_pattern_list;
    if !patterns.is_empty() && patterns.is_match(&String::from_utf8_lossy(text).replace('"', "")) {
        return primary(Reason::QueryPattern);
    }
    match obstacle(statement, settings, catalog) {
        Some(reason) => primary(reason),
        None => Route { target: Target::Balance, reason: Reason::Read },
    }
}

/// The class of the statement by its kind alone; `Ok`: it may be balanced (class EITHER of routing 4.1).
fn class(statement: &Statement, settings: &Settings) -> Result<(), Route> {
    let primary = |reason| Err(Route { target: Target::Primary, reason });
    match settings.backend_clustering_mode {
        BackendClusteringMode::StreamingReplication | BackendClusteringMode::LogicalReplication => {}
        BackendClusteringMode::Raw => return primary(Reason::Raw),
        _ => return primary(Reason::ModeWithoutBalance),
    }
    if statement.is_multi() {
        return primary(Reason::SeveralStatements);
    }
    match &statement.kind {
        Kind::Unparsable(_) => primary(Reason::NotUnderstood),
        Kind::Begin(_)
        | Kind::Commit { .. }
        | Kind::Rollback { .. }
        | Kind::Savepoint(_)
        | Kind::Release(_)
        | Kind::RollbackTo(_)
        | Kind::Set { .. }
        | Kind::SetTransaction { .. }
        | Kind::Reset(_)
        | Kind::Discard(_) => Err(Route { target: Target::Both, reason: Reason::SessionState }),
        Kind::Select | Kind::Empty | Kind::Show(_) => contents(statement),
        Kind::CopyTo { peer: CopyPeer::Client, query } => match query.as_deref() {
            None | Some(Kind::Select) => contents(statement),
            Some(_) => primary(Reason::Writes),
        },
        _ => primary(Reason::NotARead),
    }
}

fn contents(statement: &Statement) -> Result<(), Route> {
    let primary = |reason| Err(Route { target: Target::Primary, reason });
    if statement.has.modification || statement.has.select_into {
        return primary(Reason::Writes);
    }
    if statement.has.locking {
        return primary(Reason::Locks);
    }
    if statement.has.session_state {
        return primary(Reason::SessionState);
    }
    Ok(())
}

/// With `allow_sql_comments` off a SELECT counts as a read only by its first character (routing 3.3).
fn leads_with_comment(statement: &Statement, settings: &Settings) -> bool {
    if settings.allow_sql_comments || statement.kind != Kind::Select {
        return false;
    }
    let first = if settings.ignore_leading_white_space { statement.lead.first_visible } else { statement.lead.first };
    !first.is_none_or(|first| matches!(first.to_ascii_lowercase(), b's' | b'(' | b'w' | b't' | b';'))
}

/// What the catalog says against reading this on a standby.
fn obstacle(statement: &Statement, settings: &Settings, catalog: &impl Catalog) -> Option<Reason> {
    let relation = |name: &Name| match catalog.relation(name) {
        Known::NotYet => Some(Reason::FactsMissing),
        Known::Yes(RelationKind::Ordinary) => None,
        Known::Yes(RelationKind::System) => Some(Reason::SystemCatalog),
        Known::Yes(RelationKind::Temporary) => Some(Reason::TemporaryTable),
        Known::Yes(RelationKind::Unlogged) => Some(Reason::UnloggedTable),
        Known::Yes(RelationKind::None) => Some(Reason::UnknownRelation),
    };
    statement
        .reads()
        .find_map(relation)
        .or_else(|| statement.functions.iter().find_map(|name| function_obstacle(name, settings, catalog)))
}

fn function_obstacle(name: &Name, settings: &Settings, catalog: &impl Catalog) -> Option<Reason> {
    let (reading, writing) = (&settings.read_only_function_list, &settings.write_function_list);
    if !reading.is_empty() {
        return (!reading.is_match(&name.to_string())).then_some(Reason::WritingFunction);
    }
    if !writing.is_empty() {
        return writing.is_match(&name.to_string()).then_some(Reason::WritingFunction);
    }
    match catalog.function(name) {
        Known::NotYet => Some(Reason::FactsMissing),
        Known::Yes(Volatility::Reads) => None,
        Known::Yes(Volatility::Volatile) => Some(Reason::WritingFunction),
        Known::Yes(Volatility::None) => Some(Reason::UnknownFunction),
    }
}

/// The names whose facts are missing: relations, then functions.
pub fn missing<'s>(
    statement: &'s Statement,
    settings: &Settings,
    catalog: &impl Catalog,
) -> (Vec<&'s Name>, Vec<&'s Name>) {
    let relations = statement.reads().filter(|name| catalog.relation(name) == Known::NotYet).collect();
    let by_list = !settings.read_only_function_list.is_empty() || !settings.write_function_list.is_empty();
    let functions = statement.functions.iter().filter(|name| !by_list && catalog.function(name) == Known::NotYet);
    (relations, functions.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Lexing, analyse};

    struct Facts;

    impl Catalog for Facts {
        fn function(&self, name: &Name) -> Known<Volatility> {
            Known::Yes(match &*name.name {
                "now" | "count" | "current_setting" => Volatility::Reads,
                "nosuch" => Volatility::None,
                "later" => return Known::NotYet,
                _ => Volatility::Volatile,
            })
        }

        fn relation(&self, name: &Name) -> Known<RelationKind> {
            Known::Yes(match &*name.name {
                "pg_class" => RelationKind::System,
                "temp1" => RelationKind::Temporary,
                "unlogged1" => RelationKind::Unlogged,
                "nosuch" => RelationKind::None,
                "later" => return Known::NotYet,
                _ => RelationKind::Ordinary,
            })
        }
    }

    fn route(text: &str, change: impl FnOnce(&mut Settings, &mut bool)) -> Route {
        let mut settings = Settings::default();
        let mut in_transaction = false;
        change(&mut settings, &mut in_transaction);
        let session = SessionView { settings: &settings, has_balance_node: true, in_transaction };
        decide(&analyse(text.as_bytes(), Lexing::default()), text.as_bytes(), session, &Facts)
    }

    /// The catalogue of observed destinations (routing 17.1) as far as single statements go.
    #[test]
    fn observed_destinations() {
        use Target::{Balance, Both, Primary};
        let table: &[(Target, &[&str])] = &[
            (
                Balance,
                &[
                    "select 1",
                    "select * from t1",
                    "table t1",
                    "(select 1)",
                    " select 1",
                    "select now()",
                    "select current_setting('port')",
                    "with x as (select 1) select * from x",
                    "show port",
                    "show all",
                    "copy t1 to stdout",
                    "copy (select 1) to stdout",
                    "",
                    "select",
                    "select 't1'::regclass::oid",
                ],
            ),
            (
                Primary,
                &[
                    "values (1)",
                    "/*x*/select 1",
                    "-- c\nselect 1",
                    "select * from temp1",
                    "select * from unlogged1",
                    "select 1 from pg_class",
                    "select (select 1 from pg_class)",
                    "with x as (insert into t1 values (1) returning 1) select * from x",
                    "select 1 into temp zz",
                    "select * from t1 for update",
                    "select * from (select * from t1 for share) x",
                    "explain select 1",
                    "explain analyze select 1",
                    "select nextval('s')",
                    "select random()",
                    "select pg_sleep(1)",
                    "select set_config('a.b', 'c', false)",
                    "execute unknown",
                    "insert into t1 values (1)",
                    "declare c cursor for select 1",
                    "listen x",
                    "vacuum",
                    "do $$ begin end $$",
                    "select 1; select 2",
                    "selct 1",
                    "lock table t1",
                    "prepare transaction 'x'",
                    "copy (select nextval('s')) to stdout",
                    "copy temp1 to stdout",
                    "copy t1 from stdin",
                    "copy t1 to '/tmp/x'",
                    "select nosuch()",
                    "select * from nosuch",
                    "select * from later",
                    "select later()",
                ],
            ),
            (Both, &["begin", "commit", "rollback", "savepoint a", "set x.y = 1", "reset all", "discard plans"]),
        ];
        for (target, texts) in table {
            for text in *texts {
                let route = route(text, |_, _| {});
                assert_eq!(route.target, *target, "{text}: {}", route.reason);
            }
        }
    }

    #[test]
    fn circumstances() {
        assert_eq!(route("select 1", |_, transaction| *transaction = true).reason, Reason::InTransaction);
        assert_eq!(route("select 1", |settings, _| settings.load_balance_mode = false).reason, Reason::BalanceOff);
        let comments = |settings: &mut Settings, _: &mut bool| settings.allow_sql_comments = true;
        assert_eq!(route("/*x*/select 1", comments).target, Target::Balance);
        let raw = |settings: &mut Settings, _: &mut bool| settings.backend_clustering_mode = BackendClusteringMode::Raw;
        assert_eq!(route("select 1", raw).reason, Reason::Raw);
    }
}
