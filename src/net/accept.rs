//! A connection just accepted.

use super::{PATIENCE, Peer, Stream};
use socket2::SockRef;
use std::io;
use std::os::fd::OwnedFd;

/// Accepts a client from the non-blocking `listener`. `None`: there is none any more, because another process was faster
/// or the client has left already.
///
/// # Errors
/// This process has run out of something, or the listening socket is of no further use.
pub fn accept(listener: &OwnedFd) -> io::Result<Option<Stream>> {
    let (socket, address) = match SockRef::from(listener).accept() {
        Ok(accepted) => accepted,
        Err(error) if is_ours(&error) => return Err(error),
        Err(_) => return Ok(None),
    };
    let peer = match address.as_socket() {
        Some(address) => Peer::Tcp(address.ip(), address.port()),
        None => Peer::Local,
    };
    let stream = Stream::new(socket.into(), peer);
    if *stream.peer() == Peer::Local {
        // TCP connections have inherited their options from the listening socket. It only fails when the client is gone
        // already, which the session will find out.
        let _ = stream.set_patience(PATIENCE);
    }
    Ok(Some(stream))
}

/// Whether a failed accept tells about us. All other errors are the fate of one client (accept(2)).
fn is_ours(error: &io::Error) -> bool {
    let ours = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINVAL, libc::EBADF, libc::ENOTSOCK];
    error.raw_os_error().is_some_and(|code| ours.contains(&code))
}

/// Whether the listening socket was shut down: pgpool is being stopped.
pub fn is_shut_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net;
    use socket2::{Domain, SockAddr, Socket, Type};
    use std::net::{Ipv4Addr, SocketAddr};

    #[test]
    fn a_client_or_none_or_the_end() {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))).unwrap();
        listener.listen(4).unwrap();
        listener.set_nonblocking(true).unwrap();
        net::set_inherited_options(&listener).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let listener = OwnedFd::from(listener);
        assert!(accept(&listener).unwrap().is_none());
        let client = std::net::TcpStream::connect(address).unwrap();
        let stream = accept(&listener).unwrap().expect("a client");
        let port = client.local_addr().unwrap().port();
        assert_eq!(*stream.peer(), Peer::Tcp(Ipv4Addr::LOCALHOST.into(), port));
        let accepted = SockRef::from(&stream);
        assert!(!accepted.nonblocking().unwrap() && accepted.tcp_nodelay().unwrap() && accepted.keepalive().unwrap());
        // The kernel rounds it up to its ticks.
        assert!(accepted.read_timeout().unwrap().is_some_and(|patience| patience >= PATIENCE));
        SockRef::from(&listener).shutdown(std::net::Shutdown::Both).unwrap();
        assert!(is_shut_down(&accept(&listener).unwrap_err()));
    }
}
