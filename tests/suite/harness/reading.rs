//! Sessions whose reads go to one standby of the shared cluster.

use super::{Pgpool, Wire, shared};

/// A read that tells which server answers; nothing but the load balance node binds it.
pub const READ: &str = "SELECT current_setting('port') FROM ten WHERE n = 1";

/// A pgpool in front of the shared cluster, all reads on node 2.
pub fn reading_pool() -> Pgpool {
    Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start()
}

/// What READ says on the primary.
pub fn primary() -> String {
    shared().primary().port.to_string()
}

/// What READ says on node 2.
pub fn standby() -> String {
    shared().node(2).port.to_string()
}

/// A session that can be told from others on the servers.
pub fn connect_as(pool: &Pgpool, application: &str) -> Wire {
    pool.connect_with(&[("user", "postgres"), ("database", "test"), ("application_name", application)])
}
