//! A connected stream socket, TCP or Unix, in clear or with TLS.

use super::Deadline;
use super::tls::{self, HandshakeError};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{self, MsgFlags, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};
use socket2::Socket;
use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long a relay stays in one receive before it watches all its sockets.
pub const PATIENCE: Duration = Duration::from_millis(10);

/// Sets on a listening TCP socket what the connections it accepts are to have: Linux hands these options down, which saves
/// three system calls per client.
pub fn set_inherited_options(listener: &Socket) -> io::Result<()> {
    listener.set_tcp_nodelay(true)?;
    listener.set_keepalive(true)?;
    listener.set_read_timeout(Some(PATIENCE))
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A TCP address.
    Tcp(IpAddr, u16),
    /// A Unix socket.
    Local,
}

/// A connected socket in blocking mode.
#[derive(Debug)]
pub struct Stream {
    /// Above the descriptor, which it uses.
    tls: Option<Box<RefCell<tls::Session>>>,
    fd: OwnedFd,
    peer: Peer,
}

/// What a receive brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes, at least one.
    Bytes(usize),
    /// The peer has closed its side.
    Closed,
    /// Nothing within the patience.
    Nothing,
    /// A signal came first.
    Interrupted,
}

impl Stream {
    /// Takes over a connected socket.
    pub fn new(fd: OwnedFd, peer: Peer) -> Self {
        Self { tls: None, fd, peer }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// How long a waiting [`Stream::receive`] stays in the kernel before it answers [`Received::Nothing`]. A short
    /// patience saves the separate wait for readiness on the steady path.
    pub fn set_patience(&self, patience: Duration) -> io::Result<()> {
        let limit = TimeVal::microseconds(i64::try_from(patience.as_micros()).unwrap_or(i64::MAX));
        socket::setsockopt(&self.fd, sockopt::ReceiveTimeout, &limit).map_err(io::Error::from)
    }

    /// Receives into `buffer`, which is not empty.
    #[inline]
    pub fn receive(&self, buffer: &mut [u8], wait: bool) -> io::Result<Received> {
        if let Some(tls) = &self.tls {
            return tls.borrow_mut().receive(buffer, wait);
        }
        let flags = if wait { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
        match socket::recv(self.fd.as_raw_fd(), buffer, flags) {
            Ok(0) => Ok(Received::Closed),
            Ok(count) => Ok(Received::Bytes(count)),
            Err(Errno::EAGAIN) => Ok(Received::Nothing),
            Err(Errno::EINTR) => Ok(Received::Interrupted),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends as much of `bytes` as the kernel takes at once; 0 when it takes nothing now.
    #[inline]
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return tls.borrow_mut().send(bytes);
        }
        loop {
            match socket::send(self.fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
                Ok(count) => return Ok(count),
                Err(Errno::EAGAIN) => return Ok(0),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Receives what has come from the socket already and waits to be decrypted; nothing on the socket tells of it.
    pub fn receive_fetched(&self, buffer: &mut [u8]) -> io::Result<Received> {
        match &self.tls {
            Some(tls) => tls.borrow_mut().receive_fetched(buffer),
            None => Ok(Received::Nothing),
        }
    }

    /// Whether there is something for [`Stream::receive_fetched`].
    #[inline]
    pub fn has_fetched(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.borrow().has_fetched())
    }

    /// No more will be sent.
    pub fn shutdown_sending(&self) {
        if let Some(tls) = &self.tls {
            tls.borrow_mut().shut_down();
        }
        let _ = socket::shutdown(self.fd.as_raw_fd(), socket::Shutdown::Write);
    }
}

/// TLS.
impl Stream {
    /// Begins to go over to TLS as the server of the session; `first` has been received already. The stream is of no further
    /// use if it fails, now or later.
    pub fn start_tls(&self, acceptor: &tls::Acceptor, first: &[u8]) -> Result<tls::Handshake, HandshakeError> {
        let ssl = acceptor.ssl().map_err(|errors| HandshakeError::Failed(errors.to_string()))?;
        tls::Handshake::new(ssl, tls::Side::Server, self.fd.as_fd(), first)
    }

    /// Goes on with it without waiting. Returns what to wait for; `None`: the stream is encrypted.
    pub fn go_on_tls(&mut self, handshake: &mut Option<tls::Handshake>) -> Result<Option<PollFlags>, HandshakeError> {
        if let Some(events) = handshake.as_mut().map_or(Ok(None), |handshake| handshake.go_on(false))? {
            return Ok(Some(events));
        }
        if let Some(handshake) = handshake.take() {
            self.tls = Some(Box::new(RefCell::new(handshake.into_session())));
        }
        Ok(None)
    }

    /// Goes on with it to its end.
    pub fn finish_tls(&mut self, handshake: tls::Handshake, deadline: Deadline) -> Result<(), HandshakeError> {
        let session = handshake.finish(self.fd.as_fd(), deadline)?;
        self.tls = Some(Box::new(RefCell::new(session)));
        Ok(())
    }

    /// Goes over to TLS as the client of the session, with the server `host`. The stream is of no further use if it fails.
    pub fn connect_tls(
        &mut self,
        connector: &tls::Connector,
        host: &str,
        deadline: Deadline,
    ) -> Result<(), HandshakeError> {
        let ssl = connector.ssl(host).map_err(|errors| HandshakeError::Failed(errors.to_string()))?;
        let Some(ssl) = ssl else { return Ok(()) };
        let handshake = tls::Handshake::new(ssl, tls::Side::Client, self.fd.as_fd(), &[])?;
        self.finish_tls(handshake, deadline)
    }

    /// Whether it is encrypted.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// What is asked of the TLS session; `None` without one.
    pub fn tls<T>(&self, ask: impl FnOnce(&tls::Session) -> T) -> Option<T> {
        self.tls.as_ref().map(|tls| ask(&tls.borrow()))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
