//! The log collector and the other places the log goes to (process-model 10).

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::{Cluster, Config, Outcome, Pgpool, Program, Stop, Wire, shared, wait_for};
use crate::{needs_pgpool, only_ours};

/// A pgpool whose log is collected in files.
struct Collected {
    pool: Pgpool,
}

impl Collected {
    fn prepare(cluster: &Cluster, settings: &[(&str, &str)]) -> Self {
        Self::prepare_from(Pgpool::on(cluster), settings)
    }

    fn prepare_from(config: Config, settings: &[(&str, &str)]) -> Self {
        let config = config.set("logging_collector", "on").set("log_statement", "on");
        let config = config.set("log_filename", "pgpool.log");
        let mut pool = settings.iter().fold(config, |config, (name, value)| config.set(name, value)).prepare();
        pool.set("log_directory", pool.path("logs").display());
        pool.write("pcp.conf", "admin:5ebe2294ecd0e0f08eab7690d2a6ee69\n");
        Self { pool }
    }

    fn start(settings: &[(&str, &str)]) -> Self {
        let mut collected = Self::prepare(shared(), settings);
        collected.launch();
        collected
    }

    fn launch(&mut self) {
        self.pool.launch(&[]);
        wait_for("pgpool to start", || {
            assert!(self.pool.is_running(), "pgpool ended at start:\n{}\n{}", self.pool.log(), self.all());
            self.all().contains("successfully started")
        });
    }

    fn directory(&self) -> PathBuf {
        self.pool.path("logs")
    }

    /// The log files by name.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory()).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != "current" && name != ".current");
        names.sort();
        names
    }

    fn file(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.directory().join(name)).unwrap_or_default()).into_owned()
    }

    /// What all files hold.
    fn all(&self) -> String {
        self.names().iter().map(|name| self.file(name)).collect()
    }

    fn collector(&self) -> Option<Pid> {
        self.pool.children("PgpoolLogger").first().copied()
    }

    fn pcp(&self, command: &str) -> Outcome {
        let passwords = self.pool.path("pcppass");
        fs::write(&passwords, "*:*:*:secret\n").expect("pcppass");
        fs::set_permissions(&passwords, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("mode");
        let port = self.pool.pcp_port().to_string();
        Program::new(env!("CARGO_BIN_EXE_pcp"))
            .args([command, "-h", "127.0.0.1", "-p", &port, "-w", "-U", "admin"])
            .env("PCPPASSFILE", &passwords.display().to_string())
            .run()
    }
}

#[test]
fn the_log_goes_to_a_file_to_the_last_line() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let mut collected = Collected::start(&[("log_file_mode", "0640")]);
    collected.pool.connect().query("SELECT 'in the file'").succeeded();
    wait_for("the line", || collected.file("pgpool.log").contains("statement: SELECT 'in the file'"));
    assert!(collected.collector().is_some());
    let stderr = collected.pool.log();
    let place = format!("HINT:  Future log output will appear in directory \"{}\".", collected.directory().display());
    assert!(stderr.contains("LOG:  redirecting log output to logging collector process") && stderr.contains(&place));
    assert!(!stderr.contains("statement:") && !stderr.contains("successfully started"), "{stderr}");
    let mode = |path: &Path| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).expect("mode").permissions());
    assert_eq!(mode(&collected.directory()) & 0o777, 0o700);
    assert_eq!(mode(&collected.directory().join("pgpool.log")) & 0o777, 0o640);
    assert_eq!(fs::read_link(collected.directory().join("current")).expect("link"), Path::new("pgpool.log"));
    assert!(collected.pool.stop(Stop::Fast).success());
    assert!(collected.all().ends_with("LOG:  Pgpool-II system is shutdown\n"), "{}", collected.all());
}

#[test]
fn signals_that_stop_others_do_not_end_it() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let collected = Collected::start(&[]);
    let pid = collected.collector().expect("a collector");
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGUSR2] {
        kill(pid, signal).expect("kill");
    }
    collected.pool.connect().query("SELECT 'still there'").succeeded();
    wait_for("the line", || collected.all().contains("'still there'"));
    assert_eq!(collected.collector(), Some(pid));
}

