//! The search for the primary that never ends: every check also looks at who the primary is (failover 8, 19.1).
//!
//! The decision is [`search::survey`]'s. What follows from it is asked of the parent, in this order, so that there is never
//! more than one node that gets writes: the new primary is taken, then former ones are detached.
//!
//! Invariants: nothing is concluded from what nodes said before a failover that has begun since; what lasts is told once.

use super::Check;
use super::ask::Told;
use super::tell::Subject;
use crate::cluster::search::{self, Outcome};
use crate::cluster::sight::Sight;
use crate::cluster::tell;
use crate::cluster::verdict::Outdated;
use crate::config::Settings;
use crate::failover;
use crate::report::Report;
use crate::state::{Cluster, Progress, Role};

/// Whether there is anything to look for.
pub(super) fn is_wanted(settings: &Settings) -> bool {
    search::roles_decide(settings) && (settings.search_primary_continuously || settings.detach_false_primary)
}

impl Check {
    /// What follows from what the nodes have said (index = id). `cluster` and `begun` are from before they were asked.
    pub(super) fn survey(&mut self, cluster: &Cluster, begun: u64, told: &[Option<Told>]) {
        if !is_wanted(&self.settings) {
            return;
        }
        let sights: Vec<Option<&Sight>> = told.iter().map(|told| told.as_ref().map(|told| &told.sight)).collect();
        self.tell_of_hidden(&sights);
        let outcome = search::survey(&self.settings, cluster, &sights);
        let now = self.shared.nodes().view();
        let (requests, place) = (self.shared.failover(), |cluster: &Cluster| (cluster.attached(), cluster.primary));
        if requests.begun() != begun || requests.progress() != Progress::Idle || place(&now) != place(cluster) {
            return;
        }
        let findings: Vec<_> = outcome.findings.iter().map(|report| report.message.as_str()).collect();
        if findings.is_empty() {
            self.troubles.end(Subject::Ownership);
        } else if self.troubles.begin(Subject::Ownership, &findings.join("\n")) {
            outcome.findings.iter().for_each(Report::log);
        }
        if self.settings.search_primary_continuously {
            self.take_over(cluster, begun, &outcome, &sights);
        }
        for id in 0..sights.len() {
            if outcome.invalid.contains(&id) {
                self.detach_invalid(cluster, id);
            } else {
                self.troubles.end(Subject::Invalid(id));
            }
        }
    }

    fn detach_invalid(&mut self, cluster: &Cluster, id: usize) {
        let is_new = self.troubles.begin(Subject::Invalid(id), "");
        if is_new {
            Report::log_line(format!("pgpool_worker_child: invalid node found {id}")).log();
        }
        // A request may get lost, but one that is refused is refused again.
        if is_new || !cluster.nodes[id].disallow_to_failover {
            failover::detach(&self.shared, id, tell::FALSE_PRIMARY);
        }
    }

    /// The primary as it is now, and those that are not it any more.
    fn take_over(
        &mut self,
        cluster: &Cluster,
        begun: u64,
        Outcome { verdict, .. }: &Outcome,
        sights: &[Option<&Sight>],
    ) {
        let sight = |id: usize| sights.get(id).copied().flatten();
        let (Some(old), Some(primary)) = (cluster.primary, verdict.primary) else { return };
        if primary == old {
            self.tell_of_demotion(old, sight(old));
            let seen = sight(old).filter(|sight| sight.history != cluster.history);
            if seen.is_some() {
                self.change_nodes(|cluster| search::remember(cluster, seen));
            }
        } else {
            let now = match sight(old).map(|sight| sight.role) {
                Some(Role::Primary) => "is outdated",
                Some(_) => "is a standby",
                None => "does not answer",
            };
            let timeline = sight(primary).and_then(|sight| sight.history);
            let timeline = timeline.map_or_else(String::new, |history| format!(" on timeline {}", history.timeline));
            let text = format!("DB node {primary} has become the primary in place of DB node {old}");
            Report::log_line(&text)
                .detail(format!("DB node {old} {now}, DB node {primary} takes writes{timeline}."))
                .log();
            // Should it be lost before the next check, the former one is known to be older.
            self.change_nodes(|cluster| search::remember(cluster, sight(primary)));
            failover::take_over(&self.shared, primary, begun, &text);
        }
        let expected = Cluster { primary: Some(primary), ..cluster.clone() };
        for id in 0..sights.len() {
            match verdict.outdated.iter().find(|outdated| outdated.node == id) {
                // One that stays is worth a line when the change is through: then this process is a new one.
                Some(_) if primary != old && cluster.nodes[id].disallow_to_failover => {}
                Some(outdated) => self.put_out(&expected, outdated),
                None => drop(self.troubles.end(Subject::Outdated(id))),
            }
        }
        self.tell_of_rivals(primary, &verdict.rivals);
    }

    /// A former primary that takes writes is detached, if it may be.
    fn put_out(&mut self, cluster: &Cluster, outdated: &Outdated) {
        let node = outdated.node;
        let is_new = self.troubles.begin(Subject::Outdated(node), "");
        if cluster.nodes[node].disallow_to_failover {
            if is_new {
                tell::outdated(
                    outdated,
                    cluster,
                    "Nothing is written to it, but DISALLOW_TO_FAILOVER keeps it attached.",
                )
                .log();
            }
            return;
        }
        if is_new {
            tell::outdated(outdated, cluster, "It is detached.").log();
        }
        failover::detach(&self.shared, node, &tell::reason(outdated));
    }

    fn tell_of_demotion(&mut self, primary: usize, sight: Option<&Sight>) {
        match sight.map(|sight| sight.role) {
            Some(Role::Standby) if self.troubles.begin(Subject::Demoted, &primary.to_string()) => {
                Report::warning(format!("DB node {primary} is not the primary any more but a standby"))
                    .detail("No other attached node has become the primary yet. Writes fail until one has.")
                    .log();
            }
            Some(Role::Primary) if self.troubles.end(Subject::Demoted) => {
                Report::log_line(format!("DB node {primary} is the primary again")).log();
            }
            _ => {}
        }
    }

    fn tell_of_rivals(&mut self, primary: usize, rivals: &[usize]) {
        let names = rivals.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if rivals.is_empty() {
            self.troubles.end(Subject::Rivals);
        } else if self.troubles.begin(Subject::Rivals, &names) && !self.settings.detach_false_primary {
            Report::warning(format!("DB node {names} says that it is the primary, as DB node {primary} does"))
                .detail(format!("Neither was promoted after the other. Writes go to DB node {primary} only."))
                .hint(
                    "Stop the one that is wrong, or detach it. With detach_false_primary = on the one from which not all \
                     standbys stream is detached.",
                )
                .log();
        }
    }

    /// Without a timeline former primaries cannot be told from new ones.
    fn tell_of_hidden(&mut self, sights: &[Option<&Sight>]) {
        let user = if self.settings.sr_check_user.is_empty() { "postgres" } else { &self.settings.sr_check_user };
        for (id, sight) in sights.iter().enumerate() {
            let Some(sight) = sight else { continue };
            if sight.history.is_some() {
                self.troubles.end(Subject::History(id));
            } else if self.troubles.begin(Subject::History(id), user) {
                Report::warning(format!("user \"{user}\" may not see the timeline of DB node {id}"))
                    .detail("If it is a former primary that takes writes again, that is not noticed.")
                    .hint(format!(
                        "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system(), pg_catalog.pg_control_checkpoint(), \
                         pg_catalog.pg_walfile_name(pg_lsn) TO \"{}\";",
                        user.replace('"', "\"\"")
                    ))
                    .log();
            }
        }
    }
}
