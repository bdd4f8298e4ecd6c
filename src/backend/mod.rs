//! Connections to servers: TLS, logging in, the reply queue, pooling, cancelling, and small queries of our own.
//!
//! Invariants: every message sent to a server has pushed what must come back ([`ReplyQueue`]); a connection is pooled
//! only when nothing is owed in either direction. This room knows no clients.

pub mod cancel;
mod connection;
pub mod control;
mod login;
mod methods;
mod pool;
mod prove;
mod reply;
mod secure;

pub use connection::{ReplyState, ServerConnection};
pub use control::Account;
pub use login::{Login, LoginError, open};
pub use pool::{Group, Key, Pool};
pub use prove::Demand;
pub use reply::{Awaited, Deliver, ReplyQueue, Step, Unexpected};
pub use secure::{check as check_tls, configure as configure_tls, reload as reload_tls};
