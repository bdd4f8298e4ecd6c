//! From what the servers have told to the figures of each standby: decisions alone (failover 14.3, 14.4).

use super::ask::{Receiver, Told};
use super::lsn::Lsn;
use crate::config::Settings;
use crate::state::{Cluster, Delay, Node};
use std::time::{Duration, Instant};

/// What is known of a standby after a check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures {
    /// How far it is behind; `None`: as before.
    pub delay: Option<Delay>,
    /// What the primary says of it, if it says so: `pg_stat_replication.state` and `sync_state`.
    pub states: Option<[String; 2]>,
    /// The primary does not know it, or not under a name by which it could be recognised.
    pub unmatched: bool,
}

/// Where a primary was when it was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sighting {
    /// Node id.
    pub node: usize,
    pub position: Lsn,
    /// What it had made, written or not.
    pub made: Lsn,
    /// The timeline of that.
    pub timeline: Option<u32>,
    /// When it had answered.
    pub at: Instant,
    /// Just before it was asked, as [`uptime`](crate::state::uptime) tells it.
    pub asked: Duration,
}

/// Up to which moment this standby shows everything that was committed on the primary: `source` is where that is now, `before`
/// where it was at the last check. Positions on different timelines tell nothing of each other: after a failover a standby may
/// be ahead of the new primary with what that has never had.
pub(super) fn caught_up(standby: &Told, source: Sighting, before: Option<Sighting>) -> Option<Duration> {
    let before = before.filter(|before| (before.node, before.timeline) == (source.node, source.timeline));
    let is_comparable = source.timeline.is_some() && standby.timeline == source.timeline;
    let mut sightings = [Some(source), before].into_iter().flatten().filter(|_| is_comparable);
    sightings.find(|sighting| standby.position >= sighting.made).map(|sighting| sighting.asked)
}

/// Index = node id. `answers`: what each node has told now, if it did. `before`: where the primary was at the last check in
/// which it answered.
pub(super) fn figures(
    settings: &Settings,
    cluster: &Cluster,
    primary: usize,
    answers: &[Option<Told>],
    before: Option<Sighting>,
    now: Instant,
) -> Vec<Figures> {
    let source = answers.get(primary).and_then(Option::as_ref).filter(|told| !told.in_recovery);
    let by_time = settings.delay_threshold_by_time > 0;
    let before = before.filter(|sighting| sighting.node == primary);
    let of_standby = |(id, node): (usize, &Node)| {
        if id == primary || node.port == 0 {
            return Figures::default();
        }
        let told = answers.get(id).and_then(Option::as_ref);
        let Some(source) = source else {
            // A primary that is silent does not make its standbys older than what it had written when it last spoke.
            let delay = before.filter(|_| !by_time).zip(told).filter(|(_, told)| told.in_recovery);
            let delay = delay.map(|(before, told)| Delay::Bytes(before.position.since(told.position)));
            return Figures { delay, ..Figures::default() };
        };
        let receiver = receiver_of(node, told, &source.receivers)
            .filter(|_| node.status.is_attached() || is_the_only_one(node, cluster, &source.receivers));
        let delay = node.status.is_attached().then(|| match told.filter(|told| told.in_recovery) {
            None => Delay::Unknown,
            Some(told) if by_time => time_delay(source.position, told, receiver, before, now),
            Some(told) => Delay::Bytes(source.position.since(told.position)),
        });
        let states = receiver.map(|seen| [seen.state.clone().unwrap_or_default(), seen.sync_state.clone()]);
        let unmatched = receiver.is_none() && told.is_some_and(|told| told.in_recovery);
        Figures { delay, states: Some(states.unwrap_or_default()), unmatched }
    };
    cluster.nodes.iter().enumerate().map(of_standby).collect()
}

