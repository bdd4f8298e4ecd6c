//! Facts asked from the server: which functions may write, what kind of relation a name means (query-cache 10).
//!
//! Kept per worker and per pool key, because a name means what the session's database and search path make of it. A
//! session that changes its settings looks names up anew ([`Facts::forget`]). Names that do not exist are not kept.

mod lookup;

use crate::route::{Catalog, Known, RelationKind, Volatility};
use crate::sql::Name;
use std::collections::HashMap;
use std::time::{Duration, Instant};

pub use lookup::{look_up, look_up_until};

/// Names kept per pool key; a database with more in use starts over.
const MAX_NAMES: usize = 4096;

/// Known facts for sessions of one pool key.
#[derive(Debug)]
pub struct Facts {
    relations: HashMap<Name, RelationKind>,
    functions: HashMap<Name, Volatility>,
    /// Names that do not exist, for the statement at hand only.
    absent: Vec<Name>,
    since: Instant,
}

impl Default for Facts {
    fn default() -> Self {
        Self { relations: HashMap::new(), functions: HashMap::new(), absent: Vec::new(), since: Instant::now() }
    }
}

impl Facts {
    /// Nothing is known any more.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Drops what is older than `relcache_expire` seconds (0: nothing).
    pub fn expire(&mut self, relcache_expire: i64) {
        let limit = u64::try_from(relcache_expire).unwrap_or(0);
        if limit > 0 && self.since.elapsed() >= Duration::from_secs(limit) {
            self.forget();
        }
    }

    /// Forgets which names did not exist: the next statement asks again.
    pub fn begin_statement(&mut self) {
        self.absent.clear();
    }

    fn learn_relation(&mut self, name: &Name, kind: RelationKind) {
        if kind == RelationKind::None {
            self.absent.push(name.clone());
        } else {
            self.make_room();
            self.relations.insert(name.clone(), kind);
        }
    }

    fn learn_function(&mut self, name: &Name, volatility: Volatility) {
        if volatility == Volatility::None {
            self.absent.push(name.clone());
        } else {
            self.make_room();
            self.functions.insert(name.clone(), volatility);
        }
    }

    fn make_room(&mut self) {
        if self.relations.len() + self.functions.len() >= MAX_NAMES {
            self.forget();
        }
    }
}

impl Catalog for Facts {
    fn function(&self, name: &Name) -> Known<Volatility> {
        match self.functions.get(name) {
            Some(volatility) => Known::Yes(*volatility),
            None if self.absent.contains(name) => Known::Yes(Volatility::None),
            None => Known::NotYet,
        }
    }

    fn relation(&self, name: &Name) -> Known<RelationKind> {
        match self.relations.get(name) {
            Some(kind) => Known::Yes(*kind),
            None if self.absent.contains(name) => Known::Yes(RelationKind::None),
            None => Known::NotYet,
        }
    }
}
