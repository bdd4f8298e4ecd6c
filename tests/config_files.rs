//! Files, includes, old names and cross-checks, as a user meets them.

use pgpool::config::{self, Problems};
use std::path::{Path, PathBuf};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pgpool-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const NODE: &str = "backend_hostname0 = 'a'\nbackend_port0 = 5432\nbackend_weight0 = 1\n";

fn load(text: &str) -> config::LoadResult {
    config::load_text(Path::new("/nowhere/etc/pgpool.conf"), format!("{NODE}{text}").as_bytes())
}

fn messages(problems: &Problems) -> Vec<&str> {
    problems.iter().map(|problem| problem.report.message.as_str()).collect()
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = load(text).unwrap_or_else(|problems| panic!("{problems}"));
    messages(&loaded.warnings).into_iter().map(str::to_owned).collect()
}

/// The only error of a text: message and detail.
fn error(text: &str) -> (String, Option<String>) {
    let problems = load(text).expect_err(text);
    let errors: Vec<_> = problems.iter().filter(|problem| problem.is_error()).collect();
    assert_eq!(errors.len(), 1, "{problems}");
    (errors[0].report.message.clone(), errors[0].report.detail.clone())
}

#[test]
fn a_missing_or_empty_file_is_refused() {
    let problems = config::load(Path::new("/nowhere/pgpool.conf")).unwrap_err();
    assert_eq!(messages(&problems)[0], "could not open configuration file \"/nowhere/pgpool.conf\"");
    let problems = config::load(Path::new("/dev/zero")).unwrap_err();
    assert_eq!(problems.iter().next().unwrap().report.detail.as_deref(), Some("it is not a regular file"));
    let problems = config::load_text(Path::new("/nowhere/pgpool.conf"), b"# nothing\n\n").unwrap_err();
    assert_eq!(messages(&problems), ["configuration file \"/nowhere/pgpool.conf\" contains no settings"]);
}

#[test]
fn includes_are_read_in_place_from_the_directory_of_the_including_file() {
    let folder = Folder::new("include");
    folder.write("conf.d/nodes.conf", NODE);
    folder.write("conf.d/all.conf", "include 'nodes.conf'\nport = 9997");
    let main = folder.write("pgpool.conf", "port = 9998\ninclude = 'conf.d/all.conf' # last line without its end");
    let loaded = config::load(&main).unwrap();
    assert_eq!((loaded.settings.port, loaded.settings.nodes.len()), (9997, 1));
    assert_eq!(loaded.files.len(), 3);
    let duplicate = loaded.warnings.iter().next().unwrap();
    assert_eq!(duplicate.report.message, "\"port\" is set more than once, the last value counts");
    assert!(duplicate.report.detail.as_ref().unwrap().contains("pgpool.conf:1:1"));
    assert!(duplicate.place.as_ref().unwrap().file.ends_with("conf.d/all.conf"));
}

#[test]
fn includes_are_bounded_in_depth_and_number() {
    let folder = Folder::new("endless");
    let itself = folder.write("pgpool.conf", format!("{NODE}include = 'pgpool.conf'\ninclude = 'pgpool.conf'\n"));
    let problems = config::load(&itself).unwrap_err();
    let expected =
        format!("could not open configuration file \"{}\": maximum nesting depth exceeded", itself.display());
    assert_eq!(messages(&problems), [expected.as_str(), expected.as_str()], "each include is told once: {problems}");
    assert_eq!(problems.iter().next().unwrap().report.hint.as_deref(), Some("The file includes itself."));
    let lost = folder.write("lost.conf", format!("{NODE}include = 'missing.conf'\n"));
    let problems = config::load(&lost).unwrap_err();
    let place = problems.iter().next().unwrap().place.clone().unwrap();
    assert_eq!((place.line, place.column), (4, 11));
}

#[test]
fn relative_paths_are_taken_from_the_directory_of_the_file() {
    let settings = load("pid_file_name = 'run/pgpool.pid'\nssl_cert = '../c.crt'\nwork_dir = 'w'").unwrap().settings;
    assert_eq!(settings.pid_file_name, "/nowhere/etc/run/pgpool.pid");
    assert_eq!(settings.ssl_cert, "/nowhere/c.crt");
    assert_eq!(settings.pool_passwd, "/nowhere/etc/pool_passwd");
    assert_eq!(settings.work_dir, "w", "from the working directory");
    assert_eq!(settings.ssl_key, "");
}

