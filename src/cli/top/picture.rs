//! What is shown: a title, some lines of facts, and a table of the nodes, as whole lines or fitted to a screen.
//!
//! A screen that is too narrow loses the columns that tell least, one that is too low first further lines of facts, then facts,
//! then nodes. Nothing ever wraps or scrolls.

use super::figures::Figures;
use std::time::{SystemTime, UNIX_EPOCH};

/// Width of what stands in front of facts.
const LABEL: usize = 11;
/// Between two columns.
const GAP: &str = "  ";

/// A column of the table: its title, how much it tells (the least is the first to go), and where its text stands.
struct Column {
    title: &'static str,
    rank: u8,
    is_word: bool,
}

const fn word(title: &'static str, rank: u8) -> Column {
    Column { title, rank, is_word: true }
}

const fn number(title: &'static str, rank: u8) -> Column {
    Column { title, rank, is_word: false }
}

const COLUMNS: [Column; 11] = [
    word("node", 10),
    word("server", 9),
    word("status", 11),
    word("role", 8),
    number("reads/s", 7),
    number("others/s", 4),
    number("errors/s", 3),
    number("answer ms", 5),
    number("at work", 1),
    number("conns", 2),
    number("behind", 6),
];

/// One moment.
pub(super) struct Picture {
    title: String,
    /// A label, and what is to be told under it.
    facts: Vec<(&'static str, Vec<String>)>,
    rows: Vec<[String; COLUMNS.len()]>,
}

impl Picture {
    /// What has happened between two looks, and how it is now. `place`: where the figures are from.
    pub fn new(place: String, before: &Figures, now: &Figures) -> Self {
        let change = Change { before, now, seconds: now.at.duration_since(before.at).as_secs_f64().max(0.001) };
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64());
        let up = (clock - now.sum("pgpool_start_time_seconds", &[])).max(0.0);
        Self {
            title: format!("pgpool at {place}, up {}", span(up)),
            facts: facts(&change),
            rows: now.of("pgpool_node_info", &[]).map(|info| row(&change, |label| info.label(label))).collect(),
        }
    }

    /// Nothing but a message.
    pub fn message(place: String, text: &str) -> Self {
        Self { title: format!("pgpool at {place}"), facts: vec![("", vec![text.to_owned()])], rows: Vec::new() }
    }

    /// Everything, in lines as long as they are.
    pub fn whole(&self) -> String {
        let lines = self.fitted(usize::MAX, usize::MAX);
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// At most `height` lines of at most `width` characters.
    pub fn fitted(&self, width: usize, height: usize) -> Vec<String> {
        let (mut facts, table) = (self.facts(width), self.table(width));
        let space = height.saturating_sub(1);
        let needed = |facts: &[Vec<String>]| facts.iter().map(Vec::len).sum::<usize>() + table.len();
        while needed(&facts) > space {
            match facts.iter().rposition(|lines| lines.len() > 1) {
                Some(fact) => _ = facts[fact].pop(),
                None if facts.len() > 1 => _ = facts.pop(),
                None => break,
            }
        }
        let is_roomy = !table.is_empty() && needed(&facts) < space;
        let mut lines = vec![self.title.clone()];
        lines.extend(facts.into_iter().flatten());
        lines.extend(is_roomy.then(String::new));
        let space = height.saturating_sub(lines.len());
        if table.len() > space {
            let shown = space.saturating_sub(1);
            lines.extend(table.iter().take(shown).cloned());
            lines.push(format!("and {} more", table.len() - shown.max(1)));
        } else {
            lines.extend(table);
        }
        lines.truncate(height);
        lines.iter().map(|line| cut(line, width).trim_end().to_owned()).collect()
    }

    /// The lines of every fact.
    fn facts(&self, width: usize) -> Vec<Vec<String>> {
        let lines = |(label, parts): &(&str, Vec<String>)| {
            let indent = if label.is_empty() { 0 } else { LABEL };
            let mut lines = vec![format!("{label:indent$}")];
            for (number, part) in parts.iter().enumerate() {
                let comma = if number + 1 < parts.len() { "," } else { "" };
                let last = lines.last().map_or(0, |line| length(line));
                if last > indent && last + 1 + length(part) + comma.len() > width {
                    lines.push(" ".repeat(indent));
                }
                if let Some(line) = lines.last_mut() {
                    let blank = if length(line) > indent { " " } else { "" };
                    line.push_str(&format!("{blank}{part}{comma}"));
                }
            }
            lines
        };
        self.facts.iter().map(lines).collect()
    }

    /// The nodes under their titles; nothing without nodes.
    fn table(&self, width: usize) -> Vec<String> {
        if self.rows.is_empty() {
            return Vec::new();
        }
        let widest = |column: usize| self.rows.iter().map(|row| length(&row[column])).max().unwrap_or(0);
        let widths: Vec<_> = COLUMNS.iter().enumerate().map(|(at, it)| widest(at).max(it.title.len())).collect();
        let mut shown: Vec<_> = (0..COLUMNS.len()).collect();
        let needed = |shown: &[usize]| shown.iter().map(|at| widths[*at] + GAP.len()).sum::<usize>() - GAP.len();
        while shown.len() > 1 && needed(&shown) > width {
            let least = (0..shown.len()).min_by_key(|place| COLUMNS[shown[*place]].rank).unwrap_or(0);
            shown.remove(least);
        }
        let line = |cell: &dyn Fn(usize) -> String| {
            let aligned = |at: &usize| {
                let (text, width) = (cell(*at), widths[*at]);
                if COLUMNS[*at].is_word { format!("{text:<width$}") } else { format!("{text:>width$}") }
            };
            shown.iter().map(aligned).collect::<Vec<_>>().join(GAP)
        };
        let titles = line(&|at| COLUMNS[at].title.to_owned());
        let rows = self.rows.iter().map(|row| line(&|at| row[at].clone()));
        std::iter::once(titles).chain(rows).collect()
    }
}

/// Two looks.
struct Change<'a> {
    before: &'a Figures,
    now: &'a Figures,
    seconds: f64,
}

