//! Descriptor work that the libraries leave unsafe.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::{fs, io};

/// Points stdin, stdout and stderr to /dev/null, for a daemon.
///
/// # Errors
/// /dev/null cannot be opened.
pub fn stdio_to_null() -> io::Result<()> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    for target in 0..=2 {
        replace(null.as_fd(), target)?;
    }
    Ok(())
}

/// Points stdin to /dev/null, and returns another name of that.
///
/// # Errors
/// /dev/null cannot be opened.
pub fn stdin_to_null() -> io::Result<OwnedFd> {
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    replace(null.as_fd(), 0)?;
    Ok(null.into())
}

/// Makes descriptor number `target` another name of `source`; what it was before is closed.
///
/// # Errors
/// Those of dup2(2).
pub fn replace(source: impl AsFd, target: RawFd) -> io::Result<()> {
    // SAFETY: only the standard streams are replaced, which Rust treats as always open and never owned.
    match unsafe { libc::dup2(source.as_fd().as_raw_fd(), target) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Closes every descriptor from 3 up, for a process that starts: what the starting shell left open is not ours to keep.
pub fn close_inherited() {
    // SAFETY: called at the start of the program, before it owns a descriptor besides the standard streams.
    unsafe { libc::close_range(3, u32::MAX, 0) };
}
