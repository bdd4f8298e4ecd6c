//! When a peer that says nothing is asked whether it is still there, and how long it may leave unacknowledged what was sent.
//!
//! Without it the kernel asks after two hours, and a machine that has lost its power, or whose cable is cut, keeps a process
//! and a server connection as long. For servers it is the same with every connection of a process.

use crate::config::Settings;
use socket2::{SockRef, TcpKeepalive};
use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

/// The four limits towards one side; 0: the kernel's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence before the first question, in seconds.
    pub idle: i32,
    /// Pause between questions, in seconds.
    pub interval: i32,
    /// Unanswered questions.
    pub count: i32,
    /// Time that sent data may wait for its acknowledgement, in milliseconds.
    pub user_timeout: i32,
}

/// That towards servers.
static SERVERS: [AtomicI32; 4] = [const { AtomicI32::new(0) }; 4];

impl Keepalive {
    /// Towards clients.
    pub fn of_clients(settings: &Settings) -> Self {
        Self {
            idle: settings.client_keepalives_idle,
            interval: settings.client_keepalives_interval,
            count: settings.client_keepalives_count,
            user_timeout: settings.client_tcp_user_timeout,
        }
    }

    /// Towards servers, for all connections of this process from now on.
    pub fn set_for_servers(settings: &Settings) {
        let values = [
            settings.server_keepalives_idle,
            settings.server_keepalives_interval,
            settings.server_keepalives_count,
            settings.server_tcp_user_timeout,
        ];
        SERVERS.iter().zip(values).for_each(|(place, value)| place.store(value, Ordering::Relaxed));
    }

    pub(super) fn of_servers() -> Self {
        let [idle, interval, count, user_timeout] = [0, 1, 2, 3].map(|at: usize| SERVERS[at].load(Ordering::Relaxed));
        Self { idle, interval, count, user_timeout }
    }

    /// With the kernel's own values instead of 0, for a socket that may have others: of a pgpool that had it before.
    pub fn or_kernels_own(self) -> Self {
        let own = |value: i32, name: &str| {
            let read =
                || fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_keepalive_{name}")).ok()?.trim().parse().ok();
            if value == 0 { read().unwrap_or(0) } else { value }
        };
        let (idle, interval, count) = (own(self.idle, "time"), own(self.interval, "intvl"), own(self.count, "probes"));
        Self { idle, interval, count, ..self }
    }

    /// Sets it on a TCP socket; what is 0 stays as it is. A listening socket hands it down to what it accepts. A kernel that
    /// does not know one of the options goes without it.
    pub fn apply(self, socket: impl AsFd) {
        let socket = SockRef::from(&socket);
        let mut keepalive = TcpKeepalive::new();
        let seconds = |value: i32| Some(Duration::from_secs(u64::try_from(value).ok().filter(|value| *value > 0)?));
        if let Some(idle) = seconds(self.idle) {
            keepalive = keepalive.with_time(idle);
        }
        if let Some(interval) = seconds(self.interval) {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(count) = u32::try_from(self.count).ok().filter(|count| *count > 0) {
            keepalive = keepalive.with_retries(count);
        }
        let _ = socket.set_tcp_keepalive(&keepalive);
        let limit = u64::try_from(self.user_timeout).ok().filter(|limit| *limit > 0).map(Duration::from_millis);
        let _ = socket.set_tcp_user_timeout(limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::Socket;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_is_accepted_has_it_from_its_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        Keepalive { idle: 7, interval: 3, count: 2, user_timeout: 4500 }.apply(&listener);
        let _client = TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        let accepted = Socket::from(listener.accept().expect("accept").0);
        assert!(accepted.keepalive().expect("option"));
        assert_eq!(accepted.tcp_keepalive_time().expect("option"), Duration::from_secs(7));
        assert_eq!(accepted.tcp_keepalive_interval().expect("option"), Duration::from_secs(3));
        assert_eq!(accepted.tcp_keepalive_retries().expect("option"), 2);
        assert_eq!(accepted.tcp_user_timeout().expect("option"), Some(Duration::from_millis(4500)));
    }

    #[test]
    fn the_kernels_own_values_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let limits = || {
            let socket = SockRef::from(&listener);
            let (time, interval) = (socket.tcp_keepalive_time(), socket.tcp_keepalive_interval());
            (time.expect("option"), interval.expect("option"), socket.tcp_keepalive_retries().expect("option"))
        };
        let before = limits();
        Keepalive { idle: 7, interval: 3, count: 2, user_timeout: 0 }.apply(&listener);
        assert_ne!(limits(), before);
        Keepalive::default().or_kernels_own().apply(&listener);
        assert_eq!(limits(), before);
        assert_eq!(Keepalive { idle: 7, ..Keepalive::default() }.or_kernels_own().idle, 7);
    }

    #[test]
    fn zero_leaves_the_kernels_own() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let before = SockRef::from(&listener).tcp_keepalive_time().expect("option");
        Keepalive::default().apply(&listener);
        assert_eq!(SockRef::from(&listener).tcp_keepalive_time().expect("option"), before);
        assert_eq!(SockRef::from(&listener).tcp_user_timeout().expect("option"), None);
    }
}
