//! Metrics, health answers and status page, of real clusters.

mod health;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};

use crate::harness::{
    Cluster, PATIENCE, Pgpool, Program, Stop, Wire, eventually, frontend, shared, target_dir, wait_for,
};
use crate::only_ours;
use crate::tls::authority::Authority;
use crate::tls::stage::{SSL_REQUEST, with_tls};

/// md5 of "secret".
const USERS: &str = "# who\nann:5ebe2294ecd0e0f08eab7690d2a6ee69\n";
/// Basic credentials of ann with this password, and with another one.
const RIGHT: &str = "Authorization: Basic YW5uOnNlY3JldA==\r\n";
const WRONG: &str = "Authorization: Basic YW5uOndyb25n\r\n";

/// Status and body; `None`: no answer.
fn ask(port: u16, path: &str, headers: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("timeout");
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// What it answers.
#[track_caller]
pub fn get(pool: &Pgpool, path: &str) -> (u16, String) {
    ask(pool.metrics_port(), path, "").unwrap_or_else(|| panic!("no answer to {path}:\n{}", pool.log()))
}

/// Whether this line is among the metrics.
fn tells(pool: &Pgpool, line: &str) -> bool {
    get(pool, "/metrics").1.lines().any(|found| found == line)
}

fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

#[test]
fn prometheus_reads_a_scrape_and_finds_what_was_done() {
    only_ours!("it has no metrics of its own");
    let pool = Pgpool::on(shared()).with_metrics().set("load_balance_mode", "off").start();
    let mut session = pool.connect();
    for _ in 0..3 {
        assert_eq!(session.value("SELECT 1"), "1");
    }
    session.query("no statement");
    let url = format!("http://127.0.0.1:{}/metrics", pool.metrics_port());
    let scrape =
        || Program::new("/usr/bin/python3").args([&client("prometheus_scrape.py").display().to_string(), &url]);
    let text = scrape().run().succeeded();
    let server = format!("server=127.0.0.1:{}", shared().primary().port);
    for line in [
        &format!("pgpool_statements_total|class=select,node=0,{server}|3"),
        &format!("pgpool_errors_total|node=0,{server},severity=error|1"),
        &format!("pgpool_answer_seconds_count|node=0,{server}|4"),
        &format!("pgpool_node_primary|node=0,{server}|1"),
        "pgpool_workers|state=busy|1",
        "pgpool_workers|state=free|3",
        "pgpool_sessions|state=idle|1",
        "pgpool_routing_total|reason=balance_off|4",
        "pgpool2_frontend_total||4",
        "pgpool2_pool_cache_num_hash_entries||0",
        "pgpool2_up||1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
    let of = |name: &str| text.lines().filter(|line| line.starts_with(&format!("{name}|"))).count();
    assert_eq!([of("pgpool_node_attached"), of("pgpool2_pool_nodes_status"), of("pgpool_failovers_total")], [3, 3, 20]);
    drop(session);
    wait_for("the session to be counted as ended", || tells(&pool, "pgpool_sessions_total 1"));
}

/// A figure without labels.
fn figure(pool: &Pgpool, name: &str) -> f64 {
    let (_, text) = get(pool, "/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}:\n{text}"))
}

#[test]
fn what_the_dead_have_done_stays_counted() {
    only_ours!("it has no metrics of its own");
    let pool = Pgpool::on(shared()).with_metrics().set("num_init_children", 1).start();
    let mut session = pool.connect();
    let cpu = "pgpool_worker_cpu_seconds_total";
    let mut before = 0.0;
    wait_for("some processor time", || {
        (0..100).for_each(|_| assert_eq!(session.value("SELECT 1"), "1"));
        before = figure(&pool, cpu);
        // More than a process needs to begin.
        before > 0.02
    });
    let kill_one = |title| {
        let victim = pool.children(title)[0];
        kill(victim, Signal::SIGKILL).expect("kill");
        victim
    };
    kill_one("postgres test");
    wait_for("the killed session to be counted", || tells(&pool, "pgpool_sessions_total 1"));
    let former = kill_one("pgpool: metrics");
    wait_for("another one", || pool.children("pgpool: metrics").first().is_some_and(|pid| *pid != former));
    wait_for("its answer", || ask(pool.metrics_port(), "/health/live", "").is_some_and(|answer| answer.0 == 200));
    let after = figure(&pool, cpu);
    assert!(after >= before, "{after} after {before}");
}

#[test]
fn a_thousand_slow_visitors_keep_nobody_out() {
    only_ours!("it has no metrics of its own");
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("limit");
    setrlimit(Resource::RLIMIT_NOFILE, most.min(65_536), most).expect("limit");
    let pool = Pgpool::on(shared()).with_metrics().start();
    let slow: Vec<TcpStream> = (0..1000)
        .map(|number| {
            let mut stream = TcpStream::connect(("127.0.0.1", pool.metrics_port())).expect("connect");
            let part = ["", "G", "GET / HTTP/1.1\r\nX: y\r\n"][number % 3];
            // It may have had to make room already.
            let _ = stream.write_all(part.as_bytes());
            stream
        })
        .collect();
    let begun = Instant::now();
    assert_eq!(get(&pool, "/metrics").0, 200);
    assert_eq!(get(&pool, "/health/write").0, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let process = pool.children("pgpool: metrics")[0];
    let open = fs::read_dir(format!("/proc/{process}/fd")).expect("descriptors").count();
    assert!(open < 100, "{open} descriptors for {} visitors of one address", slow.len());
    assert_eq!(pool.connect().value("SELECT 1"), "1");
    let mut odd = TcpStream::connect(("127.0.0.1", pool.metrics_port())).expect("connect");
    odd.write_all(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\n\r\n\n").expect("write");
    let mut answer = String::new();
    odd.read_to_string(&mut answer).expect("answer");
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}

#[test]
fn a_password_is_asked_for_if_wished_and_guessing_is_slow() {
    only_ours!("it has no metrics of its own");
    let pool = Pgpool::on(shared()).with_metrics().prepare();
    fs::write(pool.path("pcp.conf"), USERS).expect("pcp.conf");
    let mut pool = pool.started();
    assert_eq!(get(&pool, "/").0, 200);
    pool.set("metrics_require_login", "on");
    pool.signal(Signal::SIGHUP);
    wait_for("the password to be needed", || get(&pool, "/metrics").0 == 401);
    let port = pool.metrics_port();
    let status = |path, headers| ask(port, path, headers).map(|answer| answer.0);
    for path in ["/", "/metrics", "/status.json", "/nowhere"] {
        assert_eq!(status(path, ""), Some(401), "{path}");
    }
    assert_eq!(get(&pool, "/health/live").0, 200);
    assert_eq!(status("/status.json", RIGHT), Some(200));
    let begun = Instant::now();
    assert_eq!(status("/", WRONG), Some(401));
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(pool.log().contains("authentication failed for user \"ann\""), "{}", pool.log());
    let (_, metrics) = ask(port, "/metrics", RIGHT).expect("metrics");
    assert!(metrics.contains("pgpool_refused_total{by=\"metrics\"} 1\n"), "{metrics}");
}

#[test]
fn who_is_not_let_in_is_counted() {
    only_ours!("it has no metrics of its own");
    let pool = Pgpool::on(shared()).with_metrics().set("enable_pool_hba", "on").prepare();
    fs::write(pool.path("pool_hba.conf"), "host all nobody all reject\nhost all all all trust\n")
        .expect("pool_hba.conf");
    let pool = pool.started();
    let log_in = |user, database| Wire::login_with(pool.port, &[("user", user), ("database", database)]);
    assert!(log_in("postgres", "no_such_database").is_err() && log_in("nobody", "postgres").is_err());
    drop(log_in("postgres", "postgres").expect("a session"));
    wait_for("the session to be counted", || tells(&pool, "pgpool_sessions_total 1"));
    for by in ["server", "pgpool"] {
        assert!(tells(&pool, &format!("pgpool_refused_total{{by=\"{by}\"}} 1")), "{}", get(&pool, "/metrics").1);
    }
    // A server that is full has not judged the client.
    let role = "CREATE ROLE crowded LOGIN CONNECTION LIMIT 0";
    shared().primary().sql(role);
    assert!(log_in("crowded", "postgres").is_err());
    shared().primary().sql("DROP ROLE crowded");
    // Figures that know of this session know of what was before it; who was refused has had none.
    drop(log_in("postgres", "postgres").expect("a session"));
    wait_for("both sessions to be counted", || tells(&pool, "pgpool_sessions_total 2"));
    assert!(tells(&pool, "pgpool_refused_total{by=\"server\"} 1"), "{}", get(&pool, "/metrics").1);
}

#[test]
fn broken_logins_are_counted_too() {
    only_ours!("it has no metrics of its own");
    let authority = Authority::new("ours");
    let config = with_tls(Pgpool::on(shared()), &authority.issue("pgpool")).with_metrics();
    let pool = config.set("enable_pool_hba", "on").set("authentication_timeout", 1).prepare();
    pool.write("pool_hba.conf", "host all all all scram-sha-256\n");
    let pool = pool.started();
    let counted = |count: u32| {
        let line = format!("pgpool_refused_total{{by=\"pgpool\"}} {count}\n");
        wait_for("the counter", || get(&pool, "/metrics").1.contains(&line));
    };
    let startup = frontend::startup(0, &[("user", "somebody"), ("database", "test")]);
    // A message of SCRAM that is none; a client that says nothing more; a handshake that fails.
    let mut wire = pool.open();
    wire.send([&startup[..], &frontend::message('p', b"SCRAM-SHA-256\0\0\0\0\x01x")].concat());
    assert!(wire.is_closed_within(PATIENCE));
    counted(1);
    let mut wire = pool.open();
    wire.send(&startup);
    assert!(wire.is_closed_within(PATIENCE));
    counted(2);
    let mut wire = pool.open();
    wire.send(SSL_REQUEST);
    assert_eq!(wire.read_byte().expect("an answer"), Some(b'S'));
    wire.send([0; 64]);
    assert!(wire.is_closed_within(PATIENCE));
    counted(3);
}

#[test]
fn no_password_is_on_the_page() {
    only_ours!("it has no metrics of its own");
    let pool = Pgpool::on(shared())
        .with_metrics()
        .set("health_check_password", "top secret")
        .set("recovery_password", "top secret")
        .set("failback_command", "PGPASSWORD=secret true")
        .start();
    let _session = pool.connect();
    let (_, status) = get(&pool, "/status.json");
    assert!(status.contains("[\"num_init_children\",\"4\",\"32\"]"), "{status}");
    assert!(status.contains("[\"health_check_password\",\"*****\","), "{status}");
    assert!(!status.contains("secret"), "{status}");
    assert!(status.contains("\"user\":\"postgres\""), "{status}");
    let (_, page) = get(&pool, "/");
    for outside in ["http://", "https://", "src=", "@import"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_process_is_replaced_and_goes_with_the_parent() {
    only_ours!("it has no metrics of its own");
    let mut pool = Pgpool::on(shared()).with_metrics().start();
    assert_eq!(get(&pool, "/health/live").0, 200);
    let before = pool.children("pgpool: metrics")[0];
    kill(before, Signal::SIGKILL).expect("kill");
    wait_for("another one", || pool.children("pgpool: metrics").first().is_some_and(|pid| *pid != before));
    wait_for("its answer", || ask(pool.metrics_port(), "/health/live", "").is_some_and(|answer| answer.0 == 200));
    assert_eq!(pool.stop(Stop::Smart).code(), Some(0));
    assert_eq!(ask(pool.metrics_port(), "/health/live", ""), None);
    let without = Pgpool::on(shared()).start();
    assert!(without.children("pgpool: metrics").is_empty());
}

/// The page in a real browser, with what its script has made of the figures.
#[test]
fn a_browser_shows_the_page() {
    only_ours!("it has no page");
    let Some(browser) =
        ["/usr/bin/chromium", "/usr/bin/chromium-browser"].into_iter().find(|it| Path::new(it).exists())
    else {
        println!("skipped: chromium is not installed");
        return;
    };
    let cluster = Cluster::streaming(3).start();
    let mut pool = Pgpool::on(&cluster)
        .with_metrics()
        .set("health_check_period", 1)
        .set("health_check_user", "postgres")
        .set("sr_check_period", 1)
        .set("delay_threshold", 10_000_000)
        .start();
    let mut session = pool.connect();
    assert_eq!(session.value("SELECT 1"), "1");
    cluster.node(2).kill();
    wait_for("the failover", || get(&pool, "/status.json").1.contains("\"kind\":\"failover\",\"node\":2"));
    let plain = format!("http://127.0.0.1:{}/", pool.metrics_port());
    let profile = pool.path("browser").display().to_string();
    let screenshots = target_dir().join("screenshots");
    fs::create_dir_all(&screenshots).expect("directory");
    let open = |size: &str, what: &str, url: &str| {
        let outcome = Program::new(browser)
            .env("HOME", &profile)
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .args([&format!("--user-data-dir={profile}"), &format!("--window-size={size}")])
            .args(["--virtual-time-budget=6000", what, url])
            .run();
        outcome.stdout
    };
    // What the script has made, without the script.
    let shown = |url: &str| open("1200,900", "--dump-dom", url).split("<script>").next().unwrap_or_default().to_owned();
    let dom = shown(&plain);
    for node in cluster.nodes() {
        assert!(dom.contains(&format!("{}  127.0.0.1:{}", node.id, node.port)), "{dom}");
    }
    let cause = "health check failed";
    for text in ["processes with a client", "num_init_children", "as of ", "down", cause, "takes writes", "streaming"] {
        assert!(dom.contains(text), "{text}:\n{dom}");
    }
    for (name, size) in [("desktop", "1200,1400"), ("phone", "500,1800")] {
        let file = screenshots.join(format!("{name}.png"));
        let _ = fs::remove_file(&file);
        open(size, &format!("--screenshot={}", file.display()), &plain);
        assert!(eventually(Duration::from_secs(5), || file.exists()), "no screenshot of {name}");
    }
    // A bookmark may carry the login.
    fs::write(pool.path("pcp.conf"), USERS).expect("pcp.conf");
    pool.set("metrics_require_login", "on");
    pool.signal(Signal::SIGHUP);
    wait_for("the password to be needed", || get(&pool, "/").0 == 401);
    let dom = shown(&plain.replace("//", "//ann:secret@"));
    assert!(dom.contains("takes writes") && dom.contains("as of "), "{dom}");
}
