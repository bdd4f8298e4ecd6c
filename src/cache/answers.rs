//! Where the answers are, in shared memory or in memcached, and one way to use either.

use super::entry::{Entry, Head};
use super::memcached::Memcached;
use crate::state::{QueryCache, TableSet};

/// One session's way to the answers of all.
#[derive(Debug)]
pub struct Answers {
    shared: QueryCache,
    memcached: Option<Box<Memcached>>,
    /// Memory for what stands in front of an answer.
    head: Vec<u8>,
}

impl Answers {
    /// The answers are in `shared`, unless there is a way to memcached.
    pub fn new(shared: &QueryCache, memcached: Option<Box<Memcached>>) -> Self {
        Self { shared: shared.clone(), memcached, head: Vec::new() }
    }

    /// What is in shared memory in both cases: generations and figures.
    #[inline]
    pub fn shared(&self) -> &QueryCache {
        &self.shared
    }

    /// Whether other pgpools may use them, too.
    pub fn are_elsewhere(&self) -> bool {
        self.memcached.is_some()
    }

    /// The way to memcached, for the next session.
    pub fn into_memcached(self) -> Option<Box<Memcached>> {
        self.memcached
    }

    /// Looks for the answer of `key`, puts what there is `into`, and tells where the messages begin, if it counts.
    #[inline]
    pub fn find(&mut self, database: &str, key: &[u8], into: &mut Vec<u8>) -> Option<usize> {
        into.clear();
        if let Some(memcached) = &mut self.memcached {
            return memcached.find(database, key, into);
        }
        if !self.shared.store()?.get(key, into) {
            return None;
        }
        let head = Head::read(into)?;
        (self.shared.stamp_of(database, head.counters()) == head.stamp).then_some(head.length())
    }

    /// Whether the answer of `key`, which was looked for in vain, is to be kept: in a full cache only what is asked for again.
    #[inline]
    pub fn admits(&self, key: &[u8]) -> bool {
        self.memcached.is_some() || self.shared.store().is_some_and(|store| store.admits(key))
    }

    /// Keeps an answer, if there is room.
    pub fn put(&mut self, key: &[u8], entry: &Entry, messages: &[u8]) {
        if let Some(memcached) = &mut self.memcached {
            memcached.put(key, entry, messages);
        } else if let Some(store) = self.shared.store() {
            entry.encode(&mut self.head);
            store.put(key, &[&self.head, messages]);
        }
    }

    /// Deletes an answer. Whether there was one.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        match &mut self.memcached {
            Some(memcached) => memcached.remove(key),
            None => self.shared.store().is_some_and(|store| store.remove(key)),
        }
    }

    /// The stamp of an answer that is read from now on and depends on `tables` of `database`. `None`: it cannot be kept.
    pub fn stamp(&mut self, database: &str, tables: &TableSet) -> Option<u64> {
        let stamp = match &mut self.memcached {
            Some(memcached) => memcached.stamp(database, tables),
            None => Some(self.shared.stamp(database, tables)),
        };
        // Behind the stamp: who dies from now on moves what it was made of.
        stamp.filter(|_| self.shared.is_sure())
    }

    /// `tables` of `database` were written, and the write is in force: no answer read before counts any more.
    pub fn invalidate(&mut self, database: &str, tables: &TableSet) {
        match &mut self.memcached {
            Some(memcached) => memcached.invalidate(database, tables),
            None => self.shared.invalidate(tables),
        }
    }
}
