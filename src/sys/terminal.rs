//! How large a terminal is.

use std::os::fd::{AsFd, AsRawFd};

/// Columns and lines of the terminal; `None` if it is none, or does not know.
pub fn size(terminal: impl AsFd) -> Option<(usize, usize)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize, and there is room for one.
    let outcome = unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (outcome == 0 && size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col.into(), size.ws_row.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::pty::{Winsize, openpty};

    #[test]
    fn a_terminal_has_its_size_and_nothing_else_has() {
        let winsize = Winsize { ws_row: 10, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&winsize, None).expect("a terminal");
        assert_eq!(size(&terminal.slave), Some((40, 10)));
        let unknown = openpty(None, None).expect("a terminal");
        assert_eq!(size(&unknown.slave), None);
        assert_eq!(size(std::fs::File::open("/dev/null").expect("/dev/null")), None);
    }
}
