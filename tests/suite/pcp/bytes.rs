//! Answers, byte for byte (pcp 2, 4, 5, 10).

use std::time::{Duration, Instant};

use super::raw::{Raw, report, texts};
use super::{PASSWORD, USER, login, start};
use crate::harness::{Cluster, Pgpool, shared, wait_for};
use crate::{needs_pgpool, only_ours};

/// pcp 10.1 with this cluster's values.
#[test]
fn the_worked_session() {
    only_ours!("release 4.3 has one field less");
    needs_pgpool!();
    let cluster = Cluster::streaming(2).start();
    let config = Pgpool::on(&cluster).set("health_check_period", 10).set("sr_check_period", 10);
    let pool = start(config.set("health_check_user", "postgres"));
    let mut raw = login(&pool);
    raw.request(b'I', b"-1\0");
    assert_eq!(raw.bytes(17), b"i\0\0\0\x10ArraySize\x002\0");
    for (id, role, words) in [(0, 2, "primary"), (1, 3, "standby")] {
        let (kind, payload) = raw.frame().expect("a record");
        let mut fields = texts(&payload);
        assert_eq!((kind, fields.len()), (b'i', 14), "{fields:?}");
        assert!(fields[13].parse::<u64>().is_ok_and(|at| at > 1_700_000_000), "{fields:?}");
        // Up or waiting, as sessions have come or not; and the standby's figures come with the replication check.
        assert!(["1", "2"].contains(&&*fields.remove(3)), "{fields:?}");
        let port = cluster.node(id).port;
        let expected = format!("NodeInfo 127.0.0.1 {port} 0 up 1073741823.500000 {role} {words}");
        assert_eq!(fields[..8].join(" "), expected);
    }
    assert_eq!(raw.bytes(21), b"i\0\0\0\x14CommandComplete\0");
    raw.request(b'X', b"");
    assert_eq!(raw.frame(), None);
}

#[test]
fn counts_processes_and_parameters() {
    only_ours!("release 4.3 has fewer fields");
    needs_pgpool!();
    let pool = start(Pgpool::on(shared()).set("max_pool", 2));
    let mut raw = login(&pool);
    assert_eq!(raw.ask(b'L', b""), (b'l', b"CommandComplete\x003\0".to_vec()));
    wait_for("the processes", || pool.children("pgpool: wait for connection request").len() == 4);

    let (kind, payload) = raw.ask(b'N', b"");
    let processes = texts(&payload);
    assert_eq!((kind, &processes[..2]), (b'n', &["CommandComplete".to_owned(), "4".to_owned()][..]));
    let pids: Vec<String> =
        pool.children("pgpool: wait for connection request").iter().map(ToString::to_string).collect();
    assert!(processes[2..].iter().all(|pid| pids.contains(pid)) && processes.len() == 6, "{processes:?} {pids:?}");

    // All slots of one process: 2 pools of 3 nodes.
    let (kind, payload) = raw.ask(b'P', format!("{}\0", processes[2]).as_bytes());
    assert_eq!((kind, payload), (b'p', b"ArraySize\x006\0".to_vec()));
    for slot in 0..6 {
        let (_, payload) = raw.frame().expect("a record");
        let fields = texts(&payload);
        assert_eq!(fields.len(), 22, "{fields:?}");
        assert_eq!((&*fields[0], &fields[1], &*fields[4]), ("ProcessInfo", &processes[2], &*(slot / 3).to_string()));
        assert_eq!((&*fields[17], &fields[18..]), ("Wait for connection", &["0", "", "", ""].map(String::from)[..]));
    }
    assert_eq!(raw.frame(), Some((b'p', b"CommandComplete\0".to_vec())));
    assert_eq!(raw.ask(b'P', b"0\0"), (b'p', b"ArraySize\x0024\0".to_vec()));
    (0..25).for_each(|_| assert!(raw.frame().is_some_and(|(kind, _)| kind == b'p')));

    let (kind, payload) = raw.ask(b'B', b"");
    let (tag, count) = payload.split_at(10);
    assert_eq!((kind, tag), (b'b', &b"ArraySize\0"[..]));
    let count = u32::from_be_bytes(count.try_into().expect("four bytes"));
    let items: Vec<Vec<String>> = (0..count).map(|_| texts(&raw.frame().expect("an item").1)).collect();
    assert!(items.iter().all(|item| item.len() == 4 && item[0] == "ProcessConfig"), "{items:?}");
    let value = |name: &str| items.iter().find(|item| item[1] == name).map(|item| item[2].clone());
    assert_eq!(value("pcp_port"), Some(pool.pcp_port().to_string()));
    assert_eq!(raw.frame(), Some((b'b', b"CommandComplete\0".to_vec())));

    let (kind, payload) = raw.ask(b'H', b"1\0");
    let stats = texts(&payload);
    assert_eq!((kind, stats.len()), (b'h', 21), "{stats:?}");
    assert_eq!(stats[..3], ["CommandComplete", "1", "127.0.0.1"].map(String::from));
}

