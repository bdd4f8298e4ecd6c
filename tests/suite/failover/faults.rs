//! Odd faults in and around failovers: everything is lost, a node flaps, processes of pgpool are killed at the wrong moment,
//! a name has no address for a while.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::PORT;
use crate::harness::frontend::{query, startup};
use crate::harness::{
    Cluster, Config, LOGIN, NameServer, Names, PATIENCE, Pgpool, Stop, Wire, checks_started, eventually, failovers,
    wait_for,
};
use crate::{needs_namespaces, only_ours};

/// How long it may take until all is as before.
const LONG: Duration = Duration::from_secs(60);

/// As `checking`; what streams again comes back, and a primary that was slow for a moment on a busy machine has time to.
fn returning(cluster: &Cluster) -> Config {
    Pgpool::checking(cluster)
        .set("auto_failback", "on")
        .set("auto_failback_interval", 1)
        .set("sr_check_period", 1)
        .set("search_primary_node_timeout", 60)
}

/// The statuses in SHOW POOL_NODES, and the port of the primary as clients see it.
fn seen(pool: &Pgpool) -> Option<(Vec<String>, String)> {
    let mut session = Wire::login(pool.port).ok()?;
    let rows = session.query("SHOW POOL_NODES").succeeded().rows();
    let word = |row: &Vec<Option<String>>| row[3].as_deref().unwrap_or_default().replace("waiting", "up");
    let statuses = rows.iter().map(word).collect();
    let primary = session.query("/*NO LOAD BALANCE*/ SELECT current_setting('port')");
    Some((statuses, primary.first_value()?))
}

fn is_gone(pid: Pid) -> bool {
    kill(pid, None).is_err()
}

#[test]
fn all_three_nodes_are_lost_at_once_and_come_back_in_any_order() {
    only_ours!("needs an administrator");
    let cluster = Cluster::streaming(3).start();
    let pool = returning(&cluster).start();
    let idle = || pool.children("pgpool: wait for connection request");
    wait_for("the workers", || idle().len() == 4);
    let workers = idle();
    for order in [[2, 1, 0], [1, 0, 2]] {
        let before = failovers(&pool);
        std::thread::scope(|scope| {
            cluster.nodes().iter().for_each(|node| _ = scope.spawn(|| node.kill()));
        });
        wait_for("all to be detached", || failovers(&pool) == before + 3);
        let refusal = pool.open().start(LOGIN).expect_err("no node").to_string();
        assert!(refusal.contains("08S01"), "{refusal}");
        for id in order {
            cluster.node(id).start();
        }
        let all = (vec!["up".to_owned(); 3], cluster.primary().port.to_string());
        let is_back = eventually(LONG, || seen(&pool).is_some_and(|seen| seen == all));
        assert!(is_back, "{order:?}: {:?}\n{}", seen(&pool), pool.log());
        assert_eq!(pool.status_file(), "up\nup\nup\n");
    }
    assert!(eventually(PATIENCE, || idle() == workers), "workers were replaced");
}

#[test]
fn a_start_without_any_node_serves_as_soon_as_one_is_there() {
    only_ours!("needs an administrator");
    let cluster = Cluster::streaming(2).start();
    let mut pool = returning(&cluster).start();
    cluster.nodes().iter().for_each(|node| node.stop(Stop::Immediate));
    wait_for("both to be detached", || failovers(&pool) == 2);
    assert_eq!(pool.stop(Stop::Fast).code(), Some(0));
    pool.launch(&[]);
    assert!(eventually(PATIENCE, || pool.count("successfully started") == 2), "{}", pool.log());
    let refusal = pool.open().start(LOGIN).expect_err("no node").to_string();
    assert!(refusal.contains("08S01"), "{refusal}");
    cluster.node(1).start();
    cluster.node(0).start();
    let all = (vec!["up".to_owned(); 2], cluster.primary().port.to_string());
    let is_back = eventually(LONG, || seen(&pool).is_some_and(|seen| seen == all));
    assert!(is_back, "{:?}\n{}", seen(&pool), pool.log());
}

