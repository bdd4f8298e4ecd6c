//! Where answers are: in shared memory or in memcached, behind the same questions.

use super::entry::Entry;
use super::memcached::Memcached;
use crate::config::Settings;
use crate::state::{QueryCache, Shared, TableSet};

/// One process's way to the answers.
#[derive(Debug)]
pub struct Storage {
    shared: QueryCache,
    /// The way to those that are not in `shared`.
    remote: Option<Box<Memcached>>,
}

impl Storage {
    /// To be made after the fork. `None`: the cache is off.
    pub fn new(settings: &Settings, shared: &Shared) -> Option<Self> {
        let cache = shared.query_cache()?;
        let remote = Memcached::new(settings, shared).map(Box::new);
        Some(Self { shared: cache.clone(), remote })
    }

    /// What this pgpool's processes share in any case.
    #[inline]
    pub fn shared(&self) -> &QueryCache {
        &self.shared
    }

    /// Whether other pgpools may use the same answers.
    pub fn is_remote(&self) -> bool {
        self.remote.is_some()
    }

    /// Looks for the answer of `key`, puts what there is `into`, which is empty, and tells where the messages begin, if it
    /// counts.
    #[inline]
    pub fn find(&mut self, database: &str, key: &[u8], into: &mut Vec<u8>) -> Option<usize> {
        if let Some(remote) = &mut self.remote {
            return remote.find(database, key, into);
        }
        if !self.shared.store()?.get(key, into) {
            return None;
        }
        let (entry, at) = Entry::decode(into)?;
        (self.shared.stamp(database, &entry.tables) == entry.stamp).then_some(at)
    }

    /// Keeps an answer.
    pub fn put(&mut self, key: &[u8], entry: &Entry, messages: &[u8]) {
        if let Some(remote) = &mut self.remote {
            remote.put(key, entry, messages);
        } else if let Some(store) = self.shared.store() {
            store.put(key, &[&entry.encode(), messages]);
        }
    }

    /// Deletes an answer. Whether there was one.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        match &mut self.remote {
            Some(remote) => remote.remove(key),
            None => self.shared.store().is_some_and(|store| store.remove(key)),
        }
    }

    /// The stamp of answers that are read from now on and depend on `tables` of `database`. `None`: they cannot be kept.
    pub fn stamp(&mut self, database: &str, tables: &TableSet) -> Option<u64> {
        match &mut self.remote {
            Some(remote) => remote.stamp(database, tables),
            None => Some(self.shared.stamp(database, tables)),
        }
    }

    /// `tables` of `database` were written, and the write is in force: no answer read before counts any more.
    pub fn invalidate(&mut self, database: &str, tables: &TableSet) {
        match &mut self.remote {
            Some(remote) => remote.invalidate(database, tables),
            None => self.shared.invalidate(tables),
        }
    }

    /// Tells others that share the answers what a process that has died cannot; if they cannot be told now, whoever uses the
    /// cache next does.
    pub fn tell_of_the_dead(&mut self) {
        if let Some(remote) = self.remote.as_mut().filter(|_| self.shared.remote().owes_for_the_dead()) {
            remote.is_told();
        }
    }
}
