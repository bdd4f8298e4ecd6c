//! The listening sockets (process-model 3). Unlike the original, an address that cannot be bound is an error, and a
//! Unix socket somebody listens on is never taken away.

use crate::config::Settings;
use crate::report::{Report, Result};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Group, chown};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The longest backlog asked for.
const MAX_BACKLOG: i32 = 10_000;
/// The longest path of a Unix socket, in bytes.
const MAX_PATH: usize = 107;

/// The sockets clients connect to.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<OwnedFd>,
    paths: Vec<PathBuf>,
}

impl Listeners {
    /// Opens all sockets of the configuration, Unix ones first.
    ///
    /// # Errors
    /// One of them cannot be had: which, and why.
    pub fn open(settings: &Settings) -> Result<Self> {
        let mut listeners = Self { sockets: Vec::new(), paths: Vec::new() };
        let opened = listeners.open_unix(settings).and_then(|()| listeners.open_tcp(settings));
        match opened {
            Ok(()) => Ok(listeners),
            Err(report) => {
                listeners.remove();
                Err(report)
            }
        }
    }

    fn open_unix(&mut self, settings: &Settings) -> Result<()> {
        for (index, directory) in settings.unix_socket_directories.iter().enumerate() {
            let path = Path::new(directory).join(format!(".s.PGSQL.{}", settings.port));
            if path.as_os_str().len() > MAX_PATH {
                let path = path.display();
                Report::warning(format!("Unix-domain socket path \"{path}\" is too long (maximum {MAX_PATH} bytes)"))
                    .log();
                continue;
            }
            Report::log_line(format!("create socket files[{index}]: {}", path.display())).log();
            self.sockets.push(unix_socket(&path, settings)?);
            self.paths.push(path);
        }
        if self.sockets.is_empty() && !settings.unix_socket_directories.is_empty() {
            return Err(Report::fatal("could not create any Unix-domain sockets"));
        }
        Ok(())
    }

    fn open_tcp(&mut self, settings: &Settings) -> Result<()> {
        let backlog =
            settings.num_init_children.saturating_mul(settings.listen_backlog_multiplier).clamp(1, MAX_BACKLOG);
        for (index, host) in settings.listen_addresses.iter().enumerate() {
            Report::log_line(format!("listen address[{index}]: {host}")).log();
            for address in resolve(host, settings.port)? {
                Report::log_line(format!("Setting up socket for {}:{}", address.ip(), address.port())).log();
                match tcp_socket(address, backlog) {
                    Ok(socket) => self.sockets.push(socket),
                    // A machine without IPv6 is no reason to refuse `*` or `localhost`.
                    Err(error) if is_missing_family(&error) && address.is_ipv6() => {}
                    Err(error) => return Err(cannot_bind(address, &error)),
                }
            }
        }
        Ok(())
    }

    /// The sockets, for a child that inherits them.
    pub fn take(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.sockets)
    }

    /// No connection is accepted from now on, by whatever process holds a copy.
    pub fn refuse(&mut self) {
        for socket in &self.sockets {
            let _ = SockRef::from(socket).shutdown(Shutdown::Both);
        }
        self.remove();
    }

    /// Closes the parent's copies.
    pub fn close(&mut self) {
        self.sockets.clear();
    }

    /// Closes everything and deletes the socket files.
    pub fn remove(&mut self) {
        self.close();
        for path in self.paths.drain(..) {
            if let Err(error) = fs::remove_file(&path) {
                Report::log_line(format!("unlink failed for file at path \"{}\"", path.display()))
                    .detail(error.to_string())
                    .log();
            }
        }
    }
}

