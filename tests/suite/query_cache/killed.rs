//! Workers, or memcached, are killed at random moments while clients write and read through the cache: nobody is given an answer older than
//! what somebody was told of before he asked, nobody waits for ever, and answers come from the cache again.

use super::memcached;
use super::{caching, counts, make};
use crate::harness::frontend::{bind, execute, parse, query, sync};
use crate::harness::{Config, Memcached, Pgpool, Reply, Wire, shared, wait_for};
use crate::only_ours;
use nix::sys::signal::{Signal, kill};
use std::io;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Duration;

const CLIENTS: usize = 4;
const ROUNDS: u64 = 3;
/// A statement that takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(25);
/// What a transaction writes that is rolled back.
const NEVER: i64 = -1_000_000;

#[test]
fn random_workers_killed_leave_no_old_answer_in_shared_memory() {
    only_ours!("the original loses what a killed child had to invalidate");
    let pools = [start(caching())];
    play(&pools, "qk_here", |random| kill_workers(&pools, random));
}

#[test]
fn random_workers_killed_leave_no_old_answer_in_memcached() {
    only_ours!("the original loses what a killed child had to invalidate");
    let memcached = Memcached::start();
    let pools = [start(memcached::on(memcached.port))];
    play(&pools, "qk_there", |random| kill_workers(&pools, random));
}

#[test]
fn a_memcached_killed_leaves_no_old_answer_in_two_pgpools() {
    only_ours!("each instance forgets only what it has filled itself");
    let mut memcached = Some(Memcached::start());
    let port = memcached.as_ref().map_or(0, |memcached| memcached.port);
    let pools = [start(memcached::on(port)), start(memcached::on(port))];
    play(&pools, "qk_shared", |random| {
        memcached.take().expect("memcached").kill();
        std::thread::sleep(Duration::from_micros(random.u64(..2000)));
        memcached = Some(Memcached::start_on(port));
    });
}

fn start(config: Config) -> Pgpool {
    config.set("num_init_children", CLIENTS + 2).start()
}

fn kill_workers(pools: &[Pgpool], random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..4) {
        let pool = &pools[random.usize(..pools.len())];
        let mut workers = pool.children("postgres test");
        workers.extend(pool.children("wait for connection"));
        let _ = kill(workers[random.usize(..workers.len())], Signal::SIGKILL);
        std::thread::sleep(Duration::from_micros(random.u64(..2000)));
    }
}

/// What the clients know of each other.
#[derive(Default)]
struct Known {
    /// The value of each client's row that its write was confirmed with.
    confirmed: [AtomicU64; CLIENTS],
    done: [AtomicUsize; CLIENTS],
    is_over: AtomicBool,
}