#[test]
fn a_node_that_flaps_makes_neither_a_storm_nor_a_flood() {
    only_ours!("workers are replaced");
    let cluster = Cluster::streaming(2).start();
    let mut pool = returning(&cluster).weights(&[0.0, 1.0]).prepare();
    let calls = pool.path("calls");
    pool.set_script("failover_command", &format!("echo down >> {}", calls.display()));
    pool.set_script("failback_command", &format!("echo up >> {}", calls.display()));
    let pool = pool.started();
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), cluster.node(1).port.to_string());
    wait_for("the helpers", || checks_started(&pool) == 2);
    let workers = || {
        pool.children("test")
            .into_iter()
            .chain(pool.children("pgpool: wait for"))
            .collect::<std::collections::BTreeSet<_>>()
    };
    let (before, size) = (workers(), pool.log().len());
    let all = (vec!["up".to_owned(); 2], cluster.primary().port.to_string());
    let is_back = || eventually(PATIENCE, || seen(&pool).is_some_and(|seen| seen == all));
    let mut flaps = 0;
    for round in 1..=2 {
        // Several times quicker than anybody can follow, then long enough for a failover.
        for count in 1..=5 {
            cluster.node(1).stop(if count % 2 == 0 { Stop::Immediate } else { Stop::Fast });
            assert_eq!(session.value("SELECT 1"), "1");
            if count == 5 {
                wait_for("the failover", || failovers(&pool) >= round);
            }
            cluster.node(1).start();
            assert_eq!(session.value("SELECT 2"), "2");
            flaps += 1;
        }
        assert!(is_back(), "{:?}\n{}", seen(&pool), pool.log());
    }
    // Each failover has its failback, and its command has run once.
    let turns = || (failovers(&pool), pool.count("=== Failback done."));
    wait_for("the last failback", || turns().0 == turns().1);
    let (log, (down, up)) = (pool.log(), turns());
    println!("{flaps} flaps, {} failovers, {} bytes of log", failovers(&pool), log.len() - size);
    assert_eq!(pool.status_file(), "up\nup\n");
    assert_eq!(workers(), before, "workers were replaced\n{log}");
    let calls = std::fs::read_to_string(&calls).unwrap_or_default();
    assert_eq!((calls.matches("down").count(), calls.matches("up").count()), (down, up), "{log}");
    assert!(
        log.len() - size < 30_000 * (flaps + 1),
        "{flaps} flaps have made {} bytes of log\n{log}",
        log.len() - size
    );
    let restarts = pool.count("worker process received restart request");
    assert!(restarts <= down + up, "{restarts} restarts of the replication check\n{log}");
}

#[test]
fn workers_killed_while_their_clients_wait_for_the_new_primary_keep_nobody() {
    only_ours!("clients do not wait");
    const MORE_THAN_WORKERS: usize = 8;
    const ROLE: &str = "SELECT pg_is_in_recovery()";
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).set("load_balance_mode", "off").prepare();
    let (begun, go_on) = (pool.path("begun"), pool.path("go-on"));
    let (touched, awaited) = (begun.display(), go_on.display());
    let text =
        format!("touch {touched}; while [ ! -e {awaited} ]; do sleep 0.05; done\n{}", cluster.node(1).promotion());
    pool.set_script("failover_command", &text);
    let pool = pool.started();
    let workers = || pool.children("postgres test");
    let mut old = pool.connect();
    assert_eq!(old.value(ROLE), "f");
    wait_for("its title", || workers().len() == 1);
    let of_old = workers()[0];
    cluster.node(0).kill();
    wait_for("the command to run", || begun.exists());
    // One has been there before, one has just come.
    old.send(query(ROLE));
    let mut new = pool.open();
    new.send(startup(0, LOGIN));
    wait_for("the new one to wait", || workers().len() == 2);
    let of_new = workers().into_iter().find(|pid| *pid != of_old).expect("another one");
    std::thread::scope(|scope| {
        let others: Vec<_> = (0..MORE_THAN_WORKERS).map(|_| scope.spawn(|| pool.connect().value(ROLE))).collect();
        for (worker, client) in [(of_old, &mut old), (of_new, &mut new)] {
            kill(worker, Signal::SIGKILL).expect("kill");
            assert!(client.is_closed_within(PATIENCE));
        }
        let replaced = |pids: &[Pid]| pids.len() == 4 && !pids.contains(&of_old) && !pids.contains(&of_new);
        wait_for("the replacements", || replaced(&workers()));
        std::fs::write(&go_on, "").expect("write");
        others.into_iter().for_each(|other| assert_eq!(other.join().expect("a session"), "f"));
    });
    wait_for("the end of the failover", || failovers(&pool) == 1);
    assert_eq!(pool.connect().value(ROLE), "f");
    assert_eq!(pool.status_file(), "down\nup\n");
}

