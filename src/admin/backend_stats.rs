//! SHOW POOL_BACKEND_STATS (show-commands 5.7b).

use super::View;
use super::nodes::Identity;
use crate::state::NodeCounts;

/// One node.
struct Row<'a> {
    node: Identity<'a>,
    counts: NodeCounts,
}

columns! { row: Row<'_>;
    node_id => row.node.id,
    hostname => row.node.hostname,
    port => row.node.port,
    status => row.node.status,
    role => row.node.role,
    select_cnt => row.counts.select,
    insert_cnt => row.counts.insert,
    update_cnt => row.counts.update,
    delete_cnt => row.counts.delete,
    ddl_cnt => row.counts.ddl,
    other_cnt => row.counts.other,
    panic_cnt => row.counts.panic,
    fatal_cnt => row.counts.fatal,
    error_cnt => row.counts.error,
}

/// One row per id up to the highest configured one.
pub(super) fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    let cluster = view.shared.nodes().view();
    let row = |(id, node)| {
        values(&Row { node: Identity::new(view.settings, &cluster, id, node), counts: view.shared.counters(id).read() })
    };
    cluster.nodes.iter().enumerate().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::state::{ClientInfo, Limits, Node, NodeCounters, NodeStatus, Shared};

    #[test]
    fn every_class_has_its_column() {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let node = Node { hostname: "db.example".to_owned(), port: 5432, status: NodeStatus::Up, ..Node::default() };
        let update = |cluster: &mut crate::state::Cluster| {
            (cluster.nodes, cluster.primary) = (vec![node], Some(0));
        };
        shared.nodes().update(update).expect("update");
        let slot = shared.worker(0);
        slot.begin_client(&ClientInfo::default());
        let counters = slot.counters(0);
        let fields = [
            &counters.select,
            &counters.insert,
            &counters.update,
            &counters.delete,
            &counters.ddl,
            &counters.other,
            &counters.panic,
            &counters.fatal,
            &counters.error,
        ];
        for (times, counter) in fields.into_iter().enumerate() {
            (0..=times).for_each(|_| NodeCounters::count(counter));
        }
        let settings = Settings::default();
        let shown = rows(&View { settings: &settings, shared: &shared, load_balance_node: 0, listeners: &[] });
        assert_eq!(
            COLUMNS.join("|"),
            "node_id|hostname|port|status|role|select_cnt|insert_cnt|update_cnt|delete_cnt|ddl_cnt|other_cnt|panic_cnt|\
             fatal_cnt|error_cnt"
        );
        assert_eq!(shown[0].join("|"), "0|db.example|5432|up|primary|1|2|3|4|5|6|7|8|9");
    }
}
