//! Lists of regular expressions (config 4.2, 4.3).

use crate::report::Report;
use regex::{Regex, RegexBuilder};
use std::fmt;
use std::sync::Arc;

/// Regular expressions that match a whole text without regard to case; compiled once, cheap to clone.
///
/// Equality is that of the text they were written as.
#[derive(Clone, Default)]
pub struct RegexList {
    text: Arc<str>,
    patterns: Arc<[Regex]>,
}

impl RegexList {
    /// Reads a list of name patterns (separator `,`) or of query patterns (separator `;`, where a backslash protects
    /// the next character). An expression that does not compile is left out with a warning (config 4.2).
    pub(super) fn parse(name: &str, text: &str, separator: char, warnings: &mut Vec<Report>) -> Self {
        let elements = if separator == ';' { split_queries(text) } else { split_names(text, separator) };
        let compile = |element: String| match whole_match(&element) {
            Ok(regex) => Some(regex),
            Err(error) => {
                let message =
                    format!("unable to add regex pattern for \"{name}\", invalid pattern: \"{}\"", anchored(&element));
                warnings.push(Report::warning(message).detail(last_line(&error)).hint("The pattern is left out."));
                None
            }
        };
        Self { text: text.into(), patterns: elements.into_iter().filter_map(compile).collect() }
    }

    /// Whether one of the expressions matches all of `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.is_match(text))
    }

    /// Whether there is no usable expression.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The list as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for RegexList {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for RegexList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegexList").field(&self.text).finish()
    }
}

/// The expression as used everywhere in the configuration: anchored on both sides, without regard to case.
pub(super) fn whole_match(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&anchored(pattern)).case_insensitive(true).dot_matches_new_line(true).build()
}

/// The last line of a regex error says what is wrong; those above show where.
pub(super) fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn anchored(pattern: &str) -> String {
    let front = if pattern.starts_with('^') { "" } else { "^" };
    let back = if pattern.ends_with('$') { "" } else { "$" };
    format!("{front}{pattern}{back}")
}

fn split_names(text: &str, separator: char) -> Vec<String> {
    text.split(separator).map(str::trim).filter(|element| !element.is_empty()).map(str::to_owned).collect()
}

fn split_queries(text: &str) -> Vec<String> {
    let mut elements = vec![String::new()];
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let element = elements.last_mut().expect("starts with one, only grows");
        match c {
            ';' => elements.push(String::new()),
            '\\' => match chars.next() {
                Some('\'') => element.push('\''),
                next => element.extend(std::iter::once('\\').chain(next)),
            },
            _ => element.push(c),
        }
    }
    elements.retain(|element| !element.trim().is_empty());
    elements
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> RegexList {
        RegexList::parse("write_function_list", text, ',', &mut Vec::new())
    }

    #[test]
    fn names_match_as_a_whole_without_regard_to_case() {
        let list = names(" nextval , set.* ,^lo_");
        assert!(list.is_match("NextVal") && list.is_match("setval"));
        assert!(!list.is_match("mynextval") && !list.is_match("nextvals"));
        assert!(list.is_match("lo_") && !list.is_match("lo_create"));
    }

    #[test]
    fn queries_keep_protected_separators() {
        let parse = |text| RegexList::parse("primary_routing_query_pattern_list", text, ';', &mut Vec::new());
        assert!(parse(r".*a\;b.*;x").is_match("select a;b"));
        assert!(parse(r"select \'x\';").is_match("SELECT 'x'"));
        assert!(parse(r"select \d+").is_match("select 12"));
        assert!(parse("select.*").is_match("select 1\nfrom t"));
    }

    #[test]
    fn a_bad_pattern_is_left_out_with_a_warning() {
        let mut warnings = Vec::new();
        let list = RegexList::parse("write_function_list", "good,b(ad", ',', &mut warnings);
        assert!(list.is_match("good") && !list.is_match("bad"));
        let expected = "unable to add regex pattern for \"write_function_list\", invalid pattern: \"^b(ad$\"";
        assert_eq!(warnings[0].message, expected);
    }
}
