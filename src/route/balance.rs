//! The load balance node of a session: redirect lists, then a draw by weight (routing 2.1-2.3).

use super::delay::{exceeds_limit, lowest_delay};
use crate::config::{BackendClusteringMode, RedirectList, RedirectTarget, Settings};
use crate::state::Delay;

/// A node that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Node id.
    pub id: usize,
    /// `backend_weight`.
    pub weight: f64,
    /// How far it is behind the primary.
    pub delay: Delay,
}

/// What is known of the client at session start.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// User name.
    pub user: &'a str,
    /// Database name.
    pub database: &'a str,
    /// `application_name` of the startup packet, empty if none.
    pub application_name: &'a str,
}

/// Chooses among `candidates` (the attached nodes, in order of id); the primary if none is fit. `random` are two
/// independent numbers in \[0, 1): the first is held against the weight of a redirect entry, the second draws.
///
/// In modes other than streaming and logical replication `primary` is the main node, and the answer.
pub fn choose(
    settings: &Settings,
    client: Client<'_>,
    primary: usize,
    candidates: &[Candidate],
    random: [f64; 2],
) -> usize {
    if !matches!(
        settings.backend_clustering_mode,
        BackendClusteringMode::StreamingReplication | BackendClusteringMode::LogicalReplication
    ) || !settings.load_balance_mode
    {
        return primary;
    }
    let node = by_preference(settings, client, primary, candidates, random);
    let is_late = |candidate: &Candidate| candidate.id == node && exceeds_limit(candidate.delay, settings);
    if settings.prefer_lower_delay_standby && node != primary && candidates.iter().any(is_late) {
        return lowest_delay(settings, primary, candidates, random[1]);
    }
    node
}

fn by_preference(
    settings: &Settings,
    client: Client<'_>,
    primary: usize,
    candidates: &[Candidate],
    random: [f64; 2],
) -> usize {
    let any_but = |excluded| draw(candidates, |node| Some(node.id) != excluded, random[1]).unwrap_or(primary);
    // Application before database before user; the first list with a match decides.
    let lists: [(&RedirectList, &str); 3] = [
        (&settings.app_name_redirect_preference_list, client.application_name),
        (&settings.database_redirect_preference_list, client.database),
        (&settings.user_redirect_preference_list, client.user),
    ];
    let matching = lists.into_iter().filter(|(_, name)| !name.is_empty()).find_map(|(list, name)| list.find(name));
    let Some(redirect) = matching else { return any_but(None) };
    let taken = random[0] < redirect.weight;
    let preferred = match redirect.target {
        RedirectTarget::Standby if taken => {
            return draw(candidates, |node| node.id != primary, random[1]).unwrap_or(primary);
        }
        RedirectTarget::Standby => return primary,
        RedirectTarget::Primary => primary,
        RedirectTarget::Node(id) => id,
    };
    if !candidates.iter().any(|node| node.id == preferred) {
        // A preferred node that is not there is no preference.
        return any_but(None);
    }
    if taken { preferred } else { any_but(Some(preferred)) }
}

/// Draws by weight among the allowed candidates (routing 2.3, 5).
pub(super) fn draw(candidates: &[Candidate], allowed: impl Fn(&Candidate) -> bool, random: f64) -> Option<usize> {
    let able = || candidates.iter().filter(|candidate| candidate.weight > 0.0 && allowed(candidate));
    let mut point = random * able().map(|candidate| candidate.weight).sum::<f64>();
    // Rounding may leave a rest behind the last one.
    let last = able().last();
    let drawn = able().find(|candidate| {
        point -= candidate.weight;
        point < 0.0
    });
    drawn.or(last).map(|candidate| candidate.id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;
    use std::path::Path;
    use std::time::Duration;

    const CLIENT: Client<'_> = Client { user: "joe", database: "shop", application_name: "report" };

    fn node(id: usize, weight: f64) -> Candidate {
        Candidate { id, weight, delay: Delay::default() }
    }

    fn settings(text: &str) -> Settings {
        let nodes = "backend_hostname0 = 'a'\nbackend_port0 = 5432\n";
        load_text(Path::new("/pgpool.conf"), format!("{nodes}{text}\n").as_bytes()).expect("valid").settings
    }

    fn pick(text: &str, random: [f64; 2]) -> usize {
        choose(&settings(text), CLIENT, 0, &[node(0, 1.0), node(1, 0.0), node(2, 3.0), node(3, 1.0)], random)
    }

    #[test]
    fn the_draw_follows_the_weights() {
        assert_eq!([0.0, 0.19, 0.21, 0.79, 0.81, 0.999].map(|random| pick("", [0.5, random])), [0, 0, 2, 2, 3, 3]);
        assert_eq!(choose(&Settings::default(), CLIENT, 1, &[], [0.0, 0.0]), 1);
        assert_eq!(choose(&Settings::default(), CLIENT, 0, &[node(0, 0.0), node(1, 0.0)], [0.0, 0.5]), 0);
        assert_eq!(pick("backend_clustering_mode = raw", [0.5, 0.5]), 0);
        assert_eq!(pick("load_balance_mode = off", [0.5, 0.5]), 0);
    }

    #[test]
    fn application_before_database_before_user() {
        let user = "user_redirect_preference_list = 'joe:3'\n";
        let database = "database_redirect_preference_list = 'sh.*:1'\n";
        let application = "app_name_redirect_preference_list = 'psql:0,report:2'\n";
        assert_eq!(pick(user, [0.5, 0.0]), 3);
        assert_eq!(pick(&[user, database].concat(), [0.5, 0.0]), 1, "weight 0 does not matter for a named node");
        assert_eq!(pick(&[user, database, application].concat(), [0.5, 0.0]), 2);
    }

    #[test]
    fn ratios_of_redirects() {
        let ratio = |node: &str| format!("database_redirect_preference_list = 'shop:{node}(0.3)'");
        assert_eq!([[0.2, 0.0], [0.4, 0.0], [0.4, 0.9]].map(|random| pick(&ratio("2"), random)), [2, 0, 3]);
        assert_eq!([[0.2, 0.0], [0.4, 0.0], [0.4, 0.9]].map(|random| pick(&ratio("primary"), random)), [0, 2, 3]);
        assert_eq!([[0.2, 0.0], [0.2, 0.9], [0.4, 0.9]].map(|random| pick(&ratio("standby"), random)), [2, 3, 0]);
        assert_eq!(pick(&ratio("7"), [0.2, 0.5]), 2, "a node that is not there is no preference");
    }

    #[test]
    fn a_late_standby_gives_way_to_the_nearest() {
        let late = |id, seconds| Candidate { id, weight: 1.0, delay: Delay::Time(Duration::from_secs(seconds)) };
        let nodes = [late(0, 0), late(1, 9), late(2, 3), late(3, 2)];
        let limit = "delay_threshold_by_time = 5s\n";
        let choose = |text: &str, random| choose(&settings(text), CLIENT, 0, &nodes, [0.5, random]);
        assert_eq!(choose(limit, 0.3), 1, "the statement decides later");
        let prefer = format!("{limit}prefer_lower_delay_standby = on");
        assert_eq!([choose(&prefer, 0.3), choose(&prefer, 0.6), choose(&prefer, 0.0)], [3, 2, 0]);
    }
}
