//! What only the operating system can do: fork, signals, process titles, descriptors, terminals, the service manager; its
//! libraries of PAM and LDAP. And memory that is wiped.
//!
//! The one room outside crate `shm` with unsafe code, each block with its reason; everything it offers is safe to call.
//! Its statics are values that exist once per process by their nature: the pending signals and the title.
//!
//! This room must not log, must not know configuration, and must not decide anything.

#![allow(unsafe_code)]

pub mod descriptor;
mod fork;
pub mod inherited;
pub mod ldap;
mod library;
pub mod listen_queue;
pub mod names;
pub mod oom_score;
pub mod pam;
pub mod processor_time;
mod secret;
pub mod service_manager;
pub mod signal;
pub mod terminal;
pub mod thread;
pub mod title;
pub mod tls;

pub use fork::{Fork, die_with_parent, fork};
pub use secret::Secret;
