//! The load balance node of a session: redirect lists, then a draw by weight (routing 2.1-2.3).

use crate::config::{RedirectTarget, Settings};

/// A node that may be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Node id.
    pub id: usize,
    /// `backend_weight`.
    pub weight: f64,
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

/// Chooses among `candidates` (the attached nodes, in order of id). `random` are two independent numbers in \[0, 1).
pub fn choose(
    settings: &Settings,
    client: Client<'_>,
    primary: usize,
    candidates: &[Candidate],
    random: [f64; 2],
) -> usize {
    let is_candidate = |id: usize| candidates.iter().any(|candidate| candidate.id == id);
    let application = (!client.application_name.is_empty())
        .then(|| settings.app_name_redirect_preference_list.find(client.application_name))
        .flatten();
    // Application before database before user; the first list with a match decides.
    let redirect = application
        .or_else(|| settings.database_redirect_preference_list.find(client.database))
        .or_else(|| settings.user_redirect_preference_list.find(client.user));
    let mut excluded = None;
    if let Some(redirect) = redirect {
        let taken = random[0] <= redirect.weight;
        let node = match redirect.target {
            RedirectTarget::Primary => Some(primary),
            RedirectTarget::Node(id) => Some(id).filter(|id| is_candidate(*id)),
            RedirectTarget::Standby if taken => {
                return draw(candidates, |id| id != primary, random[1]).unwrap_or(primary);
            }
            RedirectTarget::Standby => return primary,
        };
        match node {
            Some(node) if taken => return node,
            other => excluded = other,
        }
    }
    draw(candidates, |id| Some(id) != excluded, random[1]).unwrap_or(primary)
}

fn draw(candidates: &[Candidate], allowed: impl Fn(usize) -> bool, random: f64) -> Option<usize> {
    let able = || candidates.iter().filter(|candidate| candidate.weight > 0.0 && allowed(candidate.id));
    let point = random * able().map(|candidate| candidate.weight).sum::<f64>();
    let mut before = 0.0;
    let mut chosen = None;
    for candidate in able() {
        if chosen.is_some() && point < before {
            break;
        }
        chosen = Some(candidate.id);
        before += candidate.weight;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODES: [Candidate; 3] =
        [Candidate { id: 0, weight: 1.0 }, Candidate { id: 1, weight: 0.0 }, Candidate { id: 2, weight: 3.0 }];
    const CLIENT: Client<'_> = Client { user: "u", database: "d", application_name: "" };

    #[test]
    fn the_draw_follows_the_weights() {
        let pick = |random| choose(&Settings::default(), CLIENT, 0, &NODES, [0.5, random]);
        assert_eq!([pick(0.0), pick(0.24), pick(0.26), pick(0.999)], [0, 0, 2, 2]);
        assert_eq!(choose(&Settings::default(), CLIENT, 1, &[], [0.0, 0.0]), 1);
        let weightless = [Candidate { id: 0, weight: 0.0 }];
        assert_eq!(choose(&Settings::default(), CLIENT, 0, &weightless, [0.0, 0.5]), 0);
    }
}
