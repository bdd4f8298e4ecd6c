//! SCRAM-SHA-256, both sides (auth 14; RFC 5802, RFC 7677).
//!
//! Pure: messages in, messages out. The order of an exchange is in the types: each step consumes the one before it, so no
//! message can be taken out of order or twice. Channel binding data (auth 14.3) is an argument of both sides.

mod cache;
mod client;
mod keys;
mod message;
mod prepare;
mod server;

pub use cache::keys_of;
pub use client::{Hello, Verify};
pub use keys::{DEFAULT_ITERATIONS, KEY_LENGTH, LoginKeys, Verifier, own_verifier};
pub use server::{Challenge, Proved};

use super::base64;
use super::secret::random;

/// Passwords of unknown users and of servers are never hashed more often than this: the count comes from outside, and
/// PBKDF2 cannot be interrupted. This many take about half a second.
pub const MAX_ITERATIONS: u32 = 1_000_000;
/// The longest message of an exchange, in bytes.
pub const MAX_MESSAGE: usize = 1024;

/// A mechanism on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Without channel binding.
    Plain,
    /// With channel binding.
    Plus,
}

impl Mechanism {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "SCRAM-SHA-256",
            Self::Plus => "SCRAM-SHA-256-PLUS",
        }
    }

    /// The mechanism of this name.
    pub fn from_name(name: &[u8]) -> Option<Self> {
        [Self::Plain, Self::Plus].into_iter().find(|mechanism| mechanism.name().as_bytes() == name)
    }
}

/// A nonce: 24 characters from 18 random bytes.
pub fn nonce() -> String {
    base64::encode(&random::<18>())
}
