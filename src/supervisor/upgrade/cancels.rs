//! Cancel requests for sessions that a replaced pgpool still has. They arrive at the new one, whose workers do not know the
//! key and pass the request on as it is; a process of the old one reads them as long as that has sessions.

use crate::report;
use crate::session;
use crate::state::Shared;
use crate::sys::{signal, title};
use crate::wire::startup::{self, Request};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;

/// Longer than a cancel request with the longest key.
const LONGEST: usize = 1024;

/// Where they arrive.
#[derive(Debug)]
pub(in crate::supervisor) struct Cancels(UnixDatagram);

impl Cancels {
    /// With the end for those who pass requests on, who never wait.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn pair() -> io::Result<(Self, UnixDatagram)> {
        let (here, there) = UnixDatagram::pair()?;
        there.set_nonblocking(true)?;
        Ok((Self(here), there))
    }

    /// The life of the forked process, up to the end of its parent. `former`: where requests go that are not for a session
    /// of ours.
    pub fn serve(&self, shared: &Shared, former: Option<&UnixDatagram>) -> i32 {
        report::set_process("cancel", "CANCEL");
        title::set("cancel requests");
        let mut buffer = [0; LONGEST];
        while !signal::told_to_stop() {
            match self.0.recv(&mut buffer) {
                Ok(length) => pass(&buffer[..length], shared, former),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return 1,
            }
        }
        0
    }
}

fn pass(request: &[u8], shared: &Shared, former: Option<&UnixDatagram>) {
    let Ok(Request::Cancel { pid, key }) = startup::read(request) else { return };
    if !session::cancel(shared, pid, key)
        && let Some(former) = former
    {
        // It may be gone.
        let _ = former.send(request);
    }
}

impl AsFd for Cancels {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
