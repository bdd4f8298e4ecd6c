//! Redirect preference lists: `pattern:node(weight)` (config 4.4, routing 2.6).

use super::number::parse_double;
use super::regex_list::{last_line, whole_match};
use crate::report::{Report, Result};
use regex::Regex;
use std::fmt;
use std::sync::Arc;

/// Where balanced reads of matching users, databases or applications prefer to go; cheap to clone.
///
/// Equality is that of the text it was written as.
#[derive(Clone, Default)]
pub struct RedirectList {
    text: Arc<str>,
    entries: Arc<[Redirect]>,
}

/// One entry of a redirect list.
#[derive(Clone, Debug)]
pub struct Redirect {
    pattern: Regex,
    /// The preferred node or kind of node.
    pub target: RedirectTarget,
    /// How likely it is taken, 0 to 1.
    pub weight: f64,
}

/// A node, or a kind of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectTarget {
    /// The primary.
    Primary,
    /// Any standby.
    Standby,
    /// The node with this id.
    Node(usize),
}

impl RedirectList {
    pub(super) fn parse(name: &str, text: &str, warnings: &mut Vec<Report>) -> Result<Self> {
        let wrong = |detail: String| Report::error(format!("invalid configuration for key \"{name}\"")).detail(detail);
        let mut entries = Vec::new();
        for element in text.split(',').filter(|element| !element.trim().is_empty()) {
            let Some((pattern, node)) = element.split_once(':') else {
                let message = format!("element \"{element}\" of \"{name}\" has no node and is left out");
                warnings.push(Report::warning(message).hint("Each element is pattern:node or pattern:node(weight)."));
                continue;
            };
            let regex = if pattern.is_empty() { Err("empty pattern".to_owned()) } else { compile(pattern) };
            let pattern = regex.map_err(|problem| {
                let what = subject(name);
                wrong(format!("wrong redirect {what} regular expression: \"{pattern}\"")).hint(problem)
            })?;
            let (target, weight) = node_spec(node).ok_or_else(|| {
                wrong(format!("wrong redirect db node spec: \"{node}\""))
                    .hint("Write primary, standby or a node id, and a weight (0 to 1) in parentheses if you like.")
            })?;
            entries.push(Redirect { pattern, target, weight });
        }
        Ok(Self { text: text.into(), entries: entries.into() })
    }

    /// The first entry whose pattern matches all of `name`.
    pub fn find(&self, name: &str) -> Option<&Redirect> {
        self.entries.iter().find(|entry| entry.pattern.is_match(name))
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The list as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl PartialEq for RedirectList {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl fmt::Debug for RedirectList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedirectList").field(&self.text).finish()
    }
}

fn compile(pattern: &str) -> std::result::Result<Regex, String> {
    whole_match(pattern).map_err(|error| last_line(&error))
}

/// What the patterns of a list match, as the original's messages call it.
fn subject(name: &str) -> &'static str {
    match name.split('_').next() {
        Some("user") => "user name",
        Some("app") => "app name",
        _ => "dbname",
    }
}

/// `primary`, `standby(0.3)`, `2(1)`; text behind the parenthesis is ignored.
fn node_spec(text: &str) -> Option<(RedirectTarget, f64)> {
    let (node, weight) = match text.split_once('(') {
        Some((node, rest)) => (node, parse_double(rest.split(')').next()?)?),
        None => (text, 1.0),
    };
    let node = node.trim();
    let target = if node.eq_ignore_ascii_case("primary") {
        RedirectTarget::Primary
    } else if node.eq_ignore_ascii_case("standby") {
        RedirectTarget::Standby
    } else {
        RedirectTarget::Node(node.parse().ok().filter(|id| *id < 128)?)
    };
    Some((target, weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<RedirectList> {
        RedirectList::parse("database_redirect_preference_list", text, &mut Vec::new())
    }

    #[test]
    fn first_match_counts() {
        let list = parse("postgres:primary,mydb[01]:1,mydb2:standby(0.3)").unwrap();
        assert_eq!(list.find("POSTGRES").unwrap().target, RedirectTarget::Primary);
        assert_eq!(list.find("mydb1").unwrap().target, RedirectTarget::Node(1));
        let standby = list.find("mydb2").unwrap();
        assert_eq!((standby.target, standby.weight), (RedirectTarget::Standby, 0.3));
        assert!(list.find("mydb22").is_none());
    }

    #[test]
    fn errors_carry_the_known_texts() {
        for node in ["128", "nowhere", "", "1(x)", "primary("] {
            let error = parse(&format!("db:{node}")).unwrap_err();
            assert_eq!(error.message, "invalid configuration for key \"database_redirect_preference_list\"");
            assert_eq!(error.detail.unwrap(), format!("wrong redirect db node spec: \"{node}\""));
        }
        assert_eq!(parse("a(:1").unwrap_err().detail.unwrap(), "wrong redirect dbname regular expression: \"a(\"");
    }

    #[test]
    fn an_element_without_node_is_reported_and_left_out() {
        let mut warnings = Vec::new();
        let list = RedirectList::parse("user_redirect_preference_list", "a:0,b,c:1,", &mut warnings).unwrap();
        assert_eq!(warnings.len(), 1);
        assert!(list.find("b").is_none() && list.find("c").is_some());
    }
}
