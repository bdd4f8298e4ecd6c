//! The terminal: pictures on its other screen, so that what the user had there comes back; keys; signals.
//!
//! Whatever ends the program gives the terminal back first: `q`, a signal, a stop by the terminal (it is taken again when the
//! program goes on), an error.

use crate::net::Deadline;
use crate::sys::signal::{Signal, Signals};
use crate::sys::terminal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::raise;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

/// The other screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";
/// The upper left corner; what is right of the cursor; what is below it.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// What ends the program.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];
/// Where the terminal does not know.
const USUAL_SIZE: (usize, usize) = (80, 24);

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Woken {
    /// What was waited for is here.
    Ready,
    /// The time is over.
    Late,
    /// The picture has to be drawn anew.
    Changed,
    /// The user wants to leave.
    Quit,
    /// This signal ends the program.
    Signal(Signal),
}

/// The terminal while it is ours.
pub(super) struct Screen {
    signals: Signals,
    /// The keyboard as it was; none if keys come from elsewhere.
    keys: Option<Termios>,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// It is gone, or signals cannot be handled.
    pub fn open() -> io::Result<Self> {
        let mut handled = ENDING.to_vec();
        handled.extend([Signal::SIGTSTP, Signal::SIGWINCH]);
        let signals = Signals::install(&handled)?;
        let stdin = io::stdin();
        let keys = if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None };
        let screen = Self { signals, keys };
        screen.enter()?;
        Ok(screen)
    }

    fn enter(&self) -> io::Result<()> {
        if let Some(before) = &self.keys {
            let mut silent = before.clone();
            silent.local_flags.remove(LocalFlags::ECHO | LocalFlags::ICANON);
            silent.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
            silent.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
            tcsetattr(io::stdin(), SetArg::TCSADRAIN, &silent)?;
        }
        write(ENTER)
    }

    fn leave(&self) {
        let _ = write(LEAVE);
        if let Some(before) = &self.keys {
            let _ = tcsetattr(io::stdin(), SetArg::TCSADRAIN, before);
        }
    }

    /// Gives the terminal back and ends as `woken` wants it: returns the exit status, or dies of the signal.
    pub fn close(self, woken: Woken) -> i32 {
        drop(self);
        if let Woken::Signal(signal) = woken {
            // It does again what it did before.
            let _ = Signals::install(&[]).map(|_| raise(signal));
        }
        0
    }

    /// Columns and lines.
    pub fn size(&self) -> (usize, usize) {
        terminal::size(io::stdout()).unwrap_or(USUAL_SIZE)
    }

    /// Draws over what is there: nothing flickers.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn show(&self, lines: &[String]) -> io::Result<()> {
        let lines: Vec<_> = lines.iter().map(|line| format!("{line}{CLEAR_LINE}")).collect();
        write(&format!("{HOME}{}{CLEAR_BELOW}", lines.join("\r\n")))
    }

    /// Waits for that, the keyboard and signals.
    pub fn wait(&self, awaited: Option<PollFd<'_>>, until: Deadline) -> Woken {
        let stdin = io::stdin();
        loop {
            let mut watched = vec![PollFd::new(self.signals.fd(), PollFlags::POLLIN)];
            watched.extend(awaited.clone());
            if self.keys.is_some() {
                watched.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            let outcome = poll(&mut watched, until.poll_timeout());
            let is_ready = |at: usize| outcome.is_ok() && watched.get(at).is_some_and(|it| it.any() == Some(true));
            if let Some(woken) = self.heed_signals() {
                return woken;
            }
            if self.keys.is_some() && is_ready(watched.len() - 1) {
                match read_key(&stdin) {
                    Some(b'q' | b'Q') => return Woken::Quit,
                    // Ctrl-L: something else has drawn on it.
                    Some(0x0c) => return Woken::Changed,
                    Some(_) => {}
                    // The terminal is gone.
                    None => return Woken::Signal(Signal::SIGHUP),
                }
            }
            if awaited.is_some() && is_ready(1) {
                return Woken::Ready;
            }
            if until.passed() {
                return Woken::Late;
            }
        }
    }

    fn heed_signals(&self) -> Option<Woken> {
        let taken = self.signals.take();
        if let Some(signal) = ENDING.into_iter().find(|signal| taken.has(*signal)) {
            return Some(Woken::Signal(signal));
        }
        if taken.has(Signal::SIGTSTP) {
            self.leave();
            let _ = raise(Signal::SIGSTOP);
            // From here on the program goes on.
            let _ = self.enter();
        }
        (!taken.is_empty()).then_some(Woken::Changed)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// The next byte of the keyboard, 0 for an interruption; `None`: there is none any more.
fn read_key(stdin: &io::Stdin) -> Option<u8> {
    let mut key = [0];
    match nix::unistd::read(stdin, &mut key) {
        Ok(0) => None,
        Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => Some(key[0]),
        Err(_) => None,
    }
}
