//! What a prepared statement means: what its text meant when a server last analysed it.
//!
//! A server fixes the types of its columns when it is prepared, and refuses to run it once they would be others; literals are
//! read by the settings of that moment (dates by `DateStyle`, times by `timezone`). The query cache knows texts, not
//! statements. So a statement is answered from it only if its text means now, to whoever prepares it anew, what the statement
//! means; else the server is to decide, or to refuse.
//!
//! - Something in the database may have been defined otherwise since: it counts again when the server has run it once, which
//!   it does only if the columns are what they were.
//! - Prepared, or used on a server, under other settings than now, or unknown ones: the same, unless its text has something
//!   in it that is read for good by the settings of the moment. Then never again, until it is prepared anew.

use super::Session;
use super::statements::Definition;
use crate::cache::Identity;

/// Under what a statement was analysed. The same text means the same under the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meaning {
    /// All settings that decide what a text means.
    pub identity: Identity,
    /// How often the database had been defined otherwise.
    pub definitions: u64,
}

impl Session<'_> {
    /// What texts mean in this session now. `None`: not known, or there is no query cache.
    #[inline]
    pub(super) fn meaning(&self) -> Option<Meaning> {
        let caching = self.caching.as_ref()?;
        let identity = caching.identity.settled()?.common;
        Some(Meaning { identity, definitions: caching.shared().definitions(&self.database) })
    }
}

impl Definition {
    /// A server that has it prepared is about to use it, in a session where texts mean this `now`: it may analyse it anew.
    pub fn used(&self, now: Option<Meaning>) {
        if self.differs(now) && !self.can_be_learnt() {
            self.meaning.set(None);
        }
    }

    /// Its message is about to be sent to one more server: there it means what texts mean `now`.
    pub fn prepared_again(&self, now: Option<Meaning>) {
        if self.differs(now) {
            self.meaning.set(None);
        } else if self.meaning.get().is_some() {
            self.meaning.set(now);
        }
    }

    /// A server has run it without complaint, in a session where texts meant `then`.
    pub fn has_run(&self, then: Meaning) {
        if self.may_mean(then) {
            self.meaning.set(Some(then));
        }
    }

    /// It may be another statement by now.
    pub fn doubt(&self) {
        self.meaning.set(None);
        self.is_doubtful.set(true);
    }

    /// Whether it means what its text means `now`, once a server has run it.
    pub fn may_mean(&self, now: Meaning) -> bool {
        self.meaning.get().is_some_and(|known| known.identity == now.identity) || self.can_be_learnt()
    }

    fn differs(&self, now: Option<Meaning>) -> bool {
        self.meaning.get().is_some_and(|then| now.is_none_or(|now| now.identity != then.identity))
    }

    /// Whether what it means is seen when it runs, whatever was set when servers have analysed it: names and roles they look at
    /// anew themselves if they may be others. Functions may be put in place when a plan is made, with literals of their own.
    fn can_be_learnt(&self) -> bool {
        !self.is_doubtful.get() && !self.facts.has.unknown_functions && !is_read_for_good(self.text())
    }
}

/// Whether there may be something in `text` that a server reads once, by the settings of that moment: string literals, and
/// comparisons with NULL (`transform_null_equals`).
fn is_read_for_good(text: &[u8]) -> bool {
    let has_null = || text.windows(4).any(|word| word.eq_ignore_ascii_case(b"null"));
    let quotes = |pair: &[u8]| pair[0] == b'$' && !pair[1].is_ascii_digit();
    text.contains(&b'\'') || text.windows(2).any(quotes) || has_null()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Lexing, analyse};
    use std::rc::Rc;

    fn at(settings: u8, definitions: u64) -> Meaning {
        Meaning { identity: [settings; 16], definitions }
    }

    fn prepared(text: &str, meaning: Option<Meaning>) -> Definition {
        let mut message = Vec::new();
        crate::wire::write::query(&mut message, text.as_bytes());
        let definition = Definition::new(&message, Rc::new(analyse(text.as_bytes(), Lexing::default())));
        definition.meaning.set(meaning);
        definition
    }

    #[test]
    fn other_definitions_are_forgiven_once_it_has_run() {
        for text in ["select '1'", "select 1"] {
            let definition = prepared(text, Some(at(1, 1)));
            definition.used(Some(at(1, 2)));
            assert_eq!(definition.meaning.get(), Some(at(1, 1)), "the server may refuse it");
            definition.has_run(at(1, 2));
            assert_eq!(definition.meaning.get(), Some(at(1, 2)));
            definition.prepared_again(Some(at(1, 3)));
            assert_eq!(definition.meaning.get(), Some(at(1, 3)));
        }
    }

    #[test]
    fn other_settings_are_never_forgiven_where_something_was_read_by_them() {
        for text in ["select '1'", "select $$1$$", "select $a$1$a$", "select a = NULL", "select own(1)"] {
            for now in [Some(at(2, 3)), None] {
                for use_it in [Definition::used, Definition::prepared_again] {
                    let definition = prepared(text, Some(at(1, 3)));
                    use_it(&definition, now);
                    definition.has_run(at(1, 3));
                    assert_eq!(definition.meaning.get(), None, "{text}");
                }
            }
            let unknown = prepared(text, None);
            unknown.has_run(at(1, 1));
            assert_eq!(unknown.meaning.get(), None, "{text}");
        }
    }

    #[test]
    fn else_they_are_forgiven_once_it_has_run() {
        let definition = prepared("select a from b where c = $1", None);
        definition.has_run(at(1, 3));
        definition.used(None);
        assert_eq!(definition.meaning.get(), Some(at(1, 3)), "nothing of it was read");
        definition.used(Some(at(2, 3)));
        definition.has_run(at(2, 3));
        assert_eq!(definition.meaning.get(), Some(at(2, 3)));
        definition.prepared_again(None);
        assert_eq!(definition.meaning.get(), None, "its columns may be others there");
        definition.has_run(at(2, 3));
        assert_eq!(definition.meaning.get(), Some(at(2, 3)));
        definition.doubt();
        definition.has_run(at(2, 3));
        assert_eq!(definition.meaning.get(), None, "it may be another statement");
    }
}
