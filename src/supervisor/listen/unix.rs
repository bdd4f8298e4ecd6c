//! Unix sockets (process-model 3.1).

use super::{MAX_BACKLOG, Names, listen};
use crate::report::{Report, Result};
use nix::errno::Errno;
use nix::unistd::{Gid, Group, chown};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fmt::Display;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest path of a Unix socket, in bytes.
const MAX_PATH: usize = 107;

/// Who may connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    /// None: that of the process.
    group: Option<Gid>,
    mode: u32,
}

impl Access {
    /// Everybody may connect to a socket of PCP: it asks for a password.
    pub const OF_ALL: Self = Self { group: None, mode: 0o777 };

    /// `group`: name or number; empty: that of the process.
    ///
    /// # Errors
    /// There is no such group.
    pub fn new(group: &str, permissions: i32) -> Result<Self> {
        Ok(Self { group: find_group(group)?, mode: u32::try_from(permissions).unwrap_or(0o777) & 0o777 })
    }
}

/// The file of a socket of ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode, to know it again.
    identity: (u64, u64),
}

impl SocketFile {
    /// The file of a socket that somebody else has made; none if it is gone.
    pub fn of(path: &Path) -> Option<Self> {
        let metadata = fs::symlink_metadata(path).ok()?;
        Some(Self { path: path.to_owned(), identity: (metadata.dev(), metadata.ino()) })
    }

    /// Whether the file is still that of this socket.
    fn is_there(&self) -> std::io::Result<bool> {
        fs::symlink_metadata(&self.path).map(|metadata| (metadata.dev(), metadata.ino()) == self.identity)
    }

    /// Lets these in from now on.
    pub fn admit(&self, access: Access) -> Result<()> {
        if self.is_there().is_ok_and(|is_there| is_there) { admit(&self.path, access) } else { Ok(()) }
    }

    /// Deletes the file, unless another socket has taken its place.
    pub fn remove(self) {
        let removed = self.is_there().and_then(|is_there| if is_there { fs::remove_file(&self.path) } else { Ok(()) });
        if let Err(error) = removed {
            Report::log_line(format!("unlink failed for file at path \"{}\"", self.path.display()))
                .detail(error.to_string())
                .log();
        }
    }
}

/// The paths of the sockets, one for each directory; those too long for a socket are left out with a warning.
///
/// # Errors
/// None is left.
pub(super) fn paths(directories: &[impl AsRef<Path>], port: i32, names: &Names) -> Result<Vec<PathBuf>> {
    let all = directories.iter().map(|directory| directory.as_ref().join(format!(".s.PGSQL.{port}")));
    let (usable, long): (Vec<_>, Vec<_>) = all.partition(|path| path.as_os_str().len() <= MAX_PATH);
    for path in &long {
        let path = path.display();
        let label = names.label;
        Report::warning(format!("{label}Unix-domain socket path \"{path}\" is too long (maximum {MAX_PATH} bytes)"))
            .hint(format!("Choose a shorter directory in {}.", names.directories))
            .log();
    }
    if usable.is_empty() && !long.is_empty() {
        return Err(Report::fatal(format!("could not create any {}Unix-domain sockets", names.label))
            .detail("The path of every one is too long.")
            .hint(format!("Choose a shorter directory in {}.", names.directories)));
    }
    for (index, path) in usable.iter().enumerate() {
        Report::log_line(format!("create socket files[{index}]: {}", path.display())).log();
    }
    Ok(usable)
}

/// Listens on a Unix socket at `path`.
pub(super) fn open(path: PathBuf, access: Access, names: &Names) -> Result<(OwnedFd, SocketFile)> {
    make_way(&path, names)?;
    let address = SockAddr::unix(&path).map_err(|error| failed(&path, "bind socket", &error))?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)
        .map_err(|error| Report::fatal("failed to create a socket").detail(error.to_string()))?;
    socket.bind(&address).map_err(|error| {
        failed(&path, "bind socket", &error)
            .hint(format!("The directories in {} must exist and be writable.", names.directories))
    })?;
    let metadata = fs::symlink_metadata(&path).map_err(|error| failed(&path, "bind socket", &error))?;
    let file = SocketFile { identity: (metadata.dev(), metadata.ino()), path };
    // Nobody can connect before it listens.
    let listening = admit(&file.path, access)
        .and_then(|()| listen(socket, MAX_BACKLOG).map_err(|error| failed(&file.path, "system call listen()", &error)));
    match listening {
        Ok(socket) => Ok((socket, file)),
        Err(report) => {
            file.remove();
            Err(report)
        }
    }
}

