//! Connecting to a server: one deadline for all its addresses together.

use super::{Deadline, Peer, Stream};
use nix::poll::{PollFd, PollFlags, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// Host name, address, or directory of a Unix socket when it begins with `/`.
    pub host: String,
    /// Port; also part of the Unix socket's name.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("host name \"{host}\" cannot be resolved: {cause}")]
    Resolve {
        /// The name.
        host: String,
        /// The resolver's answer.
        cause: io::Error,
    },
    /// Nobody answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// Every address failed; the last failure.
    #[error("{0}")]
    Failed(io::Error),
}

/// Connects to `address`, trying every address its name has until `deadline`.
pub fn connect(address: &Address, deadline: Deadline) -> Result<Stream, ConnectError> {
    if address.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", address.host, address.port);
        let target = SockAddr::unix(path).map_err(ConnectError::Failed)?;
        return connect_one(Domain::UNIX, &target, deadline).map(|fd| Stream::new(fd, Peer::Local));
    }
    let mut last = ConnectError::TimedOut;
    for target in resolve(address)? {
        if deadline.passed() {
            return Err(ConnectError::TimedOut);
        }
        match connect_one(Domain::for_address(target), &target.into(), deadline) {
            Ok(fd) => return Ok(Stream::new(fd, Peer::Tcp(target.ip(), target.port()))),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn resolve(address: &Address) -> Result<Vec<SocketAddr>, ConnectError> {
    let failed = |cause| ConnectError::Resolve { host: address.host.clone(), cause };
    let found: Vec<_> = (address.host.as_str(), address.port).to_socket_addrs().map_err(failed)?.collect();
    if found.is_empty() {
        return Err(failed(io::Error::other("no address")));
    }
    Ok(found)
}

fn connect_one(domain: Domain, target: &SockAddr, deadline: Deadline) -> Result<OwnedFd, ConnectError> {
    let socket = Socket::new(domain, Type::STREAM, None).map_err(ConnectError::Failed)?;
    socket.set_nonblocking(true).map_err(ConnectError::Failed)?;
    match socket.connect(target) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            wait_connected(&socket, deadline)?;
            if let Some(error) = socket.take_error().map_err(ConnectError::Failed)? {
                return Err(ConnectError::Failed(error));
            }
        }
        Err(error) => return Err(ConnectError::Failed(error)),
    }
    socket.set_nonblocking(false).map_err(ConnectError::Failed)?;
    if domain != Domain::UNIX {
        socket.set_tcp_nodelay(true).map_err(ConnectError::Failed)?;
        socket.set_keepalive(true).map_err(ConnectError::Failed)?;
    }
    Ok(socket.into())
}

fn wait_connected(socket: &Socket, deadline: Deadline) -> Result<(), ConnectError> {
    loop {
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, deadline.poll_timeout()) {
            Ok(0) if deadline.passed() => return Err(ConnectError::TimedOut),
            Ok(0) | Err(nix::errno::Errno::EINTR) => {
                if deadline.passed() {
                    return Err(ConnectError::TimedOut);
                }
            }
            Ok(_) => return Ok(()),
            Err(errno) => return Err(ConnectError::Failed(errno.into())),
        }
    }
}
