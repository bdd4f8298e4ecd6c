//! pgpool: connection pooling, read load balancing and failover for PostgreSQL; a drop-in replacement for Pgpool-II.
//!
//! A parent process ([`supervisor`]) forks `num_init_children` blocking workers ([`worker`]). They accept on shared
//! listening sockets, serve one client at a time ([`session`]), and know of each other only through shared memory
//! ([`state`]). Helper processes watch the servers ([`cluster`]). The parent never serves a client and never waits on a
//! lock that a worker can hold.
//!
//! # Floors
//!
//! A file imports only from its own floor or a lower one. Each room does one thing:
//!
//! | floor | room | job | must not |
//! |---|---|---|---|
//! | 8 | `main.rs`, [`cli`] | arguments to a command | hold logic |
//! | 8 | `bin/`, [`tools`] | the programs beside pgpool: PCP clients, pg_md5, pg_enc, pgproto | be used by pgpool's processes |
//! | 7 | [`supervisor`] | start, fork, reap, reload, failover, stop | wait on a lock shared with workers; speak to clients |
//! | 6 | [`worker`] | accept, limits, one session after another; turn away who has waited too long | decide cluster state |
//! | 6 | [`cluster`] | ask the servers what they are | touch sessions |
//! | 6 | [`collector`] | writes what all processes say to log files | lose a line it can write; end before the others |
//! | 6 | [`pcp`] | the server of PCP: what administrators ask and order | decide about nodes |
//! | 6 | [`metrics`] | metrics, health and status page over HTTP | change anything |
//! | 5 | [`session`] | one client's life | open sockets or parse SQL itself |
//! | 4 | [`route`] | pure: facts, session, catalog to a target with a reason | do I/O |
//! | 4 | [`catalog`], [`admin`] | facts asked from servers; the row sets of SHOW POOL_* | know a wire format (`admin`) |
//! | 4 | [`cache`] | which answers may be kept, under which key, and until which write; the way to memcached | ask PostgreSQL servers |
//! | 4 | [`failover`] | asking the parent to detach, attach or promote a node | decide; change the node table |
//! | 3 | [`backend`] | log in to servers, pool, reply queue, cancel, queries of our own | know clients |
//! | 3 | [`auth`] | who may log in, and how that is proved; what logs in to servers | touch sockets of clients or servers |
//! | 2 | [`wire`] | messages over byte slices | do I/O |
//! | 2 | [`net`] | sockets, buffers, deadlines | know messages |
//! | 2 | [`sql`] | facts of a text by PostgreSQL's grammar | know nodes |
//! | 2 | [`state`] | typed view of the shared segment | decide, log |
//! | 1 | [`config`], [`report`], [`sys`] | parameters; messages; processes and signals | know any other room |
//!
//! Crate `pgpool-shm` lies below: memory shared between processes. `unsafe` is allowed there and in [`sys`] only.
//! `docs/life-of-a-query.md` walks through the rooms with one query.

pub mod admin;
pub mod auth;
pub mod backend;
pub mod cache;
pub mod catalog;
pub mod cli;
pub mod cluster;
pub mod collector;
pub mod config;
pub mod failover;
pub mod metrics;
pub mod net;
pub mod pcp;
pub mod report;
pub mod route;
pub mod session;
pub mod sql;
pub mod state;
pub mod supervisor;
pub mod sys;
pub mod tools;
pub mod wire;
pub mod worker;
