//! Many clients at work at the same time while something happens to the servers: which statements failed, and how long
//! nobody was served.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::frontend::{bind, execute, parse, query, sync, terminate};
use super::{Cluster, Pgpool, Wire, wait_for};

/// A statement that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(25);
/// What a client thinks between two statements: the machine is to be busy with a failover, not with the load.
const THINKING: Duration = Duration::from_millis(10);
/// Pause of a client that was let go or not let in.
const AGAIN: Duration = Duration::from_millis(20);
/// Clients of each kind.
const EACH: usize = 4;

/// How a client works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Habit {
    /// It only reads, by simple queries.
    Reads,
    /// It only writes, each statement on its own.
    Writes,
    /// It reads and writes in turn, by the extended protocol.
    Both,
    /// It reads and writes in transactions.
    Transactions,
    /// It comes for one read and leaves.
    Visits,
}

const HABITS: [Habit; 5] = [Habit::Reads, Habit::Writes, Habit::Both, Habit::Transactions, Habit::Visits];

/// 20 clients, four of each habit, until `finish`.
pub struct Load {
    is_over: Arc<AtomicBool>,
    clients: Vec<(Habit, Arc<AtomicUsize>, JoinHandle<Figures>)>,
}

/// What clients of one habit have seen.
#[derive(Debug, Default)]
pub struct Figures {
    /// Statements that succeeded.
    pub done: usize,
    /// Statements that did not, with what the client was told.
    pub failed: Vec<String>,
    /// Logins that did not succeed.
    pub refused: Vec<String>,
    /// The longest time from one success of a client to its next.
    pub stall: Duration,
    /// Rows whose value is not what the clients were told of their writes.
    pub wrong: Vec<String>,
    /// Writes that were confirmed, and those of which nobody knows, by client.
    writes: Vec<(usize, usize, usize)>,
}

impl Load {
    /// Makes the clients' table and lets them begin; all are at work when it returns.
    pub fn start(cluster: &Cluster, pool: &Pgpool) -> Load {
        let clients = HABITS.len() * EACH;
        let make = format!("CREATE TABLE load AS SELECT id, 0 AS n FROM generate_series(0, {clients} - 1) id");
        cluster.primary().sql(&make);
        cluster.wait_replayed();
        let is_over = Arc::new(AtomicBool::new(false));
        let begin = |id: usize| {
            let habit = HABITS[id % HABITS.len()];
            let done = Arc::new(AtomicUsize::new(0));
            let client = Client {
                id,
                habit,
                port: pool.port,
                is_over: Arc::clone(&is_over),
                progress: Arc::clone(&done),
                last: Instant::now(),
                seen: Figures::default(),
                writes: (0, 0),
            };
            (habit, done, std::thread::spawn(move || client.live()))
        };
        let load = Load { clients: (0..clients).map(begin).collect(), is_over };
        load.wait_progress();
        load
    }

    /// Waits until every client has got some more work done.
    #[track_caller]
    pub fn wait_progress(&self) {
        let now: Vec<usize> = self.clients.iter().map(|(_, done, _)| done.load(Ordering::Relaxed)).collect();
        wait_for("every client to be served", || {
            self.clients.iter().zip(&now).all(|((_, done, _), before)| done.load(Ordering::Relaxed) >= before + 10)
        });
    }

