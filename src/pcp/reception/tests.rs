use super::*;
use crate::net::Peer;
use crate::state::Limits;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

fn connect_from(reception: &mut Reception, peer: Peer, limit: Deadline) -> UnixStream {
    let (client, server) = UnixStream::pair().expect("sockets");
    reception.welcome(Stream::new(server.into(), peer), limit);
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("timeout");
    client
}

fn connect(reception: &mut Reception) -> UnixStream {
    connect_from(reception, Peer::Local, Deadline::NEVER)
}

fn shared() -> Shared {
    Shared::create(Limits::default()).expect("shared")
}

fn door(shared: &Shared) -> Door<'_> {
    Door { users: Path::new("/nowhere/pcp.conf"), most: 1, room: 1, shared }
}

fn attend(reception: &mut Reception) -> usize {
    reception.attend(&door(&shared())).len()
}

/// Lets the time of those inside pass.
fn pass_limit(reception: &mut Reception) {
    while !reception.next_limit().passed() {
        std::thread::sleep(reception.next_limit().remaining().expect("a limit"));
    }
    attend(reception);
}

fn rest(client: &mut UnixStream) -> String {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).expect("the end");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn the_silent_make_room() {
    let mut reception = Reception::default();
    let silent: Vec<_> = (0..1000).map(|_| connect(&mut reception)).collect();
    let mut client = connect(&mut reception);
    assert_eq!((reception.guests.len(), silent.len()), (PLACES_OF_ONE, 1000));
    client.write_all(b"M\0\0\0\x04").expect("write");
    assert_eq!(attend(&mut reception), 0);
    let mut salt = [0; 9];
    client.read_exact(&mut salt).expect("salt");
    assert_eq!(salt[..5], *b"m\0\0\0\x08");
    // From however many addresses they come.
    let crowd = (1..=200).map(|number| Peer::Tcp([10, 0, 0, number].into(), 5000));
    let crowd: Vec<_> = crowd.map(|peer| connect_from(&mut reception, peer, Deadline::NEVER)).collect();
    assert_eq!((reception.guests.len(), crowd.len()), (PLACES_OF_ONE + PLACES, 200));
}

#[test]
fn half_a_request_waits_and_its_time_ends() {
    let mut reception = Reception::default();
    let mut client = connect_from(&mut reception, Peer::Local, Deadline::after(Duration::from_millis(500)));
    client.write_all(b"M\0\0").expect("write");
    attend(&mut reception);
    assert_eq!(reception.streams().count(), 1);
    pass_limit(&mut reception);
    assert!(reception.guests.is_empty() && rest(&mut client).contains("it took too long"));
}

#[test]
fn who_is_refused_hears_of_it_later() {
    let cases = [
        (&b"L\0\0\0\x04"[..], "connection not authorized"),
        (b"I\0\0\0\x04", "connection not authorized"),
        (b"R\0\0\0\x05x", "error while reading authentication packet"),
        (b"M\0\0\x04\0", "incorrect packet length (1024)"),
        (b"R\0\0\0\x0aann\0x\0", "username and/or password does not match"),
    ];
    let mut reception = Reception::default();
    let mut clients = cases.map(|(bytes, why)| {
        let mut client = connect(&mut reception);
        client.write_all(bytes).expect("write");
        client.write_all(&[b'x'; 1000]).expect("write");
        (client, why)
    });
    let shared = shared();
    assert!(reception.attend(&door(&shared)).is_empty());
    assert_eq!((reception.guests.len(), reception.streams().count()), (cases.len(), 0));
    assert_eq!(shared.refusals().read(Refusal::ByPcp), cases.len() as u64);
    pass_limit(&mut reception);
    while !reception.guests.is_empty() {
        pass_limit(&mut reception);
    }
    clients.iter_mut().for_each(|(client, why)| assert!(rest(client).contains(*why), "{why}"));
}

/// Guesses a password, and does not wait for the answer.
fn guess(reception: &mut Reception, peer: Peer) -> UnixStream {
    let mut client = connect_from(reception, peer, Deadline::NEVER);
    let _ = client.write_all(b"R\0\0\0\x0aann\0x\0");
    attend(reception);
    client
}

fn outside(number: u8) -> Peer {
    Peer::Tcp([10, 0, 0, number].into(), 5000)
}

#[test]
fn who_guesses_has_his_places_and_no_more() {
    let mut reception = Reception::default();
    let mut last = (0..100).map(|_| guess(&mut reception, Peer::Local)).last().expect("a client");
    assert_eq!((reception.guests.len(), reception.streams().count()), (PLACES_OF_ONE, 0));
    assert!(rest(&mut last).contains("too many PCP connections"));
    let _other = connect_from(&mut reception, outside(1), Deadline::NEVER);
    assert_eq!(reception.streams().count(), 1);
}

#[test]
fn guesses_from_many_addresses_keep_nobody_out() {
    let mut reception = Reception::default();
    let guesses = |reception: &mut Reception| {
        for number in (1..=8).cycle().take(400) {
            let _client = guess(reception, outside(number));
        }
    };
    guesses(&mut reception);
    assert_eq!((reception.guests.len(), reception.streams().count()), (PLACES, 0));
    let _remote = connect_from(&mut reception, outside(100), Deadline::NEVER);
    let _loopback = connect_from(&mut reception, Peer::Tcp([127, 0, 0, 1].into(), 5000), Deadline::NEVER);
    let _here = connect(&mut reception);
    assert_eq!((reception.guests.len(), reception.streams().count()), (PLACES + 2, 3));
    guesses(&mut reception);
    assert_eq!((reception.guests.len(), reception.streams().count()), (PLACES + 2, 3), "they stay");
    // Nor are there more guesses: those who guess take no places from each other.
    let of_each: Vec<_> = (1..=8).map(|number| reception.places_of(Origin::V4([10, 0, 0, number]))).collect();
    assert_eq!((of_each.iter().sum::<usize>(), of_each.iter().all(|places| *places >= 7)), (PLACES - 1, true));
}
