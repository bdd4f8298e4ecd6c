//! The laboratory of a real user: his pgpool.conf, a primary and three standbys, his functions, and what he does with
//! them - once with repmgr promoting, once with our failover.sh.

mod pcp;
mod repmgr;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Cluster, Pgpool, Stop, lines_in_order, wait_for};
use crate::scripts;
use crate::{needs_program, only_ours};
use pcp::needs_pcp_programs;
use repmgr::Repmgr;

const FILE: &str = include_str!("../../data/lab/pgpool.conf");
const PORT: &str = "SELECT current_setting('port'), * FROM clientes LIMIT 1";

const CONTENT: &str = "
CREATE ROLE pgpool_monitor LOGIN PASSWORD '123123' IN ROLE pg_monitor;
CREATE TABLE clientes (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, nombre text, consultas int DEFAULT 0);
CREATE FUNCTION insertar_cliente(quien text) RETURNS SETOF clientes LANGUAGE sql VOLATILE AS
    'INSERT INTO clientes (nombre) VALUES (quien) RETURNING *';
CREATE FUNCTION actualizar_cliente(cual int, quien text) RETURNS SETOF clientes LANGUAGE sql VOLATILE AS
    'UPDATE clientes SET nombre = quien WHERE id = cual RETURNING *';
CREATE FUNCTION eliminar_cliente(cual int) RETURNS SETOF clientes LANGUAGE sql VOLATILE AS
    'DELETE FROM clientes WHERE id = cual RETURNING *';
CREATE FUNCTION consultar_clientes() RETURNS SETOF clientes LANGUAGE sql VOLATILE AS
    'UPDATE clientes SET consultas = consultas + 1 RETURNING *';
CREATE FUNCTION contar_clientes() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM clientes';
INSERT INTO clientes (nombre) VALUES ('Ana')";

/// A primary and three standbys that are named as his file names them.
fn servers(promotes: Promotes) -> Cluster {
    let plan = Cluster::streaming(4).set("wal_log_hints", "on").set("full_page_writes", "on");
    let cluster = match promotes {
        Promotes::Repmgr => plan.set("shared_preload_libraries", "repmgr").start(),
        Promotes::OurScript | Promotes::Nobody => plan.start(),
    };
    (1..4).for_each(|id| point_at(&cluster, id, 0));
    wait_for("the standbys under their names", || streaming(&cluster, 0) == "server1 server2 server3");
    cluster.primary().sql(CONTENT);
    cluster.wait_replayed();
    cluster
}

/// Tells a running standby where its primary is.
fn point_at(cluster: &Cluster, id: usize, primary: usize) {
    let source = format!("host=127.0.0.1 port={} user=postgres", cluster.node(primary).port);
    cluster.node(id).sql(&format!("ALTER SYSTEM SET primary_conninfo = '{source} application_name=server{id}'"));
    cluster.node(id).sql("SELECT pg_reload_conf()");
}

fn streaming(cluster: &Cluster, id: usize) -> String {
    cluster.node(id).sql(
        "SELECT string_agg(application_name, ' ' ORDER BY application_name) FROM pg_stat_replication
         WHERE state = 'streaming'",
    )
}

#[derive(Clone, Copy, PartialEq)]
enum Promotes {
    Repmgr,
    OurScript,
    Nobody,
}

