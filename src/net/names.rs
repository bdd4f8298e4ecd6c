//! Names and addresses of clients and of this machine, each look-up within a deadline.

use super::Deadline;
use super::resolve::{look_up, within};
use crate::sys::names::name_of;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use std::net::IpAddr;

/// The name of an address; `None`: it has none, or not in time.
pub fn name(address: IpAddr, deadline: Deadline) -> Option<String> {
    within(deadline, move || name_of(address)).ok()?.ok()?
}

/// The addresses of a name; none if it has none, or not in time. What it meant before does not count: somebody is let in
/// by it (auth 3.7).
pub fn addresses(name: &str, deadline: Deadline) -> Vec<IpAddr> {
    look_up(name, deadline).map_or_else(|_| Vec::new(), |found| found.iter().map(|address| address.ip()).collect())
}

/// The addresses of this machine's interfaces, with their masks.
pub fn interfaces() -> Vec<(IpAddr, Option<IpAddr>)> {
    let Ok(interfaces) = getifaddrs() else { return Vec::new() };
    let pair = |interface: nix::ifaddrs::InterfaceAddress| {
        Some((ip(interface.address.as_ref()?)?, interface.netmask.as_ref().and_then(ip)))
    };
    interfaces.filter_map(pair).collect()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = || address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
    v4().or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_there() {
        let loopback = (IpAddr::from([127, 0, 0, 1]), Some(IpAddr::from([255, 0, 0, 0])));
        assert!(interfaces().contains(&loopback), "{:?}", interfaces());
    }

    #[test]
    fn nobody_waits_for_names_for_ever() {
        assert_eq!(name(IpAddr::from([192, 0, 2, 77]), Deadline::after_milliseconds(20_000)), None);
        assert!(addresses("localhost", Deadline::after_seconds(20)).iter().all(IpAddr::is_loopback));
    }
}
