//! The pass phrase of a private key, from `ssl_passphrase_command` (auth 17.3).
//!
//! The parent alone runs it: at start it waits for it, later its end is an event like any other. Both the command and what
//! it prints are secret.

use crate::net::Deadline;
use crate::report::Report;
use crate::sys::{Secret, signal};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How long the command may take: somebody may have to be asked.
const LIMIT: Duration = Duration::from_secs(30);
/// How often its end is looked for by those who wait for it.
const LOOK: Duration = Duration::from_millis(5);
/// More bytes than any pass phrase has.
const ROOM: usize = 4096;

/// The command, running.
#[derive(Debug)]
pub struct PassPhrase {
    child: Child,
    limit: Deadline,
}

impl PassPhrase {
    /// Runs `command`; `%p` in it stands for a prompt.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn ask(command: &str) -> Result<Self, Report> {
        Self::ask_within(command, LIMIT)
    }

    fn ask_within(command: &str, limit: Duration) -> Result<Self, Report> {
        let child = Command::new("/bin/sh")
            .args(["-c", &expand(command)])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|error| Self::failed(&error.to_string()))?;
        Ok(Self { child, limit: Deadline::after(limit) })
    }

    /// Its process, which is the leader of its group.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// When it has taken too long.
    pub fn deadline(&self) -> Deadline {
        self.limit
    }

    /// Ends it, with all it has started. It must not have been waited for.
    pub fn end(&self) {
        let _ = killpg(self.pid(), Signal::SIGKILL);
    }

    /// Waits until it has ended, for processes that have nothing else to do; then as [`PassPhrase::told`].
    ///
    /// # Errors
    /// The same; or it takes too long, or pgpool is told to stop.
    pub fn wait(mut self) -> Result<Secret, Report> {
        loop {
            let report = match self.child.try_wait().map_err(|error| Self::failed(&error.to_string()))? {
                Some(status) if status.success() => return self.told(),
                Some(status) => return Err(Self::failed(&format!("It has ended with {status}."))),
                None if signal::told_to_stop() => Self::failed("pgpool is being stopped."),
                None if self.limit.passed() => Self::too_late(),
                None => {
                    thread::sleep(LOOK);
                    continue;
                }
            };
            self.end();
            let _ = self.child.wait();
            return Err(report);
        }
    }

    /// The first line that it has printed, now that it has ended in order.
    ///
    /// # Errors
    /// That cannot be a pass phrase.
    pub fn told(mut self) -> Result<Secret, Report> {
        let Some(pipe) = self.child.stdout.take() else { return Ok(Secret::default()) };
        // Somebody whom it has left behind may still hold the other end.
        let printed = fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).and_then(|_| {
            let mut room = vec![0; ROOM];
            let count = match read(&pipe, &mut room) {
                Err(Errno::EAGAIN) => 0,
                outcome => outcome?,
            };
            room.truncate(count);
            Ok(Secret::new(room))
        });
        let printed = printed.map_err(|errno| Self::failed(errno.desc()))?;
        match printed.bytes().split(|byte| *byte == b'\n').next() {
            Some(line) if line.len() == ROOM => Err(Self::failed("Its first line is too long.")),
            line => Ok(Secret::new(line.unwrap_or_default())),
        }
    }

    /// Why there is no pass phrase: the command has taken too long.
    pub fn too_late() -> Report {
        Self::failed(&format!("It has not ended within {} seconds.", LIMIT.as_secs()))
    }

    /// Why there is no pass phrase.
    pub fn failed(detail: &str) -> Report {
        Report::error("ssl_passphrase_command failed")
            .detail(detail)
            .hint("It has to print the pass phrase of ssl_key as its first line.")
    }
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

    fn ask(command: &str) -> Result<Secret, Report> {
        PassPhrase::ask(command)?.wait()
    }

    #[test]
    fn the_first_line_is_the_pass_phrase() {
        for (command, phrase) in [
            ("echo secret; echo more", "secret"),
            ("printf %%s no-newline", "no-newline"),
            ("echo %p", "Enter PEM pass phrase:"),
            ("true", ""),
            // Whoever is left behind is not waited for.
            ("sleep 600 & echo $!", ""),
        ] {
            let told = ask(command).expect(command);
            match phrase {
                "" if !told.bytes().is_empty() => {
                    let pid = String::from_utf8_lossy(told.bytes()).parse().expect("pid");
                    nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it lives");
                }
                phrase => assert_eq!(told.bytes(), phrase.as_bytes(), "{command}"),
            }
        }
    }

    #[test]
    fn a_failure_tells_neither_the_command_nor_what_it_has_printed() {
        for (command, detail) in [
            ("echo secret; exit 3", "It has ended with exit status: 3."),
            ("secret-program-nowhere", "It has ended with exit status: 127."),
            ("head -c 5000 /dev/zero | tr '\\0' x # secret", "Its first line is too long."),
        ] {
            let report = ask(command).expect_err(command);
            assert_eq!(
                (report.message.as_str(), report.detail.as_deref()),
                ("ssl_passphrase_command failed", Some(detail))
            );
            assert!(!format!("{report:?}").contains("secret"), "{report:?}");
        }
    }

    #[test]
    fn a_command_that_takes_too_long_is_ended_with_all_it_has_started() {
        let file = std::env::temp_dir().join(format!("pgpool-passphrase-{}", std::process::id()));
        let command = format!("sleep 600 & echo $! > {}; sleep 600", file.display());
        let asked = PassPhrase::ask_within(&command, Duration::from_secs(1)).expect("started");
        let report = asked.wait().expect_err("too long");
        assert!(report.detail.as_deref().is_some_and(|detail| detail.starts_with("It has not ended")), "{report:?}");
        let sleeper: i32 = std::fs::read_to_string(&file).expect("file").trim().parse().expect("pid");
        let _ = std::fs::remove_file(&file);
        let is_alive = || {
            let stat = std::fs::read_to_string(format!("/proc/{sleeper}/stat")).unwrap_or_default();
            !stat.is_empty() && !stat.contains(") Z ")
        };
        let deadline = Deadline::after(Duration::from_secs(20));
        while is_alive() {
            assert!(!deadline.passed(), "it lives on");
            thread::sleep(LOOK);
        }
    }
}