#[test]
fn line_ends_and_marks_of_other_systems_do_no_harm() {
    let text = format!("\u{feff}{}port = 9998\r\nlog_line_prefix = 'x' # y\r\n", NODE.replace('\n', "\r\n"));
    let loaded = config::load_text(Path::new("/nowhere/pgpool.conf"), text.as_bytes()).unwrap();
    assert_eq!((loaded.settings.port, loaded.settings.log_line_prefix.as_str()), (9998, "x"));
}

#[test]
fn all_errors_come_at_once_with_their_places() {
    let problems = load("port = 80\nssl = maybe\nbackend_portx = 1\nmax_pool =\nchild_life_time = 5 min").unwrap_err();
    let places: Vec<_> = problems.iter().filter_map(|p| p.place.as_ref()).map(|p| (p.line, p.column)).collect();
    assert_eq!(places, [(4, 8), (5, 7), (6, 1), (7, 1), (8, 21)], "{problems}");
}

#[test]
fn a_value_that_is_not_utf_8_is_named() {
    let text = [NODE.as_bytes(), b"sr_check_password = 'contrase\xf1a' # espa\xf1ol\n"].concat();
    let problems = config::load_text(Path::new("/nowhere/pgpool.conf"), &text).unwrap_err();
    let problem = problems.iter().next().unwrap();
    assert_eq!(problem.report.detail.as_deref(), Some("The value is not valid UTF-8."));
    assert_eq!(problem.place.as_ref().unwrap().column, 21);
}

#[test]
fn names_of_older_releases_are_understood_with_one_warning_each() {
    let text = "socket_dir = '/s'\ndelegate_IP = '10.0.0.1'\nfollow_master_command = 'f'\nlogdir = '/l'\n\
                fail_over_on_backend_error = off\nwhite_function_list = 'w'\nwd_hostname = 'me'\n\
                wd_heartbeat_port = 9694\nheartbeat_hostname0 = 'me'\nwd_lifecheck_dbname = 'd'";
    let loaded = load(text).unwrap_or_else(|problems| panic!("{problems}"));
    let expected = [
        "socket_dir is changed to unix_socket_directories",
        "delegate_IP is changed to delegate_ip",
        "follow_master_command is changed to follow_primary_command",
        "logdir is changed to work_dir",
        "fail_over_on_backend_error is changed to failover_on_backend_error",
        "white_function_list is changed to read_only_function_list",
        "wd_hostname is changed to hostname0",
        "wd_heartbeat_port is changed to heartbeat_port0",
    ];
    assert_eq!(messages(&loaded.warnings), expected);
    let settings = loaded.settings;
    assert_eq!(*settings.unix_socket_directories, ["/s"]);
    assert_eq!((settings.delegate_ip.as_str(), settings.follow_primary_command.as_str()), ("10.0.0.1", "f"));
    assert_eq!((settings.work_dir.as_str(), settings.failover_on_backend_error), ("/l", false));
    assert!(settings.read_only_function_list.is_match("w"));
    assert_eq!(settings.heartbeats[0].port, 9694);
}

#[test]
fn old_and_new_name_together() {
    let settings = |text| load(text).unwrap().settings;
    assert_eq!(settings("work_dir = '/new'\nlogdir = '/old'").work_dir, "/old", "the later line wins");
    assert_eq!(settings("work_dir = '/new'\nlogdir = ''").work_dir, "/new", "an empty logdir changes nothing");
    let both = settings("unix_socket_directories = '/new'\nsocket_dir = '/old'");
    assert_eq!(*both.unix_socket_directories, ["/new"], "the original ignores this old name");
}

#[test]
fn unknown_and_removed_names_are_warned_of() {
    let text =
        "listen_adresses = '*'\nmaster_slave_mode = on\nother_pgpool_port0 = 1\nbackend_hostnam1 = 'x'\nzzzzzz = 1";
    let loaded = load(text).unwrap();
    let hints: Vec<_> = loaded.warnings.iter().map(|p| p.report.hint.as_deref().unwrap()).collect();
    let expected = [
        "Did you mean \"listen_addresses\"?",
        "Use backend_clustering_mode.",
        "Use pgpool_portN.",
        "Did you mean \"backend_hostname1\"?",
        "The line has no effect.",
    ];
    assert_eq!(hints, expected);
    assert_eq!(messages(&loaded.warnings)[0], "unrecognized configuration parameter \"listen_adresses\"");
}

