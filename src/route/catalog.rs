//! What routing asks of the catalog.

use crate::sql::Name;

/// What the catalog says of a function name: the worst of all functions with that name (routing 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volatility {
    /// IMMUTABLE: it does not write, and always gives the same answer.
    Immutable,
    /// STABLE: it does not write.
    Reads,
    /// VOLATILE: it may write.
    Volatile,
    /// There is no such function.
    None,
}

/// What the catalog says of a relation name (routing 5.2-5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelationKind {
    /// An ordinary table, sequence, ...
    Ordinary,
    /// A view, a materialized view or a foreign table: its rows come from elsewhere (routing 5.7).
    View,
    /// An ordinary table with row security: who asks decides what is seen.
    RowSecurity,
    /// In `pg_catalog`.
    System,
    /// Temporary.
    Temporary,
    /// Unlogged: a standby cannot read it.
    Unlogged,
    /// There is no such relation.
    None,
}

/// A fact that may not have been asked for yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known<T> {
    /// Known.
    Yes(T),
    /// Not asked yet.
    NotYet,
}

/// Facts from the server's catalog.
pub trait Catalog {
    /// A function name as the statement writes it.
    fn function(&self, name: &Name) -> Known<Volatility>;
    /// A relation name as the statement writes it.
    fn relation(&self, name: &Name) -> Known<RelationKind>;
}
