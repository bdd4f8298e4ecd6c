//! What a prepared statement means: what its text meant when a server last analysed it.
//!
//! A server fixes the types of its columns when it is prepared, and refuses to run it once they would be others; literals are
//! read by the settings of that moment (dates by `DateStyle`, times by `timezone`). The query cache knows texts, not
//! statements. So a statement is answered from it only if its text means now, to whoever prepares it anew, what the statement
//! means; else the server is to decide, or to refuse.
//!
//! - Prepared, or used on a server, under other settings than now: never again, until it is prepared anew.
//! - Something in the database may have been defined otherwise since: it counts again when the server has run it once, which
//!   it does only if the columns are what they were.

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
        if self.meaning.get().is_some_and(|then| now.is_none_or(|now| now.identity != then.identity)) {
            self.meaning.set(None);
        }
    }

    /// Its message is about to be sent to one more server: there it means what texts mean `now`.
    pub fn prepared_again(&self, now: Option<Meaning>) {
        self.used(now);
        if self.meaning.get().is_some() {
            self.meaning.set(now);
        }
    }

    /// A server has run it without complaint, in a session where texts meant `then`.
    pub fn has_run(&self, then: Meaning) {
        if self.meaning.get().is_some_and(|known| known.identity == then.identity) {
            self.meaning.set(Some(then));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Lexing, analyse};
    use std::rc::Rc;

    #[test]
    fn other_settings_are_never_forgiven_other_definitions_once_it_has_run() {
        let facts = Rc::new(analyse(b"select 1", Lexing::default()));
        let at = |settings: u8, definitions| Meaning { identity: [settings; 16], definitions };
        let under = |meaning| {
            let definition = Definition::new(b"", Rc::clone(&facts));
            definition.meaning.set(Some(meaning));
            definition
        };
        let definition = under(at(1, 1));
        definition.used(Some(at(1, 2)));
        assert_eq!(definition.meaning.get(), Some(at(1, 1)), "the server may refuse it");
        definition.has_run(at(1, 2));
        assert_eq!(definition.meaning.get(), Some(at(1, 2)));
        definition.prepared_again(Some(at(1, 3)));
        assert_eq!(definition.meaning.get(), Some(at(1, 3)));
        for now in [Some(at(2, 3)), None] {
            for use_it in [Definition::used, Definition::prepared_again] {
                let definition = under(at(1, 3));
                use_it(&definition, now);
                assert_eq!(definition.meaning.get(), None);
                definition.has_run(at(1, 3));
                assert_eq!(definition.meaning.get(), None);
            }
        }
    }
}
