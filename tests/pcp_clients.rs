//! The clients of PCP against a server of the test that says word by word what is recorded in the reference (pcp 10): what
//! they send and print, how they end, and that nothing a server does keeps them waiting or makes them fail badly.
//!
//! Beside a real pgpool they are tested in tests/suite/pcp_clients.rs.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A frame.
fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 4).expect("short").to_be_bytes();
    [&[kind], &length[..], content].concat()
}

/// A frame of texts.
fn texts(kind: u8, texts: &[&str]) -> Vec<u8> {
    frame(kind, texts.iter().map(|text| format!("{text}\0")).collect::<String>().as_bytes())
}

fn done(kind: u8) -> Vec<u8> {
    texts(kind, &["CommandComplete"])
}

fn error(severity: &str, message: &str, detail: &str) -> Vec<u8> {
    let detail = if detail.is_empty() { String::new() } else { format!("D{detail}\0") };
    frame(b'E', format!("S{severity}\0CXX000\0M{message}\0{detail}Fpcp.c\0L1\0\0").as_bytes())
}

/// The two nodes of pcp 10.1.
fn two_nodes() -> Vec<u8> {
    let node = |fields: &str| texts(b'i', &["NodeInfo"].into_iter().chain(fields.split(',')).collect::<Vec<_>>());
    [
        texts(b'i', &["ArraySize", "2"]),
        node("server1,5432,2,0,up,1073741823.500000,2,primary,0,0,,,1700000000"),
        node("server2,5432,2,0,up,1073741823.500000,3,standby,1,1234567,streaming,async,1700000001"),
        done(b'i'),
    ]
    .concat()
}

fn next_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut header = [0; 5];
    stream.read_exact(&mut header).ok()?;
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    let mut content = vec![0; length - 4];
    stream.read_exact(&mut content).ok()?;
    Some([&header[..], &content].concat())
}

/// What a program did.
struct Outcome {
    status: Option<i32>,
    stdout: String,
    stderr: String,
    /// The request behind the login.
    request: Vec<u8>,
}

/// Answers one client: the salt 01 02 03 04, then `login` to what it makes of it, then `reply` to its request.
fn serve(listener: TcpListener, login: Vec<u8>, reply: Vec<u8>) -> Vec<u8> {
    let (mut stream, _) = listener.accept().expect("a client");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("limit");
    let Some(first) = next_frame(&mut stream) else { return Vec::new() };
    assert_eq!(first, b"M\0\0\0\x04", "the request for the salt");
    stream.write_all(&frame(b'm', &[1, 2, 3, 4])).expect("salt");
    let Some(answer) = next_frame(&mut stream) else { return Vec::new() };
    assert_eq!(answer, b"R\0\0\0\x2cpgpool\x0060304671a2939999810fd6d3fdf9e920\0", "the answer to the salt");
    stream.write_all(&login).expect("login");
    let Some(request) = next_frame(&mut stream) else { return Vec::new() };
    stream.write_all(&reply).expect("reply");
    assert_eq!(next_frame(&mut stream).as_deref(), Some(&b"X\0\0\0\x04"[..]), "the goodbye");
    request
}

/// A directory with a password file.
struct Home(PathBuf);

