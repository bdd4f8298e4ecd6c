//! What the log is told of a check: the delays each time, troubles once (failover 14.5).

use super::ask::Trouble;
use crate::config::{LogStandbyDelay, Settings};
use crate::report::Report;
use crate::state::Delay;
use std::collections::HashMap;
use std::time::Duration;

/// The line about the delay of a standby, if `log_standby_delay` wants one.
pub(super) fn delay_line(settings: &Settings, node: usize, primary: usize, delay: Delay) -> Option<Report> {
    let threshold = u64::try_from(settings.delay_threshold).unwrap_or(0);
    let (is_behind, is_over, amount) = match delay {
        Delay::Bytes(bytes) => (bytes > 0, threshold > 0 && bytes > threshold, format!("{bytes} bytes")),
        Delay::Time(time) => {
            (time > Duration::ZERO, time > threshold_by_time(settings), format!("{:.6} second(s)", time.as_secs_f64()))
        }
        Delay::Unmeasured | Delay::Unknown => return None,
    };
    line(settings, is_behind, is_over, || behind(node, primary, &amount))
}

/// The same, where an external command has measured.
pub(super) fn command_line(settings: &Settings, node: usize, primary: usize, delay: Duration) -> Option<Report> {
    let text =
        || format!("{} [external command]", behind(node, primary, &format!("{:.3} second(s)", delay.as_secs_f64())));
    line(settings, delay > Duration::ZERO, delay > threshold_by_time(settings), text)
}

fn behind(node: usize, primary: usize, amount: &str) -> String {
    format!("Replication of node: {node} is behind {amount} from the primary server (node: {primary})")
}

fn line(settings: &Settings, is_behind: bool, is_over: bool, text: impl FnOnce() -> String) -> Option<Report> {
    let wanted = match settings.log_standby_delay {
        LogStandbyDelay::Always => is_behind,
        LogStandbyDelay::IfOverThreshold => is_over,
        LogStandbyDelay::None => false,
    };
    wanted.then(|| Report::log_line(text()))
}

fn threshold_by_time(settings: &Settings) -> Duration {
    Duration::from_millis(u64::try_from(settings.delay_threshold_by_time).unwrap_or(0))
}

/// What something can be wrong with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// Asking this node.
    Node(usize),
    /// Finding this standby among those who stream from the primary.
    Match(usize),
    /// What this node lets the user see.
    Privilege(usize),
    /// The external command.
    Command,
    /// Which standbys belong to which primary.
    Ownership,
    /// This node is a false primary.
    Invalid(usize),
    /// This node takes writes but is not the primary any more.
    Outdated(usize),
    /// The primary is none any more, and no other node is one.
    Demoted,
    /// Nodes that say they are the primary, too.
    Rivals,
    /// This node does not tell its timeline.
    History(usize),
}

/// What was told, so that it is told once as long as it lasts.
#[derive(Debug, Default)]
pub(super) struct Troubles(HashMap<Subject, String>);

impl Troubles {
    /// Something is wrong, and `kind` tells it from other things that may be wrong with it. Whether this is new.
    pub fn begin(&mut self, subject: Subject, kind: &str) -> bool {
        self.0.insert(subject, kind.to_owned()).is_none_or(|known| known != kind)
    }

    /// All is well. Whether it was not.
    pub fn end(&mut self, subject: Subject) -> bool {
        self.0.remove(&subject).is_some()
    }

    /// Everything that is still wrong is told once more.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// A node could not be asked.
    pub fn node(&mut self, node: usize, trouble: &Trouble) {
        let (kind, cause, hint) = match trouble {
            Trouble::Silent(cause) => {
                ("silent", cause, "Check that the server runs and can be reached; see connect_timeout.")
            }
            Trouble::Closed(cause) => (
                "closed",
                cause,
                "check sr_check_user and sr_check_password, sr_check_database, and the server's pg_hba.conf",
            ),
            Trouble::Failed(cause) => {
                ("failed", cause, "Check what sr_check_user may do there; GRANT pg_monitor is enough.")
            }
        };
        if self.begin(Subject::Node(node), kind) {
            Report::error("Failed to check replication time lag")
                .detail(format!("No persistent db connection for the node {node}: {cause}"))
                .hint(hint)
                .context("while checking replication time lag")
                .log();
        }
    }

