//! TCP sockets (process-model 3.2).

use super::{Listening, Names, Offered, holder, listen};
use crate::net;
use crate::report::{Report, Result};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

/// Listens on every address that `hosts` stand for, by a socket that is `offered` for it or one of our own.
///
/// # Errors
/// A name without address; an address that cannot be bound.
pub(super) fn open(
    hosts: &[impl AsRef<str>],
    port: i32,
    backlog: i32,
    names: &Names,
    offered: &mut Offered,
) -> Result<Vec<Listening>> {
    let port = u16::try_from(port).unwrap_or(0);
    let mut resolved = Vec::new();
    for (index, host) in hosts.iter().map(AsRef::as_ref).enumerate() {
        Report::log_line(format!("listen address[{index}]: {host}")).log();
        resolved.push(resolve(host, port, names)?);
    }
    let all = resolved.concat();
    let mut bound = Vec::new();
    let mut sockets = Vec::new();
    for addresses in &resolved {
        let mut serves = false;
        let mut missing = None;
        for address in addresses {
            if bound.contains(address) || is_covered(*address, &all) {
                serves = true;
                continue;
            }
            if let Some(offer) = offered.take_tcp(*address) {
                sockets.push(Listening::of(offer, backlog, names)?);
                bound.push(*address);
                serves = true;
                continue;
            }
            if offered.covers(*address) {
                if let Some(offer) = offered.take_covering(*address) {
                    sockets.push(Listening::of(offer, backlog, names)?);
                }
                serves = true;
                continue;
            }
            Report::log_line(format!("Setting up socket for {}:{}", address.ip(), address.port())).log();
            match bind(*address, backlog) {
                Ok(socket) => {
                    sockets.push(Listening::own(socket, names));
                    bound.push(*address);
                    serves = true;
                }
                Err(error) if is_missing_family(&error) => missing = Some(cannot_bind(*address, &error, names)),
                Err(error) => return Err(cannot_bind(*address, &error, names)),
            }
        }
        // A machine without IPv6 is no reason to refuse `*` or `localhost`, as long as something is left of the name.
        if let Some(report) = missing.filter(|_| !serves) {
            return Err(report);
        }
    }
    Ok(sockets)
}

/// [`super::Listeners::check_change`] for some of the addresses.
pub(super) fn check_change(hosts: &[impl AsRef<str>], port: i32, names: &Names, offered: &Offered) -> Result<()> {
    let port = u16::try_from(port).unwrap_or(0);
    // What cannot be resolved is an error later.
    let all: Vec<_> = hosts.iter().filter_map(|host| resolve(host.as_ref(), port, names).ok()).flatten().collect();
    let bound = all.iter().filter(|address| !is_covered(**address, &all));
    let Some((wanted, former)) = bound.filter_map(|wanted| Some((wanted, offered.in_the_way(*wanted)?))).next() else {
        return Ok(());
    };
    let addresses = names.addresses;
    Err(Report::fatal(format!("{addresses} cannot be changed like this by an upgrade"))
        .detail(format!("The running pgpool listens on {former}, and {wanted} is configured."))
        .hint(format!(
            "Set {addresses} as it was and change it by a restart. Between single addresses an upgrade changes."
        )))
}

fn resolve(host: &str, port: u16, names: &Names) -> Result<Vec<SocketAddr>> {
    if host == "*" {
        return Ok(vec![SocketAddr::from(([0; 4], port)), SocketAddr::from(([0; 16], port))]);
    }
    let found = (host, port).to_socket_addrs().map_err(|error| {
        Report::fatal("failed to create INET domain socket")
            .detail(format!("getaddrinfo() failed for \"{host}\": {error}"))
            .hint(format!("Check {}.", names.addresses))
    })?;
    Ok(found.collect())
}

/// Whether the wildcard address of its family is listened on as well.
fn is_covered(address: SocketAddr, all: &[SocketAddr]) -> bool {
    let covers = |other: &SocketAddr| other.ip().is_unspecified() && other.is_ipv4() == address.is_ipv4();
    !address.ip().is_unspecified() && all.iter().any(covers)
}

fn bind(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    net::set_inherited_options(&socket)?;
    socket.bind(&address.into())?;
    listen(socket, backlog)
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn cannot_bind(address: SocketAddr, error: &io::Error, names: &Names) -> Report {
    let in_use = error.kind() == io::ErrorKind::AddrInUse;
    let holder = in_use.then(|| holder::find(address.port())).flatten();
    let holder = holder.map_or(String::new(), |holder| format!("; {holder} has it"));
    let Names { port, addresses, .. } = names;
    let hint = if in_use {
        format!("Stop the other program, or change {port} or {addresses}.")
    } else {
        format!("Check {port} and {addresses}.")
    };
    Report::fatal("failed to create INET domain socket")
        .detail(format!("bind on socket {address} failed with error \"{error}\"{holder}"))
        .hint(hint)
}

#[cfg(test)]
mod tests {
    use super::super::FOR_CLIENTS;
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_port_in_use_names_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = taken.local_addr().expect("address").port();
        let detail = open(&["127.0.0.1"], port.into(), 1, &FOR_CLIENTS, &mut Offered::default())
            .expect_err("in use")
            .detail
            .unwrap_or_default();
        assert!(detail.contains(&format!("127.0.0.1:{port}")), "{detail}");
        assert!(detail.contains(&format!("process {}", std::process::id())), "{detail}");
    }

    #[test]
    fn an_address_that_is_there_twice_is_bound_once() {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("address").port();
        assert_eq!(
            open(&["127.0.0.1", "127.0.0.1"], port.into(), 1, &FOR_CLIENTS, &mut Offered::default())
                .expect("open")
                .len(),
            1
        );
        assert_eq!(
            open(&["127.0.0.1", "0.0.0.0"], port.into(), 1, &FOR_CLIENTS, &mut Offered::default()).expect("open").len(),
            1
        );
    }

    #[test]
    fn addresses_of_other_machines_and_unknown_names_are_errors() {
        // 192.0.2.0/24 is for documentation: nobody has it.
        assert!(open(&["192.0.2.1"], 9999, 1, &FOR_CLIENTS, &mut Offered::default()).is_err());
        assert!(open(&["no such host.invalid"], 9999, 1, &FOR_CLIENTS, &mut Offered::default()).is_err());
        assert!(open(&[] as &[&str], 9999, 1, &FOR_CLIENTS, &mut Offered::default()).expect("open").is_empty());
    }
}