/// A pgpool with his file: other places and ports, shorter periods, the log where the harness reads it.
fn prepare(cluster: &Cluster, promotes: Promotes) -> Pgpool {
    let pool = Pgpool::on(cluster).prepare();
    let prepared = std::fs::read_to_string(pool.path("pgpool.conf")).expect("pgpool.conf");
    let pcp_port = prepared.lines().find(|line| line.starts_with("pcp_port")).expect("pcp_port").to_owned();
    let mut text = FILE.to_owned();
    let mut change = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} is not in the file");
        text = text.replace(from, to);
    };
    let here = pool.path("");
    change("/etc/pgpool-II/info", here.display().to_string().trim_end_matches('/'));
    change("port = 9999", &format!("port = {}", pool.port));
    change("pcp_port = 9898", &pcp_port);
    for node in cluster.nodes() {
        change(&format!("= {}", 55160 + node.id), &format!("= {}", node.port));
    }
    change("logging_collector = on", "logging_collector = off");
    change("num_init_children = 100", "num_init_children = 20");
    change("sr_check_period = 5 ", "sr_check_period = 1 ");
    change("health_check_period = 10 ", "health_check_period = 1 ");
    change("health_check_retry_delay = 2 ", "health_check_retry_delay = 1 ");
    if promotes == Promotes::OurScript {
        for (parameter, command) in scripts::commands(&here) {
            change(&format!("{parameter} = ''"), &format!("{parameter} = '{command}'"));
        }
        for node in cluster.nodes() {
            let (id, directory) = (node.id, node.data_directory().display());
            change(
                &format!("backend_application_name{id}"),
                &format!("backend_data_directory{id} = '{directory}'\nbackend_application_name{id}"),
            );
        }
        let settings = pcp::script_settings(&pool);
        scripts::install(&here, cluster, &format!("APPLICATION_NAME='server{{id}}'\n{settings}"));
    }
    std::fs::write(pool.path("pgpool.conf"), text).expect("pgpool.conf");
    pool
}

fn start(pool: Pgpool) -> Pgpool {
    pcp::set_up(&pool);
    pool.started()
}

fn status(pool: &Pgpool) -> String {
    std::fs::read_to_string(pool.path("pgpool_status")).unwrap_or_default().replace('\n', " ")
}

fn attach(pool: &Pgpool, id: usize) {
    let done = || pool.log().matches("=== Failback done.").count();
    let before = done();
    let answer = pcp::run(pool, "pcp_attach_node", &["-n", &id.to_string()]).succeeded();
    assert_eq!(answer, "pcp_attach_node -- Command Successful");
    wait_for(&format!("node {id} to be attached"), || done() > before);
    assert_eq!(status(pool).split(' ').nth(id), Some("up"));
}

/// Step 1: a node that was not there at the start is added by hand, then all are seen for what they are.
fn starts(pool: Pgpool, cluster: &Cluster) -> Pgpool {
    cluster.node(3).stop(Stop::Fast);
    let pool = start(pool);
    assert!(pool.log().contains(&format!("DB node 3 (127.0.0.1:{}) is not used", cluster.node(3).port)));
    cluster.node(3).start();
    attach(&pool, 3);
    looks_around(&pool, cluster);
    let info = pcp::run(&pool, "pcp_node_info", &["-n", "0"]).succeeded();
    assert!(info.starts_with(&format!("127.0.0.1 {} ", cluster.node(0).port)) && info.contains(" primary "), "{info}");
    assert_eq!(pcp::run(&pool, "pcp_node_info", &["-a"]).succeeded().lines().count(), 4);
    pool
}

fn looks_around(pool: &Pgpool, cluster: &Cluster) {
    let mut session = pool.connect();
    let rows = session.query("SHOW POOL_NODES").succeeded().rows();
    for (node, row) in cluster.nodes().iter().zip(&rows) {
        let shown: Vec<_> = row.iter().map(|value| value.as_deref().unwrap_or_default()).collect();
        let role = if node.id == 0 { "primary" } else { "standby" };
        assert_eq!(shown[..3], [&node.id.to_string(), "127.0.0.1", &node.port.to_string()]);
        // A node that nobody has used yet is waiting.
        assert!(["up", "waiting"].contains(&shown[3]) && shown[6] == role, "{rows:?}");
    }
    wait_for("the state of replication", || {
        let rows = session.query("SHOW POOL_NODES").succeeded().rows();
        rows.iter().filter(|row| row.iter().flatten().any(|value| value == "streaming")).count() == 3
    });
    assert!(!session.query("SHOW POOL_PROCESSES").succeeded().rows().is_empty());
}

