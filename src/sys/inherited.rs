//! Descriptors that whoever started this process has opened for it: the protocol of sd_listen_fds(3).

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::env;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// How many there are, what each is for, and for which process.
const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";
const MEANT: &str = "LISTEN_PID";
/// The number of the first.
const FIRST: RawFd = 3;
/// More are not believed.
const MOST: RawFd = 256;

/// A descriptor that was opened for us.
#[derive(Debug)]
pub struct Inherited {
    /// Closed on exec.
    pub descriptor: OwnedFd,
    /// What it is for, in the words of whoever opened it; empty if nothing was said.
    pub name: String,
}

/// Takes over the descriptors that a service manager has passed to this very process; a second call finds none. To be
/// called while the process has one thread.
pub fn take() -> Vec<Inherited> {
    let [count, names, meant] = [COUNT, NAMES, MEANT].map(|name| {
        let value = env::var(name).ok();
        // SAFETY: there is no other thread that could read the environment.
        unsafe { env::remove_var(name) };
        value
    });
    if meant != Some(std::process::id().to_string()) {
        return Vec::new();
    }
    let count = count.and_then(|text| text.parse().ok()).unwrap_or(0).clamp(0, MOST);
    own(count, &names.unwrap_or_default())
}

fn own(count: RawFd, names: &str) -> Vec<Inherited> {
    let mut names = names.split(':').map(str::to_owned);
    let descriptors = (FIRST..FIRST + count).map(|number| (number, names.next().unwrap_or_default()));
    descriptors.filter_map(|(number, name)| Some(Inherited { descriptor: adopt(number)?, name })).collect()
}

/// The descriptor of that number, if it is open; closed on exec from now on.
fn adopt(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: whether it is open is what the next line asks.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: it is open, and was passed to this process to be its own; the caller's words are gone, so nobody takes it
    // a second time.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
