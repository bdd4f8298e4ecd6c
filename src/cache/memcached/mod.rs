//! The query cache in memcached (query-cache 7.2), which any number of pgpools may share.
//!
//! Under `pgpool:a1:HASH` stands an answer, HASH being that of its key. Under `pgpool:g:NUMBER` stands the generation of the
//! tables of one counter: a random number, another one with every write. A write of everything, of a database and of a table
//! have generations as in shared memory ([`QueryCache`]), and so has an answer its stamp, the sum of them.
//!
//! # Why the guarantee is the same
//!
//! The three steps of [`crate::cache`] hold with the generations in memcached, for the clients of all pgpools that share it:
//! they are read before the SELECT is sent, and set after the commit is confirmed and before the client hears of it.
//! - *A generation that memcached has lost* is made anew, at random: no stamp that holds it will count again. So nothing
//!   depends on what memcached forgets, or on who empties it.
//! - *A write that memcached could not be told of* is a debt ([`RemoteCache`](crate::state::RemoteCache)): no session of
//!   this pgpool uses the cache before somebody has set the generation of everything. The start of pgpool is a debt, too, so
//!   no answer of the past counts.
//! - *A request sent twice*, because the server had closed an idle connection, has new numbers the second time: a generation
//!   never comes back.
//!
//! A hit costs one request, or two if this worker has not met the answer before and does not know its tables. What memcached
//! says is checked: an answer is the messages of one SELECT, or it is none.

mod link;
mod protocol;

use super::entry::{Entry, Expiry, is_answer};
use crate::config::Settings;
use crate::net::Address;
use crate::report::Report;
use crate::state::{Debt, QueryCache, Shared, TableSet};
use link::{Failure, Link};
use openssl::rand::rand_bytes;
use openssl::sha::sha256;
use protocol::{Line, Store};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

/// An answer that depends on more tables is not kept, and a write of more is a write of everything.
const MAX_TABLES: usize = 256;
/// Answers whose tables a worker remembers.
const MAX_KNOWN: usize = 4096;
/// Digits of a generation.
const LONGEST_NUMBER: usize = 20;
/// Bytes of an answer beside its messages, at most.
const HEAD: usize = 20 + 4 * MAX_TABLES;

/// One process's way to the cache. It connects when it is first asked; to be made after the fork.
#[derive(Debug)]
pub struct Memcached {
    shared: Shared,
    cache: QueryCache,
    address: Address,
    /// `memqcache_expire`.
    seconds: u64,
    /// `memqcache_maxcache`.
    longest: usize,
    link: Option<Link>,
    /// The tables of answers met lately, by the names of these.
    known: HashMap<String, Rc<TableSet>>,
}

impl Memcached {
    /// `None`: the answers are here.
    pub fn new(settings: &Settings, shared: &Shared) -> Option<Self> {
        let cache = shared.query_cache().filter(|cache| cache.store().is_none())?;
        Some(Self {
            shared: shared.clone(),
            cache: cache.clone(),
            address: Address {
                host: settings.memqcache_memcached_host.clone(),
                port: u16::try_from(settings.memqcache_memcached_port).unwrap_or(0),
            },
            seconds: u64::try_from(settings.memqcache_expire).unwrap_or(0),
            longest: usize::try_from(settings.memqcache_maxcache).unwrap_or(0),
            link: None,
            known: HashMap::new(),
        })
    }

    /// Looks for the answer of `key`, puts what there is `into`, and tells where the messages begin, if it counts.
    pub fn find(&mut self, database: &str, key: &[u8], into: &mut Vec<u8>) -> Option<usize> {
        if !self.is_told() {
            return None;
        }
        let name = name_of(key);
        let guessed = self.known.get(&name).cloned().unwrap_or_default();
        let counters = counters(&guessed, database);
        let mut generations = self.read(Some((&name, into)), &counters)?;
        let (entry, at) = Entry::decode(into)?;
        if entry.tables != guessed {
            if entry.tables.counters().len() > MAX_TABLES {
                return None;
            }
            let counters = self::counters(&entry.tables, database);
            self.remember(name, entry.tables);
            generations = self.read(None, &counters)?;
        }
        (sum(&generations)? == entry.stamp && is_answer(&into[at..])).then_some(at)
    }

    /// The stamp of answers that are read from now on and depend on `tables` of `database`. `None`: they cannot be kept.
    pub fn stamp(&mut self, database: &str, tables: &TableSet) -> Option<u64> {
        if tables.counters().len() > MAX_TABLES || !self.is_told() {
            return None;
        }
        let counters = counters(tables, database);
        let mut generations = self.read(None, &counters)?;
        let with = counters.iter().zip(&generations);
        let missing: Vec<u32> = with.filter(|(_, it)| it.is_none()).map(|(counter, _)| *counter).collect();
        if !missing.is_empty() {
            self.write(Store::Add, &missing, &[])?;
            generations = self.read(None, &counters)?;
        }
        sum(&generations)
    }

