//! Asking for a password on a terminal, without echo. A signal that ends the program first gives the terminal its echo back.

use super::{complain, say};
use crate::sys::signal::{Signal, Signals};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::raise;
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::os::fd::AsFd;

/// No more is read of a line, in bytes.
const MAX_LINE: u64 = 64 * 1024;
/// What ends a program at its prompt.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT];

/// Asks on the terminal of the process, or on stderr and stdin where there is none (pcp 8.2). At most `limit` bytes count;
/// the end of the input is an empty password.
pub(crate) fn on_terminal(prompt: &str, limit: usize) -> Vec<u8> {
    match File::options().read(true).write(true).open("/dev/tty") {
        Ok(terminal) => {
            let ask = || _ = (&terminal).write_all(prompt.as_bytes());
            let line = without_echo(&terminal, ask, || line(BufReader::new(&terminal), limit));
            let _ = (&terminal).write_all(b"\n");
            line
        }
        Err(_) => {
            let stdin = io::stdin();
            let line = without_echo(&stdin, || complain(prompt), || line(stdin.lock(), limit));
            complain("\n");
            line
        }
    }
}

/// Asks on stdout and reads stdin (tools 5, 6), which must be a terminal: `None` when it is not.
pub(super) fn on_stdin(prompt: &str, limit: usize) -> Option<Vec<u8>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return None;
    }
    let line = without_echo(&stdin, || _ = say(prompt), || line(stdin.lock(), limit));
    say("\n");
    Some(line)
}

/// A line of stdin, whatever that is.
pub(crate) fn from_stdin(limit: usize) -> Vec<u8> {
    line(io::stdin().lock(), limit)
}

/// One line without its end, the first `limit` bytes of it.
fn line(input: impl BufRead, limit: usize) -> Vec<u8> {
    let mut line = Vec::new();
    // What cannot be read is as good as nothing.
    let _ = input.take(MAX_LINE).read_until(b'\n', &mut line);
    if line.ends_with(b"\n") {
        line.pop();
    }
    line.truncate(limit);
    line
}

/// Prompts and reads: in this order, as what is typed before the terminal is quiet is thrown away.
fn without_echo<T>(terminal: impl AsFd, prompt: impl FnOnce(), read: impl FnOnce() -> T) -> T {
    let signals = tcgetattr(&terminal).ok().and_then(|_| Signals::install(&ENDING).ok());
    let quiet = Quiet::new(&terminal);
    prompt();
    let Some(signals) = signals else { return read() };
    let signal = signal_before_line(&signals, &terminal);
    let line = signal.is_none().then(read);
    drop(quiet);
    // From here on they do again what they did before.
    let _ = Signals::install(&[]);
    line.unwrap_or_else(|| {
        let _ = signal.map(raise);
        std::process::exit(1)
    })
}

/// Waits for a line. `Some`: a signal has come first.
fn signal_before_line(signals: &Signals, terminal: impl AsFd) -> Option<Signal> {
    loop {
        let mut watched =
            [PollFd::new(signals.fd(), PollFlags::POLLIN), PollFd::new(terminal.as_fd(), PollFlags::POLLIN)];
        let is_there = poll(&mut watched, PollTimeout::NONE).is_ok() && watched[1].any() == Some(true);
        let taken = signals.take();
        let came = ENDING.into_iter().find(|signal| taken.has(*signal));
        if came.is_some() || is_there {
            return came;
        }
    }
}

/// A terminal that does not echo until this is dropped. What is no terminal is left alone.
struct Quiet<F: AsFd> {
    terminal: F,
    before: Option<Termios>,
}

impl<F: AsFd> Quiet<F> {
    fn new(terminal: F) -> Self {
        let before = tcgetattr(&terminal).ok();
        if let Some(before) = &before {
            let mut quiet = before.clone();
            quiet.local_flags.remove(LocalFlags::ECHO);
            let _ = tcsetattr(&terminal, SetArg::TCSAFLUSH, &quiet);
        }
        Self { terminal, before }
    }
}

impl<F: AsFd> Drop for Quiet<F> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_at_its_end_at_the_limit_or_at_the_end_of_the_input() {
        assert_eq!(line(&b"secret\nmore"[..], 100), b"secret");
        assert_eq!(line(&b"secret"[..], 3), b"sec");
        assert_eq!(line(&b""[..], 3), b"");
    }
}