#[test]
fn a_start_without_a_usable_directory_fails_and_says_so() {
    needs_pgpool!();
    only_ours!("the original says it elsewhere");
    let mut collected = Collected::prepare(shared(), &[]);
    collected.pool.set("log_directory", "/nonexistent/a/b");
    collected.pool.launch(&[]);
    let status = collected.pool.wait_end(std::time::Duration::from_secs(30)).expect("an end");
    assert_eq!(status.code(), Some(3));
    let log = collected.pool.log();
    assert!(log.contains("FATAL:  could not open log file \"/nonexistent/a/b/pgpool.log\""), "{log}");
    assert!(!collected.pool.socket().exists() && !collected.pool.path("pgpool.pid").exists());
}

#[test]
fn it_ends_when_the_parent_was_killed_and_keeps_nothing_of_it() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let collected = Collected::start(&[]);
    let collector = collected.collector().expect("a collector");
    let sockets = fs::read_dir(format!("/proc/{collector}/fd")).expect("descriptors").flatten();
    let sockets = sockets.filter_map(|entry| fs::read_link(entry.path()).ok());
    assert_eq!(sockets.filter(|target| target.to_string_lossy().starts_with("socket:")).count(), 0);
    collected.pool.signal(Signal::SIGKILL);
    let stat = || fs::read_to_string(format!("/proc/{collector}/stat")).unwrap_or_default();
    wait_for("its end", || stat().is_empty() || stat().contains(") Z "));
}

#[test]
fn lines_of_fifty_writers_stay_whole() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    const WRITERS: usize = 50;
    const LINES: usize = 6;
    let cluster = Cluster::independent(1).start();
    let mut collected =
        Collected::prepare(&cluster, &[("num_init_children", "50"), ("log_line_prefix", ""), ("max_pool", "1")]);
    collected.launch();
    let sessions: Vec<Wire> = (0..WRITERS).map(|_| collected.pool.connect()).collect();
    // Longer than a pipe takes at once, each of another letter and length.
    let text = |writer: usize, line: usize| {
        let letter = char::from(b'a' + (writer % 26) as u8);
        format!("SELECT {writer}{line:02} /* {} */", letter.to_string().repeat(9000 + 100 * writer + line))
    };
    let writers = sessions.into_iter().enumerate().map(|(writer, mut session)| {
        thread::spawn(move || {
            (0..LINES).for_each(|line| {
                session.query(&text(writer, line)).succeeded();
            });
            session
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut sessions: Vec<Wire> = writers.into_iter().map(|writer| writer.join().expect("a writer")).collect();
    // With its next message a writer tells what it had to drop because nobody took it in time.
    sessions.iter_mut().for_each(|session| {
        session.query("SELECT 1").succeeded();
    });
    let wanted: HashSet<String> = (0..WRITERS)
        .flat_map(|writer| (0..LINES).map(move |line| format!("LOG:  statement: {}", text(writer, line))))
        .collect();
    let long = |log: &str| log.lines().filter(|line| line.len() > 4096).map(str::to_owned).collect::<Vec<_>>();
    let lost = |log: &str| {
        let counts =
            log.lines().filter_map(|line| line.strip_prefix("WARNING:  ")?.strip_suffix(" log messages were lost"));
        counts.filter_map(|count| count.parse::<usize>().ok()).sum::<usize>()
    };
    let mut last = String::new();
    wait_for("all lines", || {
        last = collected.all();
        long(&last).len() + lost(&last) >= WRITERS * LINES
    });
    let lines = long(&last);
    assert!(lines.len() > WRITERS, "{}", lines.len());
    assert!(lines.iter().all(|line| wanted.contains(line)), "a line is not whole");
    assert_eq!(lines.iter().collect::<HashSet<_>>().len(), lines.len());
}

#[test]
fn a_killed_collector_takes_only_what_it_held() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let collected = Collected::start(&[("log_filename", "pgpool-%H%M%S.log"), ("log_line_prefix", "")]);
    let mut session = collected.pool.connect();
    let mut killed = 0;
    const COUNT: usize = 3000;
    for number in 0..COUNT {
        session.query(&format!("SELECT {number}")).succeeded();
        if number % 1000 == 500 {
            let pid = collected.collector().expect("a collector");
            kill(pid, Signal::SIGKILL).expect("kill");
            wait_for("another collector", || collected.collector().is_some_and(|other| other != pid));
            killed += 1;
        }
    }
    wait_for("the last line", || collected.all().contains(&format!("statement: SELECT {}\n", COUNT - 1)));
    let log = collected.all();
    let told = log.matches("WARNING:  pgpool log collector process with pid").count();
    assert!(told <= killed && killed == 3, "{told}");
    let found: Vec<usize> = log
        .lines()
        .filter_map(|line| line.strip_prefix("LOG:  statement: SELECT ").and_then(|number| number.parse().ok()))
        .collect();
    assert!(found.is_sorted(), "lines are in order");
    // One session at a time: a collector holds a line or two.
    assert!(found.len() >= COUNT - 3 * killed, "{} of {COUNT}", found.len());
    // The new collectors went on in the file of the first.
    assert_eq!(collected.names().len(), 1, "{:?}", collected.names());
}

#[test]
fn a_file_that_is_long_enough_is_followed_by_another() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let collected = Collected::start(&[("log_rotation_size", "4"), ("log_filename", "pgpool-%s.log")]);
    let mut session = collected.pool.connect();
    let filler = "x".repeat(3000);
    wait_for("three files", || {
        session.query(&format!("SELECT '{filler}'")).succeeded();
        collected.names().len() >= 3
    });
    let names = collected.names();
    // The last one is being written.
    for name in &names[..names.len() - 1] {
        let log = collected.file(name);
        assert!(log.len() >= 4096 && log.ends_with('\n'), "{name}: {} bytes", log.len());
    }
}

#[test]
fn a_file_that_cannot_be_followed_goes_on() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let collected = Collected::start(&[("log_rotation_size", "4"), ("log_filename", "pgpool-%s.log")]);
    let collector = collected.collector();
    let mut session = collected.pool.connect();
    session.query("SELECT 'first'").succeeded();
    // A file in the place of the directory stops root, too; the log file that is open goes on behind it.
    let (directory, away) = (collected.directory(), collected.pool.path("away"));
    fs::rename(&directory, &away).expect("rename");
    fs::write(&directory, "in the way").expect("file");
    let all = || {
        let files = fs::read_dir(&away).expect("directory").flatten().filter(|entry| entry.path().is_file());
        files.map(|entry| fs::read_to_string(entry.path()).unwrap_or_default()).collect::<Vec<_>>()
    };
    let contain = |text: &str| all().iter().any(|file| file.contains(text));
    let mut count = 0;
    wait_for("the complaint", || {
        count += 1;
        session.query(&format!("SELECT 'statement {count}', '{}'", "x".repeat(500))).succeeded();
        contain("could not open log file")
    });
    session.query("SELECT 'last'").succeeded();
    wait_for("the last line", || contain("SELECT 'last'"));
    assert!((1..=count).all(|number| contain(&format!("'statement {number}'"))));
    assert_eq!(collected.collector(), collector);
}

