//! New certificates under running sessions (auth 17.4).

use super::authority::{Authority, Pair};
use super::stage::{SSL_REQUEST, ask, connector, handshake, session, tcp, with_tls};
use crate::harness::{PATIENCE, Pgpool, process_title, shared, wait_for};
use crate::{needs_pgpool, only_ours};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;

/// The serial number of the certificate that a new client sees.
fn seen(pool: &Pgpool) -> u32 {
    let stream = handshake(pool.port, &connector(|_| ()));
    let certificate = stream.ssl().peer_certificate().expect("a certificate");
    let number = certificate.serial_number().to_bn().expect("a number").to_dec_str().expect("a number");
    number.parse().expect("a number")
}

fn offer(pool: &mut Pgpool, pair: &Pair) {
    pool.set("ssl_cert", &pair.certificate);
    pool.set("ssl_key", &pair.key);
    pool.signal(Signal::SIGHUP);
}

/// Each of the four workers shows this certificate.
fn assert_all_show(pool: &Pgpool, pair: &Pair) {
    wait_for("all workers", || pool.children("wait for connection request").len() == 4);
    let mut held = Vec::new();
    for _ in 0..4 {
        assert_eq!(seen(pool), pair.serial);
        held.push(session(pool));
    }
}

#[test]
fn sessions_stay_and_new_clients_see_the_new_certificate() {
    only_ours!("has to be restarted");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let (first, second, third) = (authority.issue("pgpool"), authority.issue("pgpool"), authority.issue("pgpool"));
    let mut pool = with_tls(Pgpool::on(shared()), &first).start();
    let mut running = session(&pool);
    assert_eq!(seen(&pool), first.serial);
    offer(&mut pool, &second);
    wait_for("the new certificate", || seen(&pool) == second.serial);
    assert_eq!(running.value("SELECT 40 + 2"), "42");
    // A set that does not fit together changes nothing, and says so.
    offer(&mut pool, &Pair { key: first.key.clone(), ..third.clone() });
    wait_for("the refusal in the log", || pool.log().contains("SSL certificates were not reloaded"));
    assert!(pool.log().contains("WARNING:  check of private key failed: key values mismatch"), "{}", pool.log());
    assert_eq!([seen(&pool), seen(&pool)], [second.serial; 2]);
    // Workers that are started now have the good one, too.
    for worker in pool.children("wait for connection request") {
        kill(worker, Signal::SIGTERM).expect("kill");
    }
    wait_for("new workers", || pool.children("wait for connection request").len() == 3);
    assert_eq!(seen(&pool), second.serial);
    offer(&mut pool, &third);
    wait_for("the third certificate", || seen(&pool) == third.serial);
    // The session has lived through all of it in its worker, which serves the next client with the newest.
    assert_eq!(running.value("SELECT 40 + 2"), "42");
    running.close();
    assert_all_show(&pool, &third);
}

#[test]
fn tls_that_could_not_begin_begins_with_a_reload() {
    only_ours!("has to be restarted");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let missing = Pair { certificate: "/nonexistent".to_owned(), key: "/nonexistent".to_owned(), serial: 0 };
    let mut pool = with_tls(Pgpool::on(shared()), &missing).start();
    assert_eq!(ask(&mut tcp(pool.port), &SSL_REQUEST).expect("an answer"), Some(b'N'));
    offer(&mut pool, &authority.issue("pgpool"));
    wait_for("TLS", || ask(&mut tcp(pool.port), &SSL_REQUEST).expect("an answer") == Some(b'S'));
    assert_eq!(session(&pool).value("SELECT 40 + 2"), "42");
}

/// How many lines a file has, which need not be there.
fn lines(path: &str) -> usize {
    fs::read_to_string(path).unwrap_or_default().lines().count()
}

#[test]
fn the_parent_goes_on_while_the_pass_phrase_is_asked_for_and_asks_once_for_all() {
    only_ours!("stands still, and each of its processes asks again");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let [first, second, third] = [1, 2, 3].map(|_| authority.encrypt(&authority.issue("pgpool"), "open sesame"));
    let (runs, go) = (authority.path("runs"), authority.path("go"));
    let command = format!("echo $$ >> {runs}; while ! test -e {go}; do sleep 0.05; done; echo open sesame");
    authority.write("go", b"", 0o644);
    let config = with_tls(Pgpool::on(shared()), &first).set("ssl_passphrase_command", &command);
    let mut pool = config.set("num_init_children", 4).start();
    let mut running = session(&pool);
    assert_eq!((seen(&pool), lines(&runs)), (first.serial, 1));
    fs::remove_file(&go).expect("removed");
    offer(&mut pool, &second);
    wait_for("the command to run", || lines(&runs) == 2);
    // The parent replaces who is lost, and clients are served as before.
    let idle = pool.children("wait for connection request");
    idle.iter().for_each(|worker| kill(*worker, Signal::SIGKILL).expect("killed"));
    wait_for("new workers", || {
        let now = pool.children("wait for connection request");
        now.len() == 3 && now.iter().all(|worker| !idle.contains(worker))
    });
    assert_eq!(seen(&pool), first.serial);
    // Another reload puts another question in the place of the first.
    offer(&mut pool, &third);
    wait_for("the command to run again", || lines(&runs) == 3);
    authority.write("go", b"", 0o644);
    wait_for("the new certificate", || seen(&pool) == third.serial);
    // What the parent has read is what all workers use, also the one that was busy, whatever has become of the files.
    fs::write(&third.certificate, "overwritten").expect("written");
    fs::remove_file(&third.key).expect("removed");
    assert_eq!(running.value("SELECT 40 + 2"), "42");
    running.close();
    assert_all_show(&pool, &third);
    assert_eq!(lines(&runs), 3, "workers do not ask");
}

#[test]
fn a_stop_does_not_wait_for_the_pass_phrase() {
    only_ours!("stands still");
    needs_pgpool!();
    let authority = Authority::new("ours");
    let pair = authority.encrypt(&authority.issue("pgpool"), "open sesame");
    let (runs, later) = (authority.path("runs"), authority.path("later"));
    let command = format!("test -e {later} && {{ echo $$ >> {runs}; sleep 600; }}; echo open sesame");
    let mut pool = with_tls(Pgpool::on(shared()), &pair).set("ssl_passphrase_command", &command).start();
    authority.write("later", b"", 0o644);
    pool.signal(Signal::SIGHUP);
    wait_for("the command to run", || lines(&runs) == 1);
    pool.signal(Signal::SIGTERM);
    assert!(pool.wait_end(PATIENCE).is_some_and(|status| status.success()), "{}", pool.log());
    let shell = fs::read_to_string(&runs).expect("runs").trim().parse().expect("pid");
    wait_for("the command to be ended", || {
        kill(Pid::from_raw(shell), None).is_err() || process_title(shell).is_empty()
    });
}
