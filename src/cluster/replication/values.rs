//! What an external command has said about the delays (failover 14.6).

use crate::report::Report;
use std::time::Duration;

/// Above this many milliseconds a value is wondered at.
const LARGE: f64 = 3_600_000.0;
/// No delay is longer, in milliseconds.
const LONGEST: f64 = 1e15;

/// The delays read from an output, and what there is to say about it.
#[derive(Debug, Default)]
pub(super) struct Values {
    /// Node id and delay; nodes without a value are not there.
    pub delays: Vec<(usize, Duration)>,
    pub remarks: Vec<Report>,
}

/// What is read.
const WANTED: &str = "It must print a number of milliseconds for each standby, in the order of the nodes.";

/// Reads one number of milliseconds for each of `nodes`, in order.
pub(super) fn read(output: &str, nodes: &[usize]) -> Values {
    let words: Vec<_> = output.split([' ', '\t', '\n', '\r']).filter(|word| !word.is_empty()).collect();
    let mut values = Values::default();
    if words.is_empty() {
        values.remarks.push(Report::warning("replication delay command produced no output").hint(WANTED));
        return values;
    }
    if words.len() != nodes.len() {
        let (got, expected) = (words.len(), nodes.len());
        let text = format!(
            "replication delay command returned {got} values, expected {expected} (one per replica, excluding primary)"
        );
        values.remarks.push(
            Report::warning(text).hint("Nodes without a value keep the delay they had; values beyond are ignored."),
        );
    }
    for (word, &node) in words.iter().zip(nodes) {
        let (delay, remark) = value(word, node);
        values.delays.extend(delay.map(|delay| (node, delay)));
        values.remarks.extend(remark);
    }
    values
}

fn value(word: &str, node: usize) -> (Option<Duration>, Option<Report>) {
    let number = word.parse::<f64>().ok().filter(|number| number.is_finite());
    let Some(number) = number else {
        let text = format!("invalid delay value '{word}' for node {node}, treating as 0");
        return (Some(Duration::ZERO), Some(Report::warning(text).hint(WANTED)));
    };
    if number == -1.0 {
        let text = format!(
            "node {node} reported as down by external command (delay -1), relying on health check for failover decision"
        );
        return (None, Some(Report::log_line(text)));
    }
    if number < 0.0 {
        let text = format!("negative delay value {number:.3} for node {node} (other than -1), treating as 0");
        return (Some(Duration::ZERO), Some(Report::warning(text)));
    }
    let remark =
        (number > LARGE).then(|| Report::warning(format!("extremely large delay value {number:.3} for node {node}")));
    (Some(Duration::from_secs_f64(number.min(LONGEST) / 1000.0)), remark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(output: &str) -> (Vec<(usize, u128)>, Vec<String>) {
        let values = read(output, &[0, 2, 3]);
        let delays = values.delays.iter().map(|(node, delay)| (*node, delay.as_micros())).collect();
        (delays, values.remarks.into_iter().map(|report| report.message).collect())
    }

    #[test]
    fn one_value_per_standby() {
        assert_eq!(read_all("0 12.5\t3000\n"), (vec![(0, 0), (2, 12_500), (3, 3_000_000)], vec![]));
    }

    #[test]
    fn what_is_odd_is_told() {
        let none = "replication delay command produced no output".to_owned();
        assert_eq!(read_all(" \n"), (vec![], vec![none]));
        let count = |got| {
            format!("replication delay command returned {got} values, expected 3 (one per replica, excluding primary)")
        };
        assert_eq!(read_all("5"), (vec![(0, 5000)], vec![count(1)]));
        assert_eq!(read_all("5 6 7 8"), (vec![(0, 5000), (2, 6000), (3, 7000)], vec![count(4)]));
        let (delays, remarks) = read_all("-1 x -2");
        assert_eq!(delays, [(2, 0), (3, 0)]);
        assert_eq!(
            remarks,
            [
                "node 0 reported as down by external command (delay -1), relying on health check for failover decision",
                "invalid delay value 'x' for node 2, treating as 0",
                "negative delay value -2.000 for node 3 (other than -1), treating as 0",
            ]
        );
        let (delays, remarks) = read_all("3600001 nan 1e300");
        assert_eq!(delays[..2], [(0, 3_600_001_000), (2, 0)]);
        assert_eq!(delays.len(), 3);
        assert_eq!(remarks[0], "extremely large delay value 3600001.000 for node 0");
        assert_eq!(remarks.len(), 3);
    }
}