impl Change<'_> {
    /// How much a counter has grown in a second.
    fn rate(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        ((self.now.sum(name, wanted) - self.before.sum(name, wanted)) / self.seconds).max(0.0)
    }
}

fn facts(change: &Change<'_>) -> Vec<(&'static str, Vec<String>)> {
    let now = change.now;
    let state = |state| now.sum("pgpool_sessions", &[("state", state)]);
    let workers = |state| now.sum("pgpool_workers", &[("state", state)]);
    let slots = |state| now.sum("pgpool_pool_slots", &[("state", state)]);
    let mut failovers = vec![now.sum("pgpool_failovers_total", &[]).to_string()];
    failovers.extend(match now.sum("pgpool_failover_in_progress", &[]) as u8 {
        0 => None,
        1 => Some("one is under way".to_owned()),
        _ => Some("the primary is being replaced".to_owned()),
    });
    vec![
        (
            "sessions",
            vec![
                format!("{} of {} processes busy", workers("busy"), now.sum("pgpool_workers", &[])),
                format!("{} waiting", now.sum("pgpool_waiting_connections", &[])),
                format!("{} active", state("active")),
                format!("{} idle", state("idle")),
                format!("{} idle in transaction", state("idle_in_transaction")),
                format!("{:.1} end/s", change.rate("pgpool_sessions_total", &[])),
            ],
        ),
        (
            "load",
            vec![
                format!("{:.0} statements/s", change.rate("pgpool_statements_total", &[])),
                format!("{:.2} processors", change.rate("pgpool_worker_cpu_seconds_total", &[])),
            ],
        ),
        (
            "pool",
            vec![
                format!("{} in use", slots("used")),
                format!("{} pooled", slots("pooled")),
                format!("{} free", slots("free")),
            ],
        ),
        ("failovers", failovers),
    ]
}

/// The node with these labels.
fn row<'a>(change: &Change<'_>, label: impl Fn(&str) -> Option<&'a str>) -> [String; COLUMNS.len()] {
    let label = |name| label(name).unwrap_or_default();
    let (now, id) = (change.now, label("node"));
    let node = [("node", id)];
    let reads = change.rate("pgpool_statements_total", &[("node", id), ("class", "select")]);
    let answers = change.rate("pgpool_answer_seconds_count", &node);
    let answer = if answers > 0.0 { change.rate("pgpool_answer_seconds_sum", &node) / answers * 1000.0 } else { 0.0 };
    let is_failing = now.sum("pgpool_health_check_failing", &node) > 0.0 && label("status") == "up";
    [
        legible(id),
        legible(label("server")),
        legible(if is_failing { "failing" } else { label("status") }),
        legible(label("role")),
        format!("{reads:.0}"),
        format!("{:.0}", change.rate("pgpool_statements_total", &node) - reads),
        format!("{:.0}", change.rate("pgpool_errors_total", &node)),
        format!("{answer:.2}"),
        now.sum("pgpool_node_sessions", &node).to_string(),
        now.sum("pgpool_node_connections", &node).to_string(),
        behind(now, &node),
    ]
}

