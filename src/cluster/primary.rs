//! The search for the primary within a failover (failover 7.3): a process of its own, because the parent never speaks to
//! servers.
//!
//! It asks all attached nodes, and the primary that is lost if that may return, at the same time, once a second, until one is
//! the primary or the time is over, and writes what it has [`Found`] to the parent's pipe. It changes nothing. Which node is the primary is decided as always ([`search::survey`]).

use super::ask::{Question, ask_all};
use super::search::{self, Answer, Outcome};
use super::tell;
use super::verdict::Verdict;
use crate::config::Settings;
use crate::net::Deadline;
use crate::report::{self, Report};
use crate::state::{Cluster, History, MAX_NODES, NodeSet, NodeStatus, Role, Shared};
use crate::sys::signal::{Signals, ToHelper};
use crate::sys::title;
use nix::poll::{PollFd, PollFlags, poll};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Pause between two rounds.
const PERIOD: Duration = Duration::from_secs(1);

/// What a search has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Who the primary is.
    pub primary: Option<usize>,
    /// Where it stands, if it says so.
    pub history: Option<History>,
    /// Nodes that take writes without being it.
    pub barred: NodeSet,
}

/// In the place of an id.
const NOBODY: u8 = u8::MAX;

impl Found {
    /// As it goes through a pipe, in one piece.
    pub fn to_bytes(self) -> Vec<u8> {
        let byte = |id: usize| u8::try_from(id).unwrap_or(NOBODY);
        let History { system, timeline } = self.history.unwrap_or(History { system: 0, timeline: 0 });
        let mut bytes = vec![self.primary.map_or(NOBODY, byte)];
        bytes.extend(system.to_be_bytes());
        bytes.extend(timeline.to_be_bytes());
        bytes.extend(self.barred.iter().map(byte));
        bytes
    }

    /// The other way round. `None`: the search has come to no result.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (primary, rest) = bytes.split_first()?;
        let (system, rest) = rest.split_first_chunk()?;
        let (timeline, barred) = rest.split_first_chunk()?;
        let history = History { system: u64::from_be_bytes(*system), timeline: u32::from_be_bytes(*timeline) };
        let primary = (*primary != NOBODY).then(|| usize::from(*primary));
        let barred = barred.iter().map(|id| usize::from(*id)).collect();
        Some(Self { primary, history: (history.timeline != 0).then_some(history), barred })
    }

    /// Takes it over into the node table, all but the primary itself: that is changed when everything else is ready for it.
    pub fn note(self, cluster: &mut Cluster) {
        cluster.bar(self.barred);
        cluster.history = self.history.or(cluster.history);
    }
}

/// Bytes of a result at most.
pub const LENGTH: usize = 1 + size_of::<u64>() + size_of::<u32>() + MAX_NODES;

/// The life of the forked process. `returning`: a detached node that is asked, too. Its result goes to `found`, nothing if it
/// was told to leave. Returns the exit status.
pub fn run(settings: &Arc<Settings>, shared: &Shared, returning: Option<usize>, found: &OwnedFd) -> i32 {
    report::set_process("main", "MAIN");
    title::set("search for the primary");
    let Ok(signals) = Signals::install(ToHelper::HANDLED) else { return 1 };
    let limit = settings.search_primary_node_timeout;
    let deadline = Deadline::after_seconds(limit);
    let mut told = Vec::new();
    loop {
        let cluster = shared.nodes().view();
        let Some(answers) = round(settings, &cluster, returning, &signals) else { return 0 };
        if told.is_empty() {
            silent(&cluster, &answers).iter().for_each(Report::log);
        }
        let outcome = search::survey_answers(settings, &cluster, &answers);
        tell(&answers, &outcome, &mut told);
        let Verdict { primary, barred, .. } = outcome.verdict;
        if primary.is_none() && deadline.passed() {
            Report::log_line("failed to find primary node")
                .detail(format!("find_primary_node_repeatedly: expired after {limit} seconds"))
                .hint("Promote a server, or see which lines before tell why one that takes writes is not found.")
                .log();
        }
        if primary.is_some() || deadline.passed() {
            let sight = primary.and_then(|id| answers.get(id)?.sight()).filter(|sight| sight.role == Role::Primary);
            let found_now = Found { primary, history: sight.and_then(|sight| sight.history), barred };
            let _ = nix::unistd::write(found, &found_now.to_bytes());
            return 0;
        }
        let next = Deadline::after(PERIOD).min(deadline);
        while !next.passed() {
            let _ = poll(&mut [PollFd::new(signals.fd(), PollFlags::POLLIN)], next.poll_timeout());
            if signals.take().has_stop() {
                return 0;
            }
        }
    }
}

