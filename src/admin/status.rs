//! SHOW POOL_STATUS: the parameters in force (show-commands 5.8). Its rows are also the records of PCP `B` (pcp 5.5).
//!
//! Which parameters, in which order and under which names is history that monitoring scripts know by heart, so it is
//! written down here; what a value is and what it means comes from the catalogue. Enumerations are numbers here, unlike in
//! PGPOOL SHOW.

use super::cache::Figures;
use super::{View, words};
use crate::config::catalogue::{Kind, Parameter, parameter};
use crate::config::choices::Choice;
use crate::config::value::Value;
use crate::config::{HIDDEN, MessageLevel};
use crate::state::Delay;
use chrono::{DateTime, Local};

/// Bytes of a name, a value and a description at most: what PCP clients have room for (pcp 5.5).
const LIMITS: [usize; 3] = [63, 511, 79];

/// One item.
struct Item {
    name: String,
    value: String,
    description: String,
}

columns! { it: Item;
    item => cut(&it.name, LIMITS[0]),
    value => cut(&it.value, LIMITS[1]),
    description => abridge(&it.description, LIMITS[2]),
}

/// Parameters in front of the watchdog nodes.
#[rustfmt::skip]
const FIRST: &[&str] = &[
    "backend_clustering_mode", "listen_addresses", "port", "unix_socket_directories", "unix_socket_group",
    "unix_socket_permissions", "pcp_listen_addresses", "pcp_port", "pcp_socket_dir", "enable_pool_hba", "pool_passwd",
    "authentication_timeout", "allow_clear_text_frontend_auth", "ssl", "ssl_key", "ssl_cert", "ssl_ca_cert",
    "ssl_ca_cert_dir", "ssl_crl_file", "ssl_ciphers", "ssl_prefer_server_ciphers", "ssl_ecdh_curve",
    "ssl_dh_params_file", "ssl_passphrase_command", "listen_backlog_multiplier", "serialize_accept",
    "reserved_connections", "max_pool", "process_management_mode", "process_management_strategy", "num_init_children",
    "min_spare_children", "max_spare_children", "child_life_time", "child_max_connections", "connection_life_time",
    "client_idle_limit", "log_destination", "log_line_prefix", "log_error_verbosity", "client_min_messages",
    "log_min_messages", "log_connections", "log_disconnections", "log_pcp_processes", "log_hostname", "log_statement",
    "log_per_node_statement", "notice_per_node_statement", "log_client_messages", "log_backend_messages",
    "log_standby_delay", "syslog_facility", "syslog_ident", "pid_file_name", "work_dir", "connection_cache",
    "reset_query_list", "replicate_select", "insert_lock", "lobj_lock_table", "replication_stop_on_mismatch",
    "failover_if_affected_tuples_mismatch", "load_balance_mode", "ignore_leading_white_space",
    "read_only_function_list", "write_function_list", "primary_routing_query_pattern_list",
    "disable_load_balance_on_write", "dml_adaptive_object_relationship_list", "statement_level_load_balance",
    "sr_check_period", "sr_check_user", "sr_check_database", "delay_threshold", "delay_threshold_by_time",
    "prefer_lower_delay_standby", "follow_primary_command", "user_redirect_preference_list",
    "database_redirect_preference_list", "app_name_redirect_preference_list", "allow_sql_comments",
    "health_check_period", "health_check_timeout", "health_check_user", "health_check_database",
    "health_check_max_retries", "health_check_retry_delay", "connect_timeout", "failover_command", "failback_command",
    "failover_on_backend_error", "failover_on_backend_shutdown", "detach_false_primary", "auto_failback",
    "auto_failback_interval", "recovery_user", "recovery_database", "recovery_1st_stage_command",
    "recovery_2nd_stage_command", "recovery_timeout", "search_primary_node_timeout", "client_idle_limit_in_recovery",
    "relcache_expire", "relcache_size", "check_temp_table", "check_unlogged_table", "enable_shared_relcache",
    "relcache_query_target", "use_watchdog", "wd_ipc_socket_dir", "wd_lifecheck_method",
    "clear_memqcache_on_escalation", "wd_escalation_command", "wd_de_escalation_command", "trusted_servers",
    "trusted_server_command", "delegate_ip", "wd_priority", "wd_interval", "ping_path", "if_cmd_path", "if_up_cmd",
    "if_down_cmd", "arping_path", "arping_cmd", "wd_heartbeat_keepalive", "wd_heartbeat_deadtime", "wd_life_point",
    "wd_lifecheck_query", "wd_lifecheck_dbname", "wd_lifecheck_user",
];

