//! The listening sockets of the clients, those of PCP, and those of the metrics (process-model 3, pcp 6.1).
//!
//! Every socket is non-blocking and closed on exec. Unlike the original, a TCP address that cannot be bound is an error,
//! and a Unix socket somebody listens on is never taken away. Without a socket of PCP or metrics clients are served all the same.

mod holder;
mod offered;
mod tcp;
mod unix;

use offered::Offer;
pub(super) use offered::Offered;

use crate::config::Settings;
use crate::net::{self, Keepalive};
use crate::report::{Report, Result, Severity};
use socket2::{SockRef, Socket};
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use unix::{Access, SocketFile};

/// The longest backlog asked for.
const MAX_BACKLOG: i32 = 10_000;

/// The parameters that say where to listen, as messages name them.
struct Names {
    /// What they are for, as a service manager may say.
    purpose: &'static str,
    /// In front of "Unix-domain".
    label: &'static str,
    port: &'static str,
    addresses: &'static str,
    directories: &'static str,
}

const FOR_CLIENTS: Names = Names {
    purpose: "clients",
    label: "",
    port: "port",
    addresses: "listen_addresses",
    directories: "unix_socket_directories",
};
const FOR_PCP: Names = Names {
    purpose: "pcp",
    label: "PCP ",
    port: "pcp_port",
    addresses: "pcp_listen_addresses",
    directories: "pcp_socket_dir",
};
const FOR_METRICS: Names = Names {
    purpose: "metrics",
    label: "metrics ",
    port: "metrics_port",
    addresses: "metrics_listen_addresses",
    directories: "",
};
const ALL: [&Names; 3] = [&FOR_CLIENTS, &FOR_PCP, &FOR_METRICS];
/// Connections to PCP or metrics that wait to be accepted: room for an administrator behind a crowd.
const PCP_BACKLOG: i32 = 1024;

/// Sockets somebody connects to.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    sockets: Vec<Listening>,
    files: Vec<SocketFile>,
    /// Those that are still the former pgpool's, with who will be let in.
    files_to_come: Vec<(SocketFile, Option<Access>)>,
}

#[derive(Debug)]
struct Listening {
    socket: OwnedFd,
    owner: Owner,
    /// For whoever inherits it.
    purpose: &'static str,
}

/// Who may shut a socket down, which whoever else has a copy cannot undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// This process.
    Us,
    /// The service manager, who keeps it for the next start.
    ServiceManager,
    /// The former pgpool, which serves by it until it has handed over its business.
    FormerPgpool,
}

/// At the end of the purpose of a socket that is lent.
const LENT: &str = "-lent";

impl Listeners {
    /// Opens all sockets for clients, or takes those that are `offered`. Unix ones first: workers take clients in that order.
    ///
    /// # Errors
    /// One of them cannot be had: which, and why. None is left open then.
    pub fn open(settings: &Settings, offered: &mut Offered) -> Result<Self> {
        let mut listeners = Self::default();
        let opened = listeners.open_unix(settings, offered).and_then(|()| listeners.open_tcp(settings, offered));
        match opened {
            Ok(()) if listeners.sockets.is_empty() => Err(Report::fatal("there is no socket to listen on")
                .hint("Set unix_socket_directories or listen_addresses.")),
            Ok(()) => Ok(listeners),
            Err(report) => {
                listeners.remove();
                Err(report)
            }
        }
    }

    /// Whether a former pgpool's sockets leave room for those that are configured now.
    ///
    /// # Errors
    /// It listens on one address of a port and all are configured, or the other way round: the kernel lets nobody listen on
    /// both at the same time.
    pub fn check_change(settings: &Settings, offered: &Offered) -> Result<()> {
        tcp::check_change(&settings.listen_addresses, settings.port, &FOR_CLIENTS, offered)?;
        tcp::check_change(&settings.pcp_listen_addresses, settings.pcp_port, &FOR_PCP, offered)?;
        tcp::check_change(&settings.metrics_listen_addresses, settings.metrics_port, &FOR_METRICS, offered)
    }

    fn open_unix(&mut self, settings: &Settings, offered: &mut Offered) -> Result<()> {
        let paths = unix::paths(&settings.unix_socket_directories, settings.port, &FOR_CLIENTS)?;
        let access = Access::new(&settings.unix_socket_group, settings.unix_socket_permissions)?;
        for path in paths {
            if let Some(offer) = offered.take_unix(&path) {
                self.inherit(offer, Some(access), MAX_BACKLOG, &FOR_CLIENTS)?;
                continue;
            }
            self.add(unix::open(path, access, &FOR_CLIENTS)?, &FOR_CLIENTS);
        }
        Ok(())
    }