    /// Keeps an answer.
    pub fn put(&mut self, key: &[u8], entry: &Entry, messages: &[u8]) {
        if messages.len() > self.longest {
            return;
        }
        let (name, seconds, now) = (name_of(key), self.seconds, now());
        let mut head = Vec::new();
        Entry { expiry: Expiry::NEVER, ..entry.clone() }.encode(&mut head);
        let stored = self.ask(
            |out| {
                protocol::store(out, Store::Set, &name, &[&head, messages], seconds, now);
                Ok(())
            },
            |link| match link.line()? {
                line @ (Line::Stored | Line::Refused(_)) => Ok(line),
                other => Err(unexpected(&other)),
            },
        );
        match stored {
            Some(Line::Refused(why)) => {
                Report::debug("an answer was not kept in memcached").detail(why).log();
            }
            Some(_) => self.remember(name, entry.tables.clone()),
            None => {}
        }
    }

    /// Deletes an answer. Whether there was one.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        let name = name_of(key);
        let deleted = self.ask(
            |out| {
                protocol::delete(out, &name);
                Ok(())
            },
            |link| match link.line()? {
                Line::Deleted => Ok(true),
                Line::NotFound => Ok(false),
                other => Err(unexpected(&other)),
            },
        );
        deleted.unwrap_or(false)
    }

    /// `tables` of `database` were written, and the write is in force: when this returns, no session of this pgpool is given
    /// an answer read before, and none of another one if memcached was to be had. What others have defined in the database
    /// has moved the generations in shared memory then.
    pub fn invalidate(&mut self, database: &str, tables: &TableSet) {
        let counters = if tables.counters().len() > MAX_TABLES { &[0] } else { tables.counters() };
        if self.write(Store::Set, counters, &self::counters(&TableSet::default(), database)).is_none() {
            self.cache.invalidate(tables);
            self.cache.remote().owe();
        }
    }

    /// Nothing kept before counts any more. Whether memcached knows: else this pgpool does not use it before it does.
    pub fn clear(&mut self) -> bool {
        self.cache.clear();
        self.pay_debt();
        !matches!(self.cache.remote().debt(), Debt::Due(_))
    }

    /// Whether memcached knows of all writes, told now if need be.
    pub fn is_told(&mut self) -> bool {
        self.cache.remote().debt() == Debt::None || self.pay_debt()
    }

    /// Tells what is due. Whether nothing is left to tell.
    fn pay_debt(&mut self) -> bool {
        let cache = self.cache.clone();
        let remote = cache.remote();
        if let Debt::Due(number) = remote.debt() {
            if self.write(Store::Set, TableSet::everything().counters(), &[]).is_none() {
                return false;
            }
            remote.pay(number);
        }
        cache.remote().debt() == Debt::None
    }

    fn remember(&mut self, name: String, tables: Rc<TableSet>) {
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(name, tables);
    }

    /// The generations of `counters`, as far as there are any, and the value of an answer.
    fn read(&mut self, mut answer: Option<(&str, &mut Vec<u8>)>, counters: &[u32]) -> Option<Vec<Option<u64>>> {
        let names: Vec<String> = counters.iter().map(|counter| generation_name(*counter)).collect();
        let answer_name = answer.as_ref().map(|(name, _)| *name);
        let limit = self.longest.saturating_add(HEAD);
        let generations = self.ask(
            |out| {
                protocol::get(out, answer_name.into_iter().chain(names.iter().map(String::as_str)));
                Ok(())
            },
            |link| hear(link, &names, answer.as_mut().map(|(name, into)| (*name, &mut **into, limit))),
        )?;
        self.hear_of(counters, &generations);
        Some(generations)
    }

    /// Gives each of `counters` a generation of its own, and looks at those of `others`. `None`: not all of them have got one.
    fn write(&mut self, how: Store, counters: &[u32], others: &[u32]) -> Option<()> {
        let names: Vec<String> = others.iter().map(|counter| generation_name(*counter)).collect();
        let mut given = Vec::new();
        let seen = self.ask(
            |out| {
                given.clear();
                for counter in counters {
                    let number = random()?;
                    given.push(Some(number));
                    protocol::store(out, how, &generation_name(*counter), &[number.to_string().as_bytes()], 0, 0);
                }
                if !names.is_empty() {
                    protocol::get(out, names.iter().map(String::as_str));
                }
                Ok(())
            },
            |link| {
                counters.iter().try_for_each(|_| match link.line()? {
                    Line::Stored => Ok(()),
                    Line::NotStored if how == Store::Add => Ok(()),
                    other => Err(unexpected(&other)),
                })?;
                if names.is_empty() { Ok(Vec::new()) } else { hear(link, &names, None) }
            },
        )?;
        if how == Store::Set {
            self.note(counters, &given);
        }
        self.hear_of(others, &seen);
        Some(())
    }

    /// Lets all processes of this pgpool know which generations there are: this one has given them.
    fn note(&self, counters: &[u32], generations: &[Option<u64>]) {
        // One that is lost is as good as moved.
        let each = counters.iter().zip(generations).map(|(counter, generation)| (*counter, generation.unwrap_or(0)));
        each.for_each(|(counter, generation)| self.cache.saw(counter, generation));
    }

    /// The same for what memcached has told.
    fn hear_of(&self, counters: &[u32], generations: &[Option<u64>]) {
        // Another pgpool has defined something. Who sees that generations have moved is to see that, too.
        if counters.first() == Some(&0) && !self.cache.has_seen(0, generations[0].unwrap_or(0)) {
            self.shared.relcache().bump();
        }
        self.note(counters, generations);
    }

    /// One request and its answer. `None`: there is none; that memcached is away or back is told once.
    fn ask<T>(
        &mut self,
        mut request: impl FnMut(&mut Vec<u8>) -> Result<(), Failure>,
        mut answer: impl FnMut(&mut Link) -> Result<T, Failure>,
    ) -> Option<T> {
        if !self.cache.remote().may_try() {
            return None;
        }
        let mut was_open = self.link.is_some();
        loop {
            let failure = match self.exchange(&mut request, &mut answer) {
                Ok(answer) => {
                    if self.cache.remote().found() {
                        Report::log_line(format!("memcached at {} is back", self.address)).log();
                    }
                    return Some(answer);
                }
                Err(failure) => failure,
            };
            self.link = None;
            let cause = match failure {
                Failure::Closed if std::mem::take(&mut was_open) => continue,
                Failure::Closed => "it has closed the connection".to_owned(),
                Failure::Theirs(cause) => cause,
                Failure::Ours => return None,
            };
            if self.cache.remote().missed() {
                Report::warning(format!("memcached at {} cannot be used", self.address))
                    .detail(format!("{cause}. All queries go to the servers meanwhile."))
                    .hint("Check memcached, memqcache_memcached_host and memqcache_memcached_port.")
                    .log();
            }
            return None;
        }
    }

    fn exchange<T>(
        &mut self,
        request: &mut impl FnMut(&mut Vec<u8>) -> Result<(), Failure>,
        answer: &mut impl FnMut(&mut Link) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut out = Vec::new();
        request(&mut out)?;
        let link = match &mut self.link {
            Some(link) => link,
            none => none.insert(Link::open(&self.address)?),
        };
        link.send(&out)?;
        let answer = answer(link)?;
        if link.has_surplus() {
            return Err(Failure::Theirs("it answers more than was asked".to_owned()));
        }
        Ok(answer)
    }
}

