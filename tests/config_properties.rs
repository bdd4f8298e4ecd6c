//! Properties of the file grammar: no input makes it panic, places point at what they name, and what is written in
//! the proper way is read back.

use pgpool::config::catalogue::{Kind, PARAMETERS, Parameter};
use pgpool::config::{self, LoadResult, Problem, Settings};
use proptest::prelude::*;
use std::path::Path;

fn load(text: &[u8]) -> LoadResult {
    config::load_text(Path::new("/nowhere/pgpool.conf"), text)
}

fn problems(outcome: &LoadResult) -> Vec<Problem> {
    let all = match outcome {
        Ok(loaded) => &loaded.warnings,
        Err(problems) => problems,
    };
    all.iter().cloned().collect()
}

/// Line, column and offset of every place agree with each other and with the text.
fn assert_places_are_right(text: &[u8], outcome: &LoadResult) {
    for place in problems(outcome).into_iter().filter_map(|problem| problem.place) {
        assert!(place.offset <= text.len());
        let before = &text[..place.offset];
        assert_eq!(place.line, before.iter().filter(|byte| **byte == b'\n').count() + 1);
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let mark = if line_start == 0 && text.starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
        let column = String::from_utf8_lossy(&before[line_start + mark..]).chars().count() + 1;
        assert_eq!(place.column, column);
    }
    // Printing must cope with every place, too.
    problems(outcome).iter().for_each(|problem| assert!(!problem.to_string().is_empty()));
}

/// Pieces of which configuration files are made, in any order.
fn fragment() -> impl Strategy<Value = String> {
    let fixed = [
        "=",
        " ",
        "\t",
        "\n",
        "\r\n",
        "#",
        "'",
        "''",
        "\\'",
        "--",
        ";",
        "[",
        ",",
        "port",
        "backend_port0",
        "backend_port",
        "ssl",
        "on",
        "9999",
        "5min",
        "1.5",
        "0x",
        "logdir",
        "wd_hostname",
        "include",
        "'x'",
        "ñ",
        "\u{feff}",
        "\0",
    ];
    prop_oneof![
        4 => prop::sample::select(fixed.to_vec()).prop_map(str::to_owned),
        2 => (0..PARAMETERS.len()).prop_map(|at| PARAMETERS[at].name.to_owned()),
        1 => ".{0,8}",
    ]
}

/// A text that is a valid value of the parameter, and how a file has to write it.
fn value(parameter: &'static Parameter) -> BoxedStrategy<String> {
    match parameter.kind {
        Kind::Bool => any::<bool>().prop_map(|on| if on { "on" } else { "off" }.to_owned()).boxed(),
        Kind::Int(int) => (int.min..=int.max).prop_map(|number| number.to_string()).boxed(),
        Kind::Double { min, max } => (min..max).prop_map(|number| number.to_string()).boxed(),
        Kind::Enum(spellings) => prop::sample::select(spellings.values).prop_map(str::to_owned).boxed(),
        // `\'` means `'` inside quotes, so a text with a backslash before a quote cannot be written as it is.
        Kind::Text | Kind::StringList { .. } | Kind::RelationPairs => "[^\\\\\n\r]{0,20}".boxed(),
        Kind::RegexList { .. } => "[a-z_.*,;]{0,20}".boxed(),
        Kind::RedirectList => "([a-z]{1,5}:(primary|standby|1\\(0\\.5\\)),){0,3}".boxed(),
        Kind::LogDestinations => prop::sample::select(vec!["stderr", "syslog,stderr"]).prop_map(str::to_owned).boxed(),
        Kind::NodeFlags => {
            prop::sample::select(vec!["", "DISALLOW_TO_FAILOVER|ALWAYS_PRIMARY"]).prop_map(str::to_owned).boxed()
        }
    }
}

fn setting() -> impl Strategy<Value = (&'static Parameter, Option<usize>, String)> {
    let parameters: Vec<_> = PARAMETERS.iter().filter(|p| p.alias_of.is_none() && !p.relative_to_config_file).collect();
    prop::sample::select(parameters).prop_flat_map(|parameter| {
        let index = if parameter.is_numbered() { (0..128_usize).prop_map(Some).boxed() } else { Just(None).boxed() };
        (Just(parameter), index, value(parameter))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_survived(text in prop::collection::vec(any::<u8>(), 0..300)) {
        assert_places_are_right(&text, &load(&text));
    }

    #[test]
    fn any_mixture_of_pieces_is_survived(pieces in prop::collection::vec(fragment(), 0..40)) {
        let text = pieces.concat();
        assert_places_are_right(text.as_bytes(), &load(text.as_bytes()));
    }

    #[test]
    fn a_bad_line_does_not_hide_the_next(noise in "[^\n]{0,40}") {
        let text = format!("{noise}\nport = 1\n");
        let reported = problems(&load(text.as_bytes()));
        let is_port = |problem: &&Problem| problem.report.message.starts_with("1 is outside the valid range");
        let place = reported.iter().find(is_port).and_then(|problem| problem.place.clone()).expect("reported");
        prop_assert_eq!((place.line, place.column), (2, 8));
    }

    #[test]
    fn what_was_written_is_read((parameter, index, text) in setting(), blanks in "[ \t]{0,3}", equals in any::<bool>()) {
        let name = parameter.full_name(index);
        let quoted = format!("'{}'", text.replace('\'', "''"));
        let sign = if equals { "=" } else { " " };
        let file = format!("{blanks}{name}{blanks}{sign}{blanks}{quoted}{blanks}# comment");
        let outcome = load(file.as_bytes());
        let wrong = |problem: &&Problem| {
            let message = &problem.report.message;
            message.contains("invalid value") || message.contains("syntax") || message.contains("unrecognized")
        };
        prop_assert!(problems(&outcome).iter().find(wrong).is_none(), "{}: {:?}", file, outcome);

        let mut assigned = Settings::default();
        assigned.assign(&name, &text).expect("valid");
        let shown = parameter.value(&assigned, index).text(&parameter.kind);
        let mut again = Settings::default();
        again.assign(&name, &shown).expect("what is shown can be read");
        let text_again = parameter.value(&again, index).text(&parameter.kind);
        prop_assert_eq!(&text_again, &shown);
        if let Ok(loaded) = outcome && !parameter.is_numbered() {
            prop_assert_eq!(parameter.value(&loaded.settings, None).text(&parameter.kind), shown);
        }
    }
}
