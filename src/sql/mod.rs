//! Facts about SQL text: what kind of statement it is, which tables and functions it names, what it may change.
//!
//! [`analyse`] turns the bytes of a statement into a [`Statement`], by PostgreSQL's own grammar (crate `pg_raw_parse`,
//! which nothing else imports). [`FactsCache`] keeps the answers by text, numbers aside, so that a text seen before costs
//! a hash and a comparison.
//!
//! Invariants:
//! - Any bytes are a valid question. Text that the grammar does not take, or that cannot be read with certainty (its
//!   encoding, its length), is [`Kind::Unparsable`]; callers treat that as a write.
//! - A fact is never guessed: an unknown tree node makes the whole text unparsable.
//! - Stack use does not depend on the text. The parser keeps its stack on the heap, bounded; trees are walked with a
//!   list of pending nodes.
//! - Statements own their facts; no part of a parse tree outlives [`analyse`].
//!
//! The parser's state is per thread and usable after a fork. This room knows no nodes, sessions or catalogs.

mod cache;
mod kind;
mod lexing;
mod parse;
mod pgpool;
mod statement;
mod text;

pub use cache::FactsCache;
pub use kind::{
    AccessMode, CopyPeer, DiscardTarget, Isolation, Kind, StatementClass, TransactionModes, Unparsable, VariableScope,
};
pub use lexing::{Encoding, Lexing};
pub use parse::analyse;
pub use pgpool::{PgpoolCommand, behind_show, may_be_ours};
pub use statement::{Contents, Name, Relation, Statement, Use};
pub use text::{Lead, command_word};
