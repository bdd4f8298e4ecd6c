//! The configuration file of a real user: as he wrote it, with its slips, and mended.

use pgpool::config::{self, LoadResult, Problems, check};
use std::path::{Path, PathBuf};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/lab").join(name)
}

/// The text of the file as written with some lines replaced.
fn as_written_but(replacements: &[(usize, &str)]) -> LoadResult {
    let path = file("pgpool.conf.as-written");
    let text = std::fs::read_to_string(&path).unwrap();
    let replaced = |(number, line)| replacements.iter().find(|(n, _)| *n == number + 1).map_or(line, |(_, new)| *new);
    let lines: Vec<_> = text.lines().enumerate().map(replaced).collect();
    config::load_text(&path, lines.join("\n").as_bytes())
}

/// Whether it is not the user's slip but ours: what he wants does not exist yet.
fn is_not_yet(problem: &config::Problem) -> bool {
    problem.report.message.ends_with(" has no effect yet")
}

/// `line:column severity message | detail | hint` of each slip.
fn described(problems: &Problems) -> Vec<String> {
    let describe = |problem: &config::Problem| {
        let place = problem.place.as_ref().map(|place| format!("{}:{}", place.line, place.column)).unwrap_or_default();
        let report = &problem.report;
        let parts = [Some(&report.message), report.detail.as_ref(), report.hint.as_ref()];
        let text = parts.into_iter().flatten().cloned().collect::<Vec<_>>().join(" | ");
        format!("{place} {} {text}", report.severity.word())
            .replace(&file("pgpool.conf.as-written").display().to_string(), "FILE")
    };
    problems.iter().filter(|problem| !is_not_yet(problem)).map(describe).collect()
}

const LOGDIR: &str =
    "27:1 WARNING logdir is changed to work_dir | if logdir is specified, the value will be set to work_dir";
const NODE_1: &str = "71:1 WARNING node 1 has a backend_hostname1 but no backend_port1, so it does not exist | \
     backend_port2 is set more than once; line 72 probably means backend_port1.";
const PORT_2: &str = "79:1 WARNING \"backend_port2\" is set more than once, the last value counts | It was set to \
     \"55161\" in line 72 already. | Line 72 stands among the settings of node 1, which has no backend_port1: did you \
     mean \"backend_port1\"?";
const NAME_0: &str = "83:1 WARNING \"backend_application_name0\" is set more than once, the last value counts | It was \
     set to \"server0\" in line 69 already. | Line 83 stands among the settings of node 2, which has no \
     backend_application_name2: did you mean \"backend_application_name2\"?";

#[test]
fn every_slip_of_the_file_as_written_is_reported() {
    let problems = config::load(&file("pgpool.conf.as-written")).unwrap_err();
    let expected = [
        LOGDIR,
        "68:37 ERROR syntax error in configuration file \"FILE\" | parse error at line 68 '-' token = 8 | A comment \
         begins with #, not with --.",
        NODE_1,
        PORT_2,
        NAME_0,
        "96:1 ERROR syntax error in configuration file \"FILE\" | parse error at line 96 ',' token = 8 | This line \
         looks like prose: put # in front of it to make it a comment.",
        "147:1 ERROR syntax error in configuration file \"FILE\" | parse error at line 147 '-' token = 8 | A comment \
         begins with #, not with --.",
    ];
    assert_eq!(described(&problems), expected);
}

#[test]
fn after_mending_the_syntax_the_other_slips_are_still_warned_of() {
    let loaded = as_written_but(&[(68, "backend_flag0 = 'ALWAYS_MASTER'"), (96, "# Si ..."), (147, "# como ...")]);
    let loaded = loaded.unwrap();
    let always_master = "68:17 WARNING flag ALWAYS_MASTER of backend_flag0 is changed to ALWAYS_PRIMARY | The flag was \
                         called ALWAYS_MASTER before 4.2; it is understood.";
    assert_eq!(described(&loaded.warnings), [LOGDIR, always_master, NODE_1, PORT_2, NAME_0]);
    assert!(!loaded.settings.nodes[1].in_use());
    assert_eq!(loaded.settings.nodes[2].port, 55162);
}

#[test]
fn the_mended_file_loads_with_one_slip_and_asks_for_nothing_that_does_not_exist() {
    let loaded = config::load(&file("pgpool.conf")).unwrap();
    assert_eq!(described(&loaded.warnings), [LOGDIR]);
    assert_eq!(loaded.warnings.iter().filter(|problem| is_not_yet(problem)).count(), 0);
    let settings = &loaded.settings;
    let ports: Vec<_> = settings.used_nodes().map(|(_, node)| node.port).collect();
    assert_eq!(ports, [55160, 55161, 55162, 55163]);
    assert_eq!((settings.authentication_timeout, settings.search_primary_node_timeout), (60, 300));
    assert_eq!((settings.log_rotation_age, settings.log_file_mode), (1440, 0o600));
    assert_eq!((settings.work_dir.as_str(), settings.delay_threshold), ("/etc/pgpool-II/info/", 10240));
    assert_eq!(settings.process_management_mode, config::ProcessManagementMode::Dynamic);
    assert!(settings.write_function_list.is_match("consultar_clientes"));
    assert!(settings.nodes.iter().all(|node| (node.health_check_period, node.health_check_max_retries) == (10, 3)));
}

#[test]
fn a_check_also_notices_the_unknown_name_in_a_comment() {
    for (name, exit_code) in [("pgpool.conf.as-written", 1), ("pgpool.conf", 0)] {
        let report = check::report(&config::load(&file(name)), &[], Vec::new());
        assert_eq!(report.exit_code, exit_code);
        let place = format!("{}:126:3: NOTICE:  ", file(name).display());
        let notice = format!("{place}the comment names \"cache_expiration\", which is no parameter");
        assert!(report.text.contains(&notice), "{}", report.text);
        assert_eq!(report.text.matches("NOTICE").count(), 1, "{}", report.text);
    }
}
