//! The text format of Prometheus, version 0.0.4.

use super::aliases::ALIASES;
use super::families::{FAMILIES, Family, Read};
use super::measure::Snapshot;
use crate::state::{LATENCY_BUCKETS, Latency, latency_bound};
use std::fmt::Write as _;

/// The metrics of ours, then those of pgpool2_exporter.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(32 * 1024);
    for family in FAMILIES.iter().chain(ALIASES) {
        family.write(snapshot, &mut out);
    }
    out
}

impl Family {
    fn write(&self, snapshot: &Snapshot, out: &mut String) {
        let Self { name, help, labels, figures } = self;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {}", help.replace('\\', "\\\\"), figures.kind());
        match figures {
            Read::Counter(read) | Read::Gauge(read) => {
                for (values, figure) in read(snapshot) {
                    sample(out, name, "", labels, &values, None, figure);
                }
            }
            Read::Histogram(read) => {
                for (values, latency) in read(snapshot) {
                    histogram(out, name, labels, &values, latency);
                }
            }
        }
    }
}

impl Read {
    /// The word of the format.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    labels: &[&str],
    values: &[String],
    bound: Option<&str>,
    figure: f64,
) {
    out.push_str(name);
    out.push_str(suffix);
    let all = labels.iter().copied().zip(values.iter().map(String::as_str)).chain(bound.map(|bound| ("le", bound)));
    let mut separator = '{';
    for (label, value) in all {
        out.push(separator);
        out.push_str(label);
        out.push_str("=\"");
        escape(out, value);
        out.push('"');
        separator = ',';
    }
    if separator == ',' {
        out.push('}');
    }
    let _ = writeln!(out, " {figure}");
}

