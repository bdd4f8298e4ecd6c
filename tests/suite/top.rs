//! `pgpool top`, in a pipe and on terminals.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;

use crate::harness::{Pgpool, Program, eventually, shared, wait_for};
use crate::only_ours;

const PROGRAM: &str = env!("CARGO_BIN_EXE_pgpool");
/// What brings the other screen, and what leaves it.
const ENTER: &str = "\x1b[?1049h";
const LEAVE: &str = "\x1b[?1049l";

/// A terminal with a program on it.
struct Terminal {
    master: File,
    slave: OwnedFd,
    program: Child,
    shown: String,
}

impl Terminal {
    /// Of 40 columns and 10 lines.
    fn run(arguments: &[&str]) -> Terminal {
        let size = Winsize { ws_row: 10, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 };
        let terminal = openpty(&size, None).expect("a terminal");
        let slave = || Stdio::from(terminal.slave.try_clone().expect("terminal"));
        // The terminal is its own, whatever the tests run on.
        let program = Command::new("setsid")
            .args(["--ctty", PROGRAM, "top"])
            .args(arguments)
            .env("TERM", "xterm")
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .expect("setsid");
        Terminal { master: terminal.master.into(), slave: terminal.slave, program, shown: String::new() }
    }

    /// Whether what is typed is shown, and comes in lines: as a shell wants it.
    fn is_usual(&self) -> bool {
        tcgetattr(&self.slave).expect("settings").local_flags.contains(LocalFlags::ECHO | LocalFlags::ICANON)
    }

    /// Reads what the program shows until that is true of it.
    fn read_until(&mut self, what: &str, is_there: impl Fn(&str) -> bool) {
        let mut piece = [0; 4096];
        while !is_there(&self.shown) {
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ready, 30_000_u16), Ok(1), "{what} in {:?}", self.shown);
            let count = self.master.read(&mut piece).expect("the terminal is open");
            self.shown.push_str(&String::from_utf8_lossy(&piece[..count]));
        }
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.program.id().cast_signed()), signal).expect("kill");
    }

    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = eventually(Duration::from_secs(30), || {
            status = self.program.try_wait().expect("wait");
            status.is_some()
        });
        assert!(ended, "it does not end: {:?}", self.shown);
        status.expect("a status")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn top_shows_the_nodes_once_or_again_and_again() {
    only_ours!("there is none");
    let pool = Pgpool::on(shared()).with_metrics().start();
    let config = pool.path("pgpool.conf").display().to_string();
    let text = Program::new(PROGRAM).args(["top", "--once", "-f", &config]).run().succeeded();
    assert!(text.contains("0 of 4 processes busy"), "{text}");
    for node in shared().nodes() {
        let role = if node.id == 0 { "primary" } else { "standby" };
        let server = format!("127.0.0.1:{}", node.port);
        let row = text.lines().find(|line| line.contains(&server)).unwrap_or_else(|| panic!("{server}\n{text}"));
        assert!(row.contains(role) && !row.contains('\x1b'), "{row}");
    }
    // Without a terminal it goes on in plain text, until nobody reads.
    let two = format!("'{PROGRAM}' top -f '{config}' | head -n 20");
    let text = Program::new("/bin/sh").args(["-c", &two]).run().succeeded();
    assert_eq!(text.matches("pgpool at 127.0.0.1:").count(), 2, "{text}");
    let closed = Program::new(PROGRAM).args(["top", "--once", "-h", "127.0.0.1", "-p", "1"]).run();
    assert!(closed.stderr.contains("no figures from 127.0.0.1:1: ") && closed.status.code() == Some(1), "{closed:?}");
    let nowhere = Program::new(PROGRAM).args(["top", "--once", "-f", "/nowhere/pgpool.conf"]).run();
    assert!(nowhere.stderr.contains("\"/nowhere/pgpool.conf\"") && nowhere.status.code() == Some(1), "{nowhere:?}");
}

#[test]
fn a_terminal_is_given_back_however_top_ends() {
    only_ours!("there is none");
    let pool = Pgpool::on(shared()).with_metrics().start();
    let config = pool.path("pgpool.conf").display().to_string();
    for signal in [None, Some(Signal::SIGINT), Some(Signal::SIGTERM)] {
        let mut terminal = Terminal::run(&["-f", &config]);
        let last = format!("127.0.0.1:{}", shared().node(2).port);
        terminal.read_until("the last node", |shown| shown.contains(&last) && shown.contains("processes busy"));
        assert!(terminal.shown.contains(ENTER) && !terminal.is_usual());
        let picture = terminal.shown.rsplit("\x1b[H").find(|picture| picture.contains(&last)).expect("a picture");
        let lines: Vec<_> =
            picture.split("\r\n").map(|line| line.replace("\x1b[K", "").replace("\x1b[J", "")).collect();
        assert!(lines.len() <= 10 && lines.iter().all(|line| line.chars().count() <= 40), "{lines:#?}");
        match signal {
            None => terminal.master.write_all(b"xq").expect("typing"),
            Some(signal) => terminal.signal(signal),
        }
        let status = terminal.wait();
        assert_eq!((status.code(), status.signal()), (signal.map_or(Some(0), |_| None), signal.map(|it| it as i32)));
        assert!(terminal.is_usual(), "{signal:?}");
        terminal.read_until("the former screen", |shown| shown.contains(LEAVE));
        assert!(!terminal.shown.contains('x'), "what is typed is not shown: {:?}", terminal.shown);
    }
}

#[test]
fn a_password_is_asked_for_in_silence_and_an_interrupted_terminal_echoes_again() {
    only_ours!("there is none");
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut terminal = Terminal::run(&["-h", "127.0.0.1", "-p", "1", "-U", "ann"]);
        terminal.read_until("the question", |shown| shown.contains("Password: "));
        wait_for("silence", || !terminal.is_usual());
        terminal.signal(signal);
        assert_eq!(terminal.wait().signal(), Some(signal as i32));
        assert!(terminal.is_usual(), "{signal}");
    }
}
