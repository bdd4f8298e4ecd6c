//! `pcp_watchdog_info` (pcp 5.7, 9.5).

use super::connection::Failure;
use super::options::{Form, Options};
use super::records::{self, invalid};
use super::reply::Record;
use serde::Deserialize;
use serde_json::Value;

/// What the watchdog tells of its cluster.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Cluster {
    remote_node_count: i64,
    #[serde(default = "unknown")]
    member_remote_node_count: i64,
    #[serde(default = "unknown")]
    nodes_require_for_quorum: i64,
    quorum_status: i64,
    alive_node_count: i64,
    escalated: i64,
    leader_node_name: String,
    leader_host_name: String,
    watchdog_nodes: Vec<Node>,
}

/// One pgpool of the cluster.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    node_name: String,
    host_name: String,
    #[serde(rename = "DelegateIP")]
    delegate_ip: String,
    pgpool_port: i64,
    wd_port: i64,
    priority: i64,
    state: i64,
    state_name: String,
    #[serde(default)]
    membership: i64,
    #[serde(default = "not_available")]
    membership_string: String,
}

fn unknown() -> i64 {
    -1
}

fn not_available() -> String {
    "NOT-Available".to_owned()
}

/// The cluster and its nodes.
pub(super) fn info(options: &Options, answer: &[Record]) -> Result<Vec<u8>, Failure> {
    let text = answer.first().and_then(|record| record.first()).ok_or_else(invalid)?;
    let cluster = || serde_json::from_slice::<Cluster>(text).map_err(|_| invalid());
    Ok(match options.form {
        Form::Plain => plain(&cluster()?).into_bytes(),
        Form::Verbose => verbose(&cluster()?).into_bytes(),
        Form::Json => records::json(&serde_json::from_slice::<Value>(text).map_err(|_| invalid())?),
    })
}

fn yes(flag: i64) -> &'static str {
    if flag == 0 { "NO" } else { "YES" }
}

fn plain(cluster: &Cluster) -> String {
    let mut out = format!(
        "{} {} {} {} {}\n\n",
        cluster.remote_node_count.saturating_add(1),
        cluster.member_remote_node_count.saturating_add(1),
        yes(cluster.escalated),
        cluster.leader_node_name,
        cluster.leader_host_name
    );
    for node in &cluster.watchdog_nodes {
        out.push_str(&format!(
            "{} {} {} {} {} {} {} {}\n",
            node.node_name,
            node.host_name,
            node.pgpool_port,
            node.wd_port,
            node.state,
            node.state_name,
            node.membership,
            node.membership_string
        ));
    }
    out
}

fn verbose(cluster: &Cluster) -> String {
    let mut out = format!(
        "Watchdog Cluster Information \n\
         Total Nodes              : {}\n\
         Remote Nodes             : {}\n\
         Member Remote Nodes      : {}\n\
         Alive Remote Nodes       : {}\n\
         Nodes required for quorum: {}\n\
         Quorum state             : {}\n\
         Local node escalation    : {}\n\
         Leader Node Name         : {}\n\
         Leader Host Name         : {}\n\n\
         Watchdog Node Information \n",
        cluster.remote_node_count.saturating_add(1),
        cluster.remote_node_count,
        cluster.member_remote_node_count,
        cluster.alive_node_count,
        cluster.nodes_require_for_quorum,
        quorum(cluster.quorum_status),
        yes(cluster.escalated),
        cluster.leader_node_name,
        cluster.leader_host_name
    );
    for node in &cluster.watchdog_nodes {
        out.push_str(&format!(
            "Node Name         : {}\n\
             Host Name         : {}\n\
             Delegate IP       : {}\n\
             Pgpool port       : {}\n\
             Watchdog port     : {}\n\
             Node priority     : {}\n\
             Status            : {}\n\
             Status Name       : {}\n\
             Membership Status : {}\n\n",
            node.node_name,
            node.host_name,
            node.delegate_ip,
            node.pgpool_port,
            node.wd_port,
            node.priority,
            node.state,
            node.state_name,
            node.membership_string
        ));
    }
    out
}

fn quorum(status: i64) -> &'static str {
    match status {
        1 => "QUORUM EXIST",
        0 => "QUORUM IS ON THE EDGE",
        -1 => "QUORUM ABSENT",
        -2 => "NO LEADER NODE",
        _ => "UNKNOWN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = r#"{"RemoteNodeCount":2,"MemberRemoteNodeCount":2,"NodesRequireForQuorum":2,"QuorumStatus":1,
        "AliveNodeCount":2,"Escalated":1,"LeaderNodeName":"server1:9999 Linux server1","LeaderHostName":"server1",
        "NodeCount":1,"WatchdogNodes": [{"ID":0,"State":4,"Membership":0,"MembershipString":"MEMBER",
        "NodeName":"server1:9999 Linux server1","HostName":"server1","StateName":"LEADER","DelegateIP":"192.168.1.50",
        "WdPort":9000,"PgpoolPort":9999,"Priority":1}]}"#;

    #[test]
    fn both_forms() {
        let cluster = serde_json::from_str::<Cluster>(REPLY).expect("cluster");
        assert_eq!(
            plain(&cluster),
            "3 3 YES server1:9999 Linux server1 server1\n\n\
             server1:9999 Linux server1 server1 9999 9000 4 LEADER 0 MEMBER\n"
        );
        let text = verbose(&cluster);
        assert!(text.starts_with("Watchdog Cluster Information \nTotal Nodes              : 3\n"), "{text}");
        assert!(text.contains("Quorum state             : QUORUM EXIST\nLocal node escalation    : YES\n"), "{text}");
        assert!(text.ends_with("Status Name       : LEADER\nMembership Status : MEMBER\n\n"), "{text}");
    }

    #[test]
    fn an_older_watchdog_tells_less() {
        let older = REPLY
            .replace("\"MemberRemoteNodeCount\":2,\"NodesRequireForQuorum\":2,", "")
            .replace("\"Membership\":0,\"MembershipString\":\"MEMBER\",", "");
        let cluster = serde_json::from_str::<Cluster>(&older).expect("cluster");
        assert!(plain(&cluster).starts_with("3 0 YES"));
        assert!(plain(&cluster).ends_with("LEADER 0 NOT-Available\n"));
        assert!(serde_json::from_str::<Cluster>("{}").is_err());
    }
}
