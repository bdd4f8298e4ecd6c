//! The process title that `ps` shows (process-model 5), written into the memory of the command line.
//!
//! The kernel shows the bytes of that memory, so a title costs a short copy and no system call. [`init`] must run before
//! anything else keeps pointers to the environment, that is at the very start of the program.

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// Where the command line and environment of this process lie. Set once by [`init`].
static AREA: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());
static LENGTH: AtomicUsize = AtomicUsize::new(0);
/// Bytes that may differ from zero at present.
static USED: AtomicUsize = AtomicUsize::new(0);
/// Length of the part that [`set_activity`] keeps.
static FIXED: AtomicUsize = AtomicUsize::new(0);

/// Finds the command line's memory and moves the environment away from it. Without it, or where the system does not tell,
/// titles simply do not change.
pub fn init() {
    if !AREA.load(Ordering::Relaxed).is_null() {
        return;
    }
    let Some((start, end)) = command_line_and_environment() else { return };
    move_environment();
    LENGTH.store(end - start, Ordering::Relaxed);
    USED.store(end - start, Ordering::Relaxed);
    AREA.store(std::ptr::with_exposed_provenance_mut(start), Ordering::Relaxed);
}

/// Sets the title `pgpool: TEXT`.
pub fn set(text: &str) {
    let fixed = put(0, b"pgpool: ");
    finish(put(fixed, text.as_bytes()));
    FIXED.store(fixed, Ordering::Relaxed);
}

/// Sets the part of the title that stays while a session lasts, `USER DB HOST(PORT) `, to be completed by
/// [`set_activity`].
pub fn set_session(text: &str) {
    let fixed = put(put(0, b"pgpool: "), text.as_bytes());
    finish(fixed);
    FIXED.store(fixed, Ordering::Relaxed);
}

/// Completes the title by what the session does now: `idle`, `SELECT`.
#[inline]
pub fn set_activity(word: &str) {
    finish(put(FIXED.load(Ordering::Relaxed), word.as_bytes()));
}

/// Copies as much of `bytes` to `at` as there is room for, one byte left for the final zero; returns the end.
fn put(at: usize, bytes: &[u8]) -> usize {
    let room = LENGTH.load(Ordering::Relaxed).saturating_sub(1);
    let count = bytes.len().min(room.saturating_sub(at));
    let area = AREA.load(Ordering::Relaxed);
    if count > 0 && !area.is_null() {
        // SAFETY: `at + count` is less than the length of the area, which belongs to nobody else since `init`.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), area.add(at), count) };
    }
    at + count
}

/// Clears what an earlier, longer title left behind `end`.
fn finish(end: usize) {
    let used = USED.swap(end, Ordering::Relaxed);
    let area = AREA.load(Ordering::Relaxed);
    if used > end && !area.is_null() {
        // SAFETY: `used` never exceeds the length of the area.
        unsafe { std::ptr::write_bytes(area.add(end), 0, used - end) };
    }
}

/// The addresses the kernel shows as command line (proc_pid_stat(5): arg_start and env_end).
fn command_line_and_environment() -> Option<(usize, usize)> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // The text behind the command's name begins with field 3; arg_start is 48, arg_end 49, env_start 50, env_end 51.
    let address = |number: usize| fields.get(number - 3)?.parse::<usize>().ok();
    let (start, arguments_end, environment, end) = (address(48)?, address(49)?, address(50)?, address(51)?);
    (start > 0 && start < arguments_end && arguments_end == environment && environment <= end).then_some((start, end))
}

/// Gives the C library a copy of the environment, so that the original memory is free for titles.
fn move_environment() {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    let mut copies = Vec::new();
    // SAFETY: at the start of the program there is one thread; `environ` is a list of C strings that ends with null. The
    // copies are never freed.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            copies.push(libc::strdup(*entry));
            entry = entry.add(1);
        }
        copies.push(std::ptr::null_mut());
        environ = copies.leak().as_mut_ptr();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::{Fork, fork};
    use nix::sys::wait::{WaitStatus, waitpid};

    fn shown() -> String {
        let bytes = std::fs::read("/proc/self/cmdline").expect("cmdline");
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    }

    #[test]
    fn ps_shows_the_title() {
        let Fork::Parent(pid) = fork().expect("fork") else {
            let path = std::env::var("PATH");
            init();
            let mut right = std::env::var("PATH") == path;
            set("wait for connection request");
            right &= shown() == "pgpool: wait for connection request";
            set_session("bob shop 127.0.0.1(4711) ");
            set_activity("idle in transaction");
            right &= shown() == "pgpool: bob shop 127.0.0.1(4711) idle in transaction";
            set_activity("idle");
            right &= shown() == "pgpool: bob shop 127.0.0.1(4711) idle";
            set(&"x".repeat(1 << 20));
            right &= std::env::var("PATH") == path;
            // SAFETY: ends the child without running the test harness's handlers.
            unsafe { libc::_exit(if right { 0 } else { 1 }) }
        };
        assert_eq!(waitpid(pid, None), Ok(WaitStatus::Exited(pid, 0)));
    }
}