/// Step 2: reads go everywhere, what writes goes to the primary.
fn reads_and_writes(pool: &Pgpool, cluster: &Cluster) {
    let ports: BTreeSet<String> = cluster.nodes().iter().map(|node| node.port.to_string()).collect();
    let mut seen = BTreeSet::new();
    wait_for("reads on all nodes", || {
        seen.insert(pool.connect().value(PORT));
        seen == ports
    });
    let mut session = pool.connect();
    let id = session.value("SELECT * FROM insertar_cliente('Luis')");
    assert_eq!(
        session.query(&format!("SELECT nombre FROM actualizar_cliente({id}, 'Eva')")).succeeded().column(),
        ["Eva"]
    );
    session.query("SELECT * FROM consultar_clientes()").succeeded();
    assert_eq!(session.value(&format!("SELECT id FROM eliminar_cliente({id})")), id);
    cluster.wait_replayed();
    assert_eq!(session.value("SELECT contar_clientes()"), "1");
    let primary = cluster.primary().port.to_string();
    session.query("BEGIN").succeeded();
    session.query("INSERT INTO clientes (nombre) VALUES ('Juan')").succeeded();
    assert_eq!(session.value(PORT), primary);
    session.query("ROLLBACK").succeeded();
    for statement in [
        "SELECT current_setting('port'), * FROM clientes LIMIT 1 FOR UPDATE",
        "SELECT current_setting('port'), * FROM clientes LIMIT 1 FOR SHARE",
    ] {
        assert_eq!(session.value(statement), primary);
    }
    session.query("SELECT * INTO copia FROM clientes").succeeded();
}

/// Step 3: a standby is stopped; nobody who reads hears of it.
fn loses_a_standby(pool: &Pgpool, cluster: &Cluster) {
    let port = cluster.node(1).port;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let mut session = pool.connect();
                        (0..20).for_each(|_| _ = session.query(PORT).succeeded());
                    }
                })
            })
            .collect();
        cluster.node(1).stop(Stop::Fast);
        let done = format!("=== Failover done. shutdown host 127.0.0.1({port}) ===");
        let is_done = crate::harness::eventually(Duration::from_secs(30), || pool.log().contains(&done));
        is_over.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap_or_else(|_| panic!("a read failed\n{}", pool.log()));
        }
        assert!(is_done, "{}", pool.log());
    });
    lines_in_order(
        &pool.log(),
        &[
            "received degenerate backend request for node_id: 1 from pid [",
            &format!("=== Starting degeneration. shutdown host 127.0.0.1({port}) ==="),
            "Do not restart children because we are switching over node id 1",
            "failover: set new primary node: 0",
            &format!("=== Failover done. shutdown host 127.0.0.1({port}) ==="),
        ],
    );
    cluster.node(1).start();
    wait_for("standby 1 to stream", || streaming(cluster, 0) == "server1 server2 server3");
    attach(pool, 1);
}

/// Step 4: the primary is killed; another takes its place. Who comes meanwhile waits, and hears nothing of it. How long he
/// has waited.
fn loses_the_primary(pool: &Pgpool, cluster: &Cluster, heir: usize) -> Duration {
    cluster.node(0).kill();
    let begun = Instant::now();
    pool.connect().query("SELECT nombre FROM insertar_cliente('Rosa')").succeeded();
    let waited = begun.elapsed();
    wait_for("the end of the failover", || pool.log().contains("failover of DB node 0 took"));
    lines_in_order(
        &pool.log(),
        &[
            "=== Starting degeneration. shutdown host 127.0.0.1(",
            "Restart all children",
            "find_primary_node_repeatedly: waiting for finding a primary node",
            &format!("find_primary_node: primary node is {heir}"),
            &format!("failover: set new primary node: {heir}"),
            "=== Failover done. shutdown host 127.0.0.1(",
        ],
    );
    assert_eq!(cluster.node(heir).sql("SELECT count(*) FROM clientes WHERE nombre = 'Rosa'"), "1");
    waited
}