/// The row that is about this standby: the last one with its `backend_application_name`, else the one of the slot or of the
/// name under which it says that it streams.
fn receiver_of<'r>(node: &Node, told: Option<&Told>, receivers: &'r [Receiver]) -> Option<&'r Receiver> {
    let name = &node.application_name;
    let by_name = receivers.iter().rev().find(|seen| !name.is_empty() && seen.application_name == *name);
    let only = |is_it: &dyn Fn(&Receiver, &Told) -> bool| {
        let told = told?;
        let mut found = receivers.iter().filter(|seen| is_it(seen, told));
        found.next().filter(|_| found.next().is_none())
    };
    by_name.or_else(|| only(&|seen, told| !told.slot.is_empty() && seen.slot == told.slot)).or_else(|| {
        only(&|seen, told| !told.application_name.is_empty() && seen.application_name == told.application_name)
    })
}

/// Whether the name means this node and no other. One that is detached is attached again by it (auto_failback).
fn is_the_only_one(node: &Node, cluster: &Cluster, receivers: &[Receiver]) -> bool {
    let name = &node.application_name;
    let nodes = cluster.nodes.iter().filter(|other| other.port != 0 && other.application_name == *name);
    nodes.count() == 1 && receivers.iter().filter(|seen| seen.application_name == *name).count() == 1
}