/// Behind the addresses for heartbeats.
const SECOND: &[&str] = &[
    "wd_monitoring_interfaces_list",
    "memory_cache_enabled",
    "memqcache_method",
    "memqcache_memcached_host",
    "memqcache_memcached_port",
    "memqcache_total_size",
    "memqcache_max_num_cache",
    "memqcache_expire",
    "memqcache_auto_cache_invalidation",
    "memqcache_maxcache",
    "memqcache_cache_block_size",
];

/// Behind the figures of the query cache.
const THIRD: &[&str] = &["cache_safe_memqcache_table_list", "cache_unsafe_memqcache_table_list"];

const WATCHDOG_NODE: &[&str] = &["hostname", "pgpool_port", "wd_port"];
const HEARTBEAT: &[&str] = &["heartbeat_hostname", "heartbeat_device", "heartbeat_port"];

/// Parameters that say so when they are not set.
const NULL_IF_UNSET: &[&str] = &[
    "dml_adaptive_object_relationship_list",
    "user_redirect_preference_list",
    "database_redirect_preference_list",
    "app_name_redirect_preference_list",
];

/// PGPOOL SHOW hides the name of this file, and it has always stood here.
const NO_SECRETS: &[&str] = &["pool_passwd"];

/// All items.
pub(super) fn rows(view: &View<'_>) -> Vec<Vec<String>> {
    let mut list = List { view, items: Vec::with_capacity(180) };
    FIRST.iter().for_each(|name| list.parameter(name, None));
    for index in (0..view.settings.watchdog_nodes.len()).filter(|at| view.settings.watchdog_nodes[*at].pgpool_port != 0)
    {
        WATCHDOG_NODE.iter().for_each(|name| list.parameter(name, Some(index)));
    }
    for index in (0..view.settings.heartbeats.len()).filter(|at| view.settings.heartbeats[*at].in_use()) {
        HEARTBEAT.iter().for_each(|name| list.parameter(name, Some(index)));
    }
    SECOND.iter().for_each(|name| list.parameter(name, None));
    list.cache();
    THIRD.iter().for_each(|name| list.parameter(name, None));
    list.backends();
    list.items.iter().map(values).collect()
}

struct List<'a> {
    view: &'a View<'a>,
    items: Vec<Item>,
}

impl List<'_> {
    fn add(&mut self, name: impl Into<String>, value: impl ToString, description: &str) {
        self.items.push(Item { name: name.into(), value: value.to_string(), description: description.to_owned() });
    }

    fn parameter(&mut self, name: &str, index: Option<usize>) {
        let Some(found) = parameter(name) else { return };
        let value = text(found, &found.value(self.view.settings, index));
        let is_secret = found.hidden_value && !NO_SECRETS.contains(&name) && !value.is_empty();
        self.add(found.full_name(index), if is_secret { HIDDEN.to_owned() } else { value }, found.doc);
    }

    fn cache(&mut self) {
        let figures = Figures::of(self.view.shared);
        if let Some(directory) = parameter("memqcache_oiddir") {
            self.add("memqcache_cache_oiddir", &self.view.settings.memqcache_oiddir, directory.doc);
        }
        let started = self.view.shared.started();
        self.add("memqcache_stats_start_time", ctime(started), "Since when hits and misses are counted.");
        self.add("memqcache_no_cache_hits", figures.misses, "Queries that were not answered from the cache.");
        self.add("memqcache_cache_hits", figures.hits, "Queries that were answered from the cache.");
    }

    fn backends(&mut self) {
        let settings = self.view.settings;
        let cluster = self.view.shared.nodes().view();
        for (id, _) in settings.used_nodes() {
            self.parameter("backend_hostname", Some(id));
            self.parameter("backend_port", Some(id));
            let share = format!("{:.6}", settings.weight_share(id));
            self.add(format!("backend_weight{id}"), share, "Share of the balanced reads that the node gets.");
            self.parameter("backend_data_directory", Some(id));
            let status = cluster.nodes.get(id).map_or("unused", words::status);
            self.add(format!("backend_status{id}"), status, "State of the node.");
            let delay = match self.view.shared.delays().last_known(id) {
                Delay::Unmeasured | Delay::Unknown => 0,
                Delay::Bytes(bytes) => bytes,
                Delay::Time(time) => u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
            };
            self.add(format!("standby_delay{id}"), delay, "How far the node is behind, in bytes or microseconds.");
            self.parameter("backend_flag", Some(id));
            self.parameter("backend_application_name", Some(id));
        }
    }
}

/// The value as this table writes it.
fn text(parameter: &Parameter, value: &Value) -> String {
    match (value, &parameter.kind) {
        (Value::Bool(on), _) => u8::from(*on).to_string(),
        (Value::Int(number), Kind::Int(kind)) if !kind.octal => number.to_string(),
        (Value::Choice(position), _) if parameter.name != "syslog_facility" => number(parameter.name, *position),
        (Value::StringList(list), Kind::StringList { separator }) => list.join(separator.encode_utf8(&mut [0; 4])),
        (value, kind) => match value.text(kind) {
            text if text.is_empty() && NULL_IF_UNSET.contains(&parameter.name) => "(null)".to_owned(),
            text => text,
        },
    }
}

