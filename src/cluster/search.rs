//! Which node is the primary: the decision alone (failover 7.4).

use crate::config::{BackendClusteringMode, Settings};
use crate::state::Role;

/// What a node has told when it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It answers queries and says so of itself.
    Role(Role),
    /// It is alive but does not let us ask: why.
    Closed(String),
    /// It could not be reached: why.
    Unreachable(String),
    /// It was not asked.
    NotAsked,
}

/// The primary among `answers` (index = node id), if there is one.
pub(super) fn primary(settings: &Settings, answers: &[Answer]) -> Option<usize> {
    match settings.backend_clustering_mode {
        BackendClusteringMode::StreamingReplication | BackendClusteringMode::LogicalReplication => {}
        _ => return None,
    }
    if let Some((id, _)) = settings.used_nodes().find(|(_, node)| node.flags.always_primary) {
        return Some(id);
    }
    let is = |role: Role| move |(_, answer): &(usize, &Answer)| **answer == Answer::Role(role);
    let primaries = || answers.iter().enumerate().filter(is(Role::Primary)).map(|(id, _)| id);
    // Several primaries are a broken cluster; with standbys beside them the last one is the newest guess, as the
    // original makes it. In logical replication every node says that it is one: the first counts.
    let has_standby = answers.iter().enumerate().any(|answer| is(Role::Standby)(&answer));
    if has_standby { primaries().last() } else { primaries().next() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_decide() {
        let settings = Settings::default();
        let of = |roles: &[Role]| {
            let answers: Vec<_> = roles.iter().map(|role| Answer::Role(*role)).collect();
            primary(&settings, &answers)
        };
        assert_eq!(of(&[Role::Standby, Role::Primary, Role::Standby]), Some(1));
        assert_eq!(of(&[Role::Primary, Role::Primary]), Some(0));
        assert_eq!(of(&[Role::Standby, Role::Standby]), None);
        assert_eq!(primary(&settings, &[Answer::Unreachable(String::new())]), None);
        let raw = Settings { backend_clustering_mode: BackendClusteringMode::Raw, ..Settings::default() };
        assert_eq!(primary(&raw, &[Answer::Role(Role::Primary)]), None);
    }
}
