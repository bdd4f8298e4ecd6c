//! The frontend/backend protocol, versions 3.0 and 3.2, and PCP, over byte slices (protocol 3-5, 18; pcp 1-5).
//!
//! Pure: no I/O, no state. Views borrow from the caller's buffer and are decoded lazily; writers append to the caller's
//! buffer. Every length that comes from the network is checked before it is used; nothing here panics on any input.

pub mod backend;
mod cursor;
pub mod frontend;
mod header;
pub mod pcp;
pub mod startup;
pub mod write;

pub use cursor::Cursor;
pub use header::{HEADER_LENGTH, Header, MAX_MESSAGE_LENGTH};

/// A message that does not follow the protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A length field smaller than itself or beyond [`MAX_MESSAGE_LENGTH`].
    #[error("message {kind} announces a length of {length} bytes")]
    Length {
        /// Name of the message.
        kind: &'static str,
        /// The announced length.
        length: u32,
    },
    /// The content ended too early or held too much.
    #[error("content of message {0} does not agree with its length")]
    Content(&'static str),
    /// A message type that does not exist in this direction.
    #[error("unknown message type 0x{0:02x}")]
    UnknownType(u8),
    /// A startup packet that cannot be understood.
    #[error("invalid startup packet: {0}")]
    Startup(&'static str),
}

/// Transaction status of a server session, as ReadyForQuery tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransactionStatus {
    /// `I`: outside a transaction.
    Idle,
    /// `T`: in a transaction.
    Open,
    /// `E`: in a failed transaction.
    Failed,
}

impl TransactionStatus {
    /// The byte in ReadyForQuery.
    pub fn byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::Open => b'T',
            Self::Failed => b'E',
        }
    }

    /// The status of a ReadyForQuery byte.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::Open),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }
}
