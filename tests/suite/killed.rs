//! A worker killed in each phase of its session: nothing of it stays behind, and everybody else is served (process-model 9).

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::frontend::{self, bind, copy_data, execute, flush, parse, query, startup};
use crate::harness::{Cluster, LOGIN, Node, Pgpool, Wire, shared, wait_for};
use crate::only_ours;

const PATIENCE: Duration = Duration::from_secs(20);
const WORKERS: usize = 3;

/// A pgpool with a session that must not be disturbed.
struct Scene {
    pool: Pgpool,
    bystander: Wire,
    bystander_worker: Pid,
}

impl Scene {
    fn new(pool: Pgpool) -> Scene {
        let mut bystander = pool.connect();
        assert_eq!(bystander.value("SELECT 1"), "1");
        let bystander_worker = pool.children("postgres test")[0];
        Scene { pool, bystander, bystander_worker }
    }

    /// The worker of somebody else with such a title, once there is one.
    fn other_worker(&self, title: &str) -> Pid {
        let find = || self.pool.children(title).into_iter().find(|pid| *pid != self.bystander_worker);
        wait_for(title, || find().is_some());
        find().expect("a worker")
    }

    /// A second session and its worker.
    fn session(&self) -> (Wire, Pid) {
        (self.pool.connect(), self.other_worker("postgres test"))
    }

    /// Kills `worker`, which serves `client`.
    fn kill(mut self, worker: Pid, mut client: Wire, node_to_resume: Option<&Node>) {
        kill(worker, Signal::SIGKILL).expect("kill");
        assert!(client.is_closed_within(PATIENCE));
        if let Some(node) = node_to_resume {
            node.resume();
        }
        let idle = || self.pool.children("pgpool: wait for connection request");
        wait_for("the replacement", || idle().len() == WORKERS - 1 && !idle().contains(&worker));
        assert_eq!(self.bystander.value("SELECT 2"), "2");
        // Its place is free again: as many sessions as there are workers.
        let mut sessions: Vec<Wire> = (1..WORKERS).map(|_| self.pool.connect()).collect();
        sessions.iter_mut().for_each(|session| assert_eq!(session.value("SELECT 3"), "3"));
        let shown = self.bystander.query("SHOW POOL_POOLS").succeeded().rows();
        assert!(shown.iter().all(|row| row[0] != Some(worker.to_string())), "{shown:?}");
    }
}

fn start() -> Scene {
    Scene::new(Pgpool::on(shared()).set("num_init_children", WORKERS).start())
}

/// With a server of its own, which can be paused.
fn start_on(cluster: &Cluster) -> Scene {
    Scene::new(Pgpool::on(cluster).set("num_init_children", WORKERS).set("connect_timeout", 60_000).start())
}

/// Waits until the primary runs a statement with this text in it.
fn wait_until_it_runs(text: &str) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE";
    wait_for(text, || shared().primary().sql(&format!("{sql} '%{text}%'")) == "1");
}

#[test]
fn in_the_startup_packet() {
    only_ours!("counts the dead");
    let scene = start();
    let mut client = scene.pool.open();
    client.send(&startup(0, LOGIN)[..9]);
    let worker = scene.other_worker("accept connection");
    scene.kill(worker, client, None);
}

#[test]
fn in_a_login() {
    only_ours!("counts the dead");
    let cluster = Cluster::streaming(1).start();
    let scene = start_on(&cluster);
    cluster.primary().pause();
    let mut client = scene.pool.open();
    client.send(startup(0, LOGIN));
    let worker = scene.other_worker("postgres test");
    scene.kill(worker, client, Some(cluster.primary()));
}

#[test]
fn in_a_copy() {
    only_ours!("counts the dead");
    let scene = start();
    let (mut session, worker) = scene.session();
    session.query("CREATE TEMP TABLE t (a text)").succeeded();
    session.send(query("COPY t FROM STDIN /* killed in a copy */"));
    session.read_until('G');
    session.send(copy_data(&b"x\n".repeat(100_000)));
    scene.kill(worker, session, None);
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%killed in a copy%' AND pid <> pg_backend_pid()";
    wait_for("the server to give the copy up", || shared().primary().sql(sql) == "0");
}

#[test]
fn in_a_copy_to_the_client() {
    only_ours!("counts the dead");
    let scene = start();
    let (mut session, worker) = scene.session();
    session.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT"));
    session.read_until('d');
    scene.kill(worker, session, None);
}

#[test]
fn in_an_extended_batch() {
    only_ours!("counts the dead");
    let scene = start();
    let (mut session, worker) = scene.session();
    let sql = "SELECT pg_sleep(5) /* killed in a batch */";
    session.send([parse("", sql, &[]), bind("", "", &[]), execute("", 0), flush()].concat());
    wait_until_it_runs("killed in a batch");
    session.send([parse("", "SELECT 2", &[]), bind("", "", &[])].concat());
    scene.kill(worker, session, None);
}

/// Neither the statement under way nor what was sent behind it.
#[test]
fn what_it_ran_runs_on_at_no_server() {
    only_ours!("the original leaves the statement running");
    let scene = start();
    let (mut session, worker) = scene.session();
    let sleep = "SELECT pg_sleep(600) /* killed with its worker */";
    session.send([query(sleep), query(sleep)].concat());
    wait_until_it_runs("killed with its worker");
    // And what somebody runs whose worker lives.
    let mut other = scene.pool.connect();
    other.send(query("SELECT pg_sleep(600) /* of somebody else */"));
    wait_until_it_runs("of somebody else");
    kill(worker, Signal::SIGKILL).expect("kill");
    let sql =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%killed with its worker%' AND pid <> pg_backend_pid()";
    wait_for("the server to give both up", || shared().primary().sql(sql) == "0");
    wait_until_it_runs("of somebody else");
    let mut canceller = scene.pool.open();
    canceller.send(frontend::cancel(other.pid, &other.key));
    assert_eq!(other.read_until('Z').sqlstate(), "57014");
}

#[test]
fn in_a_reset() {
    only_ours!("counts the dead");
    let reset = "SELECT pg_sleep(5) /* killed in a reset */";
    let pool = Pgpool::on(shared()).set("num_init_children", WORKERS).set("reset_query_list", reset).start();
    let scene = Scene::new(pool);
    let (mut session, worker) = scene.session();
    session.send(frontend::terminate());
    wait_until_it_runs("killed in a reset");
    scene.kill(worker, session, None);
}

#[test]
fn in_a_cancel() {
    only_ours!("counts the dead");
    let cluster = Cluster::streaming(1).start();
    let scene = start_on(&cluster);
    let (mut session, _) = scene.session();
    session.send(query("SELECT pg_sleep(2)"));
    wait_for("the statement to run", || !scene.pool.children("SELECT").is_empty());
    cluster.primary().pause();
    let mut client = scene.pool.open();
    client.send(frontend::cancel(session.pid, &session.key));
    wait_for("the cancel to be on its way", || scene.pool.log().contains("forwarding cancel request to backend 0"));
    let worker = scene.other_worker("accept connection");
    drop(session);
    scene.kill(worker, client, Some(cluster.primary()));
}