fn reads_everywhere(pool: &Pgpool, cluster: &Cluster, nodes: &[usize]) {
    let ports: BTreeSet<String> = nodes.iter().map(|id| cluster.node(*id).port.to_string()).collect();
    let mut seen = BTreeSet::new();
    wait_for("reads on all nodes", || {
        seen.insert(pool.connect().value(PORT));
        seen == ports
    });
}

#[test]
fn repmgr_promotes() {
    only_ours!("other details");
    needs_program!("repmgr");
    needs_pcp_programs!();
    let cluster = servers(Promotes::Repmgr);
    let repmgr = Repmgr::start(&cluster, 2);
    let pool = starts(prepare(&cluster, Promotes::Repmgr), &cluster);
    reads_and_writes(&pool, &cluster);
    loses_a_standby(&pool, &cluster);
    repmgr.wait_complete(&cluster);
    let waited = loses_the_primary(&pool, &cluster, 2);
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    wait_for("the others to follow", || streaming(&cluster, 2) == "server1 server3");
    // The other standbys have never been away.
    assert_eq!(status(&pool), "down up up up ");
    reads_everywhere(&pool, &cluster, &[1, 2, 3]);
}

#[test]
fn our_script_promotes() {
    only_ours!("other details");
    needs_program!("pg_rewind");
    needs_pcp_programs!();
    let cluster = servers(Promotes::OurScript);
    let pool = starts(prepare(&cluster, Promotes::OurScript), &cluster);
    reads_and_writes(&pool, &cluster);
    loses_a_standby(&pool, &cluster);
    let waited = loses_the_primary(&pool, &cluster, 1);
    assert!(waited < Duration::from_secs(20), "{waited:?}");
    wait_for("the others to be attached by the script", || status(&pool) == "down up up up ");
    assert_eq!(streaming(&cluster, 1), "server2 server3");
    reads_everywhere(&pool, &cluster, &[1, 2, 3]);
}

/// Step 5: nothing is automatic. He detaches the primary, promotes a standby, and attaches the former primary; and from
/// SQL he detaches and attaches a standby.
#[test]
fn the_administrator_promotes() {
    only_ours!("other details");
    needs_pcp_programs!();
    let cluster = servers(Promotes::Nobody);
    let pool = starts(prepare(&cluster, Promotes::Nobody), &cluster);
    pcp::run(&pool, "pcp_detach_node", &["-n", "0"]).succeeded();
    wait_for("node 0 to be detached", || status(&pool) == "down up up up ");
    cluster.node(0).stop(Stop::Fast);
    cluster.node(1).promote();
    [2, 3].iter().for_each(|id| point_at(&cluster, *id, 1));
    // Who comes meanwhile waits until pgpool has seen it.
    let mut session = pool.connect();
    session.query("SELECT * FROM insertar_cliente('Sol')").succeeded();
    wait_for("the end of the failover", || pool.log().contains("=== Failover done. shutdown host"));
    let answer = pcp::run(&pool, "pcp_promote_node", &["-n", "1"]);
    assert!(answer.stderr.contains("specified node is already primary node, can't promote node id 1"), "{answer:#?}");
    cluster.node(0).follow(cluster.node(1));
    cluster.node(0).start();
    point_at(&cluster, 0, 1);
    wait_for("all to stream", || streaming(&cluster, 1) == "server0 server2 server3");
    attach(&pool, 0);
    reads_everywhere(&pool, &cluster, &[0, 1, 2, 3]);

    if session.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'pgpool_adm'") == "0" {
        println!("without pgpool_adm: it is not there for this server");
        return;
    }
    session.query("CREATE EXTENSION pgpool_adm").succeeded();
    for (function, arguments, shown) in
        [("pcp_detach_node", "2, false", "up up down up "), ("pcp_attach_node", "2", "up up up up ")]
    {
        assert_eq!(session.value(&pcp::call(&pool, function, arguments)), "t");
        wait_for(shown, || status(&pool) == shown);
    }
}
