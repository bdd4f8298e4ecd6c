//! What an administrator asks for, from the asking process to the answer (failover 13, pcp 5.8 to 5.10 and 7): here with a
//! thread in the parent's place.

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use pgpool::config::{BackendClusteringMode, Settings};
use pgpool::failover;
use pgpool::failover::operator::{self, GivenUp};
use pgpool::report::{Report, Severity};
use pgpool::state::{ClientInfo, Cluster, Limits, Node, NodeStatus, Request, RequestKind, Shared};
use pgpool::sys::signal::{self, Signals};
use pgpool::sys::{Fork, fork};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn shared() -> Shared {
    // The asking process signals the parent, which is this one.
    signal::ignore(&[Signal::SIGUSR1, Signal::SIGUSR2]).expect("ignore");
    let shared = Shared::create(Limits { workers: 2, pool_slots: 1, ..Limits::default() }).expect("shared");
    let node = || Node { port: 5432, ..Node::default() };
    let fill = |cluster: &mut Cluster| {
        cluster.nodes = vec![node(), node(), node(), Node::default(), node()];
        for (id, status) in [NodeStatus::Up, NodeStatus::Up, NodeStatus::Down].into_iter().enumerate() {
            cluster.set_status(id, status, "so far");
        }
        cluster.keep_out(2);
        cluster.set_status(4, NodeStatus::Up, "so far");
        cluster.nodes[4].disallow_to_failover = true;
        cluster.set_primary(Some(0));
    };
    shared.nodes().update(fill).expect("nodes");
    shared
}

fn told(refusal: Report) -> String {
    format!("{:?} {refusal}", refusal.severity)
}

fn mode(backend_clustering_mode: BackendClusteringMode) -> Settings {
    Settings { backend_clustering_mode, ..Settings::default() }
}

/// Does what the parent does with requests, in its simplest form, as long as `work` runs.
fn with_parent<R>(shared: &Shared, obeys: bool, work: impl FnOnce() -> R) -> (R, Vec<Request>) {
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let parent = scope.spawn(|| {
            let mut taken = Vec::new();
            while !is_over.load(std::sync::atomic::Ordering::Acquire) {
                for request in shared.failover().take() {
                    let change = |cluster: &mut Cluster| match request.kind {
                        RequestKind::Up => cluster.set_status(request.node, NodeStatus::Waiting, &request.cause),
                        RequestKind::Down => cluster.set_status(request.node, NodeStatus::Down, &request.cause),
                        RequestKind::Promote | RequestKind::Switchover | RequestKind::Takeover => {
                            cluster.set_primary(Some(request.node));
                        }
                    };
                    if obeys {
                        shared.nodes().update(change).expect("update");
                    }
                    shared.failover().answer(request.number);
                    taken.push(request);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            taken
        });
        let result = work();
        is_over.store(true, std::sync::atomic::Ordering::Release);
        (result, parent.join().expect("parent"))
    })
}

/// A pause that ends when the test takes too long.
fn patiently() -> impl FnMut(Duration) -> Result<(), GivenUp> {
    let begun = Instant::now();
    move |time| {
        std::thread::sleep(time.min(Duration::from_millis(5)));
        if begun.elapsed() < PATIENCE { Ok(()) } else { Err(GivenUp::Left) }
    }
}

