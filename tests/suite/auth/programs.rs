//! Real programs with passwords: psql, psycopg, asyncpg, JDBC.

use super::stage::{METHODS, SECRET, pool, prepared_pool, servers, user};
use crate::harness::{Outcome, Pgpool, Program};
use crate::only_ours;
use std::time::Duration;

/// A program that logs in as `user`.
fn run(program: Program, pool: &Pgpool, user: &str, password: &str) -> Outcome {
    program.at_port(pool.port).env("PGUSER", user).env("PGPASSWORD", password).run()
}

fn psql() -> Program {
    Program::client("psql").args(["-X", "-A", "-t", "-c", "SELECT count(*) FROM ten"])
}

#[test]
fn psql_with_every_pair_of_methods() {
    only_ours!("it knows no verifiers");
    for rule in [Some("password"), Some("md5"), Some("scram-sha-256"), None] {
        let pool = pool(servers(), rule);
        for method in METHODS {
            let user = user(method, "aes");
            for _ in ["first", "reused"] {
                assert_eq!(run(psql(), &pool, &user, SECRET).succeeded(), "10", "{rule:?} {method}\n{}", pool.log());
            }
            if rule.is_some() || method != "trust" {
                let wrong = run(psql(), &pool, &user, "wrong");
                assert!(!wrong.status.success() && wrong.stderr.contains("FATAL:"), "{rule:?} {method}: {wrong:?}");
            }
        }
    }
}

#[test]
fn a_verifier_known_to_both_sides_is_all_it_takes() {
    only_ours!("it knows no verifiers");
    let pool = pool(servers(), Some("scram-sha-256"));
    let user = user("scram", "ver");
    assert_eq!(run(psql(), &pool, &user, SECRET).succeeded(), "10");
    let wrong = run(psql(), &pool, &user, "wrong");
    assert!(wrong.stderr.contains("authentication failed"), "{wrong:?}");
    for (script, error) in [
        (
            "import psycopg\nprint(psycopg.connect('').execute('SELECT count(*) FROM ten').fetchone()[0])",
            "authentication failed",
        ),
        (
            "import asyncio, asyncpg\nasync def main():\n  connection = await asyncpg.connect()\n  \
             print(await connection.fetchval('SELECT count(*) FROM ten'))\n  await connection.close()\nasyncio.run(main())",
            "InvalidPasswordError",
        ),
    ] {
        let python = || Program::new("/usr/bin/python3").args(["-c", script]);
        assert_eq!(run(python(), &pool, &user, SECRET).succeeded(), "10");
        let wrong = run(python(), &pool, &user, "wrong");
        assert!(!wrong.status.success() && wrong.stderr.contains(error), "{wrong:?}");
    }
}

#[test]
fn jdbc_with_passwords() {
    only_ours!("it knows no verifiers");
    let jdbc = || {
        let program = format!("{}/tests/clients/JdbcSmoke.java", env!("CARGO_MANIFEST_DIR"));
        let java = Program::new("java").args(["-XX:TieredStopAtLevel=1", "-cp", "/usr/share/java/postgresql.jar"]);
        java.args([program]).patience(Duration::from_secs(180))
    };
    let user = user("scram", "ver");
    servers().primary().sql(&format!("GRANT CREATE ON SCHEMA public TO {user}"));
    for rule in [Some("scram-sha-256"), Some("password"), None] {
        let pool = prepared_pool(servers(), rule, |config| config.weights(&[1.0, 0.0]));
        assert_eq!(run(jdbc(), &pool, &user, SECRET).succeeded(), "ok", "{rule:?}\n{}", pool.log());
        let wrong = run(jdbc(), &pool, &user, "wrong");
        assert!(!wrong.status.success() && wrong.stderr.contains("PSQLException: FATAL"), "{rule:?}: {wrong:?}");
    }
}
