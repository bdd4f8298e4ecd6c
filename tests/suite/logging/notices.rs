//! Notices to the client that tell the node of each statement (routing 18).

use std::sync::atomic::{AtomicUsize, Ordering};

use nix::unistd::Pid;

use super::{Logged, notices, prepared_statement};
use crate::harness::{frontend, wait_for};
use crate::{needs_pgpool, only_ours};

#[test]
fn the_client_is_told_the_node_before_the_answer() {
    only_ours!("notice_per_node_statement is not in 4.3, and needs log_per_node_statement in the extended protocol");
    needs_pgpool!();
    let mut logged = Logged::start(&[("notice_per_node_statement", "on")]);
    let reply = logged.session.query("SELECT 1").succeeded();
    assert_eq!((reply.kinds().as_str(), notices(&reply)), ("NTDCZ", vec!["DB node id: 0 statement: SELECT 1".into()]));
    let notice = reply.all('N').next().expect("a notice");
    assert_eq!(['S', 'C'].map(|code| notice.field(code).unwrap_or_default()), ["NOTICE", "XX000"]);

    let reply = logged.ask(&prepared_statement()).succeeded();
    assert_eq!(reply.kinds().replace('N', ""), "12tTTDC33Z");
    let told = ["Parse: SELECT 1", "Bind: SELECT 1", "D message", "D message", "Execute: SELECT 1", "C message"];
    let told: Vec<_> =
        told.iter().chain(&["C message", "Sync"]).map(|it| format!("DB node id: 0 statement: {it}")).collect();
    assert_eq!(notices(&reply), told);
    assert_eq!(logged.lines(), [""; 0], "the log wants no NOTICE");

    // A pipeline: every message is where it should be, every notice in front of its answer.
    logged.session.send(frontend::query("SELECT 1").repeat(100));
    for _ in 0..100 {
        assert_eq!(logged.session.read_until('Z').kinds().replace('N', ""), "TDCZ");
    }

    let mut quiet = Logged::start(&[("notice_per_node_statement", "on"), ("client_min_messages", "warning")]);
    assert_eq!(quiet.session.query("SELECT 1").kinds(), "TDCZ");
    let mut logged = Logged::start(&[("notice_per_node_statement", "on"), ("log_min_messages", "notice")]);
    assert_eq!(logged.lines_of("SELECT 1"), ["NOTICE:  DB node id: 0 statement: SELECT 1"]);
}

#[test]
fn a_notice_waits_for_the_end_of_a_long_message() {
    only_ours!("notice_per_node_statement is not in 4.3");
    needs_pgpool!();
    const ROW: usize = 64 << 20;
    let mut logged = Logged::start(&[("notice_per_node_statement", "on"), ("log_statement", "on")]);
    logged.session.send(frontend::query(&format!("SELECT repeat('x', {ROW})")));
    // The row is on its way, and is more than all buffers hold.
    assert_eq!(logged.session.read_until('T').kinds(), "NT");
    logged.session.send(frontend::query("SELECT 2"));
    wait_for("the second query to be taken", || logged.pool.log().contains("statement: SELECT 2"));
    let reply = logged.session.read_until('Z');
    assert_eq!(reply.kinds(), "DNCZ");
    assert_eq!(reply.first_value().map(|value| value.len()), Some(ROW));
    assert_eq!(logged.session.read_until('Z').kinds(), "TDCZ");
}

#[test]
fn a_client_that_reads_no_notices_waits() {
    only_ours!("notice_per_node_statement is not in 4.3");
    needs_pgpool!();
    let mut logged = Logged::start(&[("notice_per_node_statement", "on")]);
    let worker = logged.pool.children("idle")[0];
    // 60 MB of notices for a few answers.
    let (count, sql) = (6000, format!("SELECT 1 /*{}*/", "x".repeat(10_000)));
    let sent = AtomicUsize::new(0);
    let (session, mut sender) = logged.session.split();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..count {
                sender.send(frontend::query(&sql));
                sent.fetch_add(1, Ordering::Relaxed);
            }
        });
        let (mut before, mut polls) = (0, 0);
        wait_for("the client to be stuck", || {
            let now = sent.load(Ordering::Relaxed);
            polls = if now == before { polls + 1 } else { 0 };
            before = now;
            now == count || (now > 0 && polls == 50)
        });
        for _ in 0..count {
            assert_eq!(session.read_until('Z').kinds().replace('N', ""), "TDCZ");
        }
    });
    let peak = peak_memory(worker);
    assert!(peak < 30_000, "a worker of {peak} kB");
}

/// The most memory a process has ever had, in kB.
fn peak_memory(pid: Pid) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status of a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("VmHWM");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}