/// Errors leave the session as it is.
#[test]
fn what_cannot_be_answered() {
    only_ours!("several of these end the original's worker");
    needs_pgpool!();
    let pool = start(Pgpool::on(shared()));
    let mut raw = login(&pool);
    for (kind, payload, expected) in [
        (b'I', &b"9\0"[..], "ERROR|informing node info failed|invalid node ID : 9"),
        (b'I', b"-2\0", "ERROR|informing node info failed|invalid node ID : -2"),
        (b'I', b"abc\0", "ERROR|informing node info failed|invalid node ID : abc"),
        (
            b'I',
            b"",
            "ERROR|invalid pcp packet received from client|the payload of packet type \"I\" is missing or incomplete",
        ),
        (b'P', b"1\0", "ERROR|informing process info failed|invalid process ID : 1"),
        (b'H', b"3\0", "ERROR|informing health check stats info failed|invalid node ID 3"),
        (b'W', b"-1\0", "ERROR|PCP: informing watchdog info failed|watchdog is not enabled"),
        (b'G', b"", "ERROR|query cache is not enabled|"),
        (b'V', b"l", "ERROR|process log rotation request failed|logging_collector is disabled"),
        (
            b'C',
            b"128\0",
            "ERROR|invalid failback request, node id: 128 is out of range. node id must be between [0 and 128]|",
        ),
        (
            b'D',
            b"-1\0",
            "ERROR|invalid degenerate backend request, node id: -1 is out of range. node id must be between [0 and 128]|",
        ),
        (b'J', b"7 \0n", "ERROR|could not process promote request|node id 7 is not valid"),
        (b'O', b"0\0", "ERROR|process recovery request failed|primary server cannot be recovered by online recovery."),
        (
            b'O',
            b"1\0",
            "ERROR|process recovery request failed|online recovery is not configured: this version does not have it yet",
        ),
        (b'T', b"x", "ERROR|PCP: error while processing shutdown request|invalid shutdown mode \"x\""),
        (b'A', b"port\x001\0", "ERROR|PCP: set configuration parameter failed|invalid parameter \"port\""),
        (
            b'A',
            b"client_min_messages\0x\0",
            "ERROR|PCP: set configuration parameter failed|invalid value \"x\" for parameter \"client_min_messages\"",
        ),
        (b'F', b"", "ERROR|process recovery request failed|no recovery can be stopped"),
    ] {
        let answer = raw.ask(kind, payload);
        assert_eq!((answer.0, report(&answer)), (b'E', expected.to_owned()), "{} {payload:?}", kind as char);
    }
    let (_, error) = raw.ask(b'I', b"9\0");
    assert!(error.starts_with(b"SERROR\0CXX000\0Minforming node info failed\0Dinvalid node ID : 9\0F"));
    assert!(error.ends_with(b"\0\0"));
    // Several requests at once are answered one after the other.
    raw.send(b"L\0\0\0\x04L\0\0\0\x04N\0\0\0\x04");
    assert_eq!([(); 3].map(|()| raw.frame().expect("an answer").0), *b"lln");
    let refused = raw.ask(b'J', b"0 \0s");
    assert_eq!(
        report(&refused),
        "FATAL|invalid promote request|specified node is already primary node, can't promote node id 0"
    );
    assert_eq!(raw.frame(), None);
}

