//! Every parameter of the catalogue: it can be read from a file, is held to its range, and is shown as it was set.

use pgpool::config::catalogue::{self, Access, Context, Found, Kind, PARAMETERS, Parameter, Target};
use pgpool::config::{self, Settings};
use std::path::Path;

/// A name the file may use: with the last index if the parameter is numbered.
fn names(parameter: &Parameter) -> Vec<String> {
    match &parameter.access {
        Access::Plain(_) => vec![parameter.name.to_owned()],
        Access::Numbered(numbered) => {
            let mut names =
                vec![format!("{}0", parameter.name), format!("{}{}", parameter.name, numbered.table.slots() - 1)];
            names.extend(numbered.global.as_ref().map(|_| parameter.name.to_owned()));
            names
        }
    }
}

/// A text and what becomes of it: what is shown, or the beginning of the message.
type Case = (String, String);

/// Texts that are accepted and texts that are refused.
fn cases(parameter: &Parameter, name: &str) -> (Vec<Case>, Vec<Case>) {
    let pairs =
        |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
    let invalid = |text: &str| (text.to_owned(), format!("invalid value for parameter \"{name}\": \"{text}\""));
    match parameter.kind {
        Kind::Bool => (pairs(&[("TRUE", "on"), ("n", "off")]), vec![invalid("maybe"), invalid("")]),
        Kind::Int(int) => {
            let shown = |number: i64| match (int.octal, int.unit) {
                (true, _) => Some(format!("0{number:03o}")),
                (false, None) => Some(number.to_string()),
                (false, Some(_)) => None,
            };
            let mut good = Vec::new();
            for number in [int.min, int.max] {
                good.extend(shown(number).map(|text| (number.to_string(), text)));
            }
            if let Some(unit) = int.unit {
                // 1 TB or 1 d do not fit every parameter; the range's end in the base unit always does.
                let back = format!("{}{}", int.max, unit.as_str());
                let mut settings = Settings::default();
                settings.assign(name, &back).unwrap_or_else(|error| panic!("{name} = {back}: {error}"));
                assert_eq!(parameter_value(name, &settings), int.max);
            }
            let mut bad = vec![invalid("x"), invalid("5 parsecs"), invalid("")];
            let outside = |number: i64| {
                let (min, max) = (int.min, int.max);
                (
                    number.to_string(),
                    format!("{number} is outside the valid range for parameter \"{name}\" ({min} .. {max})"),
                )
            };
            if int.max < i64::from(i32::MAX) {
                bad.push(outside(int.max + 1));
            } else if int.bits == 32 {
                bad.push(invalid("2147483648"));
            } else {
                bad.push(invalid("9223372036854775808"));
            }
            if !int.zero_is_unset || int.min != 1 {
                bad.push(outside(int.min - 1));
            }
            if int.unit.is_none() {
                bad.push(invalid("10s"));
            }
            (good, bad)
        }
        Kind::Double { min, max } => {
            let good = vec![(min.to_string(), min.to_string()), (max.to_string(), max.to_string())];
            let message = format!("{:.6} is outside the valid range for parameter \"{name}\"", max + 1.0);
            (good, vec![invalid("x"), invalid("1 2"), ((max + 1.0).to_string(), message)])
        }
        Kind::Enum(spellings) => {
            let upper = |value: &&str| (value.to_ascii_uppercase(), (*value).to_owned());
            let good = spellings.values.iter().map(upper).collect();
            (good, vec![invalid("nonsense")])
        }
        Kind::LogDestinations => {
            let bad = [("file", "invalid configuration for \"log_destination\""), ("", "invalid value \"\" for")];
            (pairs(&[("stderr", "stderr"), ("syslog,stderr", "syslog,stderr")]), pairs(&bad))
        }
        Kind::NodeFlags => {
            let flags = "DISALLOW_TO_FAILOVER|ALWAYS_PRIMARY";
            let message = format!("invalid configuration for key \"{name}\"");
            (pairs(&[(flags, flags), ("", "ALLOW_TO_FAILOVER")]), vec![("NONSENSE".to_owned(), message)])
        }
        Kind::RedirectList => {
            let message = format!("invalid configuration for key \"{name}\"");
            (
                pairs(&[("a:primary,b.*:1(0.5)", "a:primary,b.*:1(0.5)"), ("", "")]),
                vec![("a:nowhere".to_owned(), message)],
            )
        }
        Kind::StringList { .. } | Kind::RegexList { .. } | Kind::RelationPairs | Kind::Text => {
            (pairs(&[("a:b, c", "a:b, c"), ("it's", "it's"), ("", "")]), Vec::new())
        }
    }
}