impl Home {
    fn with(passwords: &str, mode: u32) -> Home {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("pgpool-pcp-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).expect("directory");
        let file = directory.join("pcppass");
        fs::write(&file, passwords).expect("password file");
        fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("mode");
        Home(directory)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a program, named without `pcp_`, that gets these answers.
fn run_with(home: &Home, words: &str, login: Vec<u8>, reply: Vec<u8>) -> Outcome {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port().to_string();
    let server = thread::spawn(move || serve(listener, login, reply));
    let output = client(home, words).args(["-h", "127.0.0.1", "-p", &port, "-U", "pgpool"]).output().expect("pcp");
    // One that never connected must not keep the server waiting.
    drop(TcpStream::connect(format!("127.0.0.1:{port}")));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let request = server.join().unwrap_or_else(|_| panic!("the server of {words}: {stdout}{stderr}"));
    Outcome { status: output.status.code(), stdout, stderr, request }
}

fn client(home: &Home, words: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pcp"));
    command.args(words.split_whitespace()).arg("-w").stdin(Stdio::null());
    command.env("PCPPASSFILE", home.0.join("pcppass")).env("TZ", "UTC");
    command
}

/// As [`run_with`], with the right password.
fn run(words: &str, reply: Vec<u8>) -> Outcome {
    run_with(&Home::with("*:*:pgpool:secret\n", 0o600), words, texts(b'r', &["AuthenticationOK"]), reply)
}

#[track_caller]
fn prints(words: &str, reply: Vec<u8>, stdout: &str) {
    let outcome = run(words, reply);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.status), (stdout, "", Some(0)), "{words}");
}

#[test]
fn nodes_in_all_forms() {
    prints(
        "node_info",
        two_nodes(),
        "server1 5432 2 0.500000 up up primary primary 0 none none 2023-11-14 22:13:20\n\
         server2 5432 2 0.500000 up up standby standby 1.234567 streaming async 2023-11-14 22:13:21\n",
    );
    let verbose = run("node_info -v", two_nodes()).stdout;
    assert!(verbose.contains("Replication Delay      : 1.234567 second\n"), "{verbose}");
    let json = run("node_info --json", two_nodes()).stdout;
    let nodes: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(nodes[1]["node_id"], 1);
    assert_eq!(nodes[1]["port"], 5432);
    assert_eq!(nodes[1]["replication_delay"], 1.234_567);
    assert_eq!(nodes[1]["replication_delay_unit"], "seconds");
    assert_eq!(nodes[0]["role"], "primary");
    prints("node_count", texts(b'l', &["CommandComplete", "2"]), "2\n");
    prints("node_count --json", texts(b'l', &["CommandComplete", "2"]), "{\n  \"node_count\": 2\n}\n");
}

#[test]
fn processes_and_parameters() {
    let processes = texts(b'n', &["CommandComplete", "2", "432", "433"]);
    prints("proc_count", processes.clone(), "432 433 \n");
    prints(
        "proc_count -v",
        processes,
        "No \t | \t PID\n_____________________\n0 \t | \t 432\n1 \t | \t 433\n\nTotal Processes:2\n",
    );
    // A statement that was cut in the middle of a character is printed as it came.
    let process = |database: &str| {
        let head = ["ProcessInfo", "432", "start", "3", "0", "1", database, "joe", "c1", "c2", "c3", "0", "3", "0"];
        let tail = ["7", "99", "1", "Idle", "1", "db", "5000"];
        let content = head.iter().chain(&tail).map(|text| format!("{text}\0")).collect::<String>();
        frame(b'p', &[content.as_bytes(), b"SELECT \xc3\0"].concat())
    };
    let slots = [texts(b'p', &["ArraySize", "2"]), process(""), process("shop"), done(b'p')].concat();
    let listed = run("proc_info", slots.clone());
    assert_eq!(
        listed.stdout, "shop joe start 3 3 0 c1 c2 0 c3 7 99 1 432 1 Idle 1 db 5000 SELECT \u{fffd}\n",
        "{}",
        listed.stderr
    );
    assert_eq!(run("proc_info --all", slots).stdout.lines().count(), 2);
    let none = [texts(b'p', &["ArraySize", "0"]), done(b'p')].concat();
    prints("proc_info", none, "No process information available\n\n");
    let item = texts(b'b', &["ProcessConfig", "port", "9999", "the port"]);
    let status = [frame(b'b', b"ArraySize\0\0\0\0\x01"), item, done(b'b')].concat();
    prints("pool_status", status.clone(), "name : port\nvalue: 9999\ndesc : the port\n\n");
    prints("pool_status -v", status, "Name [  0]:\tport\nValue:      \t9999\nDescription:\tthe port\n\n");
}

#[test]
fn orders_and_their_requests() {
    for (words, request, reply) in [
        ("attach_node 1", &b"C\0\0\0\x061\0"[..], b'c'),
        ("detach_node -g -n 1", b"d\0\0\0\x061\0", b'd'),
        ("promote_node -s 1", b"J\0\0\0\x081 \0s", b'd'),
        ("promote_node --gracefully 10", b"j\0\0\0\x0910 \0n", b'd'),
        ("recovery_node 2", b"O\0\0\0\x062\0", b'c'),
        ("stop_pgpool -m f", b"T\0\0\0\x05f", b't'),
        ("stop_pgpool -s cluster", b"t\0\0\0\x05s", b't'),
        ("reload_config", b"Z\0\0\0\x05l", b'z'),
        ("log_rotate --scope=c", b"V\0\0\0\x05c", b'v'),
        ("invalidate_query_cache", b"G\0\0\0\x04", b'g'),
    ] {
        // A notice may come at any time.
        let notice = frame(b'N', b"SNOTICE\0Mby the way\0\0");
        let outcome = run(words, [notice, done(reply)].concat());
        let program = words.split(' ').next().unwrap_or_default();
        assert_eq!(outcome.stdout, format!("pcp_{program} -- Command Successful\n"), "{}", outcome.stderr);
        assert_eq!((outcome.request.as_slice(), outcome.status), (request, Some(0)), "{words}");
    }
}

#[test]
fn errors_and_exit_statuses() {
    let refusal = || error("ERROR", "informing node info failed", "invalid node ID : 9");
    let text = "ERROR:  informing node info failed\nDETAIL:  invalid node ID : 9\n\n";
    for (words, status) in [("node_info 9", 0), ("node_info --strict 9", 1)] {
        let outcome = run(words, refusal());
        assert_eq!((outcome.stderr.as_str(), outcome.status), (text, Some(status)), "{words}");
    }
    let home = Home::with("*:*:pgpool:secret\n", 0o600);
    let fatal = error("FATAL", "authentication failed for user \"pgpool\"", "username and/or password does not match");
    let outcome = run_with(&home, "node_count", fatal, Vec::new());
    let text =
        "FATAL:  authentication failed for user \"pgpool\"\nDETAIL:  username and/or password does not match\n\n";
    assert_eq!((outcome.stderr.as_str(), outcome.status), (text, Some(1)));
    // Nobody listens.
    let port = TcpListener::bind("127.0.0.1:0").expect("listen").local_addr().expect("address").port().to_string();
    let output = client(&home, "node_count -h 127.0.0.1 -U pgpool").args(["-p", &port]).output().expect("pcp");
    let text = "ERROR: connection to host \"127.0.0.1\" failed with error \"Connection refused\"\n";
    assert_eq!((String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()), (text, Some(1)));
}

#[test]
fn without_a_password_nothing_is_asked() {
    let login = || texts(b'r', &["AuthenticationOK"]);
    let missing = "ERROR: no password: none was found in the password file, and -w was given\n";
    let outcome = run_with(&Home::with("*:*:other:secret\n", 0o600), "node_count", login(), Vec::new());
    assert_eq!((outcome.stderr.as_str(), outcome.status), (missing, Some(1)));
    let home = Home::with("*:*:*:secret\n", 0o644);
    let outcome = run_with(&home, "node_count", login(), Vec::new());
    let warning = format!(
        "WARNING: password file \"{}\" has group or world access; permissions should be u=rw (0600) or less\n",
        home.0.join("pcppass").display()
    );
    assert_eq!((outcome.stderr, outcome.status), (warning + missing, Some(1)));
}

#[test]
fn replies_that_are_none() {
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() - 3);
        bytes
    };
    let too_many = [texts(b'i', &["ArraySize", "1"]), two_nodes()[16..].to_vec()].concat();
    for (what, reply) in [
        ("another type", done(b'q')),
        ("a record that was not announced", texts(b'i', &["NodeInfo", "x"])),
        ("too few fields", [texts(b'i', &["ArraySize", "1"]), texts(b'i', &["NodeInfo", "x"]), done(b'i')].concat()),
        ("more than announced", too_many),
        ("an announcement that is no number", texts(b'i', &["ArraySize", "many"])),
        ("a length that is none", b"i\0\0\0\x03".to_vec()),
        ("a length beyond all bounds", b"i\xff\xff\xff\xff".to_vec()),
    ] {
        let outcome = run("node_info", reply);
        assert_eq!((outcome.stdout.as_str(), outcome.status), ("", Some(1)), "{what}: {}", outcome.stderr);
        assert!(!outcome.stderr.is_empty() && !outcome.stderr.contains("panic"), "{what}: {}", outcome.stderr);
    }
    // And one that ends in the middle, which the server shows by closing.
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut answer = |bytes: &[u8]| {
            next_frame(&mut stream).expect("a request");
            stream.write_all(bytes).expect("answer");
        };
        answer(&frame(b'm', &[1, 2, 3, 4]));
        answer(&texts(b'r', &["AuthenticationOK"]));
        answer(&cut(two_nodes()));
    });
    let home = Home::with("*:*:pgpool:secret\n", 0o600);
    let output = client(&home, "node_info -h 127.0.0.1 -U pgpool").args(["-p", &port]).output().expect("pcp");
    server.join().expect("server");
    let text = "ERROR: unable to read data from socket.\n";
    assert_eq!((String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()), (text, Some(1)));
}

