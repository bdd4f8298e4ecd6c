//! Reads of what was written lately: `disable_load_balance_on_write = dml_adaptive` for the session's own transaction
//! (routing 7.4), `dml_adaptive_global` for all sessions as well (routing 16).
//!
//! Relations are known by their bare names: a write to `a.t` counts against reads of `b.t`, which costs a read of the
//! primary and never a row. What a function writes cannot be seen; `dml_adaptive_object_relationship_list` names it.

use super::class::is_read;
use super::{Reason, SessionView, Target, Transaction};
use crate::config::{DisableLoadBalanceOnWrite as OnWrite, Settings};
use crate::sql::{Kind, Name, Statement, Use};
use crate::state::{TableKey, TableMutations, WriteAge};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What is known now of the writes of all sessions to one database (routing 16.4).
pub trait RecentWrites: fmt::Debug {
    /// Too little is known yet: everything counts as just written.
    fn is_cold(&self) -> bool;
    /// How long a write counts as recent.
    fn ttl(&self) -> Duration;
    /// How long ago the relation was written; None if that is not known to have happened.
    fn age(&self, relation: &Name) -> Option<WriteAge>;
}

/// The writes of all sessions to one database, in shared memory, at one moment.
#[derive(Clone, Copy, Debug)]
pub struct SharedWrites<'a> {
    /// The memory.
    pub table: &'a TableMutations,
    /// Whose tables are meant.
    pub database: &'a str,
    /// The moment: [`uptime`](crate::state::uptime).
    pub now: Duration,
    /// Until then this process knows too little: its start and `track_table_mutation_cold_start_duration`.
    pub cold_until: Duration,
}

impl SharedWrites<'_> {
    /// Notes what [`relations_written`] has told, once the server has reported success.
    pub fn record(&self, relations: &[Box<str>], settings: &Settings) {
        for relation in relations {
            self.table.record(TableKey::new(self.database, relation), self.now, max_staleness(settings));
        }
    }
}

impl RecentWrites for SharedWrites<'_> {
    fn is_cold(&self) -> bool {
        self.now < self.cold_until || self.table.is_cold(self.now)
    }

    fn ttl(&self) -> Duration {
        self.table.ttl()
    }

    fn age(&self, relation: &Name) -> Option<WriteAge> {
        self.table.age(TableKey::new(self.database, &relation.name), self.now)
    }
}

/// `track_table_mutation_max_staleness`; zero is no limit.
fn max_staleness(settings: &Settings) -> Duration {
    Duration::from_millis(u64::try_from(settings.track_table_mutation_max_staleness).unwrap_or(0))
}

/// Bare names of the relations whose reads go to the primary for the rest of the transaction block, once `statement` has
/// been sent: what it reads and writes, unless it is a read, and what the relationship list says of its tables and
/// functions. In order of name; empty outside of a transaction and in modes other than the two.
///
/// The session collects them in [`SessionView::written`] until the transaction ends; ROLLBACK TO is not its end.
pub fn relations_touched(statement: &Statement, session: &SessionView<'_>) -> Vec<Box<str>> {
    if !is_adaptive(session) || session.transaction == Transaction::Idle {
        return Vec::new();
    }
    let touches = !is_read(executed(statement, session).unwrap_or(statement), session);
    with_related(statement, session, |_| touches)
}

/// Bare names of the relations that `statement` writes, for all sessions to know: under `dml_adaptive_global` they are
/// [recorded](SharedWrites::record) when the server has reported success, those of a
/// transaction at its COMMIT. In order of name; empty in other modes.
pub fn relations_written(statement: &Statement, session: &SessionView<'_>) -> Vec<Box<str>> {
    let carries_out = match &statement.kind {
        Kind::Prepare { .. } | Kind::Explain { analyze: false, .. } => statement.is_multi(),
        _ => true,
    };
    if session.settings.disable_load_balance_on_write != OnWrite::DmlAdaptiveGlobal || !carries_out {
        return Vec::new();
    }
    with_related(statement, session, |usage| usage == Use::Written)
}

/// The relations with a use that counts, and all that depends on them and on the functions called.
fn with_related(statement: &Statement, session: &SessionView<'_>, counts: impl Fn(Use) -> bool) -> Vec<Box<str>> {
    let pairs = &session.settings.dml_adaptive_object_relationship_list;
    let mut names = BTreeSet::new();
    // EXECUTE does what was prepared; the functions of its arguments are its own.
    for statement in std::iter::once(statement).chain(executed(statement, session)) {
        for name in &statement.functions {
            names.extend(pairs.after_call(&name.name).map(bare));
        }
        for relation in statement.relations.iter().filter(|relation| counts(relation.usage)) {
            names.insert(&relation.name.name);
            names.extend(pairs.after_write(&relation.name.name).map(bare));
        }
    }
    names.into_iter().map(Box::from).collect()
}

/// Whether `statement` may write what no list of names can tell, so that all reads of the transaction have to follow it.
pub(super) fn writes_unseen(statement: &Statement, session: &SessionView<'_>) -> bool {
    let pairs = &session.settings.dml_adaptive_object_relationship_list;
    let is_listed = |name: &Name| pairs.after_call(&name.name).next().is_some();
    statement.kinds().any(|kind| match kind {
        Kind::Do | Kind::Unparsable(_) => true,
        Kind::Call => !statement.functions.iter().any(is_listed),
        Kind::Execute(_) => session.runs.is_none() && session.prepared != Some(Target::Balance),
        _ => false,
    })
}

/// The obstacle for a read of relations written in this transaction, or by anybody a short while ago.
pub(super) fn written_obstacle(statement: &Statement, session: &SessionView<'_>) -> Option<Reason> {
    let is_written = |name: &&Name| session.written.iter().any(|written| written.eq_ignore_ascii_case(&name.name));
    if !session.written.is_empty()
        && let Some(name) = statement.reads().find(is_written)
    {
        return Some(Reason::WrittenTable(name.clone()));
    }
    if session.settings.disable_load_balance_on_write != OnWrite::DmlAdaptiveGlobal {
        return None;
    }
    let Some(recent) = session.recent.filter(|recent| !recent.is_cold()) else { return Some(Reason::WritesUnknown) };
    let cap = max_staleness(session.settings);
    let is_recent = |age: WriteAge| age.last < recent.ttl() && (cap.is_zero() || age.first < cap);
    let name = statement.reads().find(|name| recent.age(name).is_some_and(is_recent))?;
    Some(Reason::RecentlyWritten(name.clone()))
}

fn is_adaptive(session: &SessionView<'_>) -> bool {
    use OnWrite::{DmlAdaptive, DmlAdaptiveGlobal};
    matches!(session.settings.disable_load_balance_on_write, DmlAdaptive | DmlAdaptiveGlobal)
}

fn executed<'a>(statement: &Statement, session: &SessionView<'a>) -> Option<&'a Statement> {
    session.runs.filter(|_| matches!(statement.kind, Kind::Execute(_)))
}

/// A name of the list without its schema.
fn bare(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, name)| name)
}