#[test]
fn what_makes_no_sense_is_refused_in_the_words_of_the_reference() {
    let shared = shared();
    let settings = mode(BackendClusteringMode::StreamingReplication);
    let me = std::process::id();
    let range = "is out of range. node id must be between [0 and 128]";
    let detach = |node| operator::detach(&shared, node).map(drop).map_err(told);
    assert_eq!(detach(200), Err(format!("Error invalid degenerate backend request, node id: 200 {range}")));
    let down = "Error invalid degenerate backend request, node id : 2 status: [3] is not valid for failover";
    assert_eq!(detach(2), Err(down.to_owned()));
    let disallowed = format!(
        "Error degenerate backend request for node_id: 4 from pid [{me}] is canceled because failover is disallowed on the node"
    );
    assert_eq!(detach(4), Err(disallowed.clone()));

    let attach = |settings: &Settings, node| operator::attach(&shared, settings, node).map(drop).map_err(told);
    let configured = " (These nodes are configured: 0, 1, 2, 4.)";
    for (unknown, detail) in [(3, configured), (5, configured), (128, "")] {
        let text = format!("Error invalid failback request, node id: {unknown} {range}{detail}");
        assert_eq!(attach(&settings, unknown), Err(text));
    }
    assert_eq!(attach(&settings, 0), Ok(()), "scripts attach blindly");
    let raw = mode(BackendClusteringMode::Raw);
    let up = "Error invalid failback request, node id : 0 status: [2] not valid for failback";
    assert_eq!(attach(&raw, 0), Err(up.to_owned()));

    let promote = |settings: &Settings, node, switchover| {
        operator::promote(&shared, settings, node, switchover).map(drop).map_err(told)
    };
    for node in [3, 5] {
        let text = format!("Error could not process promote request (node id {node} is not valid)");
        assert_eq!(promote(&settings, node, true), Err(text));
    }
    let logical = mode(BackendClusteringMode::LogicalReplication);
    let wrong_mode = "Fatal invalid pgpool mode for process promote request (not in streaming replication mode, can't promote \
                      node id 1)";
    assert_eq!(promote(&logical, 1, false), Err(wrong_mode.to_owned()));
    let primary = "Fatal invalid promote request (specified node is already primary node, can't promote node id 0)";
    assert_eq!(promote(&settings, 0, true), Err(primary.to_owned()));
    assert_eq!(promote(&settings, 2, true), Err(down.to_owned()));
    assert_eq!(promote(&settings, 4, true), Err(disallowed));
    let invalid = "Error invalid promote backend request, node id : 2 status: [3] not valid";
    assert_eq!(promote(&settings, 2, false), Err(invalid.to_owned()));
    shared.nodes().update(|cluster| cluster.set_primary(None)).expect("update");
    assert!(promote(&settings, 1, true).is_err_and(|text| text.contains("there is no primary")));
}

#[test]
fn who_would_come_back_by_himself_may_be_kept_out() {
    let shared = shared();
    let detach = |node| operator::detach(&shared, node).map(drop).map_err(told);
    assert!(detach(2).is_err(), "that was said before");
    shared.nodes().update(|cluster| cluster.nodes[2].kept_out = false).expect("update");
    assert_eq!(detach(2), Ok(()));
    let missing = |cluster: &mut Cluster| {
        cluster.set_missing(2, "not reached");
        cluster.keep_out(2);
    };
    shared.nodes().update(missing).expect("update");
    assert!(!shared.nodes().view().nodes[2].missing, "nobody looks for it");
}

#[test]
fn accepted_requests_arrive_and_their_outcome_is_told_truly() {
    let shared = shared();
    let settings = mode(BackendClusteringMode::StreamingReplication);
    let wait = |asked| operator::wait(&shared, asked, &mut patiently());
    let (outcomes, taken) = with_parent(&shared, true, || {
        [
            operator::detach(&shared, 1).and_then(wait),
            operator::attach(&shared, &settings, 1).and_then(wait),
            operator::attach(&shared, &settings, 1).and_then(wait),
            operator::promote(&shared, &settings, 1, false).and_then(wait),
            operator::promote(&shared, &settings, 0, true).and_then(wait),
        ]
    });
    assert_eq!(outcomes, [const { Ok(()) }; 5]);
    use RequestKind::{Down, Promote, Switchover, Up};
    let kinds: Vec<_> = taken.iter().map(|request| (request.kind, request.node, request.by_operator)).collect();
    assert_eq!(kinds, [(Down, 1, true), (Up, 1, true), (Up, 1, true), (Promote, 1, true), (Switchover, 0, true)]);

    let (outcomes, _) = with_parent(&shared, false, || {
        [
            operator::detach(&shared, 1).and_then(wait),
            operator::attach(&shared, &settings, 2).and_then(wait),
            operator::promote(&shared, &settings, 1, true).and_then(wait),
        ]
    });
    assert_eq!(
        outcomes.map(|outcome| outcome.map_err(told)),
        [
            Err("Error DB node 1 is attached (attached by an administrator)".to_owned()),
            Err("Error DB node 2 is not attached (so far)".to_owned()),
            Err("Error DB node 1 is not the primary (The primary is node 0.)".to_owned()),
        ]
    );
    let asked = operator::detach(&shared, 1).expect("asked");
    assert!(operator::wait(&shared, asked, &mut |_| Err(GivenUp::Left)).is_err(), "nobody answers");
}

