//! TLS towards clients and servers (auth 17 to 19), with certificates made for each test.

mod abuse;
pub mod authority;
mod certificates;
mod clients;
mod relay;
mod reload;
mod scram;
mod servers;
pub mod stage;
