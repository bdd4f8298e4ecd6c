//! Passwords asked from a server (`auth_query`): what pool_passwd does not know, the primary may tell.
//!
//! Invariants:
//! - The query runs as `auth_user` in `auth_dbname`, never with anything of the client's startup packet but the user name,
//!   and that as a parameter; the search path is fixed.
//! - Whatever the query says, a role whose password has expired, or that may not log in, has none.
//! - The connection is kept for a few seconds behind its last question, however that was answered: whoever tries many
//!   names costs queries, not logins.
//! - An answer counts for a second, so that many logins at once cost one query and a changed password works at once.

use super::Context;
use super::end::End;
use crate::auth::Secret;
use crate::auth::passwords::Entry;
use crate::auth::scram::DEFAULT_ITERATIONS;
use crate::backend::Account;
use crate::backend::control::{Connection, Rows};
use crate::net::Deadline;
use crate::report::{Report, Result, SqlState};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an answer counts.
const LIFE: Duration = Duration::from_secs(1);
/// Answers kept at most; names may be made up.
const LIMIT: usize = 1024;
/// How long the connection is kept when nothing is asked.
const IDLE: Duration = Duration::from_secs(5);
/// How long an answer is waited for, also if `connect_timeout` sets no limit.
const PATIENCE: Duration = Duration::from_secs(10);

const SEARCH_PATH: &str = "SET search_path TO pg_catalog, pg_temp";
/// Whether a role may log in by its password now; no row for users that are no roles of this server.
const IS_VALID: &str = "SELECT r.rolcanlogin AND (r.rolvaliduntil IS NULL \
    OR r.rolvaliduntil OPERATOR(pg_catalog.>) pg_catalog.now()) \
    FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) $1";

/// What was told lately, and the connection that asks.
#[derive(Default)]
pub(super) struct Answers {
    told: HashMap<Vec<u8>, (Instant, Entry)>,
    asker: Option<Asker>,
}

/// A connection to node `node` as `auth_user`.
struct Asker {
    connection: Connection,
    node: usize,
    asked: Instant,
}

/// An entry, and who knows it.
pub(super) struct Known {
    pub entry: Entry,
    pub source: &'static str,
}

impl Context {
    /// What pool_passwd knows of `user`, or if that is nothing, what `auth_query` tells.
    pub(super) fn password_of(&mut self, user: &[u8], deadline: Deadline) -> Result<Known, End> {
        let entry = self.gate.passwords.entry(user);
        if entry.is_there() || self.settings.auth_query.is_empty() {
            return Ok(Known { entry, source: "pool_passwd" });
        }
        let told = self.answers.told.get(user).filter(|(since, _)| since.elapsed() < LIFE);
        let entry = match told {
            Some((_, entry)) => entry.clone(),
            None => {
                let entry = self.fetch(user, deadline).map_err(failed)?;
                if self.answers.told.len() >= LIMIT {
                    self.answers.told.clear();
                }
                if let Entry::Verifier(verifier) = &entry {
                    self.shared.note_iterations(verifier.iterations());
                }
                self.answers.told.insert(user.to_vec(), (Instant::now(), entry.clone()));
                entry
            }
        };
        Ok(Known { entry, source: "auth_query" })
    }

    /// The number of iterations that verifiers usually have: strangers must not show by another one.
    pub(super) fn usual_iterations(&self) -> u32 {
        let told = || self.shared.told_iterations().filter(|_| !self.settings.auth_query.is_empty());
        self.gate.passwords.usual_iterations().or_else(told).unwrap_or(DEFAULT_ITERATIONS)
    }

    /// Time until the connection has been kept for long enough; `None` if there is none.
    pub fn asker_left(&self) -> Option<Duration> {
        self.answers.asker.as_ref().map(|asker| IDLE.saturating_sub(asker.asked.elapsed()))
    }

    /// Closes the connection that asks.
    pub fn close_asker(&mut self) {
        if let Some(asker) = self.answers.asker.take() {
            asker.connection.close();
        }
    }

