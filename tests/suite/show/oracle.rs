//! Statements of ours among those of servers, in any order: PostgreSQL is right.
//!
//! Random sequences of messages are sent to pgpool and, with a SELECT of as many rows in place of the statement that pgpool
//! answers, to the primary itself. Both must answer with the same kinds of messages, errors and transaction states.

use super::pool;
use crate::harness::frontend::{
    bind, close_portal, close_statement, describe_portal, describe_statement, execute, flush, parse, query, sync,
};
use crate::harness::{Reply, Wire, server_version, shared};
use crate::{needs_pgpool, only_ours};

/// The statement of ours, of three rows, and its stand-in.
const OURS: [&str; 2] = ["SHOW POOL_NODES", "SELECT n FROM ten WHERE n < 4"];
const THEIRS: &[&str] =
    &["SELECT n FROM ten WHERE n < 4", "SELECT 1", "SELECT 1 / 0", "BEGIN", "COMMIT", "ROLLBACK", "SHOW work_mem"];

/// A sequence of numbers that is the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % limit
    }

    fn pick<'a>(&mut self, words: &[&'a str]) -> &'a str {
        words[self.below(words.len())]
    }
}

/// One or a few messages for pgpool, their counterparts for the server, and what they are in words.
fn step(numbers: &mut Numbers) -> ([Vec<u8>; 2], String) {
    let (statement, portal) = (numbers.pick(&["", "", "a", "b"]), numbers.pick(&["", "", "p"]));
    let both = |bytes: Vec<u8>| [bytes.clone(), bytes];
    let texts = if numbers.below(2) == 0 {
        OURS
    } else {
        let theirs = numbers.pick(THEIRS);
        [theirs, theirs]
    };
    match numbers.below(12) {
        0 | 1 => {
            let parse = |text: &str| [end_unnamed(), parse(statement, text, &[])].concat();
            (texts.map(parse), format!("parse {statement:?} {}", texts[0]))
        }
        2 => (both(bind(portal, statement, &[])), format!("bind {portal:?} {statement:?}")),
        3 => (both(describe_statement(statement)), format!("describe statement {statement:?}")),
        4 => (both(describe_portal(portal)), format!("describe portal {portal:?}")),
        5 => {
            let limit = numbers.below(4) as u32;
            (both(execute(portal, limit)), format!("execute {portal:?} {limit}"))
        }
        6 => (both(close_statement(statement)), format!("close statement {statement:?}")),
        7 => (both(close_portal(portal)), format!("close portal {portal:?}")),
        8 => (both(flush()), "flush".to_owned()),
        9 => (both(sync()), "sync".to_owned()),
        10 => (texts.map(|text| [end_batch(), query(text), end_unnamed()].concat()), format!("query {}", texts[0])),
        _ => {
            let all = |text: &str| {
                [
                    end_unnamed(),
                    parse(statement, text, &[]),
                    bind(portal, statement, &[]),
                    describe_portal(portal),
                    execute(portal, 0),
                ]
                .concat()
            };
            (texts.map(all), format!("all of {statement:?} {portal:?} {}", texts[0]))
        }
    }
}

/// The unnamed objects of a server do not end with a statement that the server does not see. No driver uses them after that.
fn end_unnamed() -> Vec<u8> {
    [close_portal(""), close_statement("")].concat()
}

/// From version 18 on a simple query in the middle of a batch leaves the batch's transaction open (`Z T`), of which a server
/// knows nothing that has not seen the batch. No driver sends one there.
fn end_batch() -> Vec<u8> {
    if server_version() < 18 { Vec::new() } else { sync() }
}

/// What must be the same: kinds of messages, SQLSTATEs, transaction states.
fn outline(reply: &Reply) -> impl Iterator<Item = String> {
    reply.0.iter().filter(|message| !matches!(message.kind, b'N' | b'S')).map(|message| match message.kind {
        b'E' => format!("E {}", message.field('C').unwrap_or_default()),
        b'Z' => format!("Z {}", message.body[0] as char),
        kind => (kind as char).to_string(),
    })
}

/// Everything that is answered up to the answer to a last simple query.
fn answers(session: &mut Wire, messages: &[u8]) -> Vec<String> {
    const LAST: &str = "SELECT 'this is the last one'";
    session.send([messages, &sync(), &query("ROLLBACK"), &query("DEALLOCATE ALL"), &query(LAST)].concat());
    let mut all = Vec::new();
    loop {
        let reply = session.read_until('Z');
        let is_last = reply.first_value().as_deref() == Some("this is the last one");
        all.extend(outline(&reply));
        if is_last {
            return all;
        }
    }
}

#[test]
fn any_order_is_answered_as_by_a_server() {
    only_ours!("the original answers simple queries only");
    needs_pgpool!();
    let pool = pool();
    let (mut ours, mut server) = (pool.connect(), shared().primary().connect());
    for seed in 1..=400u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let steps: Vec<_> = (0..4 + numbers.below(16)).map(|_| step(&mut numbers)).collect();
        let words: Vec<_> = steps.iter().map(|(_, words)| words.as_str()).collect();
        let messages = |which: usize| steps.iter().flat_map(|(bytes, _)| bytes[which].clone()).collect::<Vec<u8>>();
        let expected = answers(&mut server, &messages(1));
        assert_eq!(answers(&mut ours, &messages(0)), expected, "seed {seed}: {words:#?}");
    }
}