#[test]
fn a_parent_killed_while_it_searches_the_primary_leaves_nothing_behind() {
    only_ours!("children live on");
    let cluster = Cluster::streaming(2).start();
    let mut pool = Pgpool::checking(&cluster).set("search_primary_node_timeout", 60).start();
    cluster.node(0).kill();
    wait_for("the search", || !pool.children("search for the primary").is_empty());
    let children = pool.children("pgpool: ");
    assert!(children.len() > 4, "{children:?}");
    kill(pool.pid(), Signal::SIGKILL).expect("kill");
    pool.wait_end(PATIENCE).expect("the end");
    assert!(eventually(PATIENCE, || children.iter().all(|pid| is_gone(*pid))), "children are still there");
    assert_eq!(pool.status_file(), "down\nup\n");
    cluster.node(1).promote();
    pool.launch(&[]);
    assert!(eventually(PATIENCE, || pool.count("successfully started") == 2), "{}", pool.log());
    assert_eq!(pool.connect().value("SELECT pg_is_in_recovery()"), "f");
    assert_eq!(pool.status_file(), "down\nup\n");
}

#[test]
fn a_search_that_is_killed_begins_anew() {
    only_ours!("the parent searches itself");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).set("search_primary_node_timeout", 60).start();
    cluster.node(0).kill();
    let search = || pool.children("search for the primary");
    wait_for("the search", || search().len() == 1);
    let first = search();
    kill(first[0], Signal::SIGKILL).expect("kill");
    wait_for("another one", || search().len() == 1 && search() != first);
    assert_eq!(pool.count("set new primary node"), 0, "{}", pool.log());
    cluster.node(1).promote();
    wait_for("the end of the failover", || pool.count("set new primary node: 1") == 1);
    assert_eq!(pool.count("the search for the primary was ended by SIGKILL; it begins anew"), 1);
}

#[test]
fn processes_that_hang_or_die_do_not_keep_a_failover() {
    only_ours!("waits for its children");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).weights(&[0.0, 1.0]).start();
    wait_for("the helpers", || checks_started(&pool) == 2);
    let mut session = pool.connect();
    assert_eq!(session.value(PORT), cluster.node(1).port.to_string());
    let worker = pool.children("postgres test")[0];
    let checker = || pool.children("health check process(1)");
    let first = checker();
    kill(first[0], Signal::SIGKILL).expect("kill");
    wait_for("another health check", || checker().len() == 1 && checker() != first);
    kill(worker, Signal::SIGSTOP).expect("stop");
    cluster.node(1).kill();
    wait_for("the failover", || failovers(&pool) == 1);
    assert_eq!(pool.connect().value(PORT), cluster.node(0).port.to_string());
    kill(worker, Signal::SIGCONT).expect("go on");
    assert_eq!(session.value(PORT), cluster.node(0).port.to_string());
}

#[test]
fn a_status_file_that_cannot_be_written_does_not_keep_a_failover() {
    only_ours!("other lines");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).weights(&[1.0, 0.0]).start();
    let file = pool.path("pgpool_status");
    wait_for("the file", || file.exists());
    std::fs::remove_file(&file).and_then(|()| std::fs::create_dir(&file)).expect("a directory in its place");
    cluster.node(1).kill();
    wait_for("the failover", || failovers(&pool) == 1);
    assert!(
        pool.log().lines().any(|line| line.contains("WARNING") && line.contains("pgpool_status")),
        "{}",
        pool.log()
    );
    assert_eq!(pool.connect().value(PORT), cluster.node(0).port.to_string());
}

/// All its sessions end and it says for a moment that it is in recovery: nobody has to take its place.
#[test]
fn a_primary_that_recovers_from_the_crash_of_one_process_stays_the_primary() {
    only_ours!("other times");
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster).set("health_check_period", 3600).weights(&[1.0, 0.0]).start();
    wait_for("the first checks", || checks_started(&pool) == 2);
    for _ in 0..3 {
        let mut sessions = [pool.connect(), pool.connect()];
        sessions.iter_mut().for_each(|session| assert_eq!(session.value("SELECT 1"), "1"));
        let pid: i32 = sessions[0].value("SELECT pg_backend_pid()").parse().expect("a number");
        sessions[1].send(query("SELECT pg_sleep(60)"));
        kill(Pid::from_raw(pid), Signal::SIGKILL).expect("kill");
        assert!(sessions[1].is_closed_within(PATIENCE));
        wait_for("the service", || seen(&pool).is_some_and(|(_, port)| port == cluster.node(0).port.to_string()));
        assert_eq!(pool.count("degenerat"), 0, "{}", pool.log());
    }
}