/// Asks every attached node, and `returning`, of which only what it says counts: that it is silent is no news. `None`: this
/// process is to end.
fn round(settings: &Settings, cluster: &Cluster, returning: Option<usize>, signals: &Signals) -> Option<Vec<Answer>> {
    let mut answers = vec![Answer::NotAsked; cluster.nodes.len()];
    let attached = cluster.attached();
    let question = |id: usize| Question::new(settings, id, &cluster.nodes[id]);
    let is_configured = |id: &usize| cluster.nodes.get(*id).is_some_and(|node| node.port != 0);
    let asked: NodeSet = attached.iter().chain(returning.filter(is_configured)).collect();
    for (id, answer) in ask_all(asked.iter().map(question).collect(), signals.fd(), || signals.take().has_stop())? {
        if attached.contains(id) || answer.sight().is_some() {
            answers[id] = answer;
        }
    }
    Some(answers)
}

/// Nodes that were attached just now although they do not answer: an administrator should know.
fn silent(cluster: &Cluster, answers: &[Answer]) -> Vec<Report> {
    let attached = cluster.nodes.iter().zip(answers).enumerate();
    let waiting = attached.filter(|(_, (node, _))| node.status == NodeStatus::Waiting);
    let warning = |(id, (_, answer)): (usize, (_, &Answer))| match answer {
        Answer::Unreachable(cause) => Some(
            Report::warning(format!("DB node {id} was attached but does not answer"))
                .detail(cause)
                .hint("Start the server, or detach the node until it can be used."),
        ),
        _ => None,
    };
    waiting.filter_map(warning).collect()
}

/// The log lines of one round (failover 7.4): what a node says, when that is new.
fn tell(answers: &[Answer], outcome: &Outcome, told: &mut Vec<Answer>) {
    told.resize(answers.len(), Answer::NotAsked);
    let is_new = answers.iter().zip(&*told).any(|(answer, told)| !answer.is_like(told));
    outcome.findings.iter().filter(|_| is_new).for_each(Report::log);
    for (id, (answer, told)) in answers.iter().zip(told).enumerate() {
        if !answer.is_like(told) {
            *told = answer.clone();
            tell::heard(id, answer, outcome.invalid.contains(&id)).iter().for_each(Report::log);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_comes_through_the_pipe_as_it_is() {
        for primary in [None, Some(0), Some(127)] {
            for barred in [NodeSet::EMPTY, NodeSet::of(0), [1, 127].into_iter().collect()] {
                for history in [None, Some(History { system: u64::MAX, timeline: 3 })] {
                    let found = Found { primary, history, barred };
                    assert_eq!(Found::from_bytes(&found.to_bytes()), Some(found));
                }
            }
        }
        let most = Found { barred: (0..MAX_NODES).collect(), ..Found::default() };
        assert_eq!(most.to_bytes().len(), LENGTH);
        assert_eq!(Found::from_bytes(&[]), None);
    }

    #[test]
    fn an_attached_node_that_is_silent_is_told_of() {
        let mut cluster = Cluster { nodes: vec![Default::default(); 3], ..Cluster::default() };
        cluster.set_status(0, NodeStatus::Up, "");
        (1..3).for_each(|id| cluster.set_status(id, NodeStatus::Waiting, ""));
        let refused = || Answer::Unreachable("refused".to_owned());
        let told = silent(&cluster, &[refused(), refused(), Answer::Closed("full".to_owned())]);
        let told: Vec<_> = told.iter().map(ToString::to_string).collect();
        assert_eq!(told, ["DB node 1 was attached but does not answer (refused)"]);
    }
}
