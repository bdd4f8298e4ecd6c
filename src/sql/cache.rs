//! The cache of facts by exact text.

use super::hash::ByteHasher;
use super::kind::{Kind, Unparsable};
use super::{Lexing, Statement, analyse};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;

/// Longer texts are analysed each time: they are rare, and would push out hundreds of short ones.
const MAX_KEPT_TEXT: usize = 16 * 1024;

/// What an entry costs besides its text and facts: the slot, its share of the table, allocation overhead.
const ENTRY_OVERHEAD: usize = 128;

/// Facts of the texts seen lately, of one process. Bounded by bytes; texts not asked for again are replaced first.
///
/// A text found costs a hash, a look-up and a comparison; nothing is allocated.
#[derive(Debug)]
pub struct FactsCache {
    hasher: ByteHasher,
    /// Hash of a text to its slot. Of texts with equal hashes the last one is kept.
    index: HashMap<u64, usize, BuildHasherDefault<Ready>>,
    slots: Vec<Slot>,
    /// Next slot to be looked at for replacement: slots form a clock (second chance).
    hand: usize,
    bytes: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    lexing: Lexing,
    text: Box<[u8]>,
    statement: Rc<Statement>,
    cost: usize,
    /// Asked for since the hand came by.
    used: bool,
}

impl FactsCache {
    /// A good default for the size, in bytes: some thousand statements.
    pub const DEFAULT_BYTES: usize = 1024 * 1024;

    /// An empty cache that holds at most about `max_bytes`; 0 keeps nothing. Make it after the fork: it draws a key.
    pub fn new(max_bytes: usize) -> Self {
        Self { hasher: ByteHasher::new(), index: HashMap::default(), slots: Vec::new(), hand: 0, bytes: 0, max_bytes }
    }

    /// The facts about `text`, from the cache or analysed now.
    pub fn get(&mut self, text: &[u8], lexing: Lexing) -> Rc<Statement> {
        if text.len() > MAX_KEPT_TEXT {
            return Rc::new(analyse(text, lexing));
        }
        let hash = self.hasher.hash(text);
        if let Some(slot) = self.index.get(&hash).and_then(|at| self.slots.get_mut(*at))
            && *slot.text == *text
            && slot.lexing == lexing
        {
            slot.used = true;
            return Rc::clone(&slot.statement);
        }
        let statement = Rc::new(analyse(text, lexing));
        // A failure of the parser says nothing about the text.
        if statement.kind != Kind::Unparsable(Unparsable::ParserFailed) {
            self.keep(hash, text, lexing, Rc::clone(&statement));
        }
        statement
    }

    /// Bytes in use, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of texts kept.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no text is kept.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn keep(&mut self, hash: u64, text: &[u8], lexing: Lexing, statement: Rc<Statement>) {
        let cost = ENTRY_OVERHEAD + text.len() + statement.footprint();
        if cost > self.max_bytes {
            return;
        }
        if let Some(at) = self.index.get(&hash).copied() {
            self.remove(at);
        }
        while self.bytes + cost > self.max_bytes {
            self.evict();
        }
        self.bytes += cost;
        self.index.insert(hash, self.slots.len());
        self.slots.push(Slot { hash, lexing, text: text.into(), statement, cost, used: false });
    }

    /// Removes the next slot that was not asked for since the hand came by.
    fn evict(&mut self) {
        loop {
            self.hand %= self.slots.len();
            let slot = &mut self.slots[self.hand];
            if !std::mem::take(&mut slot.used) {
                return self.remove(self.hand);
            }
            self.hand += 1;
        }
    }

    /// Takes a slot out; the last slot moves into its place.
    fn remove(&mut self, at: usize) {
        let gone = self.slots.swap_remove(at);
        self.bytes -= gone.cost;
        self.index.remove(&gone.hash);
        if let Some(moved) = self.slots.get(at) {
            self.index.insert(moved.hash, at);
        }
    }
}

/// Passes a finished hash on.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("the index is keyed by finished hashes");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Encoding;

    #[test]
    fn a_text_is_analysed_once() {
        let mut cache = FactsCache::new(FactsCache::DEFAULT_BYTES);
        let first = cache.get(b"select 1", Lexing::default());
        assert!(Rc::ptr_eq(&first, &cache.get(b"select 1", Lexing::default())));
        assert!(!Rc::ptr_eq(&first, &cache.get(b"select 2", Lexing::default())));
    }

    #[test]
    fn the_same_bytes_in_another_encoding_are_another_text() {
        let mut cache = FactsCache::new(FactsCache::DEFAULT_BYTES);
        let text = "select 'ü'".as_bytes();
        assert_eq!(cache.get(text, Lexing::default()).kind, Kind::Select);
        let sjis = Lexing { encoding: Encoding::Ambiguous, ..Lexing::default() };
        assert_eq!(cache.get(text, sjis).kind, Kind::Unparsable(Unparsable::Encoding));
        assert_eq!(cache.get(text, Lexing::default()).kind, Kind::Select);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn the_bound_holds_and_texts_in_use_stay() {
        let mut cache = FactsCache::new(64 * 1024);
        let hot = cache.get(b"select 'hot'", Lexing::default());
        for i in 0..5_000 {
            cache.get(format!("select {i} from t{i}").as_bytes(), Lexing::default());
            assert!(Rc::ptr_eq(&hot, &cache.get(b"select 'hot'", Lexing::default())));
            assert!(cache.bytes() <= 64 * 1024);
            assert_eq!(cache.index.len(), cache.slots.len());
        }
        assert_eq!(cache.bytes(), cache.slots.iter().map(|slot| slot.cost).sum::<usize>());
        assert!(cache.len() > 20);
    }

    #[test]
    fn long_texts_are_not_kept() {
        let mut cache = FactsCache::new(FactsCache::DEFAULT_BYTES);
        let text = format!("select '{}'", "x".repeat(MAX_KEPT_TEXT));
        assert_eq!(cache.get(text.as_bytes(), Lexing::default()).kind, Kind::Select);
        assert!(cache.is_empty());
        assert_eq!(FactsCache::new(0).get(b"select 1", Lexing::default()).kind, Kind::Select);
    }
}
