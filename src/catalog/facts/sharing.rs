//! Whose facts hold here: what workers tell each other, and for which server connections.
//!
//! A name means the same in two sessions of one scope if their connections were given the same search path when they were
//! made. ALTER ROLE and ALTER DATABASE give another one to connections that are made later; all that are made in the same
//! generation of the relation cache were given the same, and for older ones the server is asked.

use super::{Doubt, FOR_EVER, Facts};
use crate::catalog::exchange::{self, Exchanged, NothingHidden};
use crate::catalog::hidden::HiddenCalls;
use crate::catalog::scope::Scope;
use crate::config::Settings;
use crate::route::{Known, missing};
use crate::sql::{Name, Statement};
use std::rc::Rc;

/// After a change of the catalog, standbys are not asked for this long, in seconds.
const STANDBY_PATIENCE: u32 = 60;

impl Facts {
    /// Takes over what other workers know of the names in `statement`.
    pub fn recall(&mut self, statement: &Statement, settings: &Settings) {
        if !self.may_share() {
            return;
        }
        let (relations, functions) = missing(statement, settings, self);
        for name in relations {
            if let Some((kind, learnt)) = self.hear(name) {
                self.relations.insert(name, kind, self.end_of(learnt));
            }
        }
        for name in functions {
            if let Some((volatility, learnt)) = self.hear(name) {
                self.functions.insert(name, volatility, self.end_of(learnt));
            }
        }
        let name = Name::bare("");
        if self.default_isolation() == Known::NotYet
            && let Some((isolation, learnt)) = self.hear(&name)
        {
            self.isolation.insert(&name, isolation, self.end_of(learnt));
        }
    }

    /// Takes over from other workers that there are none.
    pub fn recall_hidden_calls(&mut self) {
        if self.hidden_calls.is_none() && self.may_share() && self.hear::<NothingHidden>(&self.hidden_name()).is_some()
        {
            self.take_hidden_calls(&Rc::new(HiddenCalls::default()));
        }
    }

    /// Whether a standby may be asked: what only the session on the primary can say is known, and the last change of the
    /// catalog has had time to arrive there.
    pub fn may_ask_standby(&self) -> bool {
        self.default_isolation() != Known::NotYet
            && self.may_share()
            && self.shared.relcache().quiet_for() > STANDBY_PATIENCE
    }

    /// Whether names mean here what they mean to others of the same scope and origin.
    fn may_share(&self) -> bool {
        self.is_certain() && (self.is_new() || self.origin.is_some())
    }

    pub(super) fn is_certain(&self) -> bool {
        !self.session.private && !self.session.unsettled && self.doubt == Doubt::None
    }

    /// Whether the primary is to be asked what its connection was given.
    pub(in crate::catalog) fn lacks_origin(&self) -> bool {
        self.origin.is_none() && !self.is_new() && !self.session.private
    }

    /// Whether the server connection was made since anybody has changed anything: all such were given the same.
    fn is_new(&self) -> bool {
        self.made_in == Some(self.generation)
    }

    pub(in crate::catalog) fn learn_origin(&mut self, told: &str) {
        self.origin = Some(self.shared.relcache().fingerprint(&told));
    }

    /// The session has another connection to its primary: nothing that was learnt on the former one counts.
    pub fn connection_changed(&mut self) {
        (self.made_in, self.origin) = (None, None);
        self.forget();
    }

    pub(super) fn tell<V: Exchanged>(&self, name: &Name, value: V) {
        if self.may_share() {
            exchange::tell(self.shared.relcache(), self.place(), name, value, self.generation);
        }
    }

    /// What another worker has told, unless it has expired.
    fn hear<V: Exchanged>(&self, name: &Name) -> Option<(V, u32)> {
        let cache = self.shared.relcache();
        let heard = exchange::hear(cache, self.place(), name, self.generation)?;
        (self.life == FOR_EVER || self.end_of(heard.1) > cache.now()).then_some(heard)
    }

    /// Where names mean what they mean here.
    fn place(&self) -> Scope {
        let origin = self.origin.filter(|_| !self.is_new());
        self.shared.relcache().fingerprint(&(self.current, origin))
    }
}