/// The number of an enumeration's value.
fn number(name: &str, position: usize) -> String {
    match name {
        "client_min_messages" | "log_min_messages" => {
            MessageLevel::ALL.get(position).map_or(0, |level| level.severity().number()).to_string()
        }
        "log_error_verbosity" => position.to_string(),
        _ => (position + 1).to_string(),
    }
}

/// A time as the C function of that name writes it, `Sun Nov 22 19:27:17 2026`.
fn ctime(seconds: u64) -> String {
    let at = i64::try_from(seconds).ok().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
    at.map(|at| at.with_timezone(&Local).format("%a %b %e %H:%M:%S %Y").to_string()).unwrap_or_default()
}

/// The beginning of `text`, at most `limit` bytes of whole characters.
fn cut(text: &str, limit: usize) -> &str {
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

/// The beginning of a description, at most `limit` bytes: what it says first, or so many words.
fn abridge(text: &str, limit: usize) -> &str {
    let beginning = cut(text, limit);
    if beginning.len() == text.len() {
        return text;
    }
    let ends = [". ", "; ", ": ", " ("].iter().filter_map(|end| beginning.rfind(end)).max();
    let end = ends.filter(|end| *end > limit / 2).or_else(|| beginning.rfind(' '));
    beginning[..end.unwrap_or(beginning.len())].trim_end_matches([',', ';', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::config::catalogue::PARAMETERS;
    use crate::config::load_text;
    use crate::state::{Cluster, Limits, Node, NodeStatus, Shared};
    use std::collections::HashMap;
    use std::path::Path;
    use std::time::Duration;

    fn show(text: &str) -> Vec<Vec<String>> {
        let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
        let up = Node { status: NodeStatus::Up, ..Node::default() };
        shared.nodes().update(|cluster: &mut Cluster| cluster.nodes = vec![up; 2]).expect("update");
        shared.delays().set(1, Delay::Time(Duration::from_millis(2500)));
        let settings: Settings = load_text(Path::new("/etc/pgpool.conf"), text.as_bytes()).expect("settings").settings;
        rows(&View { settings: &settings, shared: &shared, load_balance_node: 0, listeners: &[] })
    }

    const NODES: &str = "backend_hostname0 = 'a'\nbackend_port0 = 5432\nbackend_weight0 = 1\n\
                         backend_hostname1 = 'b'\nbackend_port1 = 5433\nbackend_weight1 = 3\n\
                         backend_data_directory1 = '/data'\nbackend_flag1 = 'DISALLOW_TO_FAILOVER|ALWAYS_PRIMARY'\n\
                         backend_application_name1 = 'b'\n";

    #[test]
    fn there_are_as_many_items_as_there_were() {
        let names = |rows: Vec<Vec<String>>| rows.into_iter().map(|row| row[0].clone()).collect::<Vec<_>>();
        let rows = names(show(NODES));
        assert_eq!(rows.len(), 149 + 2 * 8);
        assert_eq!(rows[0], "backend_clustering_mode");
        assert_eq!(
            rows[149..157],
            [
                "backend_hostname0",
                "backend_port0",
                "backend_weight0",
                "backend_data_directory0",
                "backend_status0",
                "standby_delay0",
                "backend_flag0",
                "backend_application_name0"
            ]
        );
        let watchdog = "hostname0 = 'a'\nwd_port0 = 9000\npgpool_port0 = 9999\nhostname2 = 'c'\npgpool_port2 = 9998\n\
                        heartbeat_hostname0 = 'a'\nheartbeat_port0 = 9694\nheartbeat_device0 = 'eth0'\n";
        let rows = names(show(&format!("{NODES}{watchdog}")));
        assert_eq!(rows.len(), 149 + 2 * 8 + 2 * 3 + 3);
        let at = rows.iter().position(|name| name == "wd_lifecheck_user").expect("item") + 1;
        assert_eq!(
            rows[at..at + 6],
            ["hostname0", "pgpool_port0", "wd_port0", "hostname2", "pgpool_port2", "wd_port2"]
        );
        assert_eq!(rows[at + 6..at + 9], ["heartbeat_hostname0", "heartbeat_device0", "heartbeat_port0"]);
    }

    /// The catalogue's mark and the lists here say the same.
    #[test]
    fn the_catalogue_agrees() {
        let others = ["memqcache_oiddir", "backend_hostname", "backend_port", "backend_weight"];
        let others = others.iter().chain(&["backend_data_directory", "backend_flag", "backend_application_name"]);
        let mut listed: Vec<_> =
            [FIRST, SECOND, THIRD, WATCHDOG_NODE, HEARTBEAT].into_iter().flatten().chain(others).copied().collect();
        let marked = PARAMETERS.iter().filter(|parameter| parameter.in_pool_status).map(|parameter| parameter.name);
        let mut marked: Vec<_> = marked.collect();
        listed.sort_unstable();
        marked.sort_unstable();
        assert_eq!(listed, marked);
        assert!(NO_SECRETS.iter().all(|name| parameter(name).is_some_and(|found| found.hidden_value)));
    }

    #[test]
    fn values_are_written_as_scripts_expect() {
        let more = "log_min_messages = debug\nclient_min_messages = notice\nlog_error_verbosity = terse\n\
                    backend_clustering_mode = raw\nchild_life_time = 5min\ndelay_threshold = 1kB\nssl = off\n\
                    log_destination = 'stderr'\nreset_query_list = ' ABORT ;DISCARD ALL'\nunix_socket_permissions = 0700\n\
                    listen_addresses = 'a, b'\nconnection_cache = on\ncheck_temp_table = on\nsr_check_password = 'secret'\n\
                    app_name_redirect_preference_list = 'psql:primary'\nsyslog_facility = 'LOCAL3'\nconnect_timeout = 3000\n";
        let rows = show(&format!("{NODES}{more}"));
        let values: HashMap<_, _> = rows.iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
        for (name, value) in [
            ("log_min_messages", "13"),
            ("client_min_messages", "18"),
            ("log_error_verbosity", "0"),
            ("backend_clustering_mode", "4"),
            ("process_management_mode", "1"),
            ("check_temp_table", "1"),
            ("memqcache_method", "1"),
            ("wd_lifecheck_method", "2"),
            ("child_life_time", "300"),
            ("delay_threshold", "1024"),
            ("connect_timeout", "3000"),
            ("ssl", "0"),
            ("connection_cache", "1"),
            ("log_destination", "stderr"),
            ("syslog_facility", "LOCAL3"),
            ("reset_query_list", "ABORT;DISCARD ALL"),
            ("listen_addresses", "a,b"),
            ("unix_socket_permissions", "0700"),
            ("user_redirect_preference_list", "(null)"),
            ("app_name_redirect_preference_list", "psql:primary"),
            ("failover_command", ""),
            ("backend_weight1", "0.750000"),
            ("backend_status1", "up"),
            ("standby_delay1", "2500000"),
            ("backend_flag0", "ALLOW_TO_FAILOVER"),
            ("backend_flag1", "DISALLOW_TO_FAILOVER|ALWAYS_PRIMARY"),
            ("backend_data_directory1", "/data"),
            ("memqcache_cache_hits", "0"),
        ] {
            assert_eq!(values.get(name), Some(&value), "{name}");
        }
        let started = values["memqcache_stats_start_time"];
        assert_eq!(started.len(), 24, "{started}");
        assert!(!values.values().any(|value| value.contains("secret")));
    }

    #[test]
    fn descriptions_end_with_a_word() {
        assert_eq!(abridge("All of it, as it is.", 20), "All of it, as it is.");
        assert_eq!(abridge("What it says first; and more.", 25), "What it says first");
        assert_eq!(abridge("Words one, after the other", 13), "Words one");
        assert_eq!(abridge("Oneverylongwordindeed", 5), "Oneve");
        for row in show(NODES).iter().filter(|row| row[2].len() > 40) {
            let whole = PARAMETERS.iter().find(|parameter| parameter.doc.starts_with(&row[2]));
            let next = whole.and_then(|whole| whole.doc[row[2].len()..].chars().next());
            assert!(next.is_none_or(|next| !next.is_alphanumeric()), "{row:?}");
        }
    }

    #[test]
    fn nothing_is_longer_than_clients_have_room_for() {
        let long = format!("{NODES}failover_command = '{}'\n", "ü".repeat(300));
        let rows = show(&long);
        assert!(rows.iter().all(|row| row.iter().zip(LIMITS).all(|(text, limit)| text.len() <= limit)));
        let value = rows.iter().find(|row| row[0] == "failover_command").map(|row| row[1].as_str());
        assert_eq!(value, Some("ü".repeat(255).as_str()));
        assert!(rows.iter().all(|row| !row[2].is_empty()));
    }

    #[test]
    fn ctime_is_that_of_c() {
        let text = ctime(1_795_376_294);
        assert!(text.starts_with("Sun Nov 22 ") || text.starts_with("Mon Nov 23 "), "{text}");
        assert!(text.ends_with(" 2026"), "{text}");
    }
}
