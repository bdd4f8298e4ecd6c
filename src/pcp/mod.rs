//! PCP, the protocol of administration: its server (pcp 1-7).
//!
//! ```text
//! parent --fork--> PCP main process: sockets, connections that have not logged in (reception)
//!                        |
//!                        +--fork--> worker, one per client that has logged in: requests (answers, orders)
//! ```
//!
//! Who does not know a password never costs more than a descriptor in the main process. A worker serves one client to his
//! end. Everything that waits for a client has a deadline: the login (`authentication_timeout`), a request that has begun,
//! the next request (`pcp_idle_limit`), the taking of an answer; and there are never more than `pcp_max_connections`
//! workers. So no client can hold anything for ever.
//!
//! [`frame`], [`request`] and [`reply`] are pure; any bytes are safe to read. What the answers tell is made in
//! [`crate::admin`], what administrators order is asked for in [`crate::failover`].
//!
//! This room must not decide about nodes, and never speaks to servers but through `admin`.

mod answers;
mod frame;
mod login;
mod main_process;
mod orders;
mod origin;
mod reception;
mod reply;
mod request;
mod user_file;
mod worker;

pub use login::is_password;
pub use main_process::{Start, run};
