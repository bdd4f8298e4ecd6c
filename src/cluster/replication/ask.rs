//! What one server tells of its replication, asked on a connection that is kept from check to check (failover 14.3).

use super::lsn::Lsn;
use crate::backend::{LoginError, control};
use crate::cluster::ask::{Place, Question};
use crate::cluster::sight::{self, Sight};
use crate::net::Deadline;
use crate::report::{Report, SqlState};
use crate::state::Role;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A connection to this database would keep others from copying it, so it is not kept.
const TEMPLATE: &str = "template1";

/// Where the server is, how far behind in time what it replays, what it says about its own source, and the timeline that it
/// receives as a standby. The same for PostgreSQL 10 to 18; what a user may not see is NULL.
const POSITION: &str = "SELECT pg_catalog.pg_is_in_recovery(), \
    CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
    ELSE pg_catalog.pg_current_wal_lsn() END, \
    (EXTRACT(EPOCH FROM pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()) \
    * 1000000)::pg_catalog.int8, \
    (SELECT slot_name FROM pg_catalog.pg_stat_wal_receiver LIMIT 1), \
    (SELECT conninfo FROM pg_catalog.pg_stat_wal_receiver LIMIT 1), \
    CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_current_wal_insert_lsn() END, \
    (SELECT pg_catalog.to_hex(received_tli) FROM pg_catalog.pg_stat_wal_receiver LIMIT 1)";

/// The timeline that a primary writes. By itself, since it may have been taken from PUBLIC.
const TIMELINE: &str =
    "SELECT pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)";

/// What the primary knows of those who stream from it.
const RECEIVERS: &str = "SELECT r.application_name, r.state, r.sync_state, \
    (EXTRACT(EPOCH FROM r.replay_lag) * 1000000)::pg_catalog.int8, s.slot_name \
    FROM pg_catalog.pg_stat_replication r LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid";

/// What a server has told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// It is a standby.
    pub in_recovery: bool,
    /// What it has written, or replayed as a standby.
    pub position: Lsn,
    /// What it has made and perhaps not written yet: with `synchronous_commit = off` that may be committed, and seen by
    /// everybody there. As a standby, its position.
    pub made: Lsn,
    /// The timeline of that; `None`: unknown, or it is a standby that streams from nobody.
    pub timeline: Option<u32>,
    /// How long ago what it has replayed last was committed, by the clocks of both servers.
    pub replay_age: Option<Duration>,
    /// The replication slot it streams from; empty if none or unknown.
    pub slot: String,
    /// The `application_name` under which it streams; empty if unknown.
    pub application_name: String,
    /// Those who stream from it, if it is no standby.
    pub receivers: Vec<Receiver>,
    /// Who it says it is.
    pub sight: Sight,
}

/// A row of `pg_stat_replication`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Receiver {
    pub application_name: String,
    /// `None`: the user may not see it.
    pub state: Option<String>,
    pub sync_state: String,
    /// `None` also when the standby has nothing to replay.
    pub replay_lag: Option<Duration>,
    /// Its replication slot, empty if none.
    pub slot: String,
}

/// Why a server has told nothing, each with the cause in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It was not reached, or did not answer in time.
    Silent(String),
    /// It does not let us in: wrong password, unknown user, no entry in pg_hba.conf.
    Closed(String),
    /// It answers, but not what was asked for.
    Failed(String),
}

/// A server and the connection kept to it.
#[derive(Default)]
pub(super) struct Server {
    connection: Option<(Place, control::Connection)>,
}

impl Server {
    /// Asks. A kept connection that was lost meanwhile is replaced at once.
    pub fn ask(&mut self, question: &Question) -> Result<Told, Trouble> {
        let deadline = Deadline::after(question.limit);
        if let Some((place, mut connection)) = self.connection.take() {
            if place != question.place {
                connection.close();
            } else {
                match ask(&mut connection, question, deadline) {
                    Err(Trouble::Silent(_)) if !deadline.passed() => {}
                    answer => return self.keep(question, connection, answer),
                }
            }
        }
        let Place { address, account } = &question.place;
        let mut connection = control::Connection::login(question.node, address, account, deadline)
            .map_err(|error| why_closed(error, question.node))?;
        let answer = ask(&mut connection, question, deadline);
        self.keep(question, connection, answer)
    }

    /// Readable as soon as the server goes away; `None` without a connection.
    pub fn bell(&self) -> Option<OwnedFd> {
        self.connection.as_ref().and_then(|(_, connection)| connection.bell().ok())
    }

    /// Says goodbye to the server.
    pub fn close(self) {
        if let Some((_, connection)) = self.connection {
            connection.close();
        }
    }

    fn keep(
        &mut self,
        Question { place, .. }: &Question,
        connection: control::Connection,
        answer: Result<Told, Trouble>,
    ) -> Result<Told, Trouble> {
        if answer.is_ok() && place.account.database != TEMPLATE {
            self.connection = Some((place.clone(), connection));
        } else {
            connection.close();
        }
        answer
    }
}

fn ask(connection: &mut control::Connection, question: &Question, deadline: Deadline) -> Result<Told, Trouble> {
    let mut query = |sql| connection.query(sql, deadline).map_err(why_failed);
    let rows = query(POSITION)?;
    let mut told = rows.first().ok_or_else(|| Trouble::Failed("no row".to_owned())).and_then(|row| position(row))?;
    if !told.in_recovery {
        told.receivers = query(RECEIVERS)?.iter().map(|row| receiver(row)).collect();
        told.timeline = match connection.query(TIMELINE, deadline) {
            Ok(rows) => rows.first().and_then(|row| timeline(row.first()?.as_deref())),
            Err(report) if sight::is_lost(&report) => return Err(why_failed(report)),
            Err(_) => None,
        };
    }
    let role = if told.in_recovery { Role::Standby } else { Role::Primary };
    told.sight = Sight::of(role);
    if question.in_full {
        told.sight = Sight::complete(connection, role, deadline).map_err(why_failed)?;
    }
    Ok(told)
}