    /// Ends the clients. What was seen by those of each habit, and a look at what they have written, which is on `node`.
    pub fn finish(mut self, node: &super::Node) -> Outcome {
        self.is_over.store(true, Ordering::Relaxed);
        let mut outcome = Outcome(HABITS.map(|habit| (habit, Figures::default())));
        for (habit, _, thread) in self.clients.drain(..) {
            outcome.of_mut(habit).add(thread.join().expect("a client"));
        }
        let rows = node.connect().query("SELECT id, n FROM load").succeeded().rows();
        for (_, figures) in &mut outcome.0 {
            for (id, confirmed, unknown) in figures.writes.clone() {
                let has_id = |row: &&Vec<Option<String>>| row[0] == Some(id.to_string());
                let value = rows.iter().find(has_id).and_then(|row| row[1].as_ref()?.parse::<usize>().ok());
                if !value.is_some_and(|value| (confirmed..=confirmed + unknown).contains(&value)) {
                    figures.wrong.push(format!("client {id}: {confirmed} (+ {unknown}) writes, found {value:?}"));
                }
            }
        }
        outcome
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// What the clients of each habit have seen.
#[derive(Debug)]
pub struct Outcome([(Habit, Figures); 5]);

impl Outcome {
    pub fn of(&self, habit: Habit) -> &Figures {
        &self.0.iter().find(|(of, _)| *of == habit).expect("a habit").1
    }

    fn of_mut(&mut self, habit: Habit) -> &mut Figures {
        &mut self.0.iter_mut().find(|(of, _)| *of == habit).expect("a habit").1
    }

    pub fn failed(&self) -> usize {
        self.0.iter().map(|(_, figures)| figures.failed.len() + figures.refused.len()).sum()
    }

    pub fn wrong(&self) -> usize {
        self.0.iter().map(|(_, figures)| figures.wrong.len()).sum()
    }

    pub fn stall(&self) -> Duration {
        self.0.iter().map(|(_, figures)| figures.stall).max().unwrap_or_default()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (habit, Figures { done, failed, refused, stall, wrong, .. }) in &self.0 {
            let (milliseconds, name) = (stall.as_millis(), format!("{habit:?}"));
            let counts = format!("{done:6} done, {:3} failed, {:3} not let in", failed.len(), refused.len());
            writeln!(f, "{name:12} {counts}, longest stall {milliseconds:5} ms")?;
            for (what, texts) in [("failed", failed), ("not let in", refused), ("wrong", wrong)] {
                let mut texts = texts.clone();
                texts.sort();
                texts.dedup();
                for text in texts.iter().take(5) {
                    writeln!(f, "    {what}: {text}")?;
                }
            }
        }
        Ok(())
    }
}

impl Figures {
    fn add(&mut self, other: Figures) {
        self.done += other.done;
        self.failed.extend(other.failed);
        self.refused.extend(other.refused);
        self.stall = self.stall.max(other.stall);
        self.writes.extend(other.writes);
    }
}

struct Client {
    id: usize,
    habit: Habit,
    port: u16,
    is_over: Arc<AtomicBool>,
    progress: Arc<AtomicUsize>,
    /// When it was served last.
    last: Instant,
    seen: Figures,
    /// Confirmed, and begun without an answer.
    writes: (usize, usize),
}

/// The statement failed; the session is of no use any more.
struct Lost;

impl Client {
    fn live(mut self) -> Figures {
        while !self.is_over() {
            match Wire::login(self.port) {
                Ok(mut session) => {
                    while !self.is_over() && self.work(&mut session).is_ok() && self.habit != Habit::Visits {}
                    let _ = session.try_send(&terminate());
                }
                Err(error) => {
                    self.seen.refused.push(error.to_string());
                    std::thread::sleep(AGAIN);
                }
            }
        }
        self.seen.writes.push((self.id, self.writes.0, self.writes.1));
        self.seen
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn work(&mut self, session: &mut Wire) -> Result<(), Lost> {
        let read = format!("SELECT n FROM load WHERE id = {}", self.id);
        let write = format!("UPDATE load SET n = n + 1 WHERE id = {}", self.id);
        match self.habit {
            Habit::Reads | Habit::Visits => self.ask(session, &query(&read), &read),
            Habit::Writes => self.write(|client| client.ask(session, &query(&write), &write)),
            Habit::Both => {
                self.ask(session, &batch(&read), &read)?;
                self.write(|client| client.ask(session, &batch(&write), &write))
            }
            Habit::Transactions => self.write(|client| {
                ["BEGIN", &read, &write, &read, "COMMIT"]
                    .iter()
                    .try_for_each(|sql| client.ask(session, &query(sql), sql))
            }),
        }
    }

    /// Counts a write by its outcome.
    fn write(&mut self, work: impl FnOnce(&mut Self) -> Result<(), Lost>) -> Result<(), Lost> {
        let outcome = work(self);
        *if outcome.is_ok() { &mut self.writes.0 } else { &mut self.writes.1 } += 1;
        outcome
    }

    fn ask(&mut self, session: &mut Wire, bytes: &[u8], sql: &str) -> Result<(), Lost> {
        std::thread::sleep(THINKING);
        if let Err(cause) = answer(session, bytes) {
            let sql = sql.split(' ').next().unwrap_or("");
            self.seen.failed.push(format!("{sql}: {cause}"));
            return Err(Lost);
        }
        self.seen.stall = self.seen.stall.max(self.last.elapsed());
        self.last = Instant::now();
        self.seen.done += 1;
        self.progress.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn batch(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", 0), sync()].concat()
}

fn answer(session: &mut Wire, bytes: &[u8]) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    session.try_send(bytes).map_err(|error| format!("sending: {error}"))?;
    let mut failure = None;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let message = session.read_within(left).map_err(|error| failure.clone().unwrap_or(error.to_string()))?;
        match message {
            None => return Err(failure.unwrap_or("closed without a word".to_owned())),
            Some(message) if message.kind == b'E' => {
                let part = |code| message.field(code).unwrap_or_default();
                failure = Some(format!("{} {} ({})", part('C'), part('M'), part('D')));
            }
            Some(message) if message.kind == b'Z' => return failure.map_or(Ok(()), Err),
            Some(_) => {}
        }
    }
}