/// Opens the bound socket to those who may use it.
fn admit(path: &Path, Access { group, mode }: Access) -> Result<()> {
    if group.is_some() {
        chown(path, None, group).map_err(|errno| {
            failed(path, "system call chown", &errno.desc())
                .hint("The user that runs pgpool must be a member of unix_socket_group.")
        })?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| failed(path, "system call chmod", &error))
}

/// Deletes a socket file nobody listens on.
fn make_way(path: &Path, names: &Names) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(failed(path, "bind socket", &"there is a file that is not a socket").hint("Move it away."));
    }
    match probe(path) {
        Err(Errno::ECONNREFUSED) => {
            fs::remove_file(path).map_err(|error| failed(path, "removing the stale socket", &error))
        }
        Err(Errno::ENOENT) => Ok(()),
        Ok(()) | Err(Errno::EAGAIN) => {
            let Names { port, directories, .. } = names;
            Err(failed(path, "bind socket", &"another process listens on it").hint(format!(
                "Is another pgpool or PostgreSQL running on this port? Stop it, or change {port} or {directories}."
            )))
        }
        Err(errno) => {
            Err(failed(path, "bind socket", &format_args!("it cannot be told whether it is in use: {errno}"))
                .hint("Delete it if no other program uses it."))
        }
    }
}

/// Connects without waiting: EAGAIN comes from a listener that is busy.
fn probe(path: &Path) -> nix::Result<()> {
    let errno = |error: std::io::Error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL));
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(errno)?;
    socket.set_nonblocking(true).map_err(errno)?;
    socket.connect(&SockAddr::unix(path).map_err(errno)?).map_err(errno)
}

fn find_group(name: &str) -> Result<Option<Gid>> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(Gid::from_raw(number)));
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(Some(group.gid)),
        _ => {
            Err(Report::fatal(format!("unix_socket_group \"{name}\" does not exist"))
                .hint("Name a group, or its number."))
        }
    }
}

fn failed(path: &Path, what: &str, cause: &dyn Display) -> Report {
    Report::fatal(format!("failed to bind a socket: \"{}\"", path.display()))
        .detail(format!("{what} failed with error: \"{cause}\""))
        .hint("The directory must exist, and the user that runs pgpool must be able to write to it.")
}

#[cfg(test)]
mod tests {
    use super::super::FOR_CLIENTS;
    use super::*;
    use std::os::unix::net::UnixListener;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("pgpool-unix-{name}-{}", std::process::id()))
    }

    fn access(group: &str, permissions: i32) -> Access {
        Access::new(group, permissions).expect("access")
    }

    #[test]
    fn stale_sockets_are_replaced_and_live_ones_are_not() {
        let path = path("stale");
        let live = UnixListener::bind(&path).expect("bind");
        let report = open(path.clone(), Access::OF_ALL, &FOR_CLIENTS).expect_err("in use");
        assert!(report.detail.is_some_and(|detail| detail.contains("another process listens")));
        drop(live);
        assert!(path.exists());
        let (_socket, file) = open(path.clone(), access("", 0o640), &FOR_CLIENTS).expect("open");
        assert_eq!(fs::metadata(&path).expect("metadata").permissions().mode() & 0o777, 0o640);
        file.remove();
        assert!(!path.exists());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let path = path("other");
        fs::write(&path, "precious").expect("write");
        assert!(open(path.clone(), Access::OF_ALL, &FOR_CLIENTS).is_err());
        assert_eq!(fs::read(&path).expect("read"), b"precious");
        fs::remove_file(&path).expect("remove");
        let (_socket, file) = open(path.clone(), Access::OF_ALL, &FOR_CLIENTS).expect("open");
        fs::remove_file(&path).expect("remove");
        let _successor = UnixListener::bind(&path).expect("bind");
        file.remove();
        assert!(path.exists());
        fs::remove_file(&path).expect("remove");
    }

    #[test]
    fn a_group_that_does_not_exist_is_an_error() {
        let path = path("group");
        let report = Access::new("no such group", 0o770).expect_err("no such group");
        assert_eq!(report.message, "unix_socket_group \"no such group\" does not exist");
        let own = nix::unistd::getegid();
        let (_socket, file) = open(path.clone(), access(&own.to_string(), 0o770), &FOR_CLIENTS).expect("open");
        assert_eq!(fs::metadata(&path).expect("metadata").gid(), own.as_raw());
        file.remove();
    }

    #[test]
    fn long_paths_are_left_out() {
        let long = format!("/{}", "x".repeat(100));
        assert_eq!(
            paths(&["/tmp", long.as_str()], 9999, &FOR_CLIENTS).expect("paths"),
            [Path::new("/tmp/.s.PGSQL.9999")]
        );
        assert!(paths(&[long.as_str()], 9999, &FOR_CLIENTS).is_err());
        assert!(paths(&[] as &[&str], 9999, &FOR_CLIENTS).expect("paths").is_empty());
    }
}