#[test]
fn at_multiples_of_the_age_the_next_file_begins_and_old_ones_are_overwritten() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    // A time zone in which a minute ends in five seconds.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("time").as_secs();
    let west = (now - 55) % 60;
    let minute = (now - west) / 60 % 60;
    let (first, second) = (format!("m{minute:02}.log"), format!("m{:02}.log", (minute + 1) % 60));
    let config = Pgpool::on(shared()).env("TZ", format!("XXX0:00:{west:02}"));
    let settings = [("log_rotation_age", "1"), ("log_filename", "m%M.log"), ("log_truncate_on_rotation", "on")];
    let mut collected = Collected::prepare_from(config, &settings);
    fs::create_dir(collected.directory()).expect("directory");
    for name in [&first, &second] {
        let path = collected.directory().join(name);
        fs::write(&path, "of an hour ago\n").expect("file");
        let file = fs::File::options().append(true).open(path).expect("file");
        file.set_modified(SystemTime::now() - std::time::Duration::from_secs(3600)).expect("its time");
    }
    collected.pool.launch(&[]);
    wait_for("the second file to be begun", || !collected.file(&second).contains("of an hour ago"));
    assert!(collected.file(&first).starts_with("of an hour ago\n"), "the first file goes on growing");
    collected.pool.connect().query("SELECT 'behind it'").succeeded();
    wait_for("the line", || collected.file(&second).contains("'behind it'"));
    assert!(!collected.file(&first).contains("'behind it'"));
}