fn position(row: &[Option<String>]) -> Result<Told, Trouble> {
    let text = |column: usize| row.get(column).and_then(Option::as_deref);
    let parse = |text: &str| text.parse().map_err(|error: super::lsn::NotAPosition| Trouble::Failed(error.to_string()));
    let position =
        text(1).ok_or_else(|| Trouble::Failed("it has no position in the WAL".to_owned())).and_then(parse)?;
    Ok(Told {
        in_recovery: text(0) == Some("t"),
        position,
        made: text(5).map(parse).transpose()?.unwrap_or(position),
        timeline: timeline(text(6)),
        replay_age: text(2).and_then(microseconds),
        slot: text(3).unwrap_or_default().to_owned(),
        application_name: text(4).map(own_name).unwrap_or_default(),
        receivers: Vec::new(),
        sight: Sight::default(),
    })
}

fn timeline(hex: Option<&str>) -> Option<u32> {
    u32::from_str_radix(hex?, 16).ok()
}

fn receiver(row: &[Option<String>]) -> Receiver {
    let text = |column: usize| row.get(column).and_then(Option::as_deref);
    Receiver {
        application_name: text(0).unwrap_or_default().to_owned(),
        state: text(1).map(str::to_owned),
        sync_state: text(2).unwrap_or_default().to_owned(),
        replay_lag: text(3).and_then(microseconds),
        slot: text(4).unwrap_or_default().to_owned(),
    }
}

/// A time from the server. Clocks that differ may make it negative, which is no time at all.
fn microseconds(text: &str) -> Option<Duration> {
    let number: i64 = text.parse().ok()?;
    Some(Duration::from_micros(u64::try_from(number).unwrap_or(0)))
}

/// The name under which a receiver with this conninfo streams.
fn own_name(conninfo: &str) -> String {
    let value = |name: &str| {
        conninfo.split_whitespace().find_map(|option| option.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    };
    value("application_name").or_else(|| value("fallback_application_name")).unwrap_or_default()
}

fn why_closed(error: LoginError, node: usize) -> Trouble {
    let is_silence = matches!(error, LoginError::Unreachable(_));
    let report = error.into_report(node);
    // A server that starts up or is full has nothing against us.
    let is_busy = matches!(report.code, SqlState::CANNOT_CONNECT_NOW | SqlState::TOO_MANY_CONNECTIONS);
    if is_silence || is_busy { Trouble::Silent(report.to_string()) } else { Trouble::Closed(report.to_string()) }
}

fn why_failed(report: Report) -> Trouble {
    // A server that shuts down ends its sessions with an error first.
    if sight::is_lost(&report) { Trouble::Silent(report.to_string()) } else { Trouble::Failed(report.to_string()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&str]) -> Vec<Option<String>> {
        values.iter().map(|value| (*value != "NULL").then(|| (*value).to_owned())).collect()
    }

    #[test]
    fn positions() {
        let conninfo = "user=postgres host=db1 port=5432 application_name=node1 fallback_application_name=walreceiver";
        let told = position(&row(&["t", "1/2", "1500000", "slot1", conninfo, "NULL", "1f"])).expect("told");
        let replay_age = Some(Duration::from_millis(1500));
        let (slot, application_name) = ("slot1".to_owned(), "node1".to_owned());
        let position_told = "1/2".parse().expect("position");
        let expected = Told {
            in_recovery: true,
            position: position_told,
            made: position_told,
            timeline: Some(31),
            replay_age,
            slot,
            application_name,
            ..Told::default()
        };
        assert_eq!(told, expected);
        let told = position(&row(&["f", "1/2", "NULL", "NULL", "NULL", "1/9", "0000001F"])).expect("told");
        let made = "1/9".parse().expect("position");
        assert_eq!(told, Told { position: position_told, made, timeline: Some(31), ..Told::default() });
        assert!(matches!(position(&row(&["t", "NULL"])), Err(Trouble::Failed(_))));
        let wrong = position(&row(&["t", "nowhere"]));
        let cause = "invalid LSN format: wrong log location format: nowhere";
        assert_eq!(wrong, Err(Trouble::Failed(cause.to_owned())));
    }

    #[test]
    fn receivers_and_their_times() {
        let seen = receiver(&row(&["node1", "streaming", "async", "4512", "NULL"]));
        assert_eq!((seen.state.as_deref(), seen.replay_lag), (Some("streaming"), Some(Duration::from_micros(4512))));
        let hidden = receiver(&row(&["node1", "NULL", "NULL", "NULL", "NULL"]));
        assert_eq!(hidden, Receiver { application_name: "node1".to_owned(), ..Receiver::default() });
        assert_eq!(microseconds("-3"), Some(Duration::ZERO));
        assert_eq!(microseconds("soon"), None);
    }

    #[test]
    fn a_receiver_without_a_name_of_its_own_has_the_fallback() {
        assert_eq!(own_name("host=x fallback_application_name=walreceiver sslmode=prefer"), "walreceiver");
        assert_eq!(own_name("host=x application_name=n1"), "n1");
        assert_eq!(own_name(""), "");
    }
}
