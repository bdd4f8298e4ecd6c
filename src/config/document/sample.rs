//! `conf/pgpool.conf.sample`: every parameter with its default, all but the mode commented out.

use super::{OWN, allowed, default_literal, literal, takes_effect};
use crate::config::catalogue::{PARAMETERS, Parameter};

const HEAD: &str = "\
# pgpool.conf
#
# name = value, one to a line; text in single quotes (a quote inside is written ''); # begins a comment; names and words
# are read without regard to case; include = 'file' reads another file.
# Times take the units us, ms, s, min, h, d and sizes B, kB, MB, GB, TB: 5min, '5 min', 64MB.
# What stands here behind # are the defaults. \"pgpool check\" explains mistakes.
# In [ ] stand the values allowed and what it takes to change the value of a running pgpool.
";

const WIDTH: usize = 118;

/// The content of the sample file.
pub fn sample() -> String {
    let mut text = HEAD.to_owned();
    let (mut group, mut subgroup) = ("", None);
    for parameter in PARAMETERS.iter().filter(|p| p.alias_of.is_none()) {
        if parameter.group != group {
            (group, subgroup) = (parameter.group, None);
            let rule = "-".repeat(WIDTH);
            text.push_str(&format!("\n#{rule}\n# {group}\n#{rule}\n"));
        }
        if parameter.subgroup != subgroup {
            subgroup = parameter.subgroup;
            text.push_str(&subgroup.map_or(String::new(), |heading| format!("\n# - {heading} -\n")));
        }
        text.push('\n');
        text.push_str(&entry(parameter));
    }
    text
}

fn entry(parameter: &Parameter) -> String {
    let own = if parameter.since.is_none() { Some(OWN.to_owned()) } else { None };
    let facts = [allowed(&parameter.kind), Some(takes_effect(parameter.context).to_owned()), own];
    let facts: Vec<_> = facts.into_iter().flatten().collect();
    let about = format!("{} [{}]", parameter.doc, facts.join("; "));
    let value = match parameter.sample {
        Some(sample) => literal(&parameter.kind, sample),
        None => default_literal(parameter),
    };
    // A numbered parameter is shown for node 0, unless the name without an index serves all nodes.
    let index = if parameter.has_plain_form() { None } else { Some(0) };
    let mark = if parameter.name == "backend_clustering_mode" { "" } else { "#" };
    format!("{}{mark}{} = {value}\n", comment(&about), parameter.full_name(index))
}

/// `text` in comment lines of bounded width.
fn comment(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("starts with one, only grows");
        if line.len() > 1 && line.len() + 1 + word.len() > WIDTH {
            lines.push(format!("# {word}"));
        } else {
            line.push(' ');
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Settings, load_text};
    use std::path::Path;

    /// The sample with the comment marks of its settings taken away.
    fn all_settings() -> String {
        let is_setting = |line: &&str| line.starts_with('#') && !line.starts_with("# ") && line.contains(" = ");
        let sample = sample();
        let settings: Vec<_> = sample.lines().filter(is_setting).map(|line| &line[1..]).collect();
        settings.join("\n")
    }

    #[test]
    fn the_sample_shows_the_defaults() {
        let text = all_settings();
        assert_eq!(text.lines().count(), PARAMETERS.iter().filter(|p| p.alias_of.is_none()).count() - 1);
        let loaded = load_text(Path::new("/etc/pgpool.conf"), text.as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        let defaults = Settings::default();
        for parameter in PARAMETERS.iter().filter(|p| p.has_plain_form() && p.sample.is_none()) {
            let (shown, default) = (parameter.value(&loaded.settings, None), parameter.value(&defaults, None));
            if !parameter.relative_to_config_file {
                assert_eq!(shown, default, "{}", parameter.name);
            }
        }
    }

    #[test]
    fn the_sample_itself_loads_and_only_lacks_nodes() {
        let loaded = load_text(Path::new("/etc/pgpool.conf"), sample().as_bytes()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(loaded.warnings.iter().count(), 1);
    }
}
