//! How likely each node is to become the load balance node of a session.

use super::balance::{Candidate, Client, choose};
use crate::config::Settings;

/// The draw is tried with so many numbers for the weight of a redirect entry, evenly spread.
const REDIRECTS: usize = 100;
/// And with so many for the weights of the nodes, for each of the former.
const DRAWS: usize = 1000;

/// The candidates that [`choose`] may answer with, and how likely, 0 to 1, to a tenth of a percent where no redirect entry
/// has a say. Makes 100,000 draws: for a person who asks, not for a session.
pub fn shares(settings: &Settings, client: Client<'_>, primary: usize, candidates: &[Candidate]) -> Vec<(usize, f64)> {
    let middle = |number: usize, of: usize| (number as f64 + 0.5) / of as f64;
    let mut counts = std::collections::BTreeMap::new();
    for redirect in 0..REDIRECTS {
        for draw in 0..DRAWS {
            let random = [middle(redirect, REDIRECTS), middle(draw, DRAWS)];
            *counts.entry(choose(settings, client, primary, candidates, random)).or_insert(0usize) += 1;
        }
    }
    counts.into_iter().map(|(node, count)| (node, count as f64 / (REDIRECTS * DRAWS) as f64)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Delay;

    fn shares_of(parameter: Option<(&str, &str)>) -> Vec<(usize, f64)> {
        let node = |id, weight| Candidate { id, weight, delay: Delay::default() };
        let client = Client { user: "joe", database: "shop", application_name: "" };
        let mut settings = Settings::default();
        if let Some((name, value)) = parameter {
            settings.assign(name, value).expect("valid");
        }
        shares(&settings, client, 0, &[node(0, 0.0), node(1, 1.0), node(2, 3.0)])
    }

    #[test]
    fn shares_follow_weights_and_redirects() {
        assert_eq!(shares_of(None), [(1, 0.25), (2, 0.75)]);
        assert_eq!(shares_of(Some(("load_balance_mode", "off"))), [(0, 1.0)]);
        let redirected = shares_of(Some(("database_redirect_preference_list", "shop:primary(0.3)")));
        assert_eq!(redirected, [(0, 0.3), (1, 0.175), (2, 0.525)]);
    }
}