#[test]
fn messages_are_sent_from_the_severity_asked_for() {
    only_ours!("it names its own source lines");
    needs_pgpool!();
    let pool = start(Pgpool::on(shared()));
    let mut raw = login(&pool);
    let notice = raw.ask(b'A', b"client_min_messages\0debug1\0");
    assert_eq!(
        (notice.0, report(&notice)),
        (b'N', "DEBUG|PCP setting parameter \"client_min_messages\" to \"debug1\"|".to_owned())
    );
    assert_eq!(raw.frame(), Some((b'a', b"CommandComplete\0".to_vec())));
    assert_eq!(raw.ask(b'A', b"CLIENT_min_messages\0Notice\0"), (b'a', b"CommandComplete\0".to_vec()));
}

#[test]
fn who_has_not_logged_in_gets_nothing() {
    only_ours!("the original answers a wrong password at once, and dies of a login without payload");
    needs_pgpool!();
    let pool = start(Pgpool::on(shared()));
    let port = pool.pcp_port();
    let begun = Instant::now();
    let not_authorized = "authentication failed for new PCP connection|connection not authorized";
    let no_match = "username and/or password does not match";
    let broken = "failed to authenticate PCP user|error while reading authentication packet";
    let mut refused: Vec<(Raw, String)> = [
        (b'L', &b""[..], not_authorized.to_owned()),
        (b'?', b"", not_authorized.to_owned()),
        (b'R', b"pgpool\0x\0", format!("authentication failed|{no_match}")),
        (b'R', b"", broken.to_owned()),
        (b'R', b"pgpool", broken.to_owned()),
        (b'M', &[0; 256], "invalid PCP packet|incorrect packet length (260)".to_owned()),
    ]
    .into_iter()
    .map(|(kind, payload, why)| {
        let mut raw = Raw::open(port);
        raw.request(kind, payload);
        (raw, why)
    })
    .collect();
    for (user, password) in [(USER, "wrong"), ("nobody", PASSWORD), (USER, "")] {
        let mut raw = Raw::open(port);
        raw.answer_salt(user, password);
        refused.push((raw, format!("authentication failed for user \"{user}\"|{no_match}")));
    }
    for (raw, why) in &mut refused {
        let answer = raw.frame().expect("an answer");
        assert_eq!(report(&answer), format!("FATAL|{why}"));
        assert_eq!(raw.frame(), None);
    }
    assert!(begun.elapsed() >= Duration::from_secs(1), "guessing must take time");
    let log = pool.log();
    assert!(log.contains("FATAL:  authentication failed for user \"nobody\""), "{log}");
    assert!(log.contains("CONTEXT:  PCP connection from 127.0.0.1("), "{log}");
    // A new salt takes the place of the old one, and a session may log in again.
    let mut raw = login(&pool);
    assert_eq!(raw.log_in(USER, PASSWORD).0, b'r');
    assert_eq!(raw.ask(b'L', b"").0, b'l');
    let answer = raw.ask(b'K', b"");
    assert_eq!(report(&answer), "FATAL|PCP processing request|unknown PCP packet type \"K\"");
    assert_eq!(raw.frame(), None);
}

#[test]
fn the_unix_socket_is_for_everybody() {
    use std::os::unix::fs::PermissionsExt;
    needs_pgpool!();
    let pool = start(Pgpool::on(shared()));
    let path = pool.path(&format!(".s.PGSQL.{}", pool.pcp_port()));
    assert_eq!(std::fs::metadata(&path).expect("socket").permissions().mode() & 0o777, 0o777);
    let mut raw = Raw::open_unix(&path);
    assert_eq!(raw.log_in(USER, PASSWORD).0, b'r');
    assert_eq!(raw.ask(b'L', b"").0, b'l');
}