/// The delay as the primary has measured it. A receiver that streams and has no lag is up to date; where the primary cannot
/// tell, the age of what the standby has replayed last does, unless it has replayed everything.
fn time_delay(source: Lsn, told: &Told, receiver: Option<&Receiver>, before: Option<Sighting>, now: Instant) -> Delay {
    let is_recent = |sighting: &Sighting| told.position >= sighting.position;
    if let Some(Receiver { state: Some(state), replay_lag, .. }) = receiver {
        match replay_lag {
            Some(lag) => return Delay::Time(*lag),
            None if state == "streaming" && before.as_ref().is_none_or(is_recent) => {
                return Delay::Time(Duration::ZERO);
            }
            None => {}
        }
    }
    if told.position >= source {
        return Delay::Time(Duration::ZERO);
    }
    let Some(age) = told.replay_age else { return Delay::Unknown };
    // On a primary that was idle until just now what was replayed last may be old without anybody being late.
    let limit = before.filter(is_recent).map(|sighting| now.saturating_duration_since(sighting.at));
    Delay::Time(limit.map_or(age, |limit| age.min(limit)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::NodeStatus;

    fn cluster() -> Cluster {
        let node = |id: usize| Node {
            port: 5432,
            status: NodeStatus::Up,
            application_name: format!("node{id}"),
            ..Node::default()
        };
        Cluster { nodes: (0..3).map(node).collect(), primary: Some(0), main: Some(0), ..Cluster::default() }
    }

    fn at(position: &str) -> Lsn {
        position.parse().expect("position")
    }

    fn seen_at(position: &str, moment: Instant) -> Sighting {
        let position = at(position);
        Sighting { node: 0, position, made: position, timeline: Some(2), at: moment, asked: Duration::ZERO }
    }

    #[test]
    fn a_standby_shows_what_was_committed_before_the_position_it_has_passed() {
        let sighting = |node: usize, position: &str, asked: u64| {
            let asked = Duration::from_secs(asked);
            Sighting { node, made: at(position), asked, ..seen_at("0/0", Instant::now()) }
        };
        let on = |timeline, position: &str| Told { position: at(position), timeline, ..Told::default() };
        let (source, before) = (sighting(0, "0/200", 20), sighting(0, "0/100", 10));
        for (position, expected) in [("0/200", Some(20)), ("0/1FF", Some(10)), ("0/100", Some(10)), ("0/FF", None)] {
            let expected = expected.map(Duration::from_secs);
            assert_eq!(caught_up(&on(Some(2), position), source, Some(before)), expected, "{position}");
        }
        let between = on(Some(2), "0/150");
        assert_eq!(caught_up(&between, source, Some(sighting(1, "0/100", 10))), None);
        assert_eq!(caught_up(&between, source, None), None);
        // It has what the primary has never had, or streams from nobody.
        for timeline in [Some(1), Some(3), None] {
            assert_eq!(caught_up(&on(timeline, "0/900"), source, Some(before)), None, "{timeline:?}");
        }
        assert_eq!(caught_up(&between, source, Some(Sighting { timeline: Some(1), ..before })), None);
        assert_eq!(caught_up(&on(Some(1), "0/900"), source, Some(Sighting { timeline: Some(1), ..before })), None);
        let unknown = Sighting { timeline: None, ..source };
        assert_eq!(caught_up(&on(None, "0/900"), unknown, None), None);
    }

    fn standby(position: &str) -> Option<Told> {
        Some(Told { in_recovery: true, position: at(position), ..Told::default() })
    }

    fn receiver(name: &str, lag: Option<u64>) -> Receiver {
        Receiver {
            application_name: name.to_owned(),
            state: Some("streaming".to_owned()),
            sync_state: "async".to_owned(),
            replay_lag: lag.map(Duration::from_millis),
            slot: String::new(),
        }
    }

    fn primary(position: &str, receivers: &[Receiver]) -> Option<Told> {
        Some(Told { position: at(position), receivers: receivers.to_vec(), ..Told::default() })
    }

    fn by_time() -> Settings {
        Settings { delay_threshold_by_time: 1, ..Settings::default() }
    }

    fn delays(settings: &Settings, answers: &[Option<Told>], before: Option<Sighting>) -> Vec<Option<Delay>> {
        let figures = figures(settings, &cluster(), 0, answers, before, Instant::now());
        figures.into_iter().map(|figures| figures.delay).collect()
    }

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn bytes_behind_the_primary() {
        let answers = [primary("1/10", &[]), standby("0/FFFFFFF0"), standby("1/20")];
        let expected = [None, Some(Delay::Bytes(0x20)), Some(Delay::Bytes(0))];
        assert_eq!(delays(&Settings::default(), &answers, None), expected);
    }

    #[test]
    fn who_is_silent_is_unknown_and_the_others_are_not() {
        let answers = [primary("0/10", &[]), None, standby("0/0")];
        assert_eq!(delays(&Settings::default(), &answers, None), [None, Some(Delay::Unknown), Some(Delay::Bytes(16))]);
        assert_eq!(delays(&by_time(), &answers, None)[1], Some(Delay::Unknown));
        let second_primary = [primary("0/10", &[]), primary("0/5", &[]), standby("0/10")];
        assert_eq!(delays(&Settings::default(), &second_primary, None)[1], Some(Delay::Unknown));
    }

    #[test]
    fn a_silent_primary_leaves_its_last_position() {
        let sighting = |node| Some(Sighting { node, ..seen_at("0/30", Instant::now()) });
        let answers = [None, standby("0/10"), None];
        assert_eq!(delays(&Settings::default(), &answers, sighting(0)), [None, Some(Delay::Bytes(0x20)), None]);
        for (settings, before) in
            [(Settings::default(), None), (Settings::default(), sighting(1)), (by_time(), sighting(0))]
        {
            assert_eq!(delays(&settings, &answers, before), [None; 3]);
        }
        let demoted = [standby("0/40"), standby("0/10"), None];
        assert_eq!(delays(&Settings::default(), &demoted, None), [None; 3]);
    }

    #[test]
    fn time_as_the_primary_measures_it() {
        let receivers = [receiver("node1", Some(7)), receiver("node2", None)];
        let answers = [primary("0/30", &receivers), standby("0/10"), standby("0/10")];
        let expected = [None, Some(Delay::Time(7 * MILLISECOND)), Some(Delay::Time(Duration::ZERO))];
        assert_eq!(delays(&by_time(), &answers, None), expected);
    }

    #[test]
    fn time_as_the_standby_knows_it() {
        let told = |position: &str, age| {
            let replay_age = Some(Duration::from_secs(age));
            Some(Told { in_recovery: true, position: at(position), replay_age, ..Told::default() })
        };
        let hidden = Receiver { state: None, ..receiver("node1", None) };
        let catching_up = Receiver { state: Some("catchup".to_owned()), ..receiver("node2", None) };
        let answers = [primary("0/30", &[hidden, catching_up]), told("0/10", 9), told("0/20", 8)];
        let seconds = |seconds| Some(Delay::Time(Duration::from_secs(seconds)));
        assert_eq!(delays(&by_time(), &answers, None), [None, seconds(9), seconds(8)]);
        let now = Instant::now();
        let before = Some(seen_at("0/20", now));
        let later = now + Duration::from_secs(2);
        let judged = figures(&by_time(), &cluster(), 0, &answers, before, later);
        assert_eq!([judged[1].delay, judged[2].delay], [seconds(9), seconds(2)]);
        let stuck = [primary("0/30", &[receiver("node1", None)]), told("0/10", 9), None];
        assert_eq!(delays(&by_time(), &stuck, before)[1], seconds(9), "it replays nothing");
        let answers = [primary("0/30", &[]), told("0/30", 9), standby("0/20")];
        assert_eq!(delays(&by_time(), &answers, None), [None, seconds(0), Some(Delay::Unknown)]);
    }

    #[test]
    fn a_detached_node_keeps_its_delay_and_shows_its_state() {
        let mut cluster = cluster();
        cluster.set_status(1, NodeStatus::Down, "test");
        let answers = [primary("0/30", &[receiver("node1", Some(7))]), None, standby("0/30")];
        let judged = figures(&Settings::default(), &cluster, 0, &answers, None, Instant::now());
        let states = Some(["streaming".to_owned(), "async".to_owned()]);
        assert_eq!(judged[1], Figures { delay: None, states, unmatched: false });
        assert_eq!(judged[2].states, Some([String::new(), String::new()]));
        assert!(judged[2].unmatched);
        // Who streams under a name that others have, too, need not be this node: it must not be attached by that.
        let states = |cluster: &Cluster, rows: usize| {
            let answers = [primary("0/30", &vec![receiver("node1", None); rows]), None, standby("0/30")];
            figures(&Settings::default(), cluster, 0, &answers, None, Instant::now())[1].states.clone()
        };
        let none = Some(Default::default());
        assert_ne!(states(&cluster, 1), none);
        assert_eq!(states(&cluster, 2), none);
        "node1".clone_into(&mut cluster.nodes[2].application_name);
        assert_eq!(states(&cluster, 1), none);
    }

    #[test]
    fn who_has_no_configured_name_is_known_by_slot_or_by_its_own_name() {
        let node = |name: &str| Node { application_name: name.to_owned(), ..Node::default() };
        let with_slot = |name: &str, slot: &str| Receiver { slot: slot.to_owned(), ..receiver(name, None) };
        let receivers = [with_slot("walreceiver", "one"), with_slot("walreceiver", "two"), receiver("pg3", None)];
        let told = |slot: &str, name: &str| Told {
            slot: slot.to_owned(),
            application_name: name.to_owned(),
            ..Told::default()
        };
        let found = |name: &str, told: &Told| {
            let seen = receiver_of(&node(name), Some(told), &receivers)?;
            receivers.iter().position(|receiver| receiver == seen)
        };
        assert_eq!(found("pg3", &told("one", "")), Some(2));
        assert_eq!(found("walreceiver", &told("", "")), Some(1), "the last one counts");
        assert_eq!(found("", &told("two", "walreceiver")), Some(1));
        assert_eq!(found("wrong", &told("", "pg3")), Some(2));
        assert_eq!(found("", &told("", "walreceiver")), None, "there are two of that name");
        assert_eq!(found("", &told("", "")), None);
        assert_eq!(receiver_of(&node(""), None, &receivers), None);
    }
}
