//! How many connections wait to be accepted.

use std::os::fd::{AsFd, AsRawFd};

/// Connections that wait on a listening TCP socket; `None` for any other socket.
pub fn waiting(socket: impl AsFd) -> Option<u32> {
    let mut info = [0u32; 8];
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).ok()?;
    let descriptor = socket.as_fd().as_raw_fd();
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the kernel writes at most `length` bytes into `info`, which is as long, and any bytes are numbers.
    let outcome = unsafe { libc::getsockopt(descriptor, level, name, info.as_mut_ptr().cast(), &mut length) };
    // Eight bytes of small fields, four numbers, then tcpi_unacked, which is the length of the queue here (tcp(7)).
    (outcome == 0 && length as usize == size_of_val(&info)).then_some(info[6])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    #[test]
    fn who_was_not_accepted_waits() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
        let address = listener.local_addr().expect("address");
        assert_eq!(waiting(&listener), Some(0));
        let _clients = [0, 1, 2].map(|_| TcpStream::connect(address).expect("connect"));
        let begun = Instant::now();
        while waiting(&listener) != Some(3) {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", waiting(&listener));
            std::thread::yield_now();
        }
        drop(listener.accept().expect("accept"));
        assert_eq!(waiting(&listener), Some(2));
        let (local, _other) = UnixStream::pair().expect("pair");
        assert_eq!(waiting(&local), None);
    }
}
