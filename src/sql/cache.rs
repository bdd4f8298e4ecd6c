//! The cache of facts by text.
//!
//! Texts that differ only in the numbers they compare with, store or select have the same facts, and applications that
//! write values into their texts send a new one every time. So the key of a text is the text with every such number
//! replaced by one of its size ([`key_of`]). Facts of kinds in which a number may matter (SET, a process id, ...) are valid
//! for the exact text only.

use super::kind::{Kind, Unparsable};
use super::{Lexing, Statement, analyse};
use pgpool_shm::ByteHasher;
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
    /// Memory for the key of the text at hand.
    key: Vec<u8>,
}

#[derive(Debug)]
struct Slot {
    hash: u64,
    lexing: Lexing,
    key: Box<[u8]>,
    /// The facts hold for this text only; `None`: for every text with this key.
    exact: Option<Box<[u8]>>,
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
        Self {
            hasher: ByteHasher::new(),
            index: HashMap::default(),
            slots: Vec::new(),
            hand: 0,
            bytes: 0,
            max_bytes,
            key: Vec::new(),
        }
    }

    /// The facts about `text`, from the cache or analysed now.
    pub fn get(&mut self, text: &[u8], lexing: Lexing) -> Rc<Statement> {
        if text.len() > MAX_KEPT_TEXT {
            return Rc::new(analyse(text, lexing));
        }
        key_of(text, &mut self.key);
        let hash = self.hasher.hash(&self.key);
        if let Some(slot) = self.index.get(&hash).and_then(|at| self.slots.get_mut(*at))
            && *slot.key == *self.key
            && slot.lexing == lexing
            && slot.exact.as_deref().is_none_or(|exact| exact == text)
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
        let exact = (!numbers_are_alike(&statement, text)).then(|| Box::from(text));
        let cost = ENTRY_OVERHEAD + 2 * text.len() + statement.footprint();
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
        let key = self.key.as_slice().into();
        self.slots.push(Slot { hash, lexing, key, exact, statement, cost, used: false });
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

/// Whether the facts are the same whatever numbers stand in the text.
fn numbers_are_alike(statement: &Statement, text: &[u8]) -> bool {
    let kind = matches!(statement.kind, Kind::Select | Kind::Insert | Kind::Update | Kind::Delete);
    kind && !statement.is_multi() && statement.terminates.is_none() && !minds_numbers(text)
}

/// Two words behind or before which the grammar takes some numbers and refuses others.
fn minds_numbers(text: &[u8]) -> bool {
    let holds = |word: &[u8]| text.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word));
    holds(b"float") || holds(b"uescape")
}

/// The grammar knows two sizes of whole numbers: those of 32 bits, and all others.
const SMALL: &[u8] = b"0";
const LARGE: &[u8] = b"9999999999";

/// What a byte of a text means to [`key_of`].
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Digit,
    /// Two of them begin a comment.
    Dash,
    /// Makes digits part of something else.
    Quote,
}

/// The mark of each byte: a look into a table is the least that can be done for it.
const MARKS: [Mark; 256] = {
    let mut marks = [Mark::None; 256];
    let mut digit = b'0';
    while digit <= b'9' {
        marks[digit as usize] = Mark::Digit;
        digit += 1;
    }
    marks[b'-' as usize] = Mark::Dash;
    marks[b'"' as usize] = Mark::Quote;
    marks[b'$' as usize] = Mark::Quote;
    marks[b'\\' as usize] = Mark::Quote;
    marks
};

/// Writes `text` to `key` with every plain whole number replaced by [`SMALL`] or [`LARGE`]. Only numbers between blanks and
/// operators count, and a text with anything in it that makes digits part of something else (quoted names, dollar quotes
/// and parameters, escapes, comments) is taken as it is.
fn key_of(text: &[u8], key: &mut Vec<u8>) {
    key.clear();
    let begins_number =
        |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'=' | b'<' | b'>' | b'(' | b',' | b'+' | b'-');
    let ends_number =
        |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'=' | b'<' | b'>' | b')' | b',' | b'+' | b'-' | b';');
    let mut at = 0;
    let mut copied = 0;
    while let Some(byte) = text.get(at) {
        match MARKS[usize::from(*byte)] {
            Mark::None => at += 1,
            Mark::Dash if text.get(at + 1) != Some(&b'-') => at += 1,
            Mark::Dash | Mark::Quote => {
                key.clear();
                copied = 0;
                break;
            }
            Mark::Digit => {
                let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                let end = at + digits;
                let is_number =
                    at > 0 && begins_number(text[at - 1]) && text.get(end).is_none_or(|byte| ends_number(*byte));
                if is_number {
                    key.extend_from_slice(&text[copied..at]);
                    key.extend_from_slice(if is_small(&text[at..end]) { SMALL } else { LARGE });
                    copied = end;
                }
                at = end;
            }
        }
    }
    key.extend_from_slice(&text[copied..]);
}

/// Whether the number has at most 31 bits; digits only.
fn is_small(number: &[u8]) -> bool {
    number.len() < 10 || std::str::from_utf8(number).is_ok_and(|number| number.parse::<i32>().is_ok())
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
        assert!(!Rc::ptr_eq(&first, &cache.get(b"select 'x'", Lexing::default())));
    }

    #[test]
    fn numbers_make_no_difference_where_they_are_only_values() {
        let mut cache = FactsCache::new(FactsCache::DEFAULT_BYTES);
        let mut same = |one: &str, other: &str| {
            let first = cache.get(one.as_bytes(), Lexing::default());
            Rc::ptr_eq(&first, &cache.get(other.as_bytes(), Lexing::default()))
        };
        assert!(same("select a from t where b = 1", "select a from t where b = 4711"));
        assert!(same("update t set a = a + -17 where b=1;", "update t set a = a + -1 where b=23;"));
        assert!(same("insert into t values (1, 2)", "insert into t values (30, 4)"));
        assert!(same("insert into t values (1, 1764103449123)", "insert into t values (30, 99999999999)"));
        // Names, quoted names, parameters, exponents, and statements in which the number is the point.
        for (one, other) in [
            ("select a1 from t", "select a2 from t"),
            ("select * from t1", "select * from t2"),
            ("select * from \"a 1\"", "select * from \"a 2\""),
            ("select $1, 1", "select $1, 2"),
            ("select 1e5", "select 2e5"),
            ("select 1.5", "select 2.5"),
            ("set x.y = 1", "set x.y = 2"),
            ("set transaction_read_only = 0", "set transaction_read_only = 1"),
            ("select pg_terminate_backend(1)", "select pg_terminate_backend(2)"),
            ("select pg_terminate_backend(99999999999)", "select pg_terminate_backend(2)"),
            ("select a::float(4)", "select a::float(99)"),
            ("select a::timestamp(4)", "select a::timestamp(99999999999)"),
            ("select U&'=0061 ' uescape '='", "select U&'=1 ' uescape '='"),
            ("select 1 -- 1", "select 1 -- 2"),
        ] {
            assert!(!same(one, other), "{one} / {other}");
        }
    }

    #[test]
    fn facts_do_not_depend_on_the_numbers_replaced() {
        for text in ["select a from t where b = 7", "select f(12), 3 from t limit 10", "delete from t where a < 5"] {
            let mut key = Vec::new();
            key_of(text.as_bytes(), &mut key);
            assert_ne!(key, text.as_bytes());
            assert_eq!(analyse(text.as_bytes(), Lexing::default()), analyse(&key, Lexing::default()));
        }
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
