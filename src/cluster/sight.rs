//! What a server says of itself when it is asked who it is: role, history, and where it streams from.
//!
//! Everybody may ask for role and history, unless that was taken from PUBLIC; to see where a standby streams from takes
//! pg_monitor. What a server does not tell stays unknown, and is no failure.

use crate::backend::control;
use crate::net::Deadline;
use crate::report::{Report, SqlState};
use crate::state::{History, Role};

/// The timeline is that of what it writes now. After a promotion the control file has the old one for a while.
const OF_PRIMARY: &str = "SELECT s.system_identifier, pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), \
    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication) FROM pg_catalog.pg_control_system() s";

/// The timeline is that of its last restartpoint, or of what it receives, if that may be seen.
const OF_STANDBY: &str = "SELECT s.system_identifier, GREATEST(c.timeline_id, r.received_tli), \
    r.status, r.sender_host, r.sender_port FROM pg_catalog.pg_control_system() s \
    CROSS JOIN pg_catalog.pg_control_checkpoint() c LEFT JOIN pg_catalog.pg_stat_wal_receiver r ON true";

/// The same for one that does not tell its history.
const OF_STANDBY_ALONE: &str =
    "SELECT NULL, NULL, status, sender_host, sender_port FROM pg_catalog.pg_stat_wal_receiver";

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sight {
    pub role: Role,
    /// `None`: it does not tell.
    pub history: Option<History>,
    /// How many stream from it; only asked of one that takes writes.
    pub receivers: usize,
    /// A standby: the server it streams from. `None` also if the user may not see it.
    pub source: Option<Source>,
}

/// The server from which a standby streams, as the standby calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    /// A name, an address, or the directory of a Unix socket.
    pub host: String,
    pub port: u16,
}

impl Sight {
    /// Nothing but a role.
    pub fn of(role: Role) -> Self {
        Self { role, ..Self::default() }
    }

    /// Asks a server with this role for the rest.
    ///
    /// # Errors
    /// The connection was lost. What the server refuses stays unknown.
    pub fn complete(connection: &mut control::Connection, role: Role, deadline: Deadline) -> Result<Self, Report> {
        let queries: &[&str] = match role {
            Role::Primary => &[OF_PRIMARY],
            Role::Standby => &[OF_STANDBY, OF_STANDBY_ALONE],
            Role::Unknown => &[],
        };
        for sql in queries {
            match connection.query(sql, deadline) {
                Ok(rows) => return Ok(rows.first().map_or_else(|| Self::of(role), |row| Self::read(role, row))),
                Err(report) if is_lost(&report) => return Err(report),
                Err(_) => {}
            }
        }
        Ok(Self::of(role))
    }

    fn read(role: Role, row: &[Option<String>]) -> Self {
        let text = |column: usize| row.get(column).and_then(Option::as_deref);
        // A signed number in the server's view.
        let system = text(0).and_then(|text| text.parse::<i64>().ok()).map(|system| system as u64);
        let timeline = match role {
            Role::Primary => text(1).and_then(|name| u32::from_str_radix(name.get(..8)?, 16).ok()),
            _ => text(1).and_then(|number| number.parse().ok()),
        };
        let history = system.zip(timeline).map(|(system, timeline)| History { system, timeline });
        if role == Role::Primary {
            let receivers = text(2).and_then(|count| count.parse().ok()).unwrap_or(0);
            return Self { role, history, receivers, source: None };
        }
        let source = text(3).zip(text(4).and_then(|port| port.parse().ok())).filter(|_| text(2) == Some("streaming"));
        let source = source.map(|(host, port)| Source { host: host.to_owned(), port });
        Self { role, history, receivers: 0, source }
    }
}

/// The server has gone, or goes: what it could not tell it may well know.
pub(super) fn is_lost(report: &Report) -> bool {
    matches!(report.code, SqlState::CONNECTION_FAILURE | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(role: Role, values: &[&str]) -> Sight {
        let row: Vec<_> = values.iter().map(|value| (*value != "NULL").then(|| (*value).to_owned())).collect();
        Sight::read(role, &row)
    }

    #[test]
    fn what_servers_say() {
        let seen = read(Role::Primary, &["7712251680138873505", "0000000A0000000000000001", "2"]);
        let history = Some(History { system: 7_712_251_680_138_873_505, timeline: 10 });
        assert_eq!(seen, Sight { role: Role::Primary, history, receivers: 2, source: None });
        let seen = read(Role::Standby, &["-1", "3", "streaming", "db1", "5432"]);
        let history = Some(History { system: u64::MAX, timeline: 3 });
        let source = Some(Source { host: "db1".to_owned(), port: 5432 });
        assert_eq!(seen, Sight { role: Role::Standby, history, receivers: 0, source });
    }

    #[test]
    fn what_is_hidden_or_odd_is_unknown() {
        assert_eq!(read(Role::Standby, &["1", "3", "NULL", "NULL", "NULL"]).source, None);
        assert_eq!(read(Role::Standby, &["1", "3", "waiting", "db1", "5432"]).source, None);
        for row in [&["NULL", "NULL", "0"][..], &["1", "short", "0"], &["1", "ÄÖÜÄÖÜ", "x"], &["t", "0/2A"], &[]]
        {
            assert_eq!(read(Role::Primary, row), Sight::of(Role::Primary), "{row:?}");
        }
    }
}
