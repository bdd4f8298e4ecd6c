//! The query cache in a session: answers from it, and answers for it (query-cache 2, 3.2, 5). Why that is never out of date is
//! said in [`crate::cache`]; as whom a session asks, in `identity`; what its writes make wrong, in `cache_writes`.
//!
//! A Query whose answer is kept is answered at once, if nothing is owed to the client that would have to come first. Else
//! its answer is collected as it passes by, and stored when it is complete and nothing in it concerns this session alone.
//!
//! Invariants:
//! - Neither is done while the session has written something that is not known to be in force, in a transaction that may not
//!   see what others have committed since, while it holds locks, or when its settings may have changed since they were asked
//!   for.
//! - What is collected is bounded by `memqcache_maxcache`; without the cache all this costs one branch.

use super::Session;
use super::end::End;
use super::filling::Filling;
use super::identity::OwnIdentity;
use super::locks::Locks;
use super::requests::front;
use super::trace;
use super::unpublished::Unpublished;
use super::verdicts::{Circumstances, Verdicts};
use crate::cache::{self, Answers, Entry, Expiry, Identities, Memcached};
use crate::catalog;
use crate::report::Report;
use crate::route::Transaction;
use crate::sql::{Isolation, Statement};
use crate::state::{QueryCache, TableSet, uptime};
use crate::wire::{Header, TransactionStatus, frontend, write};
use std::rc::Rc;
use std::sync::Arc;

/// What one session has to do with the query cache.
pub(super) struct Caching {
    pub answers: Answers,
    pub identity: OwnIdentity,
    /// The session has taken locks: who waits for one is told of what its holder has written.
    pub locks: Locks,
    pub unpublished: Unpublished,
    /// Statements may have been prepared unseen, under names on record: what EXECUTE runs is not known.
    pub names_are_unsure: bool,
    /// What is collected.
    pub filling: Filling,
    verdicts: Verdicts,
    /// Of the statement at the front.
    pub key: Vec<u8>,
    /// What was found under it.
    pub answer: Vec<u8>,
}

impl Caching {
    /// `is_used`: settings of an earlier session may be in force in this one.
    pub fn new(cache: &QueryCache, memcached: Option<Box<Memcached>>, is_used: bool) -> Self {
        Self {
            answers: Answers::new(cache, memcached),
            identity: OwnIdentity::new(is_used),
            locks: Locks::default(),
            unpublished: Unpublished::default(),
            names_are_unsure: false,
            filling: Filling::default(),
            verdicts: Verdicts::default(),
            key: Vec::new(),
            answer: Vec::new(),
        }
    }

    /// What all processes have of the cache.
    #[inline]
    pub fn shared(&self) -> &QueryCache {
        self.answers.shared()
    }

    /// `node` has sent `bytes` to the client. An answer that is complete with it is kept, if it may be.
    #[inline]
    pub fn collect(&mut self, node: usize, bytes: &[u8]) {
        if self.filling.collect(node, bytes) {
            if let Some((key, entry, messages)) = self.filling.collected() {
                self.answers.put(key, entry, messages);
                self.filling.has_run();
            }
            self.filling.shrink();
        }
    }

    /// Looks for the answer of the key at hand. Where its messages begin in `answer`, if it counts.
    pub fn find(&mut self, database: &str) -> Option<usize> {
        let found = self.answers.find(database, &self.key, &mut self.answer);
        // Memcached may have told meanwhile of what others have done to privileges.
        found.filter(|_| self.identity.is_known(self.shared().changes()))
    }
}

