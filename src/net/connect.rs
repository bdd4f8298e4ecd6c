//! Connecting to a server: one deadline for its name and all its addresses together.

use super::resolve::resolve;
use super::wait::{Waited, wait};
use super::{Deadline, Keepalive, PATIENCE, Peer, Stream};
use crate::sys::signal;
use nix::poll::PollFlags;
use socket2::{Domain, SockAddr, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

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
    /// This process was told to stop at once.
    #[error("pgpool is being stopped")]
    Stopped,
    /// Nobody answered in time.
    #[error("no answer in time")]
    TimedOut,
    /// Every address failed; the last failure.
    #[error("{0}")]
    Failed(io::Error),
    /// This process or machine has no descriptor, port or memory left: the other side is not to blame.
    #[error("pgpool's machine has run out of something: {0}")]
    Ours(io::Error),
}

fn failed(error: io::Error) -> ConnectError {
    if is_ours(&error) { ConnectError::Ours(error) } else { ConnectError::Failed(error) }
}

/// Whether this process or machine lacks something.
pub(super) fn is_ours(error: &io::Error) -> bool {
    let ours = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| ours.contains(&code))
}

/// Connects to `address`, trying every address its name has until `deadline`. The stream has the patience of a relay.
pub fn connect(address: &Address, deadline: Deadline) -> Result<Stream, ConnectError> {
    if address.host.starts_with('/') {
        let path = format!("{}/.s.PGSQL.{}", address.host, address.port);
        return connect_unix(&path, deadline);
    }
    let mut last = ConnectError::TimedOut;
    for target in resolve(address, deadline)? {
        if deadline.passed() {
            return Err(ConnectError::TimedOut);
        }
        match connect_tcp(target, deadline) {
            Ok(stream) => return Ok(stream),
            Err(ConnectError::Stopped) => return Err(ConnectError::Stopped),
            // What one address tells of the server counts more than that another is not to be had from here.
            Err(ConnectError::Ours(_)) if matches!(last, ConnectError::Failed(_)) => {}
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A server that is slow to accept has a full queue, and only a blocking call waits for room in it: on a non-blocking
/// socket nothing would tell when to try again.
fn connect_unix(path: &str, deadline: Deadline) -> Result<Stream, ConnectError> {
    let target = SockAddr::unix(path).map_err(failed)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    loop {
        // Zero would mean no limit.
        let limit = deadline.remaining().map(|left| left.max(Duration::from_millis(1)));
        socket.set_write_timeout(limit).map_err(failed)?;
        match socket.connect(&target) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted && signal::told_to_stop() => {
                return Err(ConnectError::Stopped);
            }
            Err(error) if !matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {
                return Err(failed(error));
            }
            Err(_) if deadline.passed() => return Err(ConnectError::TimedOut),
            Err(_) => {}
        }
    }
    connected(socket, Peer::Local)
}

fn connect_tcp(target: SocketAddr, deadline: Deadline) -> Result<Stream, ConnectError> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, None).map_err(failed)?;
    socket.set_nonblocking(true).map_err(failed)?;
    match socket.connect(&target.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            match wait(&socket, PollFlags::POLLOUT, deadline).map_err(failed)? {
                Waited::Ready => {}
                Waited::TooLate => return Err(ConnectError::TimedOut),
                Waited::Stopped => return Err(ConnectError::Stopped),
            }
            if let Some(error) = socket.take_error().map_err(failed)? {
                return Err(failed(error));
            }
        }
        Err(error) => return Err(failed(error)),
    }
    socket.set_nonblocking(false).map_err(failed)?;
    socket.set_tcp_nodelay(true).map_err(failed)?;
    Keepalive::of_servers().apply(&socket);
    connected(socket, Peer::Tcp(target.ip(), target.port()))
}

fn connected(socket: Socket, peer: Peer) -> Result<Stream, ConnectError> {
    let stream = Stream::new(OwnedFd::from(socket), peer);
    stream.set_patience(PATIENCE).map_err(failed)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Instant;

    #[test]
    fn a_server_with_a_full_queue_is_waited_for_until_the_deadline() {
        let directory = std::env::temp_dir().join(format!("pgpool-connect-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("directory");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("socket");
        let path = directory.join(".s.PGSQL.5432");
        listener.bind(&SockAddr::unix(&path).expect("path")).expect("bind");
        listener.listen(0).expect("listen");
        let address = Address { host: directory.display().to_string(), port: 5432 };
        let soon = || Deadline::after(Duration::from_millis(200));
        let mut queued = Vec::new();
        let started = Instant::now();
        let failure = loop {
            match connect(&address, soon()) {
                Ok(stream) if queued.len() < 10 => queued.push(stream),
                outcome => break outcome.expect_err("the queue has an end"),
            }
        };
        assert!(matches!(failure, ConnectError::TimedOut), "{failure}");
        assert!(started.elapsed() >= Duration::from_millis(200));
        let waiting = thread::spawn(move || connect(&address, Deadline::after(Duration::from_secs(20))).is_ok());
        listener.accept().expect("accept");
        assert!(waiting.join().expect("thread"), "there was room");
        std::fs::remove_dir_all(&directory).expect("remove");
    }
}