#[test]
fn cross_checks_carry_the_known_messages() {
    let cases = [
        (
            "process_management_mode = dynamic\nmin_spare_children = 10",
            "invalid configuration, max_spare_children:10 must be greater than min_spare_children:10",
            None,
        ),
        (
            "process_management_mode = dynamic\nnum_init_children = 8",
            "invalid configuration, max_spare_children:10 can't be greater than num_init_children:8",
            None,
        ),
        (
            "recovery_1st_stage_command = 'x'",
            "invalid configuration, recovery_1st_stage_command and recovery_2nd_stage_command requires \
             backend_data_directory to be set",
            None,
        ),
        (
            "replication_mode = on",
            "invalid configuration, failover_when_quorum_exists is not allowed in native replication mode",
            None,
        ),
        (
            "memqcache_maxcache = 2MB",
            "invalid memory cache configuration",
            Some("memqcache_cache_block_size 1048576 should be greater or equal to memqcache_maxcache 2097152"),
        ),
        (
            "memqcache_total_size = 512kB",
            "invalid memory cache configuration",
            Some("memqcache_total_size 524288 should be greater or equal to memqcache_cache_block_size 1048576"),
        ),
        ("heartbeat_port1 = 9694", "invalid watchdog configuration", Some("heartbeat_hostname1 is not defined")),
        (
            "use_watchdog = on",
            "Pgpool node id file /nowhere/etc/pgpool_node_id does not exist",
            Some("If watchdog is enable, pgpool_node_id file is required"),
        ),
    ];
    for (text, message, detail) in cases {
        assert_eq!(error(text), (message.to_owned(), detail.map(str::to_owned)), "{text}");
    }
}

#[test]
fn what_does_not_exist_yet_is_never_silently_ignored() {
    for mode in ["native_replication", "snapshot_isolation"] {
        let (message, detail) = error(&format!("backend_clustering_mode = {mode}"));
        assert_eq!(message, format!("mode {mode} is not supported yet"));
        assert!(detail.is_some_and(|detail| detail.contains("the nodes would differ")));
    }
    assert!(warnings("").is_empty());
}

#[test]
fn the_watchdog_needs_its_own_node() {
    let folder = Folder::new("watchdog");
    folder.write("pgpool_node_id", "1\n");
    let load = |more: &str| config::load(&folder.write("pgpool.conf", format!("{NODE}use_watchdog = on\n{more}")));
    let problems = load("hostname0 = 'x'\nwd_port0 = 9000\n").unwrap_err();
    let report = &problems.iter().next().unwrap().report;
    let detail = "no watchdog configuration for local pgpool node, pgpool node id: 1 ";
    assert_eq!((report.message.as_str(), report.detail.as_deref()), ("invalid watchdog configuration", Some(detail)));
    let loaded = load("wd_hostname = 'me'\nwd_port1 = 9000\n").unwrap();
    assert_eq!(loaded.own_node, Some(1));
    assert_eq!(loaded.settings.watchdog_nodes[1].hostname, "me");
}

#[test]
fn what_is_probably_not_meant_is_warned_of() {
    let cases = [
        ("backend_weight0 = 0", "load_balance_mode is on but no node has a backend_weight above 0"),
        (
            "backend_hostname0 = '/var/run/postgresql'",
            "nothing but the servers tells who clients are, and one is asked by a Unix socket",
        ),
        ("recovery_password = 'md5e10adc3949ba59abbe56e057f20f883e'", "recovery_password cannot be used"),
        ("backend_hostname1 = 'a'\nbackend_port1 = 5432", "nodes 0 and 1 are the same server: a:5432"),
        ("backend_hostname1 = 'a:5433'\nbackend_port1 = 5433", "node 1 has a port in its name: \"a:5433\""),
        ("backend_hostname1 = 'localhost'\nbackend_port1 = 9999", "node 1 is pgpool itself: localhost:9999"),
        (
            "replication_mode = on\nfailover_when_quorum_exists = off",
            "replication_mode does not select native replication any more",
        ),
        ("pcp_port = 9999", "port and pcp_port are the same: 9999"),
        ("metrics_listen_addresses = '*'\nmetrics_port = 9898", "pcp_port and metrics_port are the same: 9898"),
        (
            "num_init_children = 8\nreserved_connections = 8",
            "reserved_connections (8) leaves none of num_init_children (8) to clients: all are refused",
        ),
        ("this is not a setting", "unrecognized configuration parameter \"this\""),
        (
            "write_function_list = 'a('",
            "unable to add regex pattern for \"write_function_list\", invalid pattern: \"^a($\"",
        ),
    ];
    for (text, expected) in cases {
        assert!(warnings(text).iter().any(|message| message == expected), "{text}: {:?}", warnings(text));
    }
    let text = "backend_hostname1 = '::1'\nbackend_port1 = 9998\nbackend_hostname2 = '10.0.0.1'\nbackend_port2 = 9999\n\
                metrics_port = 9898\nnum_init_children = 8\nreserved_connections = 7";
    assert!(warnings(text).is_empty(), "{:?}", warnings(text));
}