fn parameter_value(name: &str, settings: &Settings) -> i64 {
    let target = target(name);
    match target.parameter.value(settings, target.index) {
        config::value::Value::Int(number) => number,
        other => panic!("{name}: {other:?}"),
    }
}

fn target(name: &str) -> Target {
    match catalogue::find(name, 0) {
        Ok(Found::Current(target) | Found::Alias(target, _)) => target,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn the_catalogue_is_that_of_pgpool_ii() {
    let own = PARAMETERS.iter().filter(|p| p.since.is_none()).count();
    assert_eq!(PARAMETERS.len() - own, 193);
    assert_eq!(PARAMETERS.iter().filter(|p| p.since.is_some_and(|since| since != "4.8")).count(), 186);
    assert_eq!(PARAMETERS.iter().filter(|p| p.alias_of.is_some()).count(), 3);
    assert_eq!(PARAMETERS.iter().filter(|p| p.is_numbered()).count(), 20);
    let session = PARAMETERS.iter().filter(|p| p.since.is_some() && p.context == Context::Session).count();
    assert_eq!(session, 13, "the 12 of Pgpool-II and check_temp_table");
}

#[test]
fn every_parameter_is_parsed_checked_and_shown() {
    for parameter in PARAMETERS {
        for name in names(parameter) {
            let (good, bad) = cases(parameter, &name);
            assert!(!good.is_empty() || matches!(parameter.kind, Kind::Int(int) if int.unit.is_some()), "{name}");
            for (text, shown) in good {
                let mut settings = Settings::default();
                settings.assign(&name, &text).unwrap_or_else(|error| panic!("{name} = {text}: {error}"));
                assert_eq!(target(&name).text(&settings), shown, "{name} = {text}");
                let expected = if parameter.hidden_value { config::HIDDEN.to_owned() } else { shown };
                assert_eq!(settings.get(&name).unwrap(), expected, "{name} = {text}");
            }
            for (text, message) in bad {
                let mut settings = Settings::default();
                let error = settings.assign(&name, &text).expect_err(&format!("{name} = {text}"));
                assert!(error.message.starts_with(&message), "{name} = {text}: {}", error.message);
                assert_eq!(settings, Settings::default(), "{name}: nothing changes on an error");
            }
        }
    }
}

/// What was read from a file is read again from its own text.
#[test]
fn every_default_survives_being_written_and_read() {
    for parameter in PARAMETERS.iter().filter(|p| p.has_plain_form() && p.alias_of.is_none()) {
        let defaults = Settings::default();
        let text = parameter.value(&defaults, None).text(&parameter.kind);
        let is_off = matches!(parameter.kind, Kind::Int(int) if text == "0" && int.min > 0 && !int.zero_is_unset);
        assert!(!is_off, "{}: the default cannot be written", parameter.name);
        if matches!(parameter.kind, Kind::LogDestinations) || !text.is_empty() {
            let mut settings = Settings::default();
            settings.assign(parameter.name, &text).unwrap_or_else(|error| panic!("{}: {error}", parameter.name));
            assert_eq!(settings, defaults, "{}", parameter.name);
        }
    }
}

#[test]
fn names_in_a_file_may_be_written_in_any_case() {
    let text =
        "LISTEN_ADDRESSES = '*'\nBackend_Port0 = 5432\nbackend_weight0 1\nwork_DIR = '/w'\nEnable_Pool_HBA = on\n";
    let loaded = config::load_text(Path::new("/etc/pgpool.conf"), text.as_bytes()).unwrap();
    assert_eq!(loaded.warnings.iter().count(), 0, "{}", loaded.warnings);
    let settings = loaded.settings;
    assert_eq!((settings.nodes[0].port, settings.nodes[0].hostname.as_str()), (5432, "/tmp"));
    assert_eq!(*settings.listen_addresses, ["*"]);
}
