//! The pass phrase of a private key, from `ssl_passphrase_command` (auth 17.3).

use crate::net::Deadline;
use crate::report::Report;
use crate::sys::signal;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long the wait goes on without a look whether pgpool is to stop.
const SLICE: Duration = Duration::from_millis(200);
/// How often its end is looked for once it prints no more.
const LOOK: Duration = Duration::from_millis(5);
/// A pass phrase is no longer, in bytes.
const MAX_LENGTH: usize = 1024;

/// The first line that `command` prints within `limit`; `%p` in it stands for a prompt.
///
/// # Errors
/// It could not be run, failed, or took too long; or pgpool is told to stop.
pub(super) fn ask(command: &str, limit: Duration) -> Result<String, Report> {
    let command = expand(command);
    let failed = |error: io::Error| {
        Report::error(format!("could not execute command \"{command}\": {error}"))
            .hint("See ssl_passphrase_command: its first line of output is the pass phrase of ssl_key.")
    };
    let mut child = Command::new("/bin/sh")
        .args(["-c", &command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let answer = read(&mut child, Deadline::after(limit));
    if answer.is_err() {
        // With all that it has started.
        let _ = killpg(Pid::from_raw(child.id().cast_signed()), Signal::SIGKILL);
        let _ = child.wait();
    }
    match answer.map_err(failed)? {
        Some(line) => Ok(line),
        None => Err(Report::error(format!("command \"{command}\" failed"))
            .hint("See ssl_passphrase_command: its first line of output is the pass phrase of ssl_key.")),
    }
}

/// What it prints, when it has ended in order; `None`: it has failed.
fn read(child: &mut Child, deadline: Deadline) -> io::Result<Option<String>> {
    let mut printed = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        let mut portion = [0; 256];
        loop {
            go_on(deadline)?;
            let soon = deadline.min(Deadline::after(SLICE));
            match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], soon.poll_timeout()) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            match pipe.read(&mut portion)? {
                0 => break,
                count => printed.extend_from_slice(&portion[..count]),
            }
            printed.truncate(MAX_LENGTH);
        }
    }
    loop {
        go_on(deadline)?;
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status.success().then(|| first_line(&printed))),
            Ok(None) => std::thread::sleep(LOOK),
            // In a process that reaps its children at once it has ended already.
            Err(error) if error.raw_os_error() == Some(Errno::ECHILD as i32) => {
                return Ok((!printed.is_empty()).then(|| first_line(&printed)));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether there is a reason to wait for more.
fn go_on(deadline: Deadline) -> io::Result<()> {
    if signal::told_to_stop() {
        Err(io::Error::other("pgpool is being stopped"))
    } else if deadline.passed() {
        Err(io::ErrorKind::TimedOut.into())
    } else {
        Ok(())
    }
}

fn first_line(printed: &[u8]) -> String {
    let line = printed.split(|byte| *byte == b'\n').next().unwrap_or_default();
    String::from_utf8_lossy(line).into_owned()
}

fn expand(command: &str) -> String {
    let mut expanded = String::with_capacity(command.len());
    let mut characters = command.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('%', Some('p')) => expanded.push_str("Enter PEM pass phrase:"),
            ('%', Some('%')) => expanded.push('%'),
            _ => {
                expanded.push(character);
                continue;
            }
        }
        characters.next();
    }
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_is_the_pass_phrase() {
        let ask = |command: &str| ask(command, Duration::from_secs(30));
        assert_eq!(ask("echo secret; echo more").unwrap(), "secret");
        assert_eq!(ask("printf %%s no-newline").unwrap(), "no-newline");
        assert_eq!(ask("echo %p").unwrap(), "Enter PEM pass phrase:");
        for failing in ["echo secret; exit 3", "no-such-program-anywhere"] {
            let error = ask(failing).expect_err(failing);
            assert_eq!(error.message, format!("command \"{failing}\" failed"));
        }
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_all_it_has_started() {
        let file = std::env::temp_dir().join(format!("pgpool-passphrase-{}", std::process::id()));
        let command = format!("sleep 600 & echo $! > {}; sleep 600", file.display());
        let error = ask(&command, Duration::from_secs(1)).expect_err("too long");
        assert!(error.message.ends_with("timed out"), "{error}");
        let sleeper: i32 = std::fs::read_to_string(&file).expect("file").trim().parse().expect("pid");
        let _ = std::fs::remove_file(&file);
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let deadline = Deadline::after(Duration::from_secs(20));
        while is_alive() {
            assert!(!deadline.passed(), "it lives on");
            std::thread::sleep(LOOK);
        }
    }
}
