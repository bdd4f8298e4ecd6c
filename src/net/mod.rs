//! Sockets, buffers and deadlines: bytes in, bytes out, nothing about messages.
//!
//! Receiving may wait a moment in the kernel ([`Stream::set_patience`]); sending never waits: what the peer does not take
//! stays with the caller, who must stop reading the other side until it is gone. So memory stays bounded whatever a peer
//! does, and two full sockets never wait for each other.

mod accept;
mod buffer;
mod connect;
mod deadline;
mod keepalive;
mod known;
pub mod names;
mod resolve;
mod stream;
pub mod tls;
mod wait;

pub use accept::{accept, is_shut_down};
pub use buffer::InBuffer;
pub use connect::{Address, ConnectError, connect};
pub use deadline::Deadline;
pub use keepalive::Keepalive;
pub use resolve::resolve;
pub use stream::{PATIENCE, Peer, Received, Stream, set_inherited_options};
pub use wait::{Waited, wait};
