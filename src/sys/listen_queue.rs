//! How many connections wait to be accepted, and for how many there is room.

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::sys::stat::fstat;
use socket2::SockRef;
use std::os::fd::{AsFd, AsRawFd};

/// Connections that wait on a listening socket; `None` if that cannot be known.
pub fn waiting(socket: impl AsFd) -> Option<u32> {
    lengths(socket).map(|(waiting, _)| waiting)
}

/// Connections that may wait on a listening socket; `None` if that cannot be known.
pub fn room(socket: impl AsFd) -> Option<u32> {
    lengths(socket).map(|(_, room)| room)
}

/// Where a listening socket listens: an address or a path.
pub fn name(socket: impl AsFd) -> String {
    let address = SockRef::from(&socket).local_addr().ok();
    let name = address.and_then(|address| match address.as_socket() {
        Some(address) => Some(address.to_string()),
        None => address.as_pathname().map(|path| path.display().to_string()),
    });
    name.unwrap_or_default()
}

fn lengths(socket: impl AsFd) -> Option<(u32, u32)> {
    of_tcp(&socket).or_else(|| of_unix(&socket))
}

fn of_tcp(socket: &impl AsFd) -> Option<(u32, u32)> {
    let mut info = [0u32; 8];
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    let descriptor = socket.as_fd().as_raw_fd();
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the kernel writes at most `length` bytes into `info`, which is as long, and any bytes are numbers.
    let outcome = unsafe { libc::getsockopt(descriptor, level, name, info.as_mut_ptr().cast(), &mut length) };
    // Eight bytes of small fields, four numbers, then tcpi_unacked and tcpi_sacked, which are the queue's here (tcp(7)).
    (outcome == 0 && length as usize == size_of_val(&info)).then_some((info[6], info[7]))
}

/// Asks the kernel by a socket of NETLINK_SOCK_DIAG (sock_diag(7)), which a kernel may not have.
fn of_unix(listener: &impl AsFd) -> Option<(u32, u32)> {
    /// Of the messages' headers.
    const HEADER: usize = 16;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    /// UDIAG_SHOW_RQLEN, and the attribute that answers it.
    const SHOW_QUEUE: u32 = 0x10;
    const QUEUE: u16 = 4;
    const LISTENING: u8 = 10;
    let inode = u32::try_from(fstat(listener.as_fd()).ok()?.st_ino).ok()?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let netlink = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag).ok()?;
    let family = u32::from_ne_bytes([AddressFamily::Unix as u8, 0, 0, 0]);
    let request = [family, 1 << LISTENING, inode, SHOW_QUEUE, u32::MAX, u32::MAX];
    let length = u32::try_from(HEADER + size_of_val(&request)).ok()?;
    let mut message = Vec::with_capacity(length as usize);
    message.extend_from_slice(&length.to_ne_bytes());
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    message.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    request.iter().for_each(|number| message.extend_from_slice(&number.to_ne_bytes()));
    send(netlink.as_raw_fd(), &message, MsgFlags::empty()).ok()?;
    let mut answer = [0; 512];
    // It is there as soon as the request was taken.
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty()).ok()?;
    let answer = answer.get(..length)?;
    let number = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    let short = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let is_it = short(4)? == SOCK_DIAG_BY_FAMILY && answer.get(HEADER + 2) == Some(&LISTENING);
    if !is_it || number(HEADER + 4)? != inode {
        return None;
    }
    // Attributes follow: length, kind, value, each at a multiple of four bytes.
    let mut at = HEADER + 16;
    loop {
        let (length, kind) = (usize::from(short(at)?), short(at + 2)?);
        if kind == QUEUE {
            return Some((number(at + 4)?, number(at + 8)?));
        }
        at += length.max(4).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, SockAddr, Socket, Type};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    fn wait_for(listener: impl AsFd, expected: u32) {
        let begun = Instant::now();
        while waiting(&listener) != Some(expected) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", waiting(&listener));
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_was_not_accepted_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let address = listener.local_addr().expect("address");
        assert_eq!(waiting(&listener), Some(0));
        let _clients = [0, 1, 2].map(|_| TcpStream::connect(address).expect("connect"));
        wait_for(&listener, 3);
        drop(listener.accept().expect("accept"));
        assert_eq!(waiting(&listener), Some(2));
        assert!(room(&listener).is_some_and(|room| room > 3));
        let (local, _other) = UnixStream::pair().expect("pair");
        assert_eq!(waiting(&local), None);
    }

    #[test]
    fn a_unix_socket_has_a_queue_too() {
        let path = std::env::temp_dir().join(format!("pgpool-queue-{}", std::process::id()));
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("socket");
        listener.bind(&SockAddr::unix(&path).expect("path")).expect("bind");
        listener.listen(7).expect("listen");
        if waiting(&listener).is_none() {
            println!("skipped: this kernel does not tell");
            return;
        }
        let _clients = [0, 1, 2].map(|_| UnixStream::connect(&path).expect("connect"));
        wait_for(&listener, 3);
        listener.accept().expect("accept");
        assert_eq!((waiting(&listener), room(&listener)), (Some(2), Some(7)));
        std::fs::remove_file(path).expect("remove");
    }
}
