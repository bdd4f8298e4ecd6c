//! `pg_md5` and `pg_enc`: what they print and write, and that Pgpool-II's programs do the same, where those are there
//! (`scripts/setup --pgpool2`).

use nix::poll::{PollFd, PollFlags, poll};
use nix::pty::openpty;
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use pgpool::auth::aes;
use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A directory with pgpool.conf, files of pairs, and a key.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let place = Place(std::env::temp_dir().join(format!("pgpool-passwords-{}-{number}", std::process::id())));
        fs::create_dir_all(&place.0).expect("directory");
        // Nothing but pool_passwd counts, whatever else is wrong.
        place.write("pgpool.conf", "pool_passwd = 'pool_passwd'\nnonsense = 3\nport = 'many'\n");
        place.write("key", "secret\nmore\n");
        fs::set_permissions(place.0.join("key"), PermissionsExt::from_mode(0o600)).expect("mode");
        let long = "x".repeat(129);
        let pairs =
            format!("alice:secret\n\nbob\n:pw\ncarol:\n  \ndave:a:b:c\n{long}:pw\nerin:{long}\nlast:no newline");
        place.write("pairs", &pairs);
        place
    }

    fn write(&self, name: &str, content: &str) {
        fs::write(self.0.join(name), content).expect("file");
    }

    /// What is in pool_passwd, which goes away.
    fn take_entries(&self) -> String {
        let path = self.0.join("pool_passwd");
        let content = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        content
    }

    fn run(&self, program: &OsStr, arguments: &[&str], input: &str) -> Outcome {
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(&self.0)
            .env_remove("PGPOOLKEYFILE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("program");
        // It may end without having read.
        let _ = child.stdin.take().expect("stdin").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("output");
        let text = |bytes: &[u8]| without_pid(&String::from_utf8_lossy(bytes));
        Outcome { status: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Our program of this name.
    fn ours(&self, name: &str, arguments: &[&str]) -> Outcome {
        self.run(our(name).as_os_str(), arguments, "")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Outcome {
    /// What it printed, if it was content.
    #[track_caller]
    fn good(self) -> String {
        assert!(self.status == Some(0) && self.stderr.is_empty(), "{self:?}");
        self.stdout
    }
}

fn our(name: &str) -> PathBuf {
    match name {
        "pg_md5" => env!("CARGO_BIN_EXE_pg_md5").into(),
        _ => env!("CARGO_BIN_EXE_pg_enc").into(),
    }
}

fn without_pid(text: &str) -> String {
    match text.split_once("pid ") {
        Some((before, after)) => format!("{before}pid {}", after.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => text.to_owned(),
    }
}

const HASH: &str = "5ebe2294ecd0e0f08eab7690d2a6ee69\n";
const ENTRY: &str = "\nspLxkQKd0MsKGnf8RHukyA==\npool_passwd string: AESspLxkQKd0MsKGnf8RHukyA==\n";

#[test]
fn hashes() {
    let place = Place::new();
    assert_eq!(place.ours("pg_md5", &["secret", "ignored"]).good(), HASH);
    assert_eq!(place.ours("pg_md5", &["-m", "-f", "pgpool.conf", "-u", "alice", "secret"]).good(), "");
    assert_eq!(place.take_entries(), "alice:md54a0a68b43b6cd5cf266fa02f196e2371\n");
    assert_eq!(place.run(our("pg_md5").as_os_str(), &["--stdin"], "secret\n").good(), HASH);
    assert_eq!(place.ours("pg_md5", &["-p"]).stderr, "stdin is not tty\n");
}

#[test]
fn encrypted_passwords() {
    let place = Place::new();
    assert_eq!(place.ours("pg_enc", &["-K", "secret", "foo"]).good(), ENTRY);
    let with_file = format!("trying to read key from file key\n{ENTRY}");
    assert_eq!(place.ours("pg_enc", &["-k", "key", "foo"]).good(), with_file);
    assert_eq!(place.run(our("pg_enc").as_os_str(), &["-s", "-K", "secret"], "foo").good(), ENTRY);
    fs::set_permissions(place.0.join("key"), PermissionsExt::from_mode(0o644)).expect("mode");
    let warned = place.ours("pg_enc", &["-k", "key", "foo"]);
    assert!(
        warned.stdout == with_file && warned.stderr.starts_with("WARNING: pid : pool key file \"key\""),
        "{warned:?}"
    );
    let missing = place.ours("pg_enc", &["-k", "nosuch", "foo"]);
    assert_eq!((missing.status, missing.stderr.as_str()), (Some(1), "encryption key not provided\n"));
    let arguments = ["-K", "secret", "-m", "-f", "pgpool.conf", "-u", "joe"];
    place.write("pool_passwd", "ann:TEXTx\njoe:md5old\nzoe:y");
    assert_eq!(place.ours("pg_enc", &[&arguments[..], &["foo"]].concat()).good(), "");
    assert_eq!(place.take_entries(), "ann:TEXTx\njoe:AESspLxkQKd0MsKGnf8RHukyA==\nzoe:y");
}

#[test]
fn pairs_from_a_file() {
    let place = Place::new();
    let text = place.ours("pg_md5", &["-i", "pairs"]).good();
    let expected = "trying to read username:password pairs from file pairs\nLINE#01: USER: <alice>\n";
    assert!(text.starts_with(&format!("{expected}{HASH}LINE#02: BLANK LINE\n")), "{text}");
    let outcome = place.ours("pg_enc", &["-K", "k", "-m", "-f", "pgpool.conf", "-i", "pairs"]);
    assert_eq!(outcome.stderr.lines().count(), 5, "{outcome:?}");
    let entries = place.take_entries();
    let users = entries.lines().map(|line| line.split(':').next().unwrap_or_default()).collect::<Vec<_>>();
    assert_eq!((users.len(), users[0], users[2]), (4, "alice", "dave"));
    let dave = entries.lines().nth(2).and_then(|line| line.strip_prefix("dave:AES")).expect("an entry");
    assert_eq!(aes::decrypt(dave.as_bytes(), b"k").as_ref().map(|secret| secret.bytes()), Some(&b"a:b:c"[..]));
}

#[test]
fn slips() {
    let place = Place::new();
    for (name, arguments, status) in [
        ("pg_md5", &["--nosuch"][..], 2),
        ("pg_enc", &["-x"], 2),
        ("pg_md5", &[], 1),
        ("pg_md5", &["-m", "-f", "nosuch.conf", "x"], 1),
        ("pg_enc", &["-K", "k", "-m", "-f", "nosuch.conf", "x"], 1),
        ("pg_md5", &["-i", "nosuch"], 1),
        ("pg_md5", &["-m", "-f", "nowhere.conf", "x"], 255),
    ] {
        place.write("nowhere.conf", "pool_passwd = '/no/such/place'\n");
        let outcome = place.ours(name, arguments);
        assert_eq!(outcome.status, Some(status), "{name} {arguments:?}: {outcome:?}");
        assert!(!outcome.stderr.is_empty(), "{name} {arguments:?}");
    }
}

#[test]
fn the_original_does_the_same() {
    let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target").join("pgpool2/bin");
    if !programs.join("pg_md5").exists() {
        println!("skipped: run scripts/setup --pgpool2");
        return;
    }
    let place = Place::new();
    let long = "x".repeat(128);
    let cases: &[(&str, &[&str])] = &[
        ("pg_md5", &["pässwörd"]),
        ("pg_md5", &[""]),
        ("pg_md5", &[&long]),
        ("pg_md5", &["-p"]),
        ("pg_md5", &["-i", "pairs"]),
        ("pg_md5", &["--input-file", "nosuch"]),
        ("pg_md5", &["-m", "--config-file=pgpool.conf", "--user=joe", "secret"]),
        ("pg_md5", &["-m", "-f", "pgpool.conf", "secret"]),
        ("pg_md5", &["-m", "-f", "pgpool.conf", "-i", "pairs"]),
        ("pg_enc", &["-K", "my key", "pässwörd"]),
        ("pg_enc", &["-K", "k", ""]),
        ("pg_enc", &["-K", "k", &long]),
        ("pg_enc", &["-K", "", "-k", "key", "foo"]),
        ("pg_enc", &["-k", "nosuch", "foo"]),
        ("pg_enc", &["-k", ".", "foo"]),
        ("pg_enc", &["-k", "key", "-i", "pairs"]),
        ("pg_enc", &["-k", "key", "-m", "-f", "pgpool.conf", "-i", "pairs"]),
        ("pg_enc", &["-k", "key", "-m", "-f", "pgpool.conf", "-u", "joe", "foo"]),
        ("pg_enc", &["-k", "key"]),
        ("pg_enc", &["-k", "key", "-P", "foo"]),
    ];
    for (name, arguments) in cases {
        let [ours, theirs] = [our(name), programs.join(name)].map(|program| {
            place.write("pool_passwd", "ann:TEXTx\njoe:md5old\nzoe:y\n");
            (place.run(program.as_os_str(), arguments, ""), place.take_entries())
        });
        assert_eq!(ours, theirs, "ours, theirs: {name} {arguments:?}");
    }
}

/// Runs one of our programs on a terminal of its own, where `typed` is typed. Returns what the terminal shows.
fn on_terminal(place: &Place, name: &str, arguments: &[&str], typed: &[&str]) -> String {
    let terminal = openpty(None, None).expect("a terminal");
    let mut screen = fs::File::from(terminal.master);
    let slave = || Stdio::from(terminal.slave.try_clone().expect("terminal"));
    let mut child = Command::new(our(name))
        .args(arguments)
        .current_dir(&place.0)
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .expect("program");
    let mut shown = Vec::new();
    for line in typed {
        // The prompt comes when the terminal is quiet already, or its echo would be seen.
        read_until(&mut screen, &mut shown, ": ");
        screen.write_all(format!("{line}\n").as_bytes()).expect("typing");
        read_until(&mut screen, &mut shown, "\n");
    }
    assert!(child.wait().expect("end").success());
    drop(terminal.slave);
    // Linux tells so that nobody has the terminal open any more.
    let _ = screen.read_to_end(&mut shown);
    String::from_utf8(shown).expect("text").replace('\r', "")
}

/// Reads until the end of what is shown is `end`.
fn read_until(screen: &mut fs::File, shown: &mut Vec<u8>, end: &str) {
    let mut byte = [0];
    while !shown.ends_with(end.as_bytes()) || byte == [0] {
        let mut ready = [PollFd::new(screen.as_fd(), PollFlags::POLLIN)];
        let shown_so_far = String::from_utf8_lossy(shown).into_owned();
        assert_eq!(poll(&mut ready, 20_000_u16), Ok(1), "something after {shown_so_far:?}");
        screen.read_exact(&mut byte).expect("the terminal is open");
        shown.push(byte[0]);
    }
}

#[test]
fn passwords_are_asked_for_without_echo() {
    let place = Place::new();
    assert_eq!(on_terminal(&place, "pg_md5", &["-p"], &["secret"]), format!("password: \n{HASH}"));
    let shown = on_terminal(&place, "pg_enc", &["-P"], &["foo", "secret"]);
    assert_eq!(shown, format!("db password: \nencryption key: \n{ENTRY}"));
}

#[test]
fn a_prompt_that_is_interrupted_gives_the_terminal_its_echo_back() {
    let terminal = openpty(None, None).expect("a terminal");
    let echoes = || tcgetattr(&terminal.master).expect("settings").local_flags.contains(LocalFlags::ECHO);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_pg_md5"))
            .arg("-p")
            .stdin(terminal.slave.try_clone().expect("stdin"))
            .stdout(Stdio::null())
            .spawn()
            .expect("pg_md5");
        let begun = Instant::now();
        while echoes() {
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not ask");
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(Pid::from_raw(program.id().cast_signed()), signal).expect("kill");
        assert_eq!(program.wait().expect("wait").signal(), Some(signal as i32));
        assert!(echoes(), "{signal}");
    }
}