    /// A node has answered.
    pub fn node_answers(&mut self, node: usize) {
        if self.end(Subject::Node(node)) {
            Report::log_line(format!("replication of node: {node} is checked again")).log();
        }
    }

    /// The primary does (not) show what its receivers do.
    pub fn privilege(&mut self, primary: usize, user: &str, is_missing: bool) {
        if !is_missing {
            self.end(Subject::Privilege(primary));
        } else if self.begin(Subject::Privilege(primary), user) {
            Report::warning(format!("user \"{user}\" may not see the state of replication on DB node {primary}"))
                .detail("replication_state, replication_sync_state and the lag that the primary measures stay unknown.")
                .hint(format!("Run on the primary: GRANT pg_monitor TO \"{}\";", user.replace('"', "\"\"")))
                .log();
        }
    }

    /// The primary (does not) show a receiver that is this standby. `names`: those who stream from it.
    pub fn matching(&mut self, node: usize, primary: usize, wanted: &str, names: &[&str], is_missing: bool) {
        if !is_missing {
            self.end(Subject::Match(node));
        } else if self.begin(Subject::Match(node), wanted) {
            let seen = if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
            Report::warning(format!("DB node {node} is not found among those who stream from DB node {primary}"))
                .detail(format!("backend_application_name{node} is \"{wanted}\"; streaming: {seen}."))
                .hint(format!(
                    "Set backend_application_name{node} to the application_name in primary_conninfo of that server, \
                     if it streams from the primary itself."
                ))
                .log();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(mode: LogStandbyDelay, delays: &[Delay]) -> Vec<String> {
        let settings = Settings {
            log_standby_delay: mode,
            delay_threshold: 100,
            delay_threshold_by_time: 1500,
            ..Settings::default()
        };
        let line = |delay: &Delay| delay_line(&settings, 1, 0, *delay).map(|report| report.message);
        delays.iter().filter_map(line).collect()
    }

    fn time(milliseconds: u64) -> Delay {
        Delay::Time(Duration::from_millis(milliseconds))
    }

    #[test]
    fn the_lines_and_when_they_are_written() {
        let bytes =
            |bytes: u64| format!("Replication of node: 1 is behind {bytes} bytes from the primary server (node: 0)");
        let seconds =
            |text| format!("Replication of node: 1 is behind {text} second(s) from the primary server (node: 0)");
        let delays = [Delay::Bytes(0), Delay::Bytes(100), Delay::Bytes(1 << 40), time(0), time(1500), time(1501)];
        let (over, at) = (seconds("1.501000"), seconds("1.500000"));
        assert_eq!(lines(LogStandbyDelay::Always, &delays), [bytes(100), bytes(1 << 40), at, over.clone()]);
        assert_eq!(lines(LogStandbyDelay::IfOverThreshold, &delays), [bytes(1 << 40), over]);
        assert!(lines(LogStandbyDelay::None, &delays).is_empty());
        assert!(lines(LogStandbyDelay::Always, &[Delay::Unknown, Delay::Unmeasured]).is_empty());
    }

    #[test]
    fn thresholds_of_zero() {
        let settings = Settings { log_standby_delay: LogStandbyDelay::IfOverThreshold, ..Settings::default() };
        assert_eq!(delay_line(&settings, 1, 0, Delay::Bytes(9)), None);
        let told = command_line(&settings, 2, 0, Duration::from_micros(1500)).map(|report| report.message);
        let text =
            "Replication of node: 2 is behind 0.002 second(s) from the primary server (node: 0) [external command]";
        assert_eq!(told.as_deref(), Some(text));
        assert_eq!(command_line(&settings, 2, 0, Duration::ZERO), None);
    }

    #[test]
    fn a_trouble_is_told_once_as_long_as_it_lasts() {
        let mut troubles = Troubles::default();
        let subject = Subject::Node(1);
        assert!(troubles.begin(subject, "closed") && !troubles.begin(subject, "closed"));
        assert!(troubles.begin(Subject::Node(2), "closed"));
        assert!(troubles.begin(subject, "silent"));
        assert!(troubles.end(subject) && !troubles.end(subject));
        assert!(troubles.begin(subject, "silent"));
        troubles.forget();
        assert!(troubles.begin(subject, "silent"));
    }
}