    fn fetch(&mut self, user: &[u8], deadline: Deadline) -> Result<Entry> {
        let Some(node) = self.cluster.write_node() else { return Err(Report::error("there is no node to ask")) };
        let limit = self.connect_deadline(node).min(deadline).min(Deadline::after(PATIENCE));
        if self.answers.asker.as_ref().is_some_and(|asker| asker.node != node || asker.asked.elapsed() >= IDLE) {
            self.close_asker();
        }
        if let Some(asker) = self.answers.asker.take() {
            let answer = self.ask(asker.connection, node, user, limit);
            // Without an answer, be it an error, the connection is gone: the server may have ended it meanwhile.
            if answer.is_ok() || self.answers.asker.is_some() {
                return answer;
            }
        }
        let settings = Arc::clone(&self.settings);
        let account = Account::by(&mut self.gate.passwords, &settings.auth_user, "", &settings.auth_dbname);
        let mut connection = Connection::open(node, &self.address(node), &account, limit)?;
        connection.query(SEARCH_PATH, limit)?;
        self.ask(connection, node, user, limit)
    }

    /// Asks on `connection`, and keeps it if it answers; an error of the query is an answer, too.
    fn ask(&mut self, mut connection: Connection, node: usize, user: &[u8], limit: Deadline) -> Result<Entry> {
        let rows = connection.query_with(&self.settings.auth_query, &[user], limit);
        let both = rows.and_then(|rows| Ok((rows, connection.query_with(IS_VALID, &[user], limit)?)));
        if connection.is_usable() {
            self.answers.asker = Some(Asker { connection, node, asked: Instant::now() });
        }
        match both {
            Ok((rows, valid)) => Ok(judge(user, rows, &valid)),
            // Bytes that are no text there: nobody can have that name.
            Err(report) if report.code == SqlState::CHARACTER_NOT_IN_REPERTOIRE => Ok(Entry::None),
            Err(report) => Err(report),
        }
    }
}

/// The entry in the answer: one row of a password, or of a name and a password.
fn judge(user: &[u8], mut rows: Rows, valid: &Rows) -> Entry {
    if valid.iter().flatten().any(|value| value.as_deref() != Some("t")) {
        return Entry::None;
    }
    let (Some(mut row), true) = (rows.pop(), rows.is_empty()) else { return Entry::None };
    let password = row.pop().flatten().map(Secret::new);
    let is_named = row.first().is_none_or(|name| name.as_deref().is_some_and(|name| name.as_bytes() == user));
    match password {
        Some(text) if is_named && !text.bytes().is_empty() => Entry::stored(text.bytes()),
        _ => Entry::None,
    }
}

/// The client learns that it is not its fault, and no more.
fn failed(report: Report) -> End {
    let log = Report::fatal("password could not be looked up").context(format!("auth_query: {report}"));
    log.code(SqlState::CANNOT_CONNECT_NOW).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_stores_is_never_a_password_in_clear() {
        let row = |text: &str| vec![vec![Some(text.to_owned())]];
        for text in ["secret", "TEXTsecret", "AESsecret", "SCRAM-SHA-512$4096:salt$a:b", "md5", "SCRAM-SHA-256$x"] {
            assert_eq!(judge(b"alice", row(text), &vec![]).name(), "a malformed SCRAM verifier", "{text}");
        }
    }

    #[test]
    fn only_one_valid_row_of_that_user_counts() {
        let row = |values: &[Option<&str>]| values.iter().map(|value| value.map(str::to_owned)).collect::<Vec<_>>();
        let [yes, no] = ["t", "f"].map(|word| vec![row(&[Some(word)])]);
        let hash = "md54a0a68b43b6cd5cf266fa02f196e2371";
        for (rows, valid, expected) in [
            (vec![row(&[Some("alice"), Some(hash)])], &yes, "an md5 hash"),
            (vec![row(&[Some(hash)])], &yes, "an md5 hash"),
            (vec![row(&[Some(hash)])], &vec![], "an md5 hash"),
            (vec![row(&[Some("alice"), Some(hash)])], &no, "no entry"),
            (vec![row(&[Some("alice"), Some(hash)])], &vec![row(&[None])], "no entry"),
            (vec![row(&[Some("bob"), Some(hash)])], &yes, "no entry"),
            (vec![row(&[None, Some(hash)])], &yes, "no entry"),
            (vec![row(&[Some("alice"), None])], &yes, "no entry"),
            (vec![row(&[Some("alice"), Some("")])], &yes, "no entry"),
            (vec![row(&[Some(hash)]), row(&[Some(hash)])], &yes, "no entry"),
            (vec![row(&[])], &yes, "no entry"),
            (vec![], &yes, "no entry"),
        ] {
            assert_eq!(judge(b"alice", rows.clone(), valid).name(), expected, "{rows:?} {valid:?}");
        }
    }
}