#[test]
fn a_silent_server_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let port = listener.local_addr().expect("address").port().to_string();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("limit");
        for answer in [frame(b'm', &[1, 2, 3, 4]), texts(b'r', &["AuthenticationOK"]), Vec::new()] {
            next_frame(&mut stream).expect("a request");
            stream.write_all(&answer).expect("answer");
        }
        // Until the client goes.
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let home = Home::with("*:*:pgpool:secret\n", 0o600);
    let started = Instant::now();
    let words = "recovery_node 1 --timeout 1 -h 127.0.0.1 -U pgpool";
    let output = client(&home, words).args(["-p", &port]).output().expect("pcp");
    server.join().expect("server");
    assert!((1..20).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
    let text = "ERROR: no reply from pgpool in time\n";
    assert_eq!((String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()), (text, Some(1)));
}

#[test]
fn by_name_and_by_command() {
    let home = Home::with("", 0o600);
    let link = home.0.join("pcp_node_count");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pcp"), &link).expect("link");
    let stderr = |program: &PathBuf, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().expect("program");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let version = (Some(0), "pcp_node_count (pgpool-II) 4.7.2\n".to_owned());
    let pcp = PathBuf::from(env!("CARGO_BIN_EXE_pcp"));
    assert_eq!(stderr(&link, &["-V"]), version);
    assert_eq!(stderr(&pcp, &["node_count", "-V"]), version);
    assert_eq!(stderr(&pcp, &["node-count", "--version"]), version);
    let help = stderr(&link, &["-?"]);
    assert!(help.0 == Some(0) && help.1.starts_with("pcp_node_count - display the total number of nodes"), "{help:?}");
    assert_eq!(stderr(&pcp, &["nosuch"]).0, Some(1));
    assert_eq!(stderr(&pcp, &[]).0, Some(1));
    let other = home.0.join("pcp_nosuch");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_pcp"), &other).expect("link");
    assert_eq!(stderr(&other, &[]), (Some(1), "pcp_nosuch is a invalid PCP utility\n".to_owned()));
}

/// The help of each program is that of the original, but for the options that are ours.
#[test]
fn helps_are_those_of_the_original() {
    let programs = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target").join("pgpool2/bin");
    if !programs.join("pcp_node_info").exists() {
        println!("skipped: run scripts/setup --pgpool2");
        return;
    }
    let overview = Command::new(env!("CARGO_BIN_EXE_pcp")).arg("--help").output().expect("pcp").stdout;
    let overview = String::from_utf8(overview).expect("text");
    let commands = overview.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let mut compared = 0;
    for command in commands {
        let theirs = programs.join(format!("pcp_{command}"));
        if !theirs.exists() {
            // Of a later release.
            continue;
        }
        let help = |mut program: Command| {
            let output = program.arg("--help").output().expect("help");
            String::from_utf8(output.stderr).expect("text")
        };
        let mut ours = Command::new(env!("CARGO_BIN_EXE_pcp"));
        ours.arg(command);
        let ours = help(ours).lines().filter(|line| !line.starts_with("      --")).collect::<Vec<_>>().join("\n");
        assert_eq!(ours + "\n", help(Command::new(theirs)), "{command}");
        compared += 1;
    }
    assert_eq!(compared, 13);
}
