//! How facts are written in the shared relation cache.

use super::Scope;
use crate::route::{RelationKind, Volatility};
use crate::sql::{Isolation, Name};
use crate::state::{Relcache, SharedFact};

/// A kind of fact that workers tell each other.
pub(super) trait Exchanged: Copy + PartialEq + 'static {
    /// Tells kinds of facts apart.
    const KIND: u8;
    /// The values that are told, each known by its place. What only this session can know is not among them.
    const VALUES: &'static [Self];
}

impl Exchanged for RelationKind {
    const KIND: u8 = 1;
    const VALUES: &'static [Self] = &[Self::Ordinary, Self::View, Self::RowSecurity, Self::System, Self::Unlogged];
}

impl Exchanged for Volatility {
    const KIND: u8 = 2;
    const VALUES: &'static [Self] = &[Self::Immutable, Self::Reads, Self::Volatile];
}

impl Exchanged for Isolation {
    const KIND: u8 = 3;
    const VALUES: &'static [Self] =
        &[Self::ReadUncommitted, Self::ReadCommitted, Self::RepeatableRead, Self::Serializable];
}

/// No function that may write is called unnamed (see [`HiddenCalls`](super::HiddenCalls)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NothingHidden;

impl Exchanged for NothingHidden {
    const KIND: u8 = 4;
    const VALUES: &'static [Self] = &[Self];
}

/// Tells the others.
pub(super) fn tell<V: Exchanged>(cache: Relcache<'_>, scope: Scope, name: &Name, value: V, generation: u32) {
    if let Some(place) = V::VALUES.iter().position(|known| *known == value) {
        let fact = SharedFact { value: place as u8 + 1, learnt: cache.now() };
        cache.store(cache.fingerprint(&(scope, V::KIND, name)), generation, fact);
    }
}

/// What another one has told, and when it was learnt.
pub(super) fn hear<V: Exchanged>(cache: Relcache<'_>, scope: Scope, name: &Name, generation: u32) -> Option<(V, u32)> {
    let fact = cache.find(cache.fingerprint(&(scope, V::KIND, name)), generation)?;
    let value = V::VALUES.get(usize::from(fact.value).checked_sub(1)?)?;
    Some((*value, fact.learnt))
}
