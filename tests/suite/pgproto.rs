//! `pgproto`: scripts of `tests/data/pgproto/` with what must be told of them, and beside the original's program.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Cluster, Outcome, Pgpool, Program, Scratch, foreign, server_version, shared, target_dir};
use crate::needs_pgpool;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pgproto").join(name)
}

/// Plays a script with this program.
fn play(program: &Path, pool: &Pgpool, script: &Path) -> Outcome {
    let script = script.display().to_string();
    let mut outcome = Program::new(program).at_port(pool.port).args(["-f", &script]).run();
    outcome.stderr = without_sources(&outcome.stderr);
    outcome
}

/// Where in its source a server found an error (fields F, L and R) differs from one release to the next.
fn without_sources(told: &str) -> String {
    let mut words = told.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for at in 1..words.len() {
        if matches!(words[at - 1].as_str(), "F" | "L" | "R") {
            "xxx".clone_into(&mut words[at]);
        }
    }
    words.join(" ")
}

fn ours() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pgproto"))
}

#[test]
fn scripts_are_told_as_expected() {
    // Of several servers the original reports the parameters of each.
    let cluster = Cluster::independent(1).start();
    let pool = Pgpool::on(&cluster).start();
    for name in ["all_releases", "newer"] {
        let outcome = play(ours(), &pool, &data(&format!("{name}.data")));
        let mut expected = fs::read_to_string(data(&format!("{name}.out"))).expect("what is expected");
        // Before, servers told of a parameter in front of the command that has changed it.
        if server_version() < 14 {
            let (done, told) =
                ("<= BE CommandComplete(SET)\n", "<= BE ParameterStatus(name: \"application_name\" value: \"x y\")\n");
            expected = expected.replace(&[done, told].concat(), &[told, done].concat());
        }
        assert_eq!(outcome.stderr, expected, "{name}");
        assert_eq!((outcome.stdout.as_str(), outcome.status.code()), ("", Some(0)), "{name}");
    }
}

#[test]
fn the_original_tells_the_same() {
    let under_test = foreign().then(|| std::env::var_os("PGPOOL_UNDER_TEST").map(PathBuf::from)).flatten();
    let theirs = under_test.unwrap_or_else(|| target_dir().join("pgpool2")).join("bin/pgproto");
    if !theirs.exists() {
        println!("skipped: run scripts/setup --pgpool2");
        return;
    }
    let pool = Pgpool::on(shared()).start();
    let scratch = Scratch::new("pgproto");
    let file = scratch.path().join("script");
    let whole = fs::read_to_string(data("all_releases.data")).expect("script");
    for script in [
        whole.as_str(),
        "abc\n",
        "'Qx\t\"SELECT 1\"\n",
        "'Q'\t\"SELECT 1\n",
        "'Q'\t\"SELECT 1\"  \n",
        "'Q'\t\"SELECT '\\\\\"' AS \\q\"\tmore\n'Y'",
        "'Q'\n",
        "'D'\t'X'\t\"a\"\n",
        "'E'\t\"nosuch\"\n'H'\n'y'\n'S'\n'y'\n",
    ] {
        fs::write(&file, script).expect("script");
        let [ours, theirs] = [ours(), &theirs].map(|program| {
            let outcome = play(program, &pool, &file);
            (outcome.status.code(), outcome.stderr)
        });
        assert_eq!(ours, theirs, "ours, theirs: {script}");
    }
}

#[test]
fn slips_and_silence() {
    let pool = Pgpool::on(shared()).start();
    let scratch = Scratch::new("pgproto");
    let file = scratch.path().join("script");
    let run = |script: &str, arguments: &[&str]| {
        fs::write(&file, script).expect("script");
        let script = file.display().to_string();
        let program = Program::new(ours()).at_port(pool.port).args(["-f", &script]).args(arguments);
        let outcome = program.run();
        (outcome.status.code(), outcome.stderr)
    };
    // Nothing was asked, so nothing comes.
    assert_eq!(run("'Y'\n", &["--timeout", "1"]), (Some(1), "read_it: nothing received in time\n".to_owned()));
    assert_eq!(run("'y'\n'z'\n", &[]), (Some(0), String::new()));
    assert_eq!(run("", &["-x"]).0, Some(2));
    assert_eq!(run("", &["-v"]), (Some(0), "pgproto (pgpool-II) 4.7.2\n".to_owned()));
    let (status, text) = run("", &["-h", "/no/such/directory", "-p", "5432"]);
    let expected = "Failed to connect to host=/no/such/directory port=5432 application_name=pgproto.\n";
    assert!(status == Some(1) && text.starts_with(expected), "{text}");
    let (status, text) = run("", &["-f", "/no/such/file"]);
    assert_eq!((status, text.as_str()), (Some(1), "Failed to open protocol data file: /no/such/file.\n"));
}

#[test]
fn the_password_is_that_of_the_environment() {
    needs_pgpool!();
    let pool = Pgpool::on(shared()).set("enable_pool_hba", "on").prepare();
    fs::write(pool.path("pool_hba.conf"), "host all all all md5\n").expect("pool_hba.conf");
    fs::write(pool.path("pool_passwd"), "postgres:TEXTsecret\n").expect("pool_passwd");
    let pool = pool.started();
    let file = pool.path("script");
    fs::write(&file, "'Q'\t\"SELECT 1\"\n'Y'\n").expect("script");
    let file = file.display().to_string();
    let run = |password| Program::new(ours()).at_port(pool.port).env("PGPASSWORD", password).args(["-f", &file]).run();
    assert!(run("secret").stderr.ends_with("<= BE ReadyForQuery(I)\n"));
    let refused = run("wrong");
    assert!(refused.status.code() == Some(1) && refused.stderr.starts_with("Failed to connect to "), "{refused:?}");
}
