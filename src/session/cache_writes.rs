//! What a session's statements make wrong in the query cache (query-cache 6).
//!
//! Every statement is looked at before it is sent: what it writes counts from then on as not published. The tables behind its
//! names are looked up before a batch begins, since in its middle nobody can be asked.

use super::Session;
use super::end::End;
use super::statements::Definition;
use crate::cache::{self, Background, Effects, Written};
use crate::catalog;
use crate::route::Transaction;
use crate::sql::{Kind, Statement};
use crate::state::TableSet;
use crate::wire::{Header, TransactionStatus, frontend};
use std::rc::Rc;

/// Whether it is one of several statements that prepare or deallocate: then it is not known what is prepared afterwards.
fn prepares_among_others(facts: &Statement) -> bool {
    facts.is_multi() && facts.kinds().any(|kind| matches!(kind, Kind::Prepare { .. } | Kind::Deallocate(_)))
}

/// What a write changes, as far as the tables behind its names tell.
struct Judged {
    tables: TableSet,
    /// Triggers may set or define something.
    runs_code: bool,
}

impl Session<'_> {
    /// The statement at the front, or `bound` by the Execute there, is about to be sent: from now on it may change what
    /// answers depend on.
    pub(super) fn note_for_cache(
        &mut self,
        header: Header,
        facts: &Rc<Statement>,
        bound: Option<&Definition>,
    ) -> Result<(), End> {
        let Some(caching) = &self.caching else { return Ok(()) };
        if caching.unpublished.is_in_vain(facts) {
            return Ok(());
        }
        self.context.shared.settle_doubt();
        let executed = self.executed(facts);
        if let Some(prepared) = executed {
            prepared.used(self.meaning());
        }
        let runs = executed.filter(|_| !caching.names_are_unsure).map(|prepared| Rc::clone(&prepared.definition));
        self.catalog.begin_statement(self.transaction() != Transaction::Idle);
        for facts in std::iter::once(facts).chain(runs.as_ref().map(|runs| &runs.facts)) {
            if facts.has.unknown_functions && self.catalog.lacks(facts, &self.context.settings) {
                self.learn(facts)?;
            }
        }
        self.catalog.begin_tables(self.definitions());
        let text = match bound {
            Some(bound) => bound.text(),
            None => frontend::query(self.content(header)).unwrap_or(b""),
        };
        let is_forced = cache::may_be_cached(facts) && cache::is_forced(text);
        let mut effects = self.effects(facts, text, runs.is_some());
        if let Some(runs) = runs.as_ref().filter(|_| !matches!(facts.kind, Kind::Explain { analyze: false, .. })) {
            effects = effects.and(self.effects(&runs.facts, runs.text(), false));
        }
        // Its client says that what its functions write concerns no answer.
        if is_forced {
            effects = Effects { written: Written::Nothing, defines: false, ..effects };
        }
        let mut tables = match effects.written {
            Written::Nothing => TableSet::default(),
            Written::Tables => {
                let written = runs.as_ref().map_or(facts, |runs| &runs.facts);
                let Judged { tables, runs_code } = self.judge_write(written)?;
                effects.runs_code |= runs_code;
                tables
            }
            Written::Database => TableSet::database(&self.database),
            Written::Everything => TableSet::everything(),
        };
        if effects.defines || (effects.runs_code && !is_forced) {
            tables.add(&TableSet::definitions(&self.database));
        }
        let Some(caching) = &mut self.caching else { return Ok(()) };
        if prepares_among_others(facts) {
            caching.names_are_unsure = true;
            self.statements.doubt_meanings();
        }
        caching.names_are_unsure |= effects.runs_code;
        for facts in std::iter::once(facts).chain(runs.as_ref().map(|runs| &runs.facts)) {
            caching.locks.send(facts);
        }
        caching.unpublished.send(runs.as_ref().map_or(facts, |runs| &runs.facts), &tables);
        if caching.unpublished.goes_on() {
            caching.shared().running().begin(self.context.slot.index(), &self.database);
        }
        if caching.identity.send(&effects) {
            self.catalog.doubt();
        }
        Ok(())
    }

    /// What the statement with these `facts` and this `text` may do.
    fn effects(&self, facts: &Statement, text: &[u8], runs_known: bool) -> Effects {
        let hidden = match self.catalog.hidden_calls() {
            Some(hidden) => hidden.of(facts, text),
            // If every statement of such a user counted as a write of everything, nobody would have a cache.
            None => self.catalog.forbids_hidden_calls().then(Vec::new),
        };
        let background = Background { hidden: hidden.as_deref(), runs_known };
        cache::effects(facts, background, &self.context.settings, &self.catalog)
    }

    /// The same for the Execute at the front.
    pub(super) fn note_executed_for_cache(&mut self, header: Header) -> Result<(), End> {
        let portal = frontend::execute(self.content(header)).map_err(|error| End::protocol_violation(&error))?;
        let Some(bound) = self.portals.definition(portal).map(Rc::clone) else {
            self.note_unknown_for_cache();
            return Ok(());
        };
        self.note_for_cache(header, &bound.facts, Some(&bound))
    }

    /// Something that cannot be read is about to be sent: it may change anything.
    pub(super) fn note_unknown_for_cache(&mut self) {
        if let Some(caching) = &mut self.caching {
            caching.unpublished.send_unknown();
            caching.shared().running().begin(self.context.slot.index(), &self.database);
            caching.names_are_unsure = true;
            caching.identity.send(&Effects::ANY);
            self.catalog.doubt();
        }
    }

    /// Before a batch with a statement of these `facts` begins: learns what is to be known of what it means, calls and writes.
    /// `false`: the primary must come to rest first.
    pub(super) fn prepare_to_judge(&mut self, facts: &Statement) -> Result<bool, End> {
        if !self.learn_hidden_calls(facts)? {
            return Ok(false);
        }
        if !self.is_free(self.home) {
            return Ok(true);
        }
        if cache::may_be_cached(facts) {
            self.learn_meaning()?;
            return Ok(true);
        }
        if facts.writes().next().is_none() {
            return Ok(true);
        }
        self.resolve_names()?;
        self.learn_tables(facts)?;
        Ok(true)
    }

    /// Learns which functions statements may call unnamed, if that matters to one with these `facts` and is not known.
    /// `false`: the primary, which owes answers to the client, must give them first.
    pub(super) fn learn_hidden_calls(&mut self, facts: &Statement) -> Result<bool, End> {
        if facts.relations.is_empty() && facts.functions.is_empty() {
            return Ok(true);
        }
        self.catalog.begin_tables(self.definitions());
        self.catalog.recall_hidden_calls();
        if self.catalog.hidden_calls().is_some() || self.catalog.refuses_hidden_calls() {
            return Ok(true);
        }
        if !self.is_free(self.home) {
            return Ok(self.active != self.home || self.is_quiet());
        }
        let node = self.home;
        let Some(server) = self.group.get_mut(node) else { return Ok(true) };
        let looked_up = catalog::look_up_hidden_calls(&mut self.catalog, server);
        self.statements.unnamed_lost(node);
        self.hear_aside(node);
        if let Err(report) = looked_up {
            self.without_cache(&report)?;
        }
        Ok(true)
    }

    fn judge_write(&mut self, facts: &Statement) -> Result<Judged, End> {
        self.catalog.begin_tables(self.definitions());
        // Where triggers may write anything it does not matter what else the names could mean.
        if let Some(judged) = self.judge_by_triggers(facts) {
            return Ok(judged);
        }
        self.resolve_names()?;
        let definitions = self.definitions();
        self.learn_tables(facts)?;
        if let Some(judged) = self.judge_by_triggers(facts) {
            return Ok(judged);
        }
        let anything = Judged { tables: TableSet::database(&self.database), runs_code: true };
        if self.names_are_doubtful() {
            return Ok(anything);
        }
        let mut oids = Vec::new();
        for name in facts.writes() {
            let Some(tables) = self.catalog.tables(name) else { return Ok(anything) };
            oids.extend_from_slice(tables.written.as_deref().unwrap_or_default());
        }
        if let Some(caching) = &mut self.caching {
            caching.unpublished.judge(definitions);
        }
        Ok(Judged { tables: TableSet::of(&self.database, oids), runs_code: false })
    }

    /// If a table with triggers or rules is written that is known as one.
    fn judge_by_triggers(&self, facts: &Statement) -> Option<Judged> {
        let written = facts.writes().filter_map(|name| self.catalog.tables(name));
        let mut triggered = written.filter(|tables| tables.written.is_none()).peekable();
        triggered.peek()?;
        let runs_code = self.names_are_doubtful() || triggered.any(|tables| tables.runs_code);
        Some(Judged { tables: TableSet::database(&self.database), runs_code })
    }

    fn names_are_doubtful(&self) -> bool {
        self.caching.as_ref().is_some_and(|caching| caching.identity.is_doubtful())
    }

    /// Asks what names mean, if code has run that may have changed it.
    fn resolve_names(&mut self) -> Result<(), End> {
        if self.names_are_doubtful() {
            self.identities()?;
        }
        Ok(())
    }

    /// Moves when anything in the database may be defined otherwise than before.
    pub(super) fn definitions(&self) -> u64 {
        self.caching.as_ref().map_or(0, |caching| caching.shared().definitions(&self.database))
    }

    /// Learns which tables stand behind the names in `facts`, if the primary is free to tell.
    pub(super) fn learn_tables(&mut self, facts: &Statement) -> Result<(), End> {
        self.catalog.begin_tables(self.definitions());
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

    /// The primary has confirmed a statement: others must see what was written before the client knows.
    #[inline]
    pub(super) fn completed_for_cache(&mut self) {
        let invalidates = self.context.settings.memqcache_auto_cache_invalidation;
        if let Some(caching) = self.caching.as_deref_mut() {
            caching.unpublished.completed(&mut caching.answers, &self.database, invalidates);
        }
    }

    /// The primary is ready for the next statement. `settled`: it owes nothing.
    #[inline]
    pub(super) fn ready_for_cache(&mut self, status: TransactionStatus, settled: bool) {
        let invalidates = self.context.settings.memqcache_auto_cache_invalidation;
        if let Some(caching) = self.caching.as_deref_mut() {
            let has_run = settled && caching.unpublished.goes_on();
            caching.unpublished.ready(status, settled, &mut caching.answers, &self.database, invalidates);
            if has_run {
                caching.shared().running().end(self.context.slot.index());
            }
            let is_idle = status == TransactionStatus::Idle;
            if settled {
                caching.locks.ready(is_idle);
            }
            if settled && is_idle {
                caching.identity.rest();
            }
        }
    }

    /// The session ends. What is answered and not committed will be rolled back; what is not answered may come into force.
    pub(super) fn end_caching(&mut self) {
        let has_answered = self.group.get(self.home).is_some_and(|server| server.replies.is_empty());
        if let Some(caching) = self.caching.as_ref().filter(|caching| !caching.unpublished.is_empty() && !has_answered)
        {
            caching.shared().doubt(caching.unpublished.tables());
        }
        if let Some(caching) = self.caching.as_ref().filter(|caching| caching.unpublished.goes_on()) {
            caching.shared().running().end(self.context.slot.index());
        }
    }
}
