//! Statements of which it is known that their answers may be kept, and which tables these depend on.
//!
//! That is concluded from facts of the catalog, and the same for all texts with the same facts; it holds as long as nothing
//! that it was concluded from may have changed ([`Circumstances`]).

use crate::config::Settings;
use crate::sql::Statement;
use crate::state::TableSet;
use std::rc::Rc;
use std::sync::Arc;

/// Statements remembered.
const ROOM: usize = 32;

/// What verdicts are concluded from beside the statement. Two that are equal lead to the same verdict.
#[derive(Clone, Debug)]
pub(super) struct Circumstances {
    /// Of the query cache: moves with every definition in the database.
    pub definitions: u64,
    /// Of the catalog: moves when it forgets something.
    pub losses: u64,
    pub settings: Arc<Settings>,
}

impl PartialEq for Circumstances {
    fn eq(&self, other: &Self) -> bool {
        (self.definitions, self.losses) == (other.definitions, other.losses)
            && Arc::ptr_eq(&self.settings, &other.settings)
    }
}

/// The verdicts of one session.
#[derive(Debug, Default)]
pub(super) struct Verdicts {
    circumstances: Option<Circumstances>,
    known: Vec<(Rc<Statement>, Rc<TableSet>)>,
    /// The one to be replaced next.
    hand: usize,
}

impl Verdicts {
    /// The tables behind the answer of the statement with these `facts`, if it is known that it may be kept. The facts of a
    /// text are one object as long as anybody holds them.
    pub fn get(&mut self, facts: &Rc<Statement>, circumstances: &Circumstances) -> Option<Rc<TableSet>> {
        if self.circumstances.as_ref() != Some(circumstances) {
            self.known.clear();
            return None;
        }
        let (_, tables) = self.known.iter().find(|(known, _)| Rc::ptr_eq(known, facts))?;
        Some(Rc::clone(tables))
    }

    /// Remembers what was concluded under these circumstances.
    pub fn insert(&mut self, facts: &Rc<Statement>, circumstances: Circumstances, tables: &Rc<TableSet>) {
        if self.circumstances.as_ref() != Some(&circumstances) {
            self.known.clear();
            self.circumstances = Some(circumstances);
        }
        let verdict = (Rc::clone(facts), Rc::clone(tables));
        if self.known.len() < ROOM {
            self.known.push(verdict);
        } else {
            self.hand = (self.hand + 1) % ROOM;
            self.known[self.hand] = verdict;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::{Lexing, analyse};

    #[test]
    fn a_verdict_holds_for_its_facts_and_circumstances_only() {
        let facts = |text: &str| Rc::new(analyse(text.as_bytes(), Lexing::default()));
        let at = |definitions, losses| Circumstances { definitions, losses, settings: Arc::default() };
        let (one, other, circumstances) = (facts("select 1"), facts("select 1"), at(1, 1));
        let tables = Rc::new(TableSet::of("d", [7]));
        let mut verdicts = Verdicts::default();
        verdicts.insert(&one, circumstances.clone(), &tables);
        assert_eq!(verdicts.get(&one, &circumstances), Some(Rc::clone(&tables)));
        assert_eq!(verdicts.get(&other, &circumstances), None);
        for changed in [
            at(1, 1),
            Circumstances { losses: 2, ..circumstances.clone() },
            Circumstances { definitions: 2, ..circumstances.clone() },
        ] {
            verdicts.insert(&one, circumstances.clone(), &tables);
            assert_eq!(verdicts.get(&one, &changed), None);
            assert_eq!(verdicts.get(&one, &circumstances), None, "it is forgotten");
        }
    }

    #[test]
    fn the_room_is_bounded() {
        let circumstances = Circumstances { definitions: 0, losses: 0, settings: Arc::default() };
        let mut verdicts = Verdicts::default();
        for _ in 0..3 * ROOM {
            let facts = Rc::new(analyse(b"select 1", Lexing::default()));
            verdicts.insert(&facts, circumstances.clone(), &Rc::default());
            assert!(verdicts.get(&facts, &circumstances).is_some());
        }
        assert_eq!(verdicts.known.len(), ROOM);
    }
}