fn escape(out: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

/// The bounds that are powers of two from 64 microseconds on; what lies between is added up.
fn histogram(out: &mut String, name: &str, labels: &[&str], values: &[String], latency: &Latency) {
    let mut count = 0;
    for bucket in 0..LATENCY_BUCKETS {
        count += latency.buckets[bucket];
        let Some(bound) = latency_bound(bucket) else { continue };
        let microseconds = bound.as_micros();
        if microseconds >= 64 && microseconds.is_power_of_two() {
            let bound = bound.as_secs_f64().to_string();
            sample(out, name, "_bucket", labels, values, Some(&bound), count as f64);
        }
    }
    sample(out, name, "_bucket", labels, values, Some("+Inf"), count as f64);
    sample(out, name, "_sum", labels, values, None, latency.microseconds as f64 / 1e6);
    sample(out, name, "_count", labels, values, None, count as f64);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::metrics::measure::Meter;
    use crate::state::{
        Asker, ClientInfo, Cluster, Limits, Node, NodeCounters, NodeStatus, Phases, ProcessStatus, RequestKind,
        ServerKey, SessionInfo, Shared, Staff,
    };
    use std::collections::HashSet;
    use std::time::{Duration, Instant};

    fn snapshot() -> Snapshot {
        let shared = Shared::create(Limits { workers: 3, pool_slots: 2, ..Limits::default() }).expect("shared");
        let node = |hostname: &str| Node {
            hostname: hostname.to_owned(),
            port: 5432,
            status: NodeStatus::Up,
            ..Node::default()
        };
        let update = |cluster: &mut Cluster| {
            // The last two are the same server.
            cluster.nodes = vec![node("a"), node("odd\"\\\nname"), node("c"), node("c")];
            (cluster.primary, cluster.main) = (Some(0), Some(0));
        };
        shared.nodes().update(update).expect("update");
        let slot = shared.worker(0);
        slot.occupy(std::process::id());
        slot.begin_client(&ClientInfo::default());
        NodeCounters::count(&slot.counters(0).select);
        for microseconds in [3, 64, 65, 100_000_000] {
            slot.counters(0).latency.observe(Duration::from_micros(microseconds));
        }
        let phases = Phases { command: Duration::from_millis(250), ..Phases::default() };
        shared.past_failovers().add(RequestKind::Down, 1, Asker::HealthCheck, phases, "gone");
        shared.publish_staff(Staff { workers: 2, min: 1, max: 2 });
        Snapshot::take(&Settings::default(), &shared, &[], &mut Meter::default())
    }

    #[test]
    fn figures_stand_under_their_names() {
        let text = text(&snapshot());
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        has("# TYPE pgpool_node_attached gauge");
        has("pgpool_node_attached{node=\"0\",server=\"a:5432\"} 1");
        has("pgpool_node_info{node=\"0\",server=\"a:5432\",status=\"up\",role=\"primary\"} 1");
        has("pgpool_statements_total{node=\"0\",server=\"a:5432\",class=\"select\"} 1");
        has("pgpool_node_primary{node=\"1\",server=\"odd\\\"\\\\\\nname:5432\"} 0");
        has("pgpool_workers{state=\"busy\"} 1");
        has("pgpool_workers{state=\"missing\"} 1");
        has("pgpool_workers{state=\"unneeded\"} 1");
        has("pgpool_pool_slots{state=\"free\"} 6");
        has("pgpool_failovers_total{kind=\"failover\",cause=\"health_check\"} 1");
        has("pgpool_failover_seconds_total{kind=\"failover\",phase=\"command\"} 0.25");
        has("pgpool_node_attached{node=\"3\",server=\"c:5432\"} 1");
        has("pgpool2_pool_cache_free_cache_entries_size 0");
        has("pgpool2_pool_nodes_select_cnt{hostname=\"a\",port=\"5432\",role=\"primary\"} 1");
    }

    #[test]
    fn buckets_add_up() {
        let text = text(&snapshot());
        let buckets: Vec<_> =
            text.lines().filter(|line| line.starts_with("pgpool_answer_seconds_bucket{node=\"0\"")).collect();
        let labels = "node=\"0\",server=\"a:5432\"";
        assert_eq!(buckets[0], format!("pgpool_answer_seconds_bucket{{{labels},le=\"0.000064\"}} 1"));
        assert_eq!(buckets[1], format!("pgpool_answer_seconds_bucket{{{labels},le=\"0.000128\"}} 3"));
        assert_eq!(buckets[buckets.len() - 1], format!("pgpool_answer_seconds_bucket{{{labels},le=\"+Inf\"}} 4"));
        assert!(text.contains(&format!("pgpool_answer_seconds_sum{{{labels}}} 100.000132\n")));
        assert!(text.contains(&format!("pgpool_answer_seconds_count{{{labels}}} 4\n")));
        assert!((15..30).contains(&buckets.len()), "{}", buckets.len());
    }

    /// The figure of an optimised build is in docs/performance.md.
    #[test]
    fn a_thousand_workers_are_told_of_in_no_time() {
        let shared = Shared::create(Limits { workers: 1000, pool_slots: 4, ..Limits::default() }).expect("shared");
        let node = Node { hostname: "db".to_owned(), port: 5432, status: NodeStatus::Up, ..Node::default() };
        shared.nodes().update(|cluster: &mut Cluster| cluster.nodes = vec![node; 3]).expect("update");
        for slot in shared.workers().iter() {
            slot.occupy(std::process::id());
            slot.begin_client(&ClientInfo::default());
            slot.set_status(ProcessStatus::Idle);
            let user = format!("user{}", slot.index());
            slot.set_session(&SessionInfo { user: user.clone(), database: "shop".to_owned(), pool_slot: Some(0) });
            for number in 0..4 {
                slot.pool(number).update(|entry| entry.user.clone_from(&user));
                (0..3).for_each(|id| slot.pool(number).set_server(id, &ServerKey { pid: 7, key: vec![1; 4] }));
            }
        }
        let began = Instant::now();
        let text = text(&Snapshot::take(&Settings::default(), &shared, &[], &mut Meter::default()));
        let took = began.elapsed();
        assert!(text.contains("pgpool_sessions{state=\"idle\"} 1000\n"), "{text}");
        let others = "pgpool_account_sessions{user=\"(others)\",database=\"(others)\"} 800\n";
        assert!(text.contains(others), "{text}");
        println!("{} bytes in {took:?}", text.len());
        assert!(text.len() < 100_000 && took < Duration::from_secs(2), "{} bytes in {took:?}", text.len());
    }

    fn expressions(value: &serde_json::Value, found: &mut Vec<String>) {
        match value {
            serde_json::Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
            serde_json::Value::Object(entries) => {
                found.extend(entries.get("expr").and_then(|expression| expression.as_str()).map(str::to_owned));
                entries.values().for_each(|value| expressions(value, found));
            }
            _ => {}
        }
    }

    /// The dashboard asks for nothing that does not exist: no metric, no label, no value of a label.
    #[test]
    fn the_dashboard_knows_the_names() {
        let snapshot = snapshot();
        let dashboard = serde_json::from_str(include_str!("../../conf/grafana/pgpool.json")).expect("JSON");
        let mut found = Vec::new();
        expressions(&dashboard, &mut found);
        assert!(found.len() > 20, "{found:#?}");
        let regex = |text: &str| regex::Regex::new(text).expect("regex");
        let (metric, selector) = (regex(r"pgpool_\w+"), regex(r#"(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)""#));
        let grouping = regex(r"by \(([^)]*)\)");
        for expression in &found {
            let families = metric.find_iter(expression).map(|word| {
                let word = word.as_str();
                let is_family = |family: &&Family| {
                    let parts = ["_bucket", "_sum", "_count"].map(|suffix| word.strip_suffix(suffix));
                    let is_histogram = matches!(family.figures, Read::Histogram(_));
                    family.name == word || (is_histogram && parts.contains(&Some(family.name)))
                };
                FAMILIES.iter().find(is_family).unwrap_or_else(|| panic!("{word} in {expression}"))
            });
            let families: Vec<_> = families.collect();
            // Prometheus and buckets have labels of their own.
            let knows = |label: &str| {
                ["instance", "job", "le"].contains(&label)
                    || families.iter().any(|family| family.labels.contains(&label))
            };
            let grouped = grouping.captures_iter(expression).flat_map(|it| it.extract::<1>().1[0].split(','));
            grouped.for_each(|label| assert!(knows(label.trim()), "{label} in {expression}"));
            for [label, how, value] in selector.captures_iter(expression).map(|it| it.extract().1) {
                assert!(knows(label), "{label} in {expression}");
                let has = |family: &&Family| {
                    let (Read::Counter(read) | Read::Gauge(read)) = family.figures else { return false };
                    let at = family.labels.iter().position(|name| *name == label);
                    at.is_some_and(|at| read(&snapshot).iter().any(|(values, _)| values[at] == value))
                };
                let is_literal = how == "=" || how == "!=";
                assert!(!is_literal || families.iter().copied().any(|family| has(&family)), "{value} in {expression}");
            }
        }
    }

    /// Every series once, every figure with all its labels, every name as Prometheus wants it.
    #[test]
    fn the_table_is_sound() {
        let snapshot = snapshot();
        let mut names = HashSet::new();
        for family in FAMILIES.iter().chain(ALIASES) {
            let Family { name, help, labels, figures } = family;
            assert!(names.insert(*name), "{name} twice");
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}");
            let is_counter = matches!(figures, Read::Counter(_));
            assert!(name.starts_with("pgpool2_") || is_counter == name.ends_with("_total"), "{name}");
            let samples = match figures {
                Read::Counter(read) | Read::Gauge(read) => read(&snapshot).into_iter().map(|sample| sample.0).collect(),
                Read::Histogram(read) => read(&snapshot).into_iter().map(|sample| sample.0).collect::<Vec<_>>(),
            };
            assert!(samples.iter().all(|values| values.len() == labels.len()), "{name}");
            assert_eq!(samples.iter().collect::<HashSet<_>>().len(), samples.len(), "{name}");
        }
    }
}
