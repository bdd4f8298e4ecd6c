//! Host names to addresses, within a deadline.
//!
//! The system's resolver has no deadline and cannot be interrupted, so it runs in a thread of its own. One that answers too
//! late is not waited for: it ends by itself, in the time that resolv.conf gives it. Only processes that never fork
//! connect to anybody, so the thread is nobody's trouble. Addresses need neither thread nor resolver. A name that has no
//! answer now means what it meant a moment ago ([`known`](super::known)).

use super::connect::is_ours;
use super::known::Known;
use super::wait::{Waited, wait};
use super::{Address, ConnectError, Deadline};
use crate::sys::thread::without_signals;
use nix::poll::PollFlags;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::thread;
use std::time::{Duration, Instant};

/// How long an answer is waited for if it is known what the name meant.
const PATIENCE: Duration = Duration::from_secs(1);

/// The addresses of `address`, at least one.
///
/// # Errors
/// It has none, or its resolver does not answer in time.
pub fn resolve(address: &Address, deadline: Deadline) -> Result<Vec<SocketAddr>, ConnectError> {
    let port = address.port;
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let host = address.host.as_str();
    // Half of the time is for the connection.
    let in_a_moment = || Deadline::after(deadline.remaining().map_or(PATIENCE, |left| PATIENCE.min(left / 2)));
    let is_known = Known::with(|known| known.has(host, Instant::now()));
    let mut found = match look_up(host, if is_known { in_a_moment() } else { deadline }) {
        Ok(found) => {
            Known::with(|known| known.learn(host, found.clone(), Instant::now()));
            found
        }
        Err(ConnectError::Resolve { host, cause }) => {
            let recalled = Known::with(|known| known.recall(&host, &cause.to_string(), Instant::now()));
            recalled.ok_or(ConnectError::Resolve { host, cause })?
        }
        Err(error) => return Err(error),
    };
    found.iter_mut().for_each(|address| address.set_port(port));
    Ok(found)
}

/// What the resolver says of `host`: at least one address, without a port.
pub(super) fn look_up(host: &str, deadline: Deadline) -> Result<Vec<SocketAddr>, ConnectError> {
    let failed = |cause| ConnectError::Resolve { host: host.to_owned(), cause };
    let name = host.to_owned();
    let answer = within(deadline, move || (name.as_str(), 0).to_socket_addrs().map(Iterator::collect::<Vec<_>>));
    // Without an answer there was no descriptor or no thread to ask by.
    match answer.map_err(ConnectError::Ours)? {
        Ok(Ok(found)) if found.is_empty() => Err(failed(io::Error::other("no address"))),
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) if is_ours(&error) => Err(ConnectError::Ours(error)),
        Ok(Err(error)) => Err(failed(error)),
        Err(Waited::Stopped) => Err(ConnectError::Stopped),
        Err(_) => Err(failed(io::ErrorKind::TimedOut.into())),
    }
}

/// What `work` returns, if it does so in time.
pub(super) fn within<R: Send + 'static>(
    deadline: Deadline,
    work: impl FnOnce() -> R + Send + 'static,
) -> io::Result<Result<R, Waited>> {
    // The thread holds the writing end: that it is closed tells that the answer is there.
    let (done, running) = io::pipe()?;
    let thread = without_signals(|| {
        thread::Builder::new().name("resolver".to_owned()).spawn(move || {
            let answer = work();
            drop(running);
            answer
        })
    })?;
    match wait(&done, PollFlags::POLLIN, deadline)? {
        Waited::Ready => thread.join().map(Ok).map_err(|_| io::Error::other("internal error in the resolver")),
        other => Ok(Err(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_resolver_that_hangs_is_left_alone_at_the_deadline() {
        let (keep, hanging) = mpsc::channel::<()>();
        let started = Instant::now();
        let answer = within(Deadline::after(Duration::from_millis(50)), move || hanging.recv().is_ok());
        assert_eq!(answer.expect("a thread"), Err(Waited::TooLate));
        assert!(started.elapsed() < Duration::from_secs(10));
        drop(keep);
        assert_eq!(within(Deadline::NEVER, || 7).expect("a thread"), Ok(7));
    }

    #[test]
    fn names_and_addresses() {
        let resolve = |host: &str| resolve(&Address { host: host.to_owned(), port: 5432 }, Deadline::after_seconds(20));
        let addresses = |host| resolve(host).expect(host).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            (addresses("127.0.0.1"), addresses("::1")),
            (vec!["127.0.0.1:5432".into()], vec!["[::1]:5432".into()])
        );
        assert!(resolve("localhost").expect("localhost").iter().all(|address| address.ip().is_loopback()));
        assert!(matches!(resolve("not a name"), Err(ConnectError::Resolve { .. })));
    }
}