/// The answer to a request for these values: generations by their `names`, and perhaps an answer by its own, of so many bytes
/// at most; a longer one counts as absent.
fn hear(
    link: &mut Link,
    names: &[String],
    mut answer: Option<(&str, &mut Vec<u8>, usize)>,
) -> Result<Vec<Option<u64>>, Failure> {
    let mut generations = vec![None; names.len()];
    let mut number = Vec::new();
    // Each key is answered once at most.
    for _ in 0..names.len() + 2 {
        let (key, length) = match link.line()? {
            Line::Value { key, length } => (key, length),
            Line::End => return Ok(generations),
            other => return Err(unexpected(&other)),
        };
        if let Some((_, into, limit)) = answer.as_mut().filter(|(name, ..)| *name == key) {
            into.clear();
            link.value(length, (length <= *limit).then_some(&mut **into))?;
            continue;
        }
        number.clear();
        link.value(length, (length <= LONGEST_NUMBER).then_some(&mut number))?;
        if let Some(at) = names.iter().position(|name| *name == key) {
            generations[at] = std::str::from_utf8(&number).ok().and_then(|number| number.parse().ok());
        }
    }
    Err(Failure::Theirs("it answers more than was asked".to_owned()))
}

/// The counters that an answer from `tables` of `database` depends on, each once. That of definitions is among them: it moves
/// with others only, and so this pgpool hears of what another one has defined.
fn counters(tables: &TableSet, database: &str) -> Vec<u32> {
    let definitions = TableSet::definitions(database);
    let mut counters: Vec<u32> = tables.behind(database).chain(definitions.counters().iter().copied()).collect();
    counters.sort_unstable();
    counters.dedup();
    counters
}

/// Generations that are all there, added up.
fn sum(generations: &[Option<u64>]) -> Option<u64> {
    generations.iter().try_fold(0_u64, |sum, generation| Some(sum.wrapping_add((*generation)?)))
}

fn generation_name(counter: u32) -> String {
    format!("pgpool:g:{counter}")
}

/// Under which name the answer of `key` is kept: whoever can choose statements cannot find two with the same.
fn name_of(key: &[u8]) -> String {
    sha256(key).iter().fold("pgpool:a1:".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

fn unexpected(line: &Line) -> Failure {
    Failure::Theirs(match line {
        Line::Refused(why) => format!("it says \"{}\"", why.escape_debug()),
        other => format!("its answer is out of place: {other:?}"),
    })
}

/// A number nobody has had before.
fn random() -> Result<u64, Failure> {
    let mut bytes = [0; 8];
    rand_bytes(&mut bytes).map_err(|_| Failure::Ours)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
