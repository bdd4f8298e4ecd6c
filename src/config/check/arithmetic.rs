//! How many connections a configuration can lead to, and whether the servers allow them.

use super::add;
use crate::config::choices::BackendClusteringMode;
use crate::config::settings::{NodeSettings, Settings};

/// What one server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Id of the node.
    pub node: usize,
    /// What it allows, or why that is not known.
    pub answer: Result<Limits, String>,
}

/// How many connections a server allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Its `max_connections`.
    pub max_connections: i64,
    /// Its `superuser_reserved_connections`.
    pub superuser_reserved_connections: i64,
}

/// Writes the arithmetic of clients and server connections.
pub(super) fn write(text: &mut String, settings: &Settings, limits: &[ServerLimits]) {
    let children = i64::from(settings.num_init_children);
    let (pool, reserved) = (i64::from(settings.max_pool), i64::from(settings.reserved_connections));
    let backlog = i64::from(settings.listen_backlog_multiplier);
    add(
        text,
        format_args!(
            "  Clients served at a time: num_init_children ({children}) - reserved_connections ({reserved}) = {}\n",
            (children - reserved).max(0)
        ),
    );
    if reserved == 0 {
        add(
            text,
            format_args!(
                "  Clients that may wait besides: num_init_children ({children}) x listen_backlog_multiplier \
                 ({backlog}) = {}\n",
                children.saturating_mul(backlog).min(10_000)
            ),
        );
    }
    let pooled = children.saturating_mul(pool);
    let own = settings.used_nodes().map(|(_, node)| own_connections(settings, node)).max().unwrap_or_default();
    add(
        text,
        format_args!(
            "  Connections to each node at most: num_init_children ({children}) x max_pool ({pool}) = {pooled}, and \
             {own} of pgpool's own\n"
        ),
    );
    for (id, node) in settings.used_nodes() {
        let known = limits.iter().find(|limit| limit.node == id);
        write_node(text, id, node, pooled, own_connections(settings, node), known);
    }
}

fn write_node(text: &mut String, id: usize, node: &NodeSettings, pooled: i64, own: i64, known: Option<&ServerLimits>) {
    let address = format!("{}:{}", node.hostname, node.port);
    let unknown = format!("  Node {id} ({address}): not known what it allows");
    let Limits { max_connections: max, superuser_reserved_connections: reserved } = match known {
        Some(ServerLimits { answer: Ok(limits), .. }) => *limits,
        Some(ServerLimits { answer: Err(cause), .. }) => return add(text, format_args!("{unknown}: {cause}\n")),
        None => return add(text, format_args!("{unknown}\n")),
    };
    let (allowed, needed) = (max.saturating_sub(reserved), pooled.saturating_add(own));
    let verdict = if needed <= allowed {
        "enough".to_owned()
    } else {
        format!("TOO FEW, {} more are needed", needed.saturating_sub(allowed))
    };
    add(
        text,
        format_args!(
            "  Node {id} ({address}) allows max_connections ({max}) - superuser_reserved_connections ({reserved}) = \
             {allowed}: {verdict}\n"
        ),
    );
    if needed > allowed {
        add(
            text,
            format_args!(
                "  HINT:  Raise max_connections of node {id}, or lower num_init_children or max_pool: {} = \
                 num_init_children x max_pool fits.\n",
                allowed.saturating_sub(own).max(0)
            ),
        );
    }
}

/// Connections to `node` outside of sessions: its health check, the replication check, and one for what happens now
/// and then (search for the primary, failback, recovery).
fn own_connections(settings: &Settings, node: &NodeSettings) -> i64 {
    let streaming = settings.backend_clustering_mode == BackendClusteringMode::StreamingReplication;
    i64::from(node.health_check_period > 0) + i64::from(streaming && settings.sr_check_period > 0) + 1
}