/// Lets clients of these pgpools work while `disturb` does its work again and again.
fn play(pools: &[Pgpool], table: &str, mut disturb: impl FnMut(&mut fastrand::Rng)) {
    let rows = format!("CREATE TABLE {table} AS SELECT id, 0 AS n FROM generate_series(0, {CLIENTS} - 1) AS id");
    make(&format!("DROP TABLE IF EXISTS {table}"), &rows);
    let known = Known::default();
    std::thread::scope(|scope| {
        for id in 0..CLIENTS {
            let port = pools[id % pools.len()].port;
            let client = Client { id, table, port, known: &known, random: fastrand::Rng::with_seed(id as u64) };
            scope.spawn(move || client.live());
        }
        // However this ends, the clients are to end, too.
        let _over = Over(&known.is_over);
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..ROUNDS {
            for pool in pools {
                let before = hits(pool);
                wait_for("answers from the cache", || hits(pool) > before + 50);
            }
            disturb(&mut random);
            let done = || known.done.each_ref().map(|done| done.load(SeqCst));
            let before = done();
            wait_for("every client to be served", || done().iter().zip(before).all(|(now, before)| *now > before + 20));
        }
    });
    for pool in pools {
        let mut session = pool.connect();
        for sql in reads(table) {
            let truth = shared().primary().sql(&sql);
            for _ in 0..3 {
                assert_eq!(session.value(&sql), truth, "{sql}");
            }
        }
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

/// Answers from the cache so far, as a session tells that is not killed meanwhile. The server may be busy with what is left of
/// those that were.
fn hits(pool: &Pgpool) -> u64 {
    let mut session = None;
    wait_for("a session", || {
        session = Wire::login(pool.port).ok();
        session.is_some()
    });
    session.map_or(0, |mut session| counts(&mut session).0)
}

/// The value of each row, and the sum of all.
fn reads(table: &str) -> Vec<String> {
    let each = (0..CLIENTS).map(|id| format!("SELECT n FROM {table} WHERE id = {id}"));
    each.chain([format!("SELECT sum(n)::bigint FROM {table}")]).collect()
}

struct Client<'a> {
    id: usize,
    table: &'a str,
    port: u16,
    known: &'a Known,
    random: fastrand::Rng,
}

impl Client<'_> {
    /// Comes back as often as its worker is killed.
    fn live(mut self) {
        let mut attempt = 0;
        while !self.known.is_over.load(SeqCst) {
            if let Ok(mut session) = Wire::login(self.port) {
                let end = self.serve(&mut session, &mut attempt);
                assert!(!end.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut), "a statement hangs");
            }
        }
    }

    fn serve(&mut self, session: &mut Wire, attempt: &mut u64) -> io::Result<()> {
        while !self.known.is_over.load(SeqCst) {
            match self.random.u8(..10) {
                0 => self.write(session, attempt)?,
                1 => {
                    let write = format!("UPDATE {} SET n = {NEVER} WHERE id = {}", self.table, self.id);
                    for sql in ["BEGIN", &write, "SELECT 1", "ROLLBACK"] {
                        ask(session, &query(sql))?.succeeded();
                    }
                }
                _ => self.read(session)?,
            }
            self.known.done[self.id].fetch_add(1, SeqCst);
        }
        Ok(())
    }

    /// Writes a value that is higher than all before, one that a killed worker may have left under way among them.
    fn write(&mut self, session: &mut Wire, attempt: &mut u64) -> io::Result<()> {
        *attempt += 1;
        let sql = format!("UPDATE {} SET n = greatest(n, {attempt}) WHERE id = {}", self.table, self.id);
        match self.random.u8(..3) {
            0 => ask(session, &query(&sql))?,
            1 => ask(session, &[parse("", &sql, &[]), bind("", "", &[]), execute("", 0), sync()].concat())?,
            _ => {
                for sql in ["BEGIN", &sql] {
                    ask(session, &query(sql))?.succeeded();
                }
                ask(session, &query("COMMIT"))?
            }
        }
        .succeeded();
        self.known.confirmed[self.id].store(*attempt, SeqCst);
        Ok(())
    }

    /// Reads what anybody has written.
    fn read(&mut self, session: &mut Wire) -> io::Result<()> {
        let confirmed: Vec<u64> = self.known.confirmed.iter().map(|value| value.load(SeqCst)).collect();
        let which = self.random.usize(..=CLIENTS);
        let least = confirmed.get(which).copied().unwrap_or_else(|| confirmed.iter().sum());
        let sql = &reads(self.table)[which];
        let reply = if self.random.bool() {
            ask(session, &query(sql))?
        } else {
            ask(session, &[parse("", sql, &[]), bind("", "", &[]), execute("", 0), sync()].concat())?
        };
        let value: i64 = reply.succeeded().first_value().and_then(|value| value.parse().ok()).expect("a number");
        assert!(value >= least as i64, "client {} reads {value}, {least} was confirmed: {sql}", self.id);
        Ok(())
    }
}

/// The answer up to ReadyForQuery, unless the connection ends before.
fn ask(session: &mut Wire, request: &[u8]) -> io::Result<Reply> {
    session.try_send(request)?;
    let mut messages = Vec::new();
    while messages.last().is_none_or(|message: &crate::harness::Message| message.kind != b'Z') {
        messages.push(session.read_within(PATIENCE)?.ok_or(io::ErrorKind::UnexpectedEof)?);
    }
    Ok(Reply(messages))
}