    fn open_tcp(&mut self, settings: &Settings, offered: &mut Offered) -> Result<()> {
        let backlog = backlog(settings);
        let opened = tcp::open(&settings.listen_addresses, settings.port, backlog, &FOR_CLIENTS, offered)?;
        self.sockets.extend(opened);
        self.take_rest(settings.port, backlog, &FOR_CLIENTS, offered)?;
        // Also on those that were lent; Unix sockets do without.
        let keepalive = Keepalive::of_clients(settings).or_kernels_own();
        self.sockets.iter().for_each(|listening| keepalive.apply(&listening.socket));
        Ok(())
    }

    /// Opens the sockets of PCP. One that cannot be had is warned of.
    pub fn open_pcp(settings: &Settings, offered: &mut Offered) -> Self {
        let mut listeners = Self::default();
        let paths = unix::paths(&settings.pcp_socket_dir, settings.pcp_port, &FOR_PCP);
        for path in paths.map_err(warn).unwrap_or_default() {
            if let Some(offer) = offered.take_unix(&path) {
                let _ = listeners.inherit(offer, None, PCP_BACKLOG, &FOR_PCP).map_err(warn);
                continue;
            }
            match unix::open(path, Access::OF_ALL, &FOR_PCP) {
                Ok(opened) => listeners.add(opened, &FOR_PCP),
                Err(report) => warn(report),
            }
        }
        match tcp::open(&settings.pcp_listen_addresses, settings.pcp_port, PCP_BACKLOG, &FOR_PCP, offered) {
            Ok(opened) => listeners.sockets.extend(opened),
            Err(report) => warn(report),
        }
        let _ = listeners.take_rest(settings.pcp_port, PCP_BACKLOG, &FOR_PCP, offered).map_err(warn);
        listeners
    }

    /// Opens the sockets of the metrics. One that cannot be had is warned of.
    pub fn open_metrics(settings: &Settings, offered: &mut Offered) -> Self {
        let Settings { metrics_listen_addresses: addresses, metrics_port: port, .. } = settings;
        let mut listeners = Self::default();
        match tcp::open(addresses, *port, PCP_BACKLOG, &FOR_METRICS, offered) {
            Ok(opened) => listeners.sockets.extend(opened),
            Err(report) => warn(report),
        }
        let _ = listeners.take_rest(*port, PCP_BACKLOG, &FOR_METRICS, offered).map_err(warn);
        listeners
    }

    fn add(&mut self, (socket, file): (OwnedFd, SocketFile), names: &Names) {
        self.sockets.push(Listening::own(socket, names));
        self.files.push(file);
    }

    fn inherit(&mut self, offer: Offer, access: Option<Access>, backlog: i32, names: &Names) -> Result<()> {
        self.inherit_file(&offer, access);
        self.sockets.push(Listening::of(offer, backlog, names)?);
        Ok(())
    }

    /// The file of a former pgpool's socket will be ours.
    fn inherit_file(&mut self, offer: &Offer, access: Option<Access>) {
        let file = offer.path().filter(|_| !offer.is_lent).and_then(SocketFile::of);
        self.files_to_come.extend(file.map(|file| (file, access)));
    }

    fn take_rest(&mut self, port: i32, backlog: i32, names: &Names, offered: &mut Offered) -> Result<()> {
        offered.take_rest(port, names).into_iter().try_for_each(|offer| self.inherit(offer, None, backlog, names))
    }

    /// The former pgpool has handed over its business: its sockets and their files are ours now.
    pub fn own(&mut self) {
        for (file, access) in self.files_to_come.drain(..) {
            if let Some(report) = access.and_then(|access| file.admit(access).err()) {
                warn(report);
            }
            self.files.push(file);
        }
        for listening in &mut self.sockets {
            if listening.owner == Owner::FormerPgpool {
                listening.owner = Owner::Us;
            }
        }
    }

    /// The sockets, and what a successor has to know of each.
    pub fn for_successor(&self) -> impl Iterator<Item = (BorrowedFd<'_>, String)> {
        self.sockets.iter().map(|Listening { socket, owner, purpose }| {
            (socket.as_fd(), format!("{purpose}{}", if *owner == Owner::ServiceManager { LENT } else { "" }))
        })
    }

    /// A successor has them: this process's copies are closed, and nothing else is done.
    pub fn leave_to_successor(&mut self) {
        *self = Self::default();
    }

    /// Whether there is no socket.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }

    /// The sockets, for a child that inherits them.
    pub fn take(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets).into_iter().map(|listening| listening.socket).collect()
    }

    /// No connection is accepted from now on, whatever process still holds a copy of a socket; clients that were waiting
    /// for a worker are sent away. The socket files are deleted. Sockets that are not ours go on: at the service manager's
    /// clients wait for the next start, and a former pgpool serves by its own, unless it leaves them to this one yet.
    pub fn refuse(&mut self) {
        for Listening { socket, .. } in self.sockets.iter().filter(|listening| listening.owner == Owner::Us) {
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
            while SockRef::from(socket).accept().is_ok() {}
        }
        self.sockets.retain(|listening| listening.owner == Owner::FormerPgpool);
        self.files.drain(..).for_each(SocketFile::remove);
    }

    /// Closes this process's copies.
    pub fn close(&mut self) {
        self.sockets.clear();
    }

    /// Closes this process's copies and deletes the socket files.
    pub fn remove(&mut self) {
        self.close();
        self.files.drain(..).for_each(SocketFile::remove);
    }
}

