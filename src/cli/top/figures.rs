//! The text format of Prometheus, read.

use std::time::Instant;

/// What was told at one moment.
pub(super) struct Figures {
    /// When.
    pub at: Instant,
    samples: Vec<Sample>,
}

/// One figure.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    pub figure: f64,
}

/// A line of the text format, `name{label="value",...} figure`.
fn sample(line: &str) -> Option<Sample> {
    if line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    while let Some(label) = rest.strip_prefix(['{', ',']) {
        let (label, quoted) = label.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((label.to_owned(), value));
        rest = &quoted[end..];
    }
    let figure = rest.strip_prefix('}').unwrap_or(rest).trim().parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, figure })
}

impl Sample {
    fn has(&self, wanted: &[(&str, &str)]) -> bool {
        wanted.iter().all(|(name, value)| self.label(name) == Some(value))
    }

    /// The value of a label.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(label, _)| label == name).map(|(_, value)| value.as_str())
    }
}

impl Figures {
    /// Those of an answer that has come at that moment.
    pub fn read(at: Instant, text: &str) -> Self {
        Self { at, samples: text.lines().filter_map(sample).collect() }
    }

    /// The samples of a metric that have these labels.
    pub fn of<'a>(&'a self, name: &'a str, wanted: &'a [(&str, &str)]) -> impl Iterator<Item = &'a Sample> {
        self.samples.iter().filter(move |sample| sample.name == name && sample.has(wanted))
    }

    /// Their sum.
    pub fn sum(&self, name: &str, wanted: &[(&str, &str)]) -> f64 {
        // The sum of nothing would be -0.
        self.of(name, wanted).fold(0.0, |sum, sample| sum + sample.figure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let labels = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let expected =
            |name: &str, pairs, figure| Some(Sample { name: name.to_owned(), labels: labels(pairs), figure });
        assert_eq!(sample("a_total 12"), expected("a_total", &[], 12.0));
        assert_eq!(
            sample("a{b=\"c\",d=\"e\\\"\\\\\\n,}\"} 0.5"),
            expected("a", &[("b", "c"), ("d", "e\"\\\n,}")], 0.5)
        );
        for none in ["", "# HELP a b", "a", "a{b=\"c} 1", "a{b} 1", "a{b=\"c\"} x"] {
            assert_eq!(sample(none), None, "{none}");
        }
    }
}