fn behind(now: &Figures, node: &[(&str, &str)]) -> String {
    let seconds = now.of("pgpool_node_replication_delay_seconds", node).next().map(|it| format!("{:.3} s", it.figure));
    let bytes = || now.of("pgpool_node_replication_delay_bytes", node).next().map(|it| format!("{} B", it.figure));
    seconds.or_else(bytes).unwrap_or_default()
}

fn span(seconds: f64) -> String {
    let seconds = seconds as u64;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// What the other side says, without anything a terminal would obey.
pub(super) fn legible(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '?' } else { character }).collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn look(at: Instant, selects: u32, nodes: usize) -> Figures {
        let node = |id: usize| {
            format!(
                "pgpool_node_info{{node=\"{id}\",server=\"database{id}.example:5432\",status=\"up\",role=\"standby\"}} 1\n\
                 pgpool_statements_total{{node=\"{id}\",class=\"select\"}} {selects}\n\
                 pgpool_statements_total{{node=\"{id}\",class=\"insert\"}} {}\n\
                 pgpool_node_replication_delay_bytes{{node=\"{id}\"}} 4096\n",
                selects / 2
            )
        };
        let nodes: String = (0..nodes).map(node).collect();
        let workers = "pgpool_workers{state=\"busy\"} 3\npgpool_workers{state=\"free\"} 1\n";
        Figures::read(at, &(nodes + workers))
    }

    fn picture(nodes: usize) -> Picture {
        let began = Instant::now();
        let later = began + Duration::from_secs(2);
        Picture::new("h:1".to_owned(), &look(began, 100, nodes), &look(later, 300, nodes))
    }

    #[test]
    fn two_looks_make_a_picture() {
        let text = picture(1).whole();
        assert!(text.contains("3 of 4 processes busy, 0 waiting, ") && text.contains("150 statements/s"), "{text}");
        let row = text.lines().last().expect("a row");
        let words: Vec<_> = row.split_whitespace().collect();
        let expected =
            ["0", "database0.example:5432", "up", "standby", "100", "50", "0", "0.00", "0", "0", "4096", "B"];
        assert_eq!(words, expected);
        assert!(text.lines().all(|line| line.trim_end() == line));
    }

    #[test]
    fn a_usual_terminal_shows_what_matters() {
        let lines = picture(3).fitted(80, 24);
        let text = lines.join("\n");
        for part in ["0 waiting", "0 idle in transaction", "450 statements/s", "failovers  0", "status", "behind"] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert_eq!(lines.iter().filter(|line| line.contains("4096 B")).count(), 3, "{text}");
    }

    #[test]
    fn no_terminal_is_too_small() {
        for nodes in [0, 1, 3, 128] {
            let picture = picture(nodes);
            for (width, height) in (0..120).flat_map(|width| (0..40).map(move |height| (width, height))) {
                let lines = picture.fitted(width, height);
                assert!(lines.len() <= height, "{width}x{height}: {lines:#?}");
                assert!(lines.iter().all(|line| length(line) <= width), "{width}x{height}: {lines:#?}");
            }
        }
        let small = picture(3).fitted(40, 10);
        assert_eq!(small.iter().filter(|line| line.contains("up")).count(), 4, "title and nodes: {small:#?}");
        assert!(small[2].contains("0 waiting"), "the line that is left is used: {small:#?}");
        let low = picture(128).fitted(80, 10);
        assert_eq!(low.last().map(String::as_str), Some("and 122 more"), "{low:#?}");
        assert!(picture(128).fitted(80, 10)[2].starts_with("node"), "{low:#?}");
    }

    #[test]
    fn a_terminal_gets_nothing_to_obey() {
        let text =
            "pgpool_node_info{node=\"0\",server=\"\x1b]0;owned\x07\u{9b}1m\",status=\"up\",role=\"primary\"} 1\n";
        let figures = Figures::read(Instant::now(), text);
        let text = Picture::new("h:1".to_owned(), &figures, &figures).whole();
        assert!(text.contains("?]0;owned??1m") && !text.contains(|it: char| it.is_control() && it != '\n'), "{text:?}");
    }
}
