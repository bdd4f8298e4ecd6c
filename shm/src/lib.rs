//! Memory shared between the processes of pgpool.
//!
//! A [`Segment`] is mapped once by the parent and inherited by every process it forks. It holds only types that are
//! [`Shareable`]: valid when all bytes are zero, without pointers, changed through `&self` alone. [`shareable!`] declares
//! such a type from its fields, [`plain!`] a plain record that can be stored in a [`Versioned`] value. A [`Store`] keeps
//! values of any length by key; a [`ByteHasher`] hashes keys.
//!
//! Invariants:
//! - A process may be killed at any instruction. No reader ever waits for a writer ([`Versioned`]), and a lock whose
//!   holder died goes to the next one, who is told so ([`abandoned`]).
//! - Pages are touched only when they are used: a segment for a thousand workers costs what the busy ones need.
//!
//! This crate must not know PostgreSQL, configuration or logging. All `unsafe` of shared memory lives here.

mod hash;
mod lock;
mod segment;
mod store;
mod text;
mod traits;
mod versioned;

pub use hash::ByteHasher;
pub use lock::{RobustRaw, SharedMutex, SharedMutexGuard, abandoned, prepare};
pub use segment::{Layout, Region, Segment, SegmentError};
pub use store::{BLOCK as STORE_BLOCK, Store, StoreFigures, StoreSize, Stored};
pub use text::Text;
pub use traits::{Plain, Shareable};
pub use versioned::Versioned;

#[doc(hidden)]
pub mod macro_support {
    pub use crate::traits::{Plain, Shareable};
}
