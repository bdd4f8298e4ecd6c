//! `pgpool route` from the shell, with no server to be reached.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// A directory with a pgpool.conf; removed when dropped.
struct Place(PathBuf);

impl Place {
    /// Three nodes, all at this port.
    fn new(port: u16, more: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("pgpool-route-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let place = Self(std::env::temp_dir().join(name));
        fs::create_dir_all(&place.0).expect("directory");
        let node = |id: usize| {
            format!("backend_hostname{id} = '127.0.0.1'\nbackend_port{id} = {port}\nbackend_weight{id} = {id}\n")
        };
        let nodes: String = (0..3).map(node).collect();
        fs::write(place.config(), format!("work_dir = '{}'\n{nodes}{more}\n", place.0.display())).expect("pgpool.conf");
        place
    }

    fn config(&self) -> PathBuf {
        self.0.join("pgpool.conf")
    }

    /// Exit status, stdout and stderr.
    fn route(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgpool"));
        command.arg("route").arg("-f").arg(self.config()).args(arguments).stdin(Stdio::null());
        let output = command.output().expect("pgpool");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// The answer to a question that is one, blanks squeezed.
    #[track_caller]
    fn answer(&self, arguments: &[&str]) -> Vec<String> {
        let (status, text, errors) = self.route(arguments);
        assert!(status == 0 && errors.is_empty(), "{status} {errors}");
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A port on which nobody listens.
fn no_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("port").port()
}

#[test]
fn the_whole_answer() {
    let port = no_port();
    let place = Place::new(port, "user_redirect_preference_list = 'joe:standby(0.3)'");
    let expected = [
        "node 0 or 1 or 2",
        "role primary or standby",
        "class read",
        "reason it is a read that the load balance node can answer",
        "decided_by",
        "cacheable yes",
        "state no transaction",
        "client user joe, database postgres",
        &format!(
            "reads node 0 (127.0.0.1:{port}) with 70 %, node 1 (127.0.0.1:{port}) with 10 %, node 2 (127.0.0.1:{port}) \
             with 20 %"
        ),
        &format!("nodes not asked: node 0 (127.0.0.1:{port}) is taken for the primary"),
        "catalog nothing to be looked up",
    ];
    assert_eq!(place.answer(&["--offline", "-U", "joe", "select 1"]), expected);
}

#[test]
fn what_is_not_known_is_said() {
    let place = Place::new(no_port(), "sr_check_user = 'checker'\nsr_check_database = 'shop'");
    let answer = place.answer(&["select f(a) from t"]);
    assert_eq!(answer[..2], ["node 0", "role primary"]);
    assert_eq!(answer[3], "reason its tables or functions have not been looked up");
    assert_eq!(answer[7], "client user checker, database shop");
    assert!(answer[9].starts_with("nodes none answers: node 0"), "{}", answer[9]);
    assert_eq!(
        answer[10],
        "catalog tables and functions not looked up: no node answers; -h and -p name a server that does"
    );
    let answer = place.answer(&["-h", "127.0.0.1", "select f(a) from t"]);
    assert!(answer[10].starts_with("catalog tables and functions not looked up: failed to create"), "{}", answer[10]);
    let answer = place.answer(&["--offline", "select f(a) from t"]);
    assert_eq!(answer[10], "catalog tables and functions not looked up: --offline");
}

#[test]
fn detached_nodes_get_nothing() {
    let place = Place::new(no_port(), "");
    fs::write(place.0.join("pgpool_status"), "up\ndown\nup\n").expect("pgpool_status");
    let answer = place.answer(&["--offline", "select 1"]);
    assert_eq!(answer[..2], ["node 2", "role standby"]);
    assert!(answer[9].ends_with("is not used: down in the status file"), "{}", answer[9]);
}

#[test]
fn a_silent_server_does_not_keep_it_waiting() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("bind");
    let place = Place::new(silent.local_addr().expect("address").port(), "connect_timeout = 0");
    let began = Instant::now();
    let answer = place.answer(&["select * from t"]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(answer[10].contains("not looked up"), "{}", answer[10]);
}

#[test]
fn mistakes_have_exit_status_1() {
    let place = Place::new(no_port(), "");
    for (arguments, message) in [
        (&[][..], "route needs a statement"),
        (&[""], "route needs a statement"),
        (&["select", "1"], "route takes one statement: put it in quotes"),
        (&["-p", "many", "select 1"], "many"),
    ] {
        let (status, text, errors) = place.route(arguments);
        assert!((status, &*text) == (1, "") && errors.contains(message), "{arguments:?}: {status} {text} {errors}");
    }
    fs::write(place.config(), "port = 'nonsense'\n").expect("pgpool.conf");
    let (status, text, errors) = place.route(&["--offline", "select 1"]);
    assert!((status, &*text) == (1, "") && errors.contains("port"), "{status} {text} {errors}");
}

#[test]
fn servers_are_asked_as_securely_as_the_file_wants() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listener");
    let port = listener.local_addr().expect("address").port();
    let (tell, heard) = channel();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut request = [0; 8];
            let _ = client.read_exact(&mut request).and_then(|()| client.write_all(b"N"));
            let mut behind = Vec::new();
            let _ = client.read_to_end(&mut behind);
            let _ = tell.send((request, behind));
        }
    });
    let place = Place::new(port, "backend_sslmode = 'require'\nsr_check_user = 'me'\nsr_check_password = 'secret'");
    place.route(&["SELECT 1 FROM t"]);
    for _ in 0..3 {
        let (request, behind) = heard.recv_timeout(Duration::from_secs(10)).expect("a node is asked");
        // An SSLRequest, and nothing to a server that will not have it.
        assert_eq!((&request, behind.as_slice()), (b"\0\0\0\x08\x04\xd2\x16\x2f", &b""[..]));
    }
}
