//! Learning which functions statements may call unnamed, for the query cache (query-cache 6).
//!
//! They are the same for all users of a database, and the question is a large one. So each process remembers the answer until
//! a statement has defined something. What a function or procedure may have defined is not asked for: they are called too
//! often for that. Nor do CREATE TABLE and DROP count: tables bring no calls, and less is called at most.

use super::Session;
use super::end::End;
use crate::catalog::{self, HiddenCalls};
use crate::route::Transaction;
use crate::sql::Statement;
use std::collections::HashMap;
use std::rc::Rc;

/// Databases of which they are remembered.
const MAX_DATABASES: usize = 16;

/// What sessions of one process have learnt, by database, with the changes in the query cache before they asked.
#[derive(Default)]
pub(super) struct Learnt(HashMap<String, (u64, Rc<HiddenCalls>)>);

impl Learnt {
    fn get(&self, database: &str, changes: u64) -> Option<&Rc<HiddenCalls>> {
        self.0.get(database).filter(|(then, _)| *then == changes).map(|(_, hidden)| hidden)
    }

    fn keep(&mut self, database: &str, changes: u64, hidden: &Rc<HiddenCalls>) {
        if self.0.len() >= MAX_DATABASES {
            self.0.clear();
        }
        self.0.insert(database.to_owned(), (changes, Rc::clone(hidden)));
    }
}

impl Session<'_> {
    /// Learns which functions statements may call unnamed, if that matters to one with these `facts` and is not known.
    /// `false`: the primary, which owes answers to the client, must give them first.
    pub(super) fn learn_hidden_calls(&mut self, facts: &Statement) -> Result<bool, End> {
        if facts.relations.is_empty() && facts.functions.is_empty() {
            return Ok(true);
        }
        let changes = self.recall_hidden_calls();
        if self.catalog.hidden_calls().is_some() || self.catalog.refuses_hidden_calls() {
            return Ok(true);
        }
        if matches!(self.transaction(), Transaction::Open { isolation: None, .. }) {
            self.learn(facts)?;
        }
        if !self.is_free(self.home) {
            return Ok(self.active != self.home || self.is_quiet());
        }
        let (node, sees_commits) = (self.home, self.sees_commits());
        let Some(server) = self.group.get_mut(node) else { return Ok(true) };
        let looked_up = catalog::look_up_hidden_calls(&mut self.catalog, server, sees_commits);
        self.statements.unnamed_lost(node);
        self.hear_aside(node);
        if let Err(report) = looked_up {
            self.without_cache(&report)?;
        }
        if let Some(hidden) = self.catalog.hidden_calls_for_others() {
            self.context.hidden_calls.keep(&self.database, changes, hidden);
        }
        Ok(true)
    }

    /// Takes over what others have learnt, and forgets what does not count any more. How many changes there have been.
    pub(super) fn recall_hidden_calls(&mut self) -> u64 {
        let changes = self.caching.as_ref().map_or(0, |caching| caching.shared().changes());
        self.catalog.begin_tables(self.definitions());
        if self.catalog.hidden_calls().is_none() {
            match self.context.hidden_calls.get(&self.database, changes) {
                Some(hidden) => self.catalog.take_hidden_calls(hidden),
                None => self.catalog.recall_hidden_calls(),
            }
        }
        changes
    }
}
