//! New certificates under running sessions (auth 17.4).

use super::authority::{Authority, Pair};
use super::stage::{connector, handshake, session, with_tls};
use crate::harness::{Pgpool, shared, wait_for};
use crate::{needs_pgpool, only_ours};
use nix::sys::signal::Signal;

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
        nix::sys::signal::kill(worker, Signal::SIGTERM).expect("kill");
    }
    wait_for("new workers", || pool.children("wait for connection request").len() == 3);
    assert_eq!(seen(&pool), second.serial);
    offer(&mut pool, &third);
    wait_for("the third certificate", || seen(&pool) == third.serial);
    // The session has lived through all of it in its worker, which serves the next client with the newest.
    assert_eq!(running.value("SELECT 40 + 2"), "42");
    running.close();
    wait_for("all workers", || pool.children("wait for connection request").len() == 4);
    let mut held = Vec::new();
    for _ in 0..4 {
        assert_eq!(seen(&pool), third.serial);
        held.push(session(&pool));
    }
}
