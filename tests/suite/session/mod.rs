//! One client's session in every protocol mode, message by message (protocol 7-9, routing 13).
//!
//! Reads are on a standby, if not said otherwise: what must hold must hold across two servers.

mod bulk;
mod extended;
mod login;
mod simple;
