//! Where a connection comes from: whose places it takes.

use crate::net::{Peer, Stream};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use std::net::{IpAddr, Ipv6Addr};

/// Connections of one origin share a number of places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Unix sockets of one user of this machine; `None`: the system does not tell.
    User(Option<u32>),
    /// This machine, by TCP. It has so many addresses that they tell nothing.
    Loopback,
    /// An address.
    V4([u8; 4]),
    /// A network of 2^64 addresses, which is what a customer gets.
    V6([u16; 4]),
}

impl Origin {
    /// Of this connection.
    pub fn of(stream: &Stream) -> Self {
        match stream.peer() {
            Peer::Local => Self::User(getsockopt(stream, PeerCredentials).ok().map(|peer| peer.uid())),
            Peer::Tcp(address, _) => Self::of_address(address.to_canonical()),
        }
    }

    fn of_address(address: IpAddr) -> Self {
        match address {
            address if address.is_loopback() => Self::Loopback,
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => Self::V6(prefix(address)),
        }
    }

    /// Whether it is this machine, as far as one can tell.
    pub fn is_here(self) -> bool {
        matches!(self, Self::User(_) | Self::Loopback)
    }
}

fn prefix(address: Ipv6Addr) -> [u16; 4] {
    let [a, b, c, d, ..] = address.segments();
    [a, b, c, d]
}

/// Where a connection comes from, for the log.
pub(super) fn from(stream: &Stream) -> String {
    match stream.peer() {
        Peer::Tcp(address, port) => format!("PCP connection from {address}({port})"),
        Peer::Local => "PCP connection from [local]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_many_addresses_has_one_origin() {
        let of = |address: &str| Origin::of_address(address.parse::<IpAddr>().expect("an address").to_canonical());
        assert_eq!((of("127.0.0.1"), of("127.9.9.9")), (Origin::Loopback, Origin::Loopback));
        assert_eq!((of("::1"), of("::ffff:127.0.0.2")), (Origin::Loopback, Origin::Loopback));
        assert_eq!((of("10.0.0.1"), of("::ffff:10.0.0.1")), (Origin::V4([10, 0, 0, 1]), Origin::V4([10, 0, 0, 1])));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_eq!(of("2001:db8:0:1::1"), of("2001:db8:0:1:ffff::2"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
    }
}
