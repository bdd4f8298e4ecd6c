//! The query cache in a session: answers from it, answers for it, and what this session's writes make wrong (query-cache 2,
//! 3.2, 5, 6). Why that is never out of date is said in [`crate::cache`].
//!
//! A Query whose answer is kept is answered at once, if nothing is owed to the client that would have to come first. Else
//! its answer is collected as it passes by, and stored when it is complete and nothing in it concerns this session alone.
//!
//! Invariants:
//! - Neither is done while the session has written something that is not known to be in force, in a transaction that may not
//!   see what others have committed since, or when its settings may have changed since they were asked for.
//! - What is collected is bounded by `memqcache_maxcache`; without the cache all this costs one branch.

use super::Session;
use super::end::End;
use super::requests::front;
use super::trace;
use super::unpublished::Unpublished;
use crate::backend::control;
use crate::cache::{self, Entry, Expiry, Identities, Storage, Written};
use crate::catalog;
use crate::net::Deadline;
use crate::report::{Report, SqlState};
use crate::route::Transaction;
use crate::sql::{DiscardTarget, Isolation, Kind, Name, Statement};
use crate::state::{QueryCache, TableSet, uptime};
use crate::wire::{Header, TransactionStatus, frontend, write};
use std::rc::Rc;
use std::time::Duration;

/// How long the server may take to tell what the session's settings are.
const LIMIT: Duration = Duration::from_secs(10);
/// An answer is collected with its ReadyForQuery and what comes in the same breath, in bytes.
const MARGIN: usize = 8 * 1024;

/// What one session has to do with the query cache.
pub(super) struct Caching {
    pub cache: QueryCache,
    pub storage: Storage,
    /// What decides answers beside the statements.
    identity: Known,
    /// The last one that was told.
    last: Option<Identities>,
    /// What no other session has.
    number: (u32, u128),
    /// The session may have settings that servers do not list.
    has_custom: bool,
    /// A statement under way, or one in this transaction, may have changed a setting.
    is_uncertain: bool,
    /// Code has run since the identity was asked for: names may mean something else.
    is_doubtful: bool,
    /// It has taken a lock: who waits for one is told of what its holder has written.
    locks: Locks,
    pub unpublished: Unpublished,
    /// What will be collected if the statement at the front is sent to a server.
    wanted: Option<Fill>,
    /// What is collected.
    fill: Option<Fill>,
    /// Of the statement at the front.
    pub key: Vec<u8>,
    /// What was found under it.
    pub answer: Vec<u8>,
}

/// What is known of the session's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It is to be asked for.
    NotYet,
    /// The session has none: it does without the cache.
    None,
    /// With the number of changes to privileges and definitions, anybody's, when it was asked for.
    Identity(Identities, u64),
}

/// Which locks a session holds, perhaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Locks {
    None,
    /// To the end of the transaction.
    OfTransaction,
    /// Until it gives them back.
    OfSession,
}

impl Locks {
    /// What the statement with these `facts` takes.
    fn of(facts: &Statement) -> Self {
        let takes = |name: &Name| match &*name.name {
            name if !name.contains("advisory") || name.contains("unlock") => Self::None,
            name if name.contains("_xact_") => Self::OfTransaction,
            _ => Self::OfSession,
        };
        let by_function = facts.functions.iter().map(takes).max().unwrap_or(Self::None);
        let locks = facts.has.locking || facts.kinds().any(|kind| matches!(kind, Kind::Lock { .. }));
        by_function.max(if locks { Self::OfTransaction } else { Self::None })
    }
}

/// An answer on its way into the cache.
struct Fill {
    node: usize,
    /// Number of the Query in the reply queue of that node.
    number: u64,
    key: Vec<u8>,
    entry: Entry,
    /// What the client was sent, so far.
    bytes: Vec<u8>,
    limit: usize,
    /// ReadyForQuery is the next message to be collected, or among the next.
    is_answered: bool,
}

