//! The commands of the user: what replaces their placeholders (failover 9.1).

use crate::config::Settings;
use crate::state::Cluster;
use std::fmt::Write;

/// What placeholders stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    /// The node it is about: %d %h %p %D.
    pub node: usize,
    /// The new main node, or for follow_primary_command the new primary: %m %H %r %R.
    pub new_main: Option<usize>,
    /// The main node before; for follow_primary_command the primary before: %M.
    pub old_main: Option<usize>,
    /// The primary before: %P %N %S.
    pub old_primary: Option<usize>,
}

/// `template` with its placeholders replaced. A value that the shell would take apart is quoted, unless the template has
/// done that; a node that does not exist is -1 and an empty argument; an unknown placeholder vanishes.
pub(super) fn expand(template: &str, subject: Subject, cluster: &Cluster, settings: &Settings) -> String {
    let mut text = String::new();
    let mut quoted_by = None;
    let mut characters = template.chars();
    while let Some(character) = characters.next() {
        match character {
            '%' => {
                if let Some(placeholder) = characters.next() {
                    let value = value(placeholder, subject, cluster, settings);
                    push(&mut text, value, quoted_by.is_some());
                }
                continue;
            }
            '\\' if quoted_by != Some('\'') => {
                text.push(character);
                text.extend(characters.next());
                continue;
            }
            '\'' | '"' if quoted_by.is_none() => quoted_by = Some(character),
            _ if quoted_by == Some(character) => quoted_by = None,
            _ => {}
        }
        text.push(character);
    }
    text
}

enum Value {
    Number(Option<usize>),
    /// A text of a node that exists.
    Text(String),
    /// A text of a node that does not.
    Missing,
    Percent,
    Unknown,
}

fn value(placeholder: char, subject: Subject, cluster: &Cluster, settings: &Settings) -> Value {
    let Subject { node, new_main, old_main, old_primary } = subject;
    let host = |id: Option<usize>| {
        let node = id.and_then(|id| cluster.nodes.get(id));
        node.map_or(Value::Missing, |node| Value::Text(node.hostname.clone()))
    };
    let port = |id: Option<usize>| {
        let node = id.and_then(|id| cluster.nodes.get(id));
        node.map_or(Value::Missing, |node| Value::Text(node.port.to_string()))
    };
    let directory = |id: Option<usize>| {
        let node = id.and_then(|id| settings.nodes.get(id));
        node.map_or(Value::Missing, |node| Value::Text(node.data_directory.clone()))
    };
    match placeholder {
        'd' => Value::Number(Some(node)),
        'h' => host(Some(node)),
        'p' => port(Some(node)),
        'D' => directory(Some(node)),
        'm' => Value::Number(new_main),
        'H' => host(new_main),
        'r' => port(new_main),
        'R' => directory(new_main),
        'M' => Value::Number(old_main),
        'P' => Value::Number(old_primary),
        'N' => host(old_primary),
        'S' => port(old_primary),
        '%' => Value::Percent,
        _ => Value::Unknown,
    }
}

fn push(text: &mut String, value: Value, is_quoted: bool) {
    match value {
        Value::Number(Some(number)) => _ = write!(text, "{number}"),
        Value::Number(None) => text.push_str("-1"),
        Value::Text(value) if is_quoted || is_one_word(&value) => text.push_str(&value),
        Value::Text(value) => _ = write!(text, "'{}'", value.replace('\'', "'\\''")),
        Value::Missing if is_quoted => {}
        Value::Missing => text.push_str("\"\""),
        Value::Percent => text.push('%'),
        Value::Unknown => {}
    }
}

/// Whether the shell takes the value as it stands for one argument.
fn is_one_word(value: &str) -> bool {
    let is_plain = |character: char| character.is_alphanumeric() || "_-./:@%+=,".contains(character);
    !value.is_empty() && value.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NodeSettings;
    use crate::config::check::PLACEHOLDERS;
    use crate::state::Node;

    fn expanded(template: &str, subject: Subject) -> String {
        let node = |hostname: &str, port| Node { hostname: hostname.to_owned(), port, ..Node::default() };
        let cluster = Cluster { nodes: vec![node("db0", 5432), node("/tmp", 5433)], ..Cluster::default() };
        let directory = |data_directory: &str| NodeSettings {
            data_directory: data_directory.to_owned(),
            port: 5432,
            ..NodeSettings::default()
        };
        let settings = Settings { nodes: vec![directory("/data/it's 0"), directory("")], ..Settings::default() };
        expand(template, subject, &cluster, &settings)
    }

    #[test]
    fn pgpool_check_knows_the_placeholders() {
        let subject = Subject { node: 0, new_main: None, old_main: None, old_primary: None };
        let (cluster, settings) = (Cluster::default(), Settings::default());
        for placeholder in ('!'..='~').filter(|placeholder| *placeholder != '\\') {
            let is_known = !matches!(value(placeholder, subject, &cluster, &settings), Value::Unknown);
            assert_eq!(is_known, PLACEHOLDERS.contains(placeholder), "%{placeholder}");
        }
    }

    #[test]
    fn every_placeholder() {
        let subject = Subject { node: 0, new_main: Some(1), old_main: Some(0), old_primary: Some(0) };
        assert_eq!(
            expanded("run %d %h %p %D %m %H %r %R %M %P %N %S 100%% %x%", subject),
            r"run 0 db0 5432 '/data/it'\''s 0' 1 /tmp 5433 '' 0 0 db0 5432 100% "
        );
    }

    #[test]
    fn nodes_that_do_not_exist_are_empty_arguments() {
        let subject = Subject { node: 1, new_main: None, old_main: None, old_primary: None };
        assert_eq!(expanded("%m %H %r %R %M %P %N %S", subject), "-1 \"\" \"\" \"\" -1 -1 \"\" \"\"");
    }

    #[test]
    fn what_the_template_quotes_is_not_quoted_twice() {
        let subject = Subject { node: 0, new_main: None, old_main: None, old_primary: None };
        assert_eq!(
            expanded(r#"a "%D" '%D' \"%D "%H""#, subject),
            r#"a "/data/it's 0" '/data/it's 0' \"'/data/it'\''s 0' """#
        );
    }
}
