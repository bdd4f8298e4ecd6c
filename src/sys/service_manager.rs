//! What pgpool tells the service manager that started it: the protocol of sd_notify(3), as much of it as is needed.
//!
//! Without such a manager nothing is told. Nothing here waits: what the manager does not take at once is lost.

use nix::time::{ClockId, clock_gettime};
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Where messages go.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long the manager waits for a sign of life, in microseconds, and from which process.
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHED: &str = "WATCHDOG_PID";

/// The manager that started this process, if one did.
#[derive(Debug, Default)]
pub struct ServiceManager {
    link: Option<Link>,
    watchdog: Option<Duration>,
}

#[derive(Debug)]
struct Link {
    socket: UnixDatagram,
    address: SocketAddr,
    /// For a successor of this process.
    name: OsString,
}

impl ServiceManager {
    /// Takes over what the environment says of it, so that no other program believes to be meant. To be called while the
    /// process has one thread.
    pub fn from_environment() -> Self {
        let [socket, watchdog, watched] = [SOCKET, WATCHDOG, WATCHED].map(|name| {
            let value = env::var_os(name);
            // SAFETY: there is no other thread that could read the environment.
            unsafe { env::remove_var(name) };
            value
        });
        let own = std::process::id().to_string();
        let watchdog = watchdog.filter(|_| watched.is_none_or(|pid| pid == *own));
        let watchdog = watchdog.and_then(|text| text.to_str()?.parse().ok()).filter(|length| *length > 0);
        Self { link: socket.and_then(Link::to), watchdog: watchdog.map(Duration::from_micros) }
    }

    /// The same words for a successor, which has a process id of its own.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let socket = self.link.as_ref().map(|link| (SOCKET, link.name.clone()));
        let watchdog = self.watchdog.map(|length| (WATCHDOG, OsString::from(length.as_micros().to_string())));
        socket.into_iter().chain(watchdog).collect()
    }

    /// How long it waits for a sign of life before it ends this process.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service is complete.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// The files are being read again; [`ready`](Self::ready) is to follow.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_micros()));
    }

    /// The end has begun.
    pub fn stopping(&self, status: &str) {
        self.say(&format!("STOPPING=1\nSTATUS={status}"));
    }

    /// One line for whoever asks how the service is.
    pub fn status(&self, status: &str) {
        self.say(&format!("STATUS={status}"));
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// From now on another process is the main one of the service.
    pub fn main_process_is(&self, pid: u32, status: &str) {
        self.say(&format!("MAINPID={pid}\nREADY=1\nSTATUS={status}"));
    }

    fn say(&self, message: &str) {
        if let Some(Link { socket, address, .. }) = &self.link {
            let _ = socket.send_to_addr(message.as_bytes(), address);
        }
    }
}

impl Link {
    /// `name`: a path, or with `@` in front an abstract name.
    fn to(name: OsString) -> Option<Self> {
        let bytes = name.as_bytes();
        let address = match bytes.split_first()? {
            (b'@', rest) => SocketAddr::from_abstract_name(rest),
            (b'/', _) => SocketAddr::from_pathname(&name),
            _ => return None,
        };
        let open = || -> io::Result<UnixDatagram> {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        Some(Self { socket: open().ok()?, address: address.ok()?, name: OsString::from_vec(bytes.to_vec()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 512];
        socket.set_nonblocking(true).expect("non-blocking");
        let length = socket.recv(&mut buffer).expect("a message");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn it_hears_what_is_said_under_both_kinds_of_names() {
        let path = env::temp_dir().join(format!("pgpool-notify-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let by_path = UnixDatagram::bind(&path).expect("bind");
        let hidden = format!("pgpool-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&hidden).expect("address");
        let by_name = UnixDatagram::bind_addr(&address).expect("bind");
        for (name, socket) in [(path.clone().into_os_string(), by_path), (format!("@{hidden}").into(), by_name)] {
            let manager = ServiceManager { link: Link::to(name.clone()), watchdog: Some(Duration::from_secs(2)) };
            manager.ready("fine");
            assert_eq!(heard(&socket), "READY=1\nSTATUS=fine");
            manager.reloading();
            let (first, second) =
                heard(&socket).split_once('\n').map(|(a, b)| (a.to_owned(), b.to_owned())).expect("two");
            assert_eq!(first, "RELOADING=1");
            assert!(second.strip_prefix("MONOTONIC_USEC=").expect("time").parse::<u64>().expect("number") > 0);
            manager.main_process_is(4711, "moved");
            assert_eq!(heard(&socket), "MAINPID=4711\nREADY=1\nSTATUS=moved");
            manager.alive();
            assert_eq!(heard(&socket), "WATCHDOG=1");
            assert_eq!(manager.environment(), [(SOCKET, name), (WATCHDOG, "2000000".into())]);
        }
        std::fs::remove_file(&path).expect("remove");
    }

    #[test]
    fn without_one_nothing_is_said() {
        let nobody = ServiceManager::default();
        nobody.ready("");
        assert!(nobody.environment().is_empty() && nobody.watchdog().is_none());
        assert!(Link::to("relative".into()).is_none() && Link::to("".into()).is_none());
        // Nobody listens there.
        ServiceManager { link: Link::to("/nonexistent/notify".into()), watchdog: None }.alive();
    }
}