#[test]
fn a_reload_changes_the_place() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let mut collected = Collected::start(&[]);
    collected.pool.set("log_filename", "second.log");
    collected.pool.signal(Signal::SIGHUP);
    wait_for("the second file", || collected.names().contains(&"second.log".to_owned()));
    collected.pool.connect().query("SELECT 'moved'").succeeded();
    wait_for("the line", || collected.file("second.log").contains("'moved'"));
    assert!(!collected.file("pgpool.log").contains("'moved'"));
    // One that cannot be opened changes nothing but is told.
    let before = collected.directory();
    collected.pool.set("log_directory", "/nonexistent/a");
    collected.pool.signal(Signal::SIGHUP);
    let told = || fs::read_to_string(before.join("second.log")).unwrap_or_default();
    wait_for("the complaint", || told().contains("could not open log file \"/nonexistent/a/second.log\""));
    assert!(told().contains("disabling automatic rotation (use SIGHUP to re-enable)"));
    collected.pool.connect().query("SELECT 'goes on'").succeeded();
    wait_for("the line", || told().contains("'goes on'"));
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew_by_pcp_and_by_signal() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let collected = Collected::start(&[]);
    let rename = |name: &str| {
        fs::rename(collected.directory().join("pgpool.log"), collected.directory().join(name)).expect("rename");
    };
    rename("first");
    let outcome = collected.pcp("log_rotate");
    assert!(outcome.status.success(), "{outcome:?}");
    wait_for("a new file", || collected.names().contains(&"pgpool.log".to_owned()));
    rename("second");
    kill(collected.collector().expect("a collector"), Signal::SIGUSR1).expect("kill");
    wait_for("a new file", || collected.names().contains(&"pgpool.log".to_owned()));
    collected.pool.connect().query("SELECT 'anew'").succeeded();
    wait_for("the line", || collected.file("pgpool.log").contains("'anew'"));
}

#[test]
fn without_a_collector_there_is_nothing_to_rotate() {
    needs_pgpool!();
    only_ours!("the program is ours");
    let mut collected = Collected::prepare(shared(), &[("logging_collector", "off")]);
    collected.pool.launch(&[]);
    collected.pool.wait_ready();
    let outcome = collected.pcp("log_rotate");
    assert!(outcome.stderr.contains("process log rotation request failed"), "{outcome:?}");
    assert!(outcome.stderr.contains("logging_collector is disabled"), "{outcome:?}");
}

#[test]
fn a_full_disk_loses_no_service_and_no_line() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let collected = Collected::start(&[]);
    let pid = collected.collector().expect("a collector").to_string();
    let limit = |size: &str| {
        let outcome = Program::new("prlimit").args(["--pid", &pid, &format!("--fsize={size}:unlimited")]).run();
        assert!(outcome.status.success(), "{outcome:?}");
    };
    let mut session = collected.pool.connect();
    let filler = "x".repeat(2000);
    wait_for("some log", || {
        session.query(&format!("SELECT '{filler}'")).succeeded();
        collected.file("pgpool.log").len() > 40_000
    });
    limit("40000");
    session.query("SELECT 'while it is full'").succeeded();
    wait_for("the line on stderr", || collected.pool.log().contains("'while it is full'"));
    session.query("SELECT 'still full'").succeeded();
    wait_for("the line on stderr", || collected.pool.log().contains("'still full'"));
    let stderr = collected.pool.log();
    assert_eq!(stderr.matches("WARNING:  could not write to log file").count(), 1, "{stderr}");
    limit("unlimited");
    session.query("SELECT 'room again'").succeeded();
    wait_for("the line in the file", || collected.file("pgpool.log").contains("'room again'"));
    let log = collected.file("pgpool.log");
    assert!(log.contains("WARNING:  2 log lines are missing here"), "{log}");
    assert!(!collected.pool.log().contains("'room again'"));
}

#[test]
fn what_others_write_to_stderr_is_in_the_log() {
    needs_pgpool!();
    only_ours!("its files are not ours to find");
    let collected = Collected::start(&[]);
    let worker = collected.pool.children("wait for connection")[0];
    // As a library would, or a program that one runs.
    fs::write(format!("/proc/{worker}/fd/2"), "a word from elsewhere\n").expect("stderr");
    wait_for("the word", || collected.all().contains("\na word from elsewhere\n"));
}
