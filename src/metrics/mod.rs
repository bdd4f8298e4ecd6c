//! Metrics, answers for load balancers, and the status page, over HTTP. Off unless `metrics_listen_addresses` says where.
//!
//! ```text
//! process --visitors--> request --> site --+--> exposition   /metrics       (families, aliases)
//!  events   sockets,     bytes       paths +--> health       /health/...
//!           limits              penalties  +--> status       /status.json
//!                                          +--> page.html    /
//! ```
//!
//! One process with one thread, kept by the parent. It reads shared memory and changes nothing, asks no server, and waits
//! for nobody: every visitor has a bounded number of bytes and of seconds, every address a bounded number of places, and
//! what is costly to make is made at most some times a second, however many ask.
//!
//! What a figure is called and means is one line in [`families`] or [`aliases`]; the figures themselves are made in
//! [`crate::admin`]. This room must not change anything, nor speak to servers.

mod aliases;
mod document;
mod exposition;
mod families;
mod health;
mod json;
mod measure;
mod penalties;
mod process;
mod request;
mod response;
mod site;
mod status;
mod visitors;

pub use document::tables;
pub use process::{Start, run};