impl Caching {
    pub fn new(storage: Storage) -> Self {
        Self {
            cache: storage.shared().clone(),
            storage,
            identity: Known::NotYet,
            last: None,
            number: (std::process::id(), uptime().as_nanos()),
            has_custom: false,
            is_uncertain: false,
            is_doubtful: false,
            locks: Locks::None,
            unpublished: Unpublished::default(),
            wanted: None,
            fill: None,
            key: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// `node` has sent `bytes` to the client.
    pub fn collect(&mut self, node: usize, bytes: &[u8]) {
        let Some(fill) = self.fill.as_mut().filter(|fill| fill.node == node) else { return };
        if fill.bytes.len() + bytes.len() > fill.limit {
            self.fill = None;
            return;
        }
        fill.bytes.extend_from_slice(bytes);
        if fill.is_answered {
            self.store();
        }
    }

    /// `node` has answered its message `number` to the end.
    pub fn answered(&mut self, node: usize, number: u64) {
        if let Some(fill) = self.fill.as_mut().filter(|fill| (fill.node, fill.number) == (node, number)) {
            fill.is_answered = true;
        }
    }

    /// A server has told of a setting, perhaps because its configuration was changed.
    pub fn setting_changed(&mut self) {
        self.is_uncertain = true;
    }

    /// What comes next is not to be kept.
    pub fn want_nothing(&mut self) {
        self.wanted = None;
    }

    /// What is collected is not the answer: it will come from another node.
    pub fn drop_fill(&mut self) {
        self.fill = None;
    }

    /// Looks for the answer of the key at hand. Where its messages begin in `answer`, if it counts.
    pub fn find(&mut self, database: &str) -> Option<usize> {
        self.answer.clear();
        let found = self.storage.find(database, &self.key, &mut self.answer);
        // Memcached may have told just now that privileges have changed.
        found.filter(|_| !self.storage.is_remote() || self.is_still_itself())
    }

    /// Whether no privileges have changed since the identity was asked for.
    fn is_still_itself(&self) -> bool {
        matches!(self.identity, Known::Identity(_, then) if then == self.cache.changes())
    }

    fn store(&mut self) {
        let Some(fill) = self.fill.take() else { return };
        let is_batch = fill.key.get(cache::TEXT_AT - 1) == Some(&b'E');
        let answer = if is_batch { cache::answer_of_batch } else { cache::answer_of_query };
        let Some(answer) = answer(&fill.bytes) else { return };
        self.storage.put(&fill.key, &fill.entry, answer);
    }

    /// The primary owes nothing and is outside of a block.
    fn rest(&mut self) {
        if self.locks == Locks::OfTransaction {
            self.locks = Locks::None;
        }
        if std::mem::take(&mut self.is_uncertain) {
            self.identity = Known::NotYet;
        }
    }
}

impl Session<'_> {
    /// Answers the Query at the front from the cache, if its answer is there and counts. Else prepares to collect it.
    pub(super) fn answer_from_cache(&mut self, header: Header, facts: &Rc<Statement>) -> Result<bool, End> {
        let Some(identities) = self.identities_to_read(facts)? else { return Ok(false) };
        let Some(caching) = &mut self.caching else { return Ok(false) };
        let text = frontend::query(front(&self.client, self.direct, header, header.total)).unwrap_or(b"\0");
        cache::simple_key(&identities.of(text, &self.context.settings), text, &mut caching.key);
        if let Some(at) = caching.find(&self.database) {
            self.send_cached(at)?;
            return Ok(true);
        }
        self.want(facts)?;
        Ok(false)
    }

    /// As whom the SELECT with these `facts`, to which nothing stands in front, may be looked for in the cache now. `None`: it
    /// may not.
    pub(super) fn identities_to_read(&mut self, facts: &Statement) -> Result<Option<Identities>, End> {
        let Some(caching) = &mut self.caching else { return Ok(None) };
        caching.wanted = None;
        let is_bound = caching.is_uncertain || caching.locks != Locks::None || !caching.unpublished.is_empty();
        if is_bound || !cache::may_be_cached(facts) {
            return Ok(None);
        }
        if self.batch.is_some() || !self.has_heard_all() {
            return Ok(None);
        }
        if matches!(self.transaction(), Transaction::Open { isolation: None, .. }) {
            self.learn(facts)?;
        }
        if !self.sees_commits() {
            return Ok(None);
        }
        if let Some(caching) = &mut self.caching {
            caching.fill = None;
        }
        self.identities()
    }

    /// Deletes the answer to the Query `text` of a session like this one. Whether there was one (query-cache 8.2).
    pub(super) fn delete_cached(&mut self, text: &[u8]) -> Result<bool, End> {
        if self.caching.as_ref().is_none_or(|caching| caching.is_uncertain) {
            return Ok(false);
        }
        let Some(identities) = self.identities()? else { return Ok(false) };
        let Some(caching) = &mut self.caching else { return Ok(false) };
        cache::simple_key(&identities.of(text, &self.context.settings), text, &mut caching.key);
        Ok(caching.storage.remove(&caching.key))
    }

    /// Whether the next statement sees what others have committed meanwhile.
    fn sees_commits(&self) -> bool {
        match self.transaction() {
            Transaction::Idle => true,
            Transaction::Open { isolation, .. } => {
                matches!(isolation, Some(Isolation::ReadCommitted | Isolation::ReadUncommitted))
            }
            Transaction::Failed => false,
        }
    }

    /// As whom this session asks, asked of the primary if it is not known. `None`: it cannot be told.
    fn identities(&mut self) -> Result<Option<Identities>, End> {
        let Some(caching) = self.caching.as_ref() else { return Ok(None) };
        let now = caching.cache.changes();
        match caching.identity {
            Known::Identity(identities, then) if then == now => return Ok(Some(identities)),
            Known::None => return Ok(None),
            _ if !self.is_free(self.home) => return Ok(None),
            _ => {}
        }
        let node = self.home;
        let Some(server) = self.group.get_mut(node) else { return Ok(None) };
        let is_shared = self.caching.as_ref().is_some_and(|caching| caching.storage.is_remote());
        let answer = control::query(server, cache::identity_query(is_shared), Deadline::after(LIMIT));
        self.statements.unnamed_lost(node);
        self.hear_aside(node);
        match answer {
            Ok(rows) => Ok(self.identified(rows.first().map_or(&[][..], Vec::as_slice), now)),
            Err(report) => self.without_cache(&report).map(|()| None),
        }
    }

    /// The primary has told as whom this session asks.
    fn identified(&mut self, answer: &[Option<String>], now: u64) -> Option<Identities> {
        let caching = self.caching.as_mut()?;
        let shared = &self.context.shared;
        let told = cache::identities(shared, answer, &self.group.key.startup, caching.number);
        let identities = told.map(|told| if caching.has_custom { told.apart(shared, caching.number) } else { told });
        caching.identity = identities.map_or(Known::None, |identities| Known::Identity(identities, now));
        let common = |identities: Option<Identities>| identities.map(|identities| identities.common);
        let is_same = told.is_some() && common(caching.last) == common(told);
        caching.last = told;
        if std::mem::take(&mut caching.is_doubtful) {
            self.catalog.resolve_doubt(is_same);
        }
        identities
    }

    /// A question of the cache's has failed: the statement goes its way without.
    fn without_cache(&mut self, report: &Report) -> Result<(), End> {
        if report.code == SqlState::CONNECTION_FAILURE {
            return Err(End::server_lost(self.home, report.detail.as_deref().unwrap_or(&report.message)));
        }
        report.log();
        Ok(())
    }

    /// Sends the kept answer, which begins at `at`, and ReadyForQuery.
    fn send_cached(&mut self, at: usize) -> Result<(), End> {
        let status = self.group.status(self.home);
        self.forget_unnamed();
        let Some(caching) = &mut self.caching else { return Ok(()) };
        write::ready_for_query(&mut caching.answer, status);
        caching.cache.count_hit(self.context.slot.index());
        self.client.send(&caching.answer[at..])?;
        self.tell_cached(status);
        Ok(())
    }

    /// Lets others see that a statement was answered, and the log.
    pub(super) fn tell_cached(&mut self, status: TransactionStatus) {
        let Some(caching) = &self.caching else { return };
        let text = text_of(&caching.key);
        trace::local(self.context, &self.group, text);
        trace::idle(self.context, status);
        let settings = &self.context.settings;
        if settings.log_statement {
            Report::log_line(format!("statement: {}", String::from_utf8_lossy(text))).log();
        }
        if settings.log_per_node_statement {
            let text = String::from_utf8_lossy(text);
            Report::log_line("fetch from memory cache")
                .detail(format!("query result fetched from cache. statement: {text}"))
                .log();
        }
        if status == TransactionStatus::Idle {
            self.end_portals();
        }
    }

    /// Prepares to collect the answer of the statement whose key is at hand, if it may be kept.
    pub(super) fn want(&mut self, facts: &Rc<Statement>) -> Result<(), End> {
        let before = self.database_stamp();
        self.catalog.begin_statement(self.transaction() != Transaction::Idle);
        self.learn(facts)?;
        let Some(caching) = &self.caching else { return Ok(()) };
        let text = text_of(&caching.key);
        if cache::obstacle(facts, text, &self.context.settings, &self.catalog).is_some() {
            return Ok(());
        }
        self.learn_tables(facts)?;
        let mut oids = Vec::new();
        for name in facts.reads() {
            let Some(read) = self.catalog.tables(name).and_then(|tables| tables.read.as_deref()) else { return Ok(()) };
            oids.extend_from_slice(read);
        }
        let Some(caching) = &mut self.caching else { return Ok(()) };
        let tables = TableSet::of(&self.database, oids);
        let settings = &self.context.settings;
        let Some(stamp) = caching.storage.stamp(&self.database, &tables) else { return Ok(()) };
        // What was just learnt may be out of date by now.
        if caching.cache.stamp(&self.database, &TableSet::default()) != before || !caching.is_still_itself() {
            return Ok(());
        }
        let entry = Entry { stamp, expiry: Expiry::after(settings.memqcache_expire), tables };
        // Behind the stamp: who dies from now on moves what it was made of.
        if !caching.cache.is_sure() {
            return Ok(());
        }
        caching.wanted = Some(Fill {
            node: usize::MAX,
            number: 0,
            key: caching.key.clone(),
            entry,
            bytes: Vec::new(),
            limit: usize::try_from(settings.memqcache_maxcache).unwrap_or(0).saturating_add(MARGIN),
            is_answered: false,
        });
        Ok(())
    }

    /// The Query at the front, or the Sync of a batch, goes to `node` as its message `number`: the answer is collected, if
    /// that is wanted and the node has all that was written.
    pub(super) fn begin_fill(&mut self, is_select: bool, node: usize, number: u64) {
        let home = self.home;
        let Some(caching) = &mut self.caching else { return };
        if is_select || caching.wanted.is_some() {
            caching.cache.count_miss(self.context.slot.index());
        }
        let Some(fill) = caching.wanted.take() else { return };
        // What a standby has not replayed yet must not be kept.
        let has_all = || {
            let written = caching.cache.written(&self.database, &fill.entry.tables);
            self.context.shared.delays().caught_up(node) > written
        };
        if node == home || has_all() {
            caching.fill = Some(Fill { node, number, ..fill });
        }
    }

    /// A statement of the client is about to be sent: from now on it may change what answers depend on.
    /// `is_forced`: the client says that its answer may be kept, so that it changes nothing.
    pub(super) fn note_for_cache(&mut self, facts: &Rc<Statement>, is_forced: bool) -> Result<(), End> {
        if self.caching.is_none() || (is_forced && cache::may_be_cached(facts)) {
            return Ok(());
        }
        let runs = self.executed(facts).map(|prepared| Rc::clone(&prepared.facts));
        let facts = runs.as_ref().unwrap_or(facts);
        self.catalog.begin_statement(self.transaction() != Transaction::Idle);
        if facts.has.unknown_functions && self.catalog.lacks(facts, &self.context.settings) {
            self.learn(facts)?;
        }
        let effects = cache::effects(facts, &self.context.settings, &self.catalog);
        let (tables, has_triggers) = match effects.written {
            Written::Nothing => (TableSet::default(), false),
            Written::Tables => self.judge_write(facts)?,
            Written::Database => (TableSet::database(&self.database), false),
            Written::Everything => (TableSet::everything(), false),
        };
        let runs_code = effects.runs_code || has_triggers;
        let Some(caching) = &mut self.caching else { return Ok(()) };
        caching.unpublished.send(facts, &tables);
        caching.locks = if gives_locks_back(facts) { Locks::None } else { caching.locks.max(Locks::of(facts)) };
        caching.is_uncertain |= effects.sets || runs_code;
        caching.has_custom |= effects.sets_custom || runs_code;
        if runs_code {
            caching.is_doubtful = true;
            self.catalog.doubt();
        }
        Ok(())
    }

    /// The tables that `facts` name as written, with all that changes with them, and whether triggers or rules may do more.
    fn judge_write(&mut self, facts: &Statement) -> Result<(TableSet, bool), End> {
        let all = TableSet::database(&self.database);
        if self.caching.as_ref().is_some_and(|caching| caching.is_doubtful) {
            self.identities()?;
        }
        let stamp = self.database_stamp();
        self.learn_tables(facts)?;
        let Some(caching) = self.caching.as_mut().filter(|caching| !caching.is_doubtful) else {
            return Ok((all, true));
        };
        caching.unpublished.judge(stamp);
        Ok(self.tables_written(facts).map_or((all, true), |tables| (tables, false)))
    }

    /// The same for the Execute at the front.
    pub(super) fn note_executed_for_cache(&mut self, header: Header) -> Result<(), End> {
        let portal = frontend::execute(self.content(header)).map_err(|error| End::protocol_violation(&error))?;
        let Some(bound) = self.portals.definition(portal).map(Rc::clone) else {
            self.note_unknown_for_cache();
            return Ok(());
        };
        self.note_for_cache(&bound.facts, cache::is_forced(bound.text()))
    }

    /// Something that cannot be read is about to be sent: it may change anything.
    pub(super) fn note_unknown_for_cache(&mut self) {
        if let Some(caching) = &mut self.caching {
            caching.unpublished.send_unknown();
            caching.is_uncertain = true;
            caching.has_custom = true;
            caching.is_doubtful = true;
            self.catalog.doubt();
        }
    }

    /// `None`: that cannot be told.
    fn tables_written(&self, facts: &Statement) -> Option<TableSet> {
        let mut oids = Vec::new();
        for name in facts.writes() {
            oids.extend_from_slice(self.catalog.tables(name)?.written.as_deref()?);
        }
        Some(TableSet::of(&self.database, oids))
    }

    /// Moves when anything in the database may be another thing than it was.
    fn database_stamp(&self) -> u64 {
        self.caching.as_ref().map_or(0, |caching| caching.cache.stamp(&self.database, &TableSet::default()))
    }

    /// Learns which tables stand behind the names in `facts`, if the primary is free to tell.
    pub(super) fn learn_tables(&mut self, facts: &Statement) -> Result<(), End> {
        self.catalog.begin_tables(self.database_stamp());
        let lacks = facts.relations.iter().any(|relation| self.catalog.tables(&relation.name).is_none());
        if !lacks || !self.is_free(self.home) {
            return Ok(());
        }
        let node = self.home;
        let Some(server) = self.group.get_mut(node) else { return Ok(()) };
        let looked_up = catalog::look_up_tables(&mut self.catalog, facts, server);
        self.statements.unnamed_lost(node);
        self.hear_aside(node);
        if let Err(report) = looked_up {
            self.without_cache(&report)?;
        }
        Ok(())
    }

    /// The session ends. What is answered and not committed will be rolled back; what is not answered may come into force.
    pub(super) fn end_caching(&mut self) {
        let has_answered = self.group.get(self.home).is_some_and(|server| server.replies.is_empty());
        if let Some(caching) = self.caching.as_ref().filter(|caching| !caching.unpublished.is_empty() && !has_answered)
        {
            caching.cache.doubt(caching.unpublished.tables());
        }
    }

    /// The primary has confirmed a statement: others must see what was written before the client knows.
    #[inline]
    pub(super) fn completed_for_cache(&mut self) {
        let invalidates = self.context.settings.memqcache_auto_cache_invalidation;
        if let Some(Caching { unpublished, storage, .. }) = self.caching.as_deref_mut() {
            unpublished.completed(storage, &self.database, invalidates);
        }
    }

    /// The primary is ready for the next statement. `settled`: it owes nothing.
    #[inline]
    pub(super) fn ready_for_cache(&mut self, status: TransactionStatus, settled: bool) {
        let invalidates = self.context.settings.memqcache_auto_cache_invalidation;
        if let Some(caching) = self.caching.as_deref_mut() {
            caching.unpublished.ready(status, settled, &mut caching.storage, &self.database, invalidates);
            if settled && status == TransactionStatus::Idle {
                caching.rest();
            }
        }
    }
}

/// Whether the session holds no lock of its own behind the statement with these `facts`.
fn gives_locks_back(facts: &Statement) -> bool {
    facts.kind == Kind::Discard(DiscardTarget::All)
        || facts.functions.iter().any(|name| &*name.name == "pg_advisory_unlock_all")
}

/// The SQL text in a key.
fn text_of(key: &[u8]) -> &[u8] {
    let text = key.get(cache::TEXT_AT..).unwrap_or_default();
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}