fn unix_socket(path: &Path, settings: &Settings) -> Result<OwnedFd> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        Report::fatal(format!("failed to bind a socket: \"{}\"", path.display()))
            .detail(format!("{what} failed with error: \"{error}\""))
    };
    if path.exists() {
        if UnixStream::connect(path).is_ok() {
            return Err(failed("bind socket", &"another process listens on it")
                .hint("Is another pgpool or PostgreSQL running on this port? Stop it, or change port or unix_socket_directories."));
        }
        fs::remove_file(path).map_err(|error| failed("removing the stale socket", &error))?;
    }
    let address = SockAddr::unix(path).map_err(|error| failed("bind socket", &error))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(|error| failed("socket", &error))?;
    // Nobody may connect before the permissions are what they should be.
    let before = umask(Mode::from_bits_truncate(0o777));
    let bound = socket.bind(&address);
    umask(before);
    bound.map_err(|error| failed("bind socket", &error).hint("Check unix_socket_directories."))?;
    if !settings.unix_socket_group.is_empty() {
        let group = find_group(&settings.unix_socket_group)?;
        chown(path, None, Some(group)).map_err(|error| failed("system call chown", &error))?;
    }
    let mode = u32::try_from(settings.unix_socket_permissions).unwrap_or(0o777);
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| failed("system call chmod", &error))?;
    listen(socket, MAX_BACKLOG).map_err(|error| failed("system call listen()", &error))
}

fn find_group(name: &str) -> Result<Gid> {
    if let Ok(number) = name.parse() {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid),
        _ => Err(Report::fatal(format!("unix_socket_group \"{name}\" does not exist"))),
    }
}

fn resolve(host: &str, port: i32) -> Result<Vec<SocketAddr>> {
    let port = u16::try_from(port).unwrap_or(0);
    if host == "*" {
        return Ok(vec![SocketAddr::from(([0; 4], port)), SocketAddr::from(([0; 16], port))]);
    }
    let mut found: Vec<_> = (host, port)
        .to_socket_addrs()
        .map_err(|error| {
            Report::fatal("failed to create INET domain socket")
                .detail(format!("getaddrinfo() failed for \"{host}\": {error}"))
                .hint("Check listen_addresses.")
        })?
        .collect();
    found.dedup();
    Ok(found)
}

fn tcp_socket(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    listen(socket, backlog)
}

fn listen(socket: Socket, backlog: i32) -> io::Result<OwnedFd> {
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn is_missing_family(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

fn cannot_bind(address: SocketAddr, error: &io::Error) -> Report {
    let holder = match (error.kind() == io::ErrorKind::AddrInUse).then(|| holder(address.port())).flatten() {
        Some(holder) => format!("; {holder} has it"),
        None => String::new(),
    };
    Report::fatal("failed to create INET domain socket")
        .detail(format!("bind on {address} failed with error \"{error}\"{holder}"))
        .hint("Stop the other program, or change port or listen_addresses.")
}

/// The process that listens on a TCP port, as far as /proc tells.
fn holder(port: u16) -> Option<String> {
    let wanted = format!(":{port:04X} ");
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        let line = table.lines().find(|line| line.contains(&wanted) && line.contains(" 0A "))?;
        line.split_whitespace().nth(9).map(str::to_owned)
    })?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    processes.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok()).find_map(|entry| {
        let mut descriptors = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        descriptors.find(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))?;
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        Some(format!("process {} ({})", entry.file_name().to_string_lossy(), name.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_port_in_use_names_its_holder() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = taken.local_addr().expect("address");
        let report = cannot_bind(address, &tcp_socket(address, 1).expect_err("in use"));
        let detail = report.detail.unwrap_or_default();
        assert!(detail.contains(&format!("process {}", std::process::id())), "{detail}");
    }

    #[test]
    fn stale_unix_sockets_are_replaced_and_live_ones_are_not() {
        let path = std::env::temp_dir().join(format!("pgpool-listen-{}", std::process::id()));
        let live = UnixListener::bind(&path).expect("bind");
        assert!(unix_socket(&path, &Settings::default()).is_err());
        drop(live);
        assert!(path.exists() && unix_socket(&path, &Settings::default()).is_ok());
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o777);
        fs::remove_file(&path).expect("remove");
        assert!(find_group("no such group").is_err());
    }
}
