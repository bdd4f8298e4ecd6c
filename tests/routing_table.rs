//! Where statements go, as tables: `tests/data/routing`. No servers are needed.

#[path = "routing/rows.rs"]
mod rows;

use pgpool::route::{SessionView, Target, decide};
use rows::{NamesTell, is_reason, reason_name, sections, target_name};
use std::collections::BTreeSet;
use std::fmt::Write;

#[test]
fn every_statement_goes_where_the_tables_say() {
    let mut failures = String::new();
    let mut count = 0;
    for section in sections() {
        for row in &section.rows {
            let route = section.given.route(&row.text);
            count += 1;
            if target_name(route.target) == row.target && is_reason(&row.reason, &route.reason) {
                continue;
            }
            let _ = writeln!(
                failures,
                "\n{} ({})\n  statement  {}\n  given      {}\n  expected   {}  {}\n  but        {}  {}: {}\n  facts      {:?}",
                row.place,
                section.title,
                String::from_utf8_lossy(&row.text),
                section.given.lines.join("; "),
                row.target,
                row.reason,
                target_name(route.target),
                reason_name(&route.reason),
                route.reason,
                section.given.facts(&row.text),
            );
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(count > 400, "only {count} rows were read");
}

/// Reasons that a session adds to those of the rules.
const OF_SESSIONS: [&str; 1] = ["Companions"];

/// A reason that no row gives is one that nobody has seen.
#[test]
fn every_reason_has_a_row() {
    let seen: BTreeSet<String> = sections()
        .iter()
        .flat_map(|section| &section.rows)
        .map(|row| row.reason.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    let source = include_str!("../src/route/reason.rs");
    let (_, variants) = source.split_once("pub enum Reason {").expect("the enum");
    let (variants, _) = variants.split_once("\n}").expect("its end");
    let names = variants.lines().map(str::trim).filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()));
    let unseen: Vec<&str> = names.map(|line| line.split(['(', ',']).next().unwrap_or_default()).collect();
    assert!(unseen.len() > 30, "{unseen:?}");
    let unseen: Vec<&str> =
        unseen.into_iter().filter(|name| !seen.contains(*name) && !OF_SESSIONS.contains(name)).collect();
    assert!(unseen.is_empty(), "no row for {unseen:?}");
}

/// Modes without balancing stay on one node, and a circumstance takes reads away from the other node, never adds any.
#[test]
fn circumstances_only_ever_take_away() {
    for section in sections() {
        let raw = section.given.with_setting("backend_clustering_mode = raw");
        let native = section.given.with_setting("backend_clustering_mode = native_replication");
        let off = section.given.with_setting("load_balance_mode = off");
        for row in &section.rows {
            let facts = section.given.facts(&row.text);
            let target = |view| decide(&facts, &row.text, view, &NamesTell).target;
            let place = &row.place;
            let view = section.given.view();
            assert_eq!(target(SessionView { settings: &raw, ..view }), Target::Main, "{place}");
            assert_eq!(target(SessionView { settings: &native, ..view }), Target::Main, "{place}");
            if section.given.view().prepared.is_none() {
                let unbalanced = target(SessionView { settings: &off, ..view });
                assert!([Target::Primary, Target::Main].contains(&unbalanced), "{place}");
            }
            let alone = target(SessionView { has_balance_node: false, ..view });
            assert!(alone != Target::Balance || view.prepared.is_some(), "{place}");
            let inside = section.given.route(&row.text).target;
            let facts_only =
                SessionView { balance_in_transaction: true, follows_prepared: true, ..SessionView::new(view.settings) };
            let fresh = target(SessionView { prepared: view.prepared, recent: view.recent, ..facts_only });
            assert!(inside != Target::Balance || fresh == Target::Balance, "{place}");
        }
    }
}
