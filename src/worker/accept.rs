//! A connection just accepted.

use crate::net::{Peer, Stream};
use crate::state::ClientInfo;
use socket2::Socket;
use std::io;
use std::os::fd::OwnedFd;

/// Sets the options of a client's socket and finds out who is at the other end.
pub(super) fn prepare(client: OwnedFd) -> io::Result<Stream> {
    let socket = Socket::from(client);
    let peer = match socket.peer_addr()?.as_socket() {
        Some(address) => {
            socket.set_tcp_nodelay(true)?;
            socket.set_keepalive(true)?;
            Peer::Tcp(address.ip(), address.port())
        }
        None => Peer::Local,
    };
    Ok(Stream::new(socket.into(), peer))
}

/// The client as monitoring shows it.
pub(super) fn describe(stream: &Stream) -> ClientInfo {
    match stream.peer() {
        Peer::Tcp(address, port) => ClientInfo { host: address.to_string(), port: *port },
        Peer::Local => ClientInfo { host: "[local]".to_owned(), port: 0 },
    }
}
