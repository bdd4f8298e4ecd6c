//! Replacing this pgpool by another program, of a newer release or the same, without a client noticing.
//!
//! `pgpool upgrade` sends SIGURG to the parent. It starts the program again and hands it the listening sockets. When the
//! new one serves, the old one accepts nobody any more, its sessions go on until they end, and it ends with the last of
//! them. A new one that ends or is not ready in time changes nothing.
//!
//! Between both parents there is a *leash*, a pair of sockets: the old one says which nodes it uses, the new one that it
//! reaches them and has its workers, the old one that it may go, and from then on the new one how the old one is to stop, and
//! how the nodes are whenever that changes; the end of either is seen at the other end.
//!
//! Who owns what, in the order of events:
//!
//! | | clients, PCP, metrics | socket files, pid file | pgpool_status, failovers | service manager |
//! |---|---|---|---|---|
//! | until the new one is ready: it has its workers, which let nobody in | old | old | old | old |
//! | the old one has heard it: tells the manager who comes, lets its idle workers go, says "go" | old | old | nobody | old |
//! | the new one has heard it: writes the files, starts PCP and metrics, lets clients in | new | new | new | new |
//!
//! Up to "go" the new one can be killed without anybody losing anything; from then on the old one does not come back. A stop
//! of either that comes between "go" and "serves" is said to the other over the leash: it is the new one's, which tells the old.
//!
//! Each has a shared memory of its own: neither knows what sessions of the other write. So the query cache of both rests
//! until the old one has ended. A failover that is needed while the new one starts ends the upgrade.
//! Afterwards the old one decides nothing about nodes: its sessions use those that the new one tells of, and what
//! administrators have ordered in the last moment is passed on.

mod cancels;
mod leash;
mod news;
mod orders;
mod outcome;
mod predecessor;
mod successor;

pub(super) use cancels::Cancels;
pub use outcome::Outcome;
pub(super) use outcome::forget;
pub(super) use predecessor::{Handed, Predecessor, use_stderr};
pub use successor::Again;
pub(super) use successor::{Retired, Successor};
