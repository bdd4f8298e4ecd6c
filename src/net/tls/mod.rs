//! TLS on a connected socket, both sides (auth 17, 18).
//!
//! OpenSSL works on a [`socket::Socket`] with buffers of its own in both directions: one receive fetches as many records as
//! are there, one send carries as many as the kernel takes. So a relay costs as many system calls as without TLS.
//!
//! Contexts ([`Acceptor`], [`Connector`]) hold keys and certificates. Those for clients are made of [`Material`] that the
//! parent has read, those for servers by each process for itself.
//!
//! A handshake that fails ends the connection; nothing is ever sent in clear text afterwards.

mod acceptor;
mod certificate;
mod channel_binding;
mod connector;
mod front;
mod material;
mod passphrase;
mod revoked;
mod session;
mod socket;
#[cfg(test)]
mod tests;

pub use acceptor::Acceptor;
pub use certificate::Certificate;
pub use connector::{Connector, SslMode};
pub use front::Front;
pub use material::Material;
pub use passphrase::PassPhrase;
pub(super) use session::Side;
pub use session::{Handshake, HandshakeError, Session};

/// The protocol's name for ALPN (RFC 7301), as registered for PostgreSQL.
const ALPN: &[u8] = b"postgresql";
/// The same, as OpenSSL wants lists of them.
const ALPN_LIST: &[u8] = b"\x0apostgresql";

/// The first reason that OpenSSL gives, in words.
fn reason(errors: &openssl::error::ErrorStack) -> String {
    let first = errors.errors().first();
    first.and_then(openssl::error::Error::reason).map_or_else(|| errors.to_string(), str::to_owned)
}