impl Listening {
    fn own(socket: OwnedFd, names: &Names) -> Self {
        Self { socket, owner: Owner::Us, purpose: names.purpose }
    }

    /// Makes somebody's socket as ours are.
    fn of(Offer { socket, is_lent, .. }: Offer, backlog: i32, names: &Names) -> Result<Self> {
        let reference = SockRef::from(&socket);
        let is_tcp = reference.local_addr().is_ok_and(|address| address.as_socket().is_some());
        let options = if is_tcp { net::set_inherited_options(&reference) } else { Ok(()) };
        let prepared = options.and_then(|()| reference.set_nonblocking(true)).and_then(|()| reference.listen(backlog));
        prepared.map_err(|error| {
            Report::fatal("a socket that was passed to pgpool cannot be used").detail(error.to_string())
        })?;
        let owner = if is_lent { Owner::ServiceManager } else { Owner::FormerPgpool };
        Ok(Self { socket, owner, purpose: names.purpose })
    }
}

fn backlog(settings: &Settings) -> i32 {
    settings.num_init_children.saturating_mul(settings.listen_backlog_multiplier).clamp(1, MAX_BACKLOG)
}

fn warn(report: Report) {
    Report { severity: Severity::Warning, ..report }.log();
}

fn listen(socket: Socket, backlog: i32) -> io::Result<OwnedFd> {
    socket.set_nonblocking(true)?;
    socket.listen(backlog)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    /// Sockets in a directory of their own, on a port that was free a moment ago.
    fn listeners(name: &str) -> (Listeners, PathBuf, u16) {
        let directory = std::env::temp_dir().join(format!("pgpool-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let port = std::net::TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
        let mut settings = Settings::default();
        let texts = [
            ("port", port.to_string()),
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("unix_socket_directories", directory.display().to_string()),
        ];
        for (name, text) in &texts {
            settings.assign(name, text).expect("setting");
        }
        (Listeners::open(&settings, &mut Offered::default()).expect("open"), directory, port)
    }

    #[test]
    fn who_waits_or_comes_after_refusal_is_sent_away() {
        let (mut listeners, directory, port) = listeners("refuse");
        let path = directory.join(format!(".s.PGSQL.{port}"));
        let mut local = UnixStream::connect(&path).expect("connect");
        let mut remote = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        // A worker that has a session keeps its copies of the sockets open.
        let _worker: Vec<_> = listeners.sockets.iter().map(|one| one.socket.try_clone().expect("clone")).collect();
        listeners.refuse();
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err() && !path.exists());
        for stream in [&mut local as &mut dyn io::Read, &mut remote] {
            assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
        }
        fs::remove_dir(directory).expect("the directory is empty");
    }

    #[test]
    fn pcp_does_without_what_it_cannot_have() {
        let (mut listeners, directory, port) = listeners("pcp");
        let mut settings = Settings::default();
        settings.assign("pcp_port", &port.to_string()).expect("setting");
        settings.assign("pcp_listen_addresses", "127.0.0.1").expect("setting");
        settings.assign("pcp_socket_dir", &format!("/nowhere,{}", directory.display())).expect("setting");
        assert!(Listeners::open_pcp(&settings, &mut Offered::default()).is_empty(), "all are taken");
        listeners.remove();
        // A process that another test has forked in between may have copies of the sockets until it ends.
        let begun = std::time::Instant::now();
        let mut pcp = loop {
            let mut pcp = Listeners::open_pcp(&settings, &mut Offered::default());
            if pcp.sockets.len() == 2 || begun.elapsed() > std::time::Duration::from_secs(20) {
                break pcp;
            }
            pcp.remove();
            std::thread::yield_now();
        };
        assert_eq!((pcp.sockets.len(), pcp.files.len()), (2, 1));
        pcp.remove();
        fs::remove_dir(directory).expect("the directory is empty");
    }

    #[test]
    fn a_failure_leaves_nothing_behind() {
        let (listeners, directory, port) = listeners("failure");
        let other = directory.join("other");
        fs::create_dir_all(&other).expect("directory");
        let mut settings = Settings::default();
        settings.assign("port", &port.to_string()).expect("setting");
        settings.assign("listen_addresses", "127.0.0.1").expect("setting");
        settings.assign("unix_socket_directories", &other.display().to_string()).expect("setting");
        let report = Listeners::open(&settings, &mut Offered::default()).expect_err("the port is in use");
        assert!(report.detail.is_some_and(|detail| detail.contains(&format!("127.0.0.1:{port}"))));
        fs::remove_dir(other).expect("the directory is empty");
        drop(listeners);
        fs::remove_dir_all(directory).expect("remove");
    }
}
