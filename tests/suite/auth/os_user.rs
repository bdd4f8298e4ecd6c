//! Servers by Unix sockets that take pgpool's operating system user for a proof, as Debian's pg_hba.conf has it (`peer`).

use super::stage::prepared_pool;
use crate::harness::{Attempt, Cluster, Pgpool, Program, Wire, client_program, server_user};
use crate::only_ours;
use nix::unistd::{Uid, User};

/// The operating system user that pgpool runs as here, and this test.
fn own_name() -> String {
    User::from_uid(Uid::effective()).expect("user database").expect("a name").name
}

/// A server that lets in pgpool's user as the superuser of this name, and a pgpool that speaks to it by a Unix socket.
fn stage(rule: Option<&str>) -> (Cluster, Pgpool) {
    let cluster = Cluster::streaming(1).start();
    let name = own_name();
    cluster.primary().sql(&format!(
        "DO $$ BEGIN IF to_regrole('\"{name}\"') IS NULL THEN CREATE ROLE \"{name}\" SUPERUSER LOGIN; END IF; END $$"
    ));
    cluster.primary().sql("CREATE ROLE trusty LOGIN; CREATE ROLE asked LOGIN PASSWORD 'secret'");
    let rules = format!(
        "local all \"{name}\" peer\nlocal all asked scram-sha-256\nlocal all all trust\n\
         host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
    );
    cluster.primary().set_hba(&rules, "asked");
    let directory = cluster.directory().display().to_string();
    let pool = prepared_pool(&cluster, rule, |config| config.set("backend_hostname0", directory));
    pool.write("pool_passwd", "asked:secret\n");
    (cluster, pool)
}

fn by_tcp(pool: &Pgpool, user: &str) -> Attempt {
    Attempt::new(pool.port, user, "secret")
}

fn by_socket(pool: &Pgpool, user: &str) -> Attempt {
    let wire = Wire::open_unix(&pool.socket()).expect("socket");
    Attempt::on(wire, &[("user", user), ("database", "test")], "secret")
}

const REFUSED: &str = "28000 client authentication failed: the server is asked by a Unix socket, where it may have taken \
                       pgpool's operating system user for a proof (peer)";

#[test]
fn pgpool_s_own_user_is_no_proof_of_a_client_s() {
    only_ours!("lets in everybody as its own user");
    let (_cluster, pool) = stage(None);
    let name = own_name();
    let refused = |attempt: Attempt, what: &str| {
        let told = attempt.outcome.err().unwrap_or_else(|| panic!("let in by {what}\n{}", pool.log()));
        assert!(told.starts_with(REFUSED), "{what}: {told}");
    };
    for user in [&*name, "trusty"] {
        refused(by_tcp(&pool, user), "TCP");
        // A process of that user is what the server takes it for.
        let first = by_socket(&pool, user).outcome.unwrap_or_else(|error| panic!("{error}\n{}", pool.log()));
        let server = first.pid;
        first.close();
        refused(by_tcp(&pool, user), "TCP, reused");
        assert_eq!(by_socket(&pool, user).outcome.expect("in").pid, server);
    }
    if let Some(other) = server_user() {
        let psql = client_program("psql").display().to_string();
        let outcome = Program::new("runuser")
            .args(["-u", &other.name, "--", &psql, "-XAtw", "-c", "SELECT 1"])
            .at_port(pool.port)
            .env("PGHOST", &pool.socket().parent().expect("a directory").display().to_string())
            .env("PGUSER", &name)
            .run();
        assert!(!outcome.status.success() && outcome.stderr.contains("operating system user"), "{outcome:?}");
    }
    // Who proves something comes in either way.
    assert_eq!(by_tcp(&pool, "asked").summary(), "S ok");
    assert_eq!(by_socket(&pool, "asked").summary(), "S ok");
    let said = "CONTEXT:  method trust or peer as the server asks for; pool_passwd: no entry for the user";
    assert!(pool.log().contains(said), "{}", pool.log());
}

#[test]
fn a_rule_says_who_clients_are() {
    only_ours!("says less");
    let (_cluster, pool) = stage(Some("trust"));
    assert_eq!(by_tcp(&pool, "trusty").summary(), "ok");
    assert_eq!(by_socket(&pool, "trusty").summary(), "28000");
}