/// Nobody uses the node, so that nothing but its health check can notice.
#[test]
fn a_stopped_server_is_noticed_within_period_and_retries() {
    only_ours!("other times");
    const PERIOD: u64 = 2;
    const RETRIES: u64 = 2;
    const DELAY: u64 = 1;
    let cluster = Cluster::streaming(2).start();
    let pool = Pgpool::checking(&cluster)
        .weights(&[1.0, 0.0])
        .set("health_check_period", PERIOD)
        .set("health_check_max_retries", RETRIES)
        .set("health_check_retry_delay", DELAY)
        .start();
    wait_for("the first checks", || checks_started(&pool) == 2);
    let begun = Instant::now();
    cluster.node(1).kill();
    wait_for("the failover", || pool.count("=== Starting degeneration.") == 1);
    let noticed = begun.elapsed();
    println!("noticed after {} ms with period {PERIOD} s, {RETRIES} retries, {DELAY} s apart", noticed.as_millis());
    // The first failed check may be at once; the retries take their time.
    let (least, most) = (Duration::from_secs(RETRIES * DELAY), Duration::from_secs(PERIOD + RETRIES * DELAY));
    assert!(noticed >= least - Duration::from_millis(100), "{noticed:?}");
    assert!(noticed < most + Duration::from_secs(5), "{noticed:?}\n{}", pool.log());
    assert_eq!(pool.count("health check retrying on DB node: 1 (round:"), RETRIES as usize);
}

/// The name service is away, or does not answer, for longer than any health check waits.
#[test]
fn names_without_an_address_for_a_moment_are_no_failure() {
    needs_namespaces!();
    only_ours!("the nodes are detached");
    const AWAY: Duration = Duration::from_secs(5);
    let cluster = Cluster::streaming(2).start();
    let begin = |server| {
        let names = Arc::new(Names::new("primary.test standby.test", server));
        let mut pool = Pgpool::checking(&cluster)
            .set("health_check_timeout", 2)
            .set("backend_hostname0", "primary.test")
            .set("backend_hostname1", "standby.test")
            .set("failover_on_backend_error", "on")
            .weights(&[0.0, 1.0])
            .prepare();
        pool.use_names(&names);
        (pool.started(), names)
    };
    let pools = [NameServer::None, NameServer::Silent].map(begin);
    let standby = cluster.node(1).port.to_string();
    for (pool, names) in &pools {
        // Each worker has been at both nodes.
        let mut sessions: Vec<Wire> = (0..4).map(|_| pool.connect()).collect();
        sessions.iter_mut().for_each(|session| assert_eq!(session.value(PORT), standby));
        wait_for("the health checks", || checks_started(pool) == 2);
        names.say("");
    }
    let gone = Instant::now();
    let is_noticed = |pool: &Pgpool| {
        let line = |id: usize| format!("health_check{id}");
        let told = |id| pool.log().lines().any(|l| l.contains(&line(id)) && l.contains("its last addresses are used"));
        told(0) && told(1)
    };
    let all_noticed = || pools.iter().all(|(pool, _)| is_noticed(pool));
    assert!(eventually(PATIENCE, || {
        for (pool, _) in &pools {
            let begun = Instant::now();
            // Not from the pool: the parameters are new each time.
            let name = format!("at{}", gone.elapsed().as_millis());
            let mut session = pool.connect_with(&[LOGIN, &[("application_name", &name)]].concat());
            assert_eq!(session.value(PORT), standby);
            assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        }
        all_noticed() && gone.elapsed() > AWAY
    }));
    for (pool, names) in &pools {
        names.say("primary.test standby.test");
        assert_eq!(pool.connect().value(PORT), standby);
        assert_eq!(pool.count("degenerat"), 0, "{}", pool.log());
        assert_eq!(pool.status_file(), "up\nup\n");
    }
}
