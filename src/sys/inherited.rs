//! Descriptors that whoever started this process has opened for it: a service manager, by the protocol of sd_listen_fds(3),
//! or the pgpool that this one is to replace, by one of its own. And giving such to another program.

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::unistd::Pid;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicI32, Ordering};

/// How many there are, what each is for, and for which process.
const COUNT: &str = "LISTEN_FDS";
const NAMES: &str = "LISTEN_FDNAMES";
const MEANT: &str = "LISTEN_PID";
/// From the pgpool to be replaced: its process id and the names of the descriptors.
const HANDED: &str = "PGPOOL_HANDED_OVER";
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

/// Whether a pgpool that wants to be replaced by this process has started it.
pub fn is_handed_over() -> bool {
    env::var_os(HANDED).is_some_and(|value| giver(&value).is_some())
}

/// Takes over what the pgpool to be replaced, the first of the result, has passed to this very process; `None`: there is
/// none. A second call finds none. To be called while the process has one thread.
pub fn take_handed_over() -> Option<(Pid, Vec<Inherited>)> {
    let value = env::var_os(HANDED);
    // SAFETY: there is no other thread that could read the environment.
    unsafe { env::remove_var(HANDED) };
    let giver = giver(value.as_ref()?)?;
    let (_, names) = value.as_ref()?.to_str()?.split_once(':')?;
    Some((giver, own(RawFd::try_from(names.split(':').count()).ok()?.min(MOST), names)))
}

/// Who has written that, if he has also made the first descriptor, a pair of sockets. He may have ended meanwhile, so that
/// this process has another parent.
fn giver(value: &OsStr) -> Option<Pid> {
    // SAFETY: it is asked whether there is such a descriptor.
    let first = unsafe { BorrowedFd::borrow_raw(FIRST) };
    let maker = getsockopt(&first, PeerCredentials).ok()?.pid();
    let named = value.to_str()?.split(':').next()?.parse::<i32>().ok()?;
    (maker == named).then(|| Pid::from_raw(maker))
}

/// Starts `command` as a pgpool that is to replace this one, and hands it these descriptors, in this order. It leads a
/// process group of its own.
///
/// # Errors
/// Out of processes or descriptors, or the program cannot be run.
pub fn hand_over(mut command: Command, descriptors: &[(BorrowedFd<'_>, String)]) -> io::Result<u32> {
    let names: String = descriptors.iter().map(|(_, name)| format!(":{name}")).collect();
    let numbers: Vec<RawFd> = descriptors.iter().map(|(descriptor, _)| descriptor.as_raw_fd()).collect();
    let end = FIRST + RawFd::try_from(numbers.len()).map_err(io::Error::other)?;
    command.env(HANDED, format!("{}{names}", std::process::id())).process_group(0);
    let arrange = move || {
        // Two steps, since a source may have the number of another's target. What is left over closes on exec.
        for (source, target) in numbers.iter().zip(FIRST..) {
            // SAFETY: no memory is involved, and the process is about to become another program.
            let high = unsafe { libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, end) };
            SPARE[(target - FIRST) as usize].store(high, Ordering::Relaxed);
            if high < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        for (spare, target) in SPARE.iter().zip(FIRST..end) {
            // SAFETY: as above.
            if unsafe { libc::dup2(spare.load(Ordering::Relaxed), target) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    if end - FIRST > MOST {
        return Err(io::ErrorKind::ArgumentListTooLong.into());
    }
    // SAFETY: it only makes system calls and stores to static memory.
    unsafe { command.pre_exec(arrange) };
    command.spawn().map(|child| child.id())
}

/// Used between fork and exec, where nothing may be allocated.
static SPARE: [AtomicI32; MOST as usize] = [const { AtomicI32::new(-1) }; MOST as usize];

fn own(count: RawFd, names: &str) -> Vec<Inherited> {
    let mut names = names.split(':').map(str::to_owned);
    let descriptors = (FIRST..FIRST + count).map(|number| (number, names.next().unwrap_or_default()));
    descriptors.filter_map(|(number, name)| Some(Inherited { descriptor: adopt(number)?, name })).collect()
}

/// The descriptor of that number, if one was passed; closed on exec from now on. Those that this process has opened itself
/// were so from the beginning: a number that was announced and not passed may be one of them.
fn adopt(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: whether it is open is what the next line asks.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = FdFlag::from_bits_retain(fcntl(borrowed, FcntlArg::F_GETFD).ok()?);
    if flags.contains(FdFlag::FD_CLOEXEC) {
        return None;
    }
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).ok()?;
    // SAFETY: it is open, and was passed to this process to be its own; the caller's words are gone, so nobody takes it
    // a second time.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