impl Session<'_> {
    /// Answers the Query at the front from the cache, if its answer is there and counts. Else prepares to collect it.
    pub(super) fn answer_from_cache(&mut self, header: Header, facts: &Rc<Statement>) -> Result<bool, End> {
        let Some(identities) = self.identities_to_read(facts)? else { return Ok(false) };
        let Some(caching) = &mut self.caching else { return Ok(false) };
        let text = frontend::query(front(&self.client, self.direct, header, header.total)).unwrap_or(b"\0");
        cache::simple_key(&identities.mine(), text, &mut caching.key);
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
        caching.filling.want_nothing();
        let is_bound = caching.identity.is_uncertain() || caching.locks.are_held() || !caching.unpublished.is_empty();
        if is_bound || !cache::may_be_cached(facts) || caching.shared().running().is_any_in(&self.database) {
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
            caching.filling.give_up();
        }
        self.identities()
    }

    /// Learns what texts mean, before a statement is prepared that may be answered from the cache later.
    pub(super) fn learn_meaning(&mut self) -> Result<(), End> {
        let is_known = self.caching.as_ref().is_none_or(|caching| {
            caching.identity.is_uncertain() || caching.identity.settled().is_some() || !self.sees_commits()
        });
        if !is_known {
            self.identities()?;
        }
        Ok(())
    }

    /// Deletes the answer to the Query `text` of a session like this one. Whether there was one (query-cache 8.2).
    pub(super) fn delete_cached(&mut self, text: &[u8]) -> Result<bool, End> {
        if self.caching.as_ref().is_none_or(|caching| caching.identity.is_uncertain()) {
            return Ok(false);
        }
        let Some(identities) = self.identities()? else { return Ok(false) };
        let Some(caching) = &mut self.caching else { return Ok(false) };
        cache::simple_key(&identities.mine(), text, &mut caching.key);
        Ok(caching.answers.remove(&caching.key))
    }

    /// Whether the next statement sees what others have committed meanwhile.
    pub(super) fn sees_commits(&self) -> bool {
        match self.transaction() {
            Transaction::Idle => true,
            Transaction::Open { isolation, .. } => {
                matches!(isolation, Some(Isolation::ReadCommitted | Isolation::ReadUncommitted))
            }
            Transaction::Failed => false,
        }
    }

    /// Sends the kept answer, which begins at `at`, and ReadyForQuery.
    fn send_cached(&mut self, at: usize) -> Result<(), End> {
        let status = self.group.status(self.home);
        self.forget_unnamed();
        let Some(caching) = &mut self.caching else { return Ok(()) };
        write::ready_for_query(&mut caching.answer, status);
        caching.shared().count_hit(self.context.slot.index());
        self.client.send(&caching.answer[at..])?;
        self.tell_cached(status);
        Ok(())
    }

    /// Lets others see that a statement was answered, and the log.
    pub(super) fn tell_cached(&mut self, status: TransactionStatus) {
        trace::at_hand(self.context, &self.group);
        trace::idle(self.context, status);
        let settings = &self.context.settings;
        if (settings.log_statement || settings.log_per_node_statement)
            && let Some(caching) = &self.caching
        {
            let text = String::from_utf8_lossy(text_of(&caching.key));
            if settings.log_statement {
                Report::log_line(format!("statement: {text}")).log();
            }
            if settings.log_per_node_statement {
                Report::log_line("fetch from memory cache")
                    .detail(format!("query result fetched from cache. statement: {text}"))
                    .log();
            }
        }
        if status == TransactionStatus::Idle {
            self.end_portals();
        }
    }

    /// Prepares to collect the answer of the statement whose key is at hand, if it may be kept.
    pub(super) fn want(&mut self, facts: &Rc<Statement>) -> Result<(), End> {
        let Some(caching) = &self.caching else { return Ok(()) };
        if !caching.answers.admits(&caching.key) && !cache::is_forced(text_of(&caching.key)) {
            return Ok(());
        }
        let before = self.definitions();
        let Some(tables) = self.tables_if_kept(facts, before)? else { return Ok(()) };
        if self.has_caught_up(self.balance, &tables) {
            self.identify_on(self.balance);
        }
        let Some(caching) = &mut self.caching else { return Ok(()) };
        let Some(stamp) = caching.answers.stamp(&self.database, &tables) else { return Ok(()) };
        // What was just learnt may be out of date by now.
        let shared = caching.shared();
        if shared.definitions(&self.database) != before || !caching.identity.is_known(shared.changes()) {
            return Ok(());
        }
        let settings = &self.context.settings;
        let entry = Entry { stamp, expiry: Expiry::after(settings.memqcache_expire), tables };
        caching.filling.want(&caching.key, entry, settings.memqcache_maxcache);
        Ok(())
    }

    /// The tables behind the answer of the statement whose key is at hand, if it may be kept as the database is defined.
    fn tables_if_kept(&mut self, facts: &Rc<Statement>, definitions: u64) -> Result<Option<Rc<TableSet>>, End> {
        self.catalog.begin_statement(self.transaction() != Transaction::Idle);
        let circumstances = self.circumstances(definitions);
        let known = self.caching.as_mut().and_then(|caching| caching.verdicts.get(facts, &circumstances));
        if known.is_some() {
            return Ok(known);
        }
        self.learn(facts)?;
        let Some(caching) = &self.caching else { return Ok(None) };
        if cache::obstacle(facts, text_of(&caching.key), &self.context.settings, &self.catalog).is_some() {
            return Ok(None);
        }
        if !self.learn_hidden_calls(facts)? {
            return Ok(None);
        }
        self.learn_tables(facts)?;
        let Some(caching) = &self.caching else { return Ok(None) };
        let may_call = |hidden: &catalog::HiddenCalls| hidden.may_be_in(text_of(&caching.key));
        if !facts.relations.is_empty() && self.catalog.hidden_calls().is_none_or(may_call) {
            return Ok(None);
        }
        let mut oids = Vec::new();
        for name in facts.reads() {
            let Some(read) = self.catalog.tables(name).and_then(|tables| tables.read.as_deref()) else {
                return Ok(None);
            };
            oids.extend_from_slice(read);
        }
        let tables = Rc::new(TableSet::of(&self.database, oids));
        let circumstances = self.circumstances(definitions);
        if let Some(caching) = &mut self.caching {
            caching.verdicts.insert(facts, circumstances, &tables);
        }
        Ok(Some(tables))
    }

    fn circumstances(&self, definitions: u64) -> Circumstances {
        Circumstances { definitions, losses: self.catalog.losses(), settings: Arc::clone(&self.context.settings) }
    }

    /// The Query at the front, or the Sync of a batch, goes to `node` as its message `number`: the answer is collected, if
    /// that is wanted and the node may give it.
    pub(super) fn begin_fill(&mut self, is_select: bool, node: usize, number: u64) {
        let Some(caching) = &self.caching else { return };
        let wanted = caching.filling.wanted();
        if is_select || wanted.is_some() {
            caching.shared().count_miss(self.context.slot.index());
        }
        let Some((key, entry)) = wanted else { return };
        let is_valid = node == self.home || (self.is_identified(node, key) && self.has_caught_up(node, &entry.tables));
        let Some(caching) = &mut self.caching else { return };
        if is_valid {
            caching.filling.begin(node, number);
        } else {
            caching.filling.give_up();
        }
    }

    /// Whether the session is on `node` the one under which `key` is kept. Never, if that is this session's own: what servers
    /// do not list may have been set on the primary alone.
    fn is_identified(&self, node: usize, key: &[u8]) -> bool {
        let told_by = |caching: &Caching| caching.identity.told_by(node, self.group.get(node)?.created).flatten();
        self.caching.as_deref().and_then(told_by).is_some_and(|identity| key.starts_with(&identity))
    }

    /// Whether `node` shows the last write of `tables` to this session.
    fn has_caught_up(&self, node: usize, tables: &TableSet) -> bool {
        let (Some(caching), Some(server)) = (&self.caching, self.group.get(node)) else { return false };
        let opened = uptime().saturating_sub(server.created.elapsed());
        self.context.shared.delays().shows(node, caching.shared().written(&self.database, tables), opened)
    }
}

/// The SQL text in a key.
fn text_of(key: &[u8]) -> &[u8] {
    let text = key.get(cache::TEXT_AT..).unwrap_or_default();
    text.split(|byte| *byte == 0).next().unwrap_or_default()
}