#[test]
fn gracefully_means_that_all_clients_have_left_and_no_new_ones_come() {
    let shared = shared();
    let settings = Settings { recovery_timeout: 20, ..mode(BackendClusteringMode::StreamingReplication) };
    let client = shared.worker(0);
    client.begin_client(&ClientInfo::default());
    let mut pauses = 0;
    let mut patience = patiently();
    let (outcome, taken) = with_parent(&shared, true, || {
        operator::detach_gracefully(&shared, &settings, 1, &mut |time| {
            pauses += 1;
            assert!(shared.hold().left().is_some());
            if pauses == 3 {
                assert!(shared.nodes().view().attached().contains(1));
                client.end_client(true);
            }
            patience(time)
        })
    });
    assert_eq!((outcome, taken.len()), (Ok(()), 1));
    assert!(pauses >= 3 && shared.hold().left().is_none());
    let promoted =
        with_parent(&shared, true, || operator::promote_gracefully(&shared, &settings, 4, false, &mut patiently()));
    assert_eq!((promoted.0, shared.nodes().view().primary), (Ok(()), Some(4)));

    // Nobody leaves: nothing is done, and that is said.
    client.begin_client(&ClientInfo::default());
    let settings = Settings { recovery_timeout: 0, ..settings };
    let (outcome, taken) =
        with_parent(&shared, true, || operator::detach_gracefully(&shared, &settings, 0, &mut patiently()));
    let refusal = outcome.expect_err("timed out");
    assert_eq!(refusal.message, "wait_connection_closed: existing connections did not close in 0 sec.");
    assert_eq!((refusal.severity, taken.len()), (Severity::Error, 0));
    assert!(shared.nodes().view().attached().contains(0) && shared.hold().left().is_none());
    client.end_client(true);
    let (outcome, taken) =
        with_parent(&shared, true, || operator::detach_gracefully(&shared, &settings, 0, &mut |_| Err(GivenUp::Left)));
    assert!(outcome.is_err() && taken.is_empty(), "who asked has left");
    let mut stopped = |_| Err(GivenUp::Stopped);
    let outcome = operator::detach_gracefully(&shared, &settings, 0, &mut stopped).map_err(told);
    assert_eq!(outcome, Err("Error pgpool is being stopped (Nothing was changed.)".to_owned()));
    // What is refused does not make anybody wait.
    let mut never = |_| panic!("waited");
    assert!(operator::detach_gracefully(&shared, &settings, 2, &mut never).is_err());
    assert!(operator::promote_gracefully(&shared, &settings, 4, true, &mut never).is_err());
}

#[test]
fn a_grandchild_wakes_the_parent() {
    // A process of its own takes the parent's place, since signals belong to a process.
    let exit = |passed: bool| -> ! { std::process::exit(i32::from(!passed)) };
    match fork().expect("fork") {
        Fork::Child => {
            let signals = Signals::install(&[Signal::SIGUSR1]).expect("signals");
            let shared = Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }).expect("shared");
            if fork().expect("fork") == Fork::Child {
                if let Fork::Parent(pid) = fork().expect("fork") {
                    exit(waitpid(pid, None) == Ok(WaitStatus::Exited(pid, 0)));
                }
                failover::wake_parent(&shared);
                exit(true);
            }
            let begun = Instant::now();
            while !signals.take().has(Signal::SIGUSR1) && begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
            exit(begun.elapsed() < PATIENCE)
        }
        Fork::Parent(pid) => assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0))),
    }
}
