//! The Debian package in a root of its own: installed, started, updated under a running pgpool, removed, purged.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// A root directory with a dpkg of its own; whatever runs in it is ended when it is dropped.
struct Root {
    path: PathBuf,
    running: Option<Child>,
}

impl Root {
    fn new() -> Root {
        let path = std::env::temp_dir().join(format!("pgpool-package-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        for directory in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "debs", "run"] {
            fs::create_dir_all(path.join(directory)).expect("directory");
        }
        fs::write(path.join("var/lib/dpkg/status"), "").expect("status");
        Root { path, running: None }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A package of the programs that were built for the tests, with this version.
    fn package(&self, version: &str) -> PathBuf {
        let programs = Path::new(env!("CARGO_BIN_EXE_pgpool")).parent().expect("directory");
        let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deb"))
            .args([programs, &self.at("debs")])
            .arg(version)
            .env("DPKG_DEB_COMPRESSOR_TYPE", "none")
            .output()
            .expect("scripts/deb");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
    }

    /// Scripts of the package run here, and are told of the root.
    fn dpkg(&self, action: &str, what: &Path) -> String {
        let output = Command::new("dpkg")
            .arg(format!("--root={}", self.path.display()))
            .args(["--force-script-chrootless", "--force-depends", action])
            .arg(what)
            .stdin(Stdio::null())
            .output()
            .expect("dpkg");
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success(), "{said}");
        said
    }

    fn pid(&self) -> Option<Pid> {
        fs::read_to_string(self.at("run/pgpool.pid")).ok()?.trim().parse().ok().map(Pid::from_raw)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.at("log")).unwrap_or_default()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            let _ = kill(pid, Signal::SIGQUIT);
        }
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.path);
    }
}

#[track_caller]
fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_alive(pid: Pid) -> bool {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| !line.is_empty())
}

#[test]
fn it_is_installed_started_updated_removed_and_purged() {
    if !nix::unistd::geteuid().is_root() || Command::new("dpkg-shlibdeps").arg("--version").output().is_err() {
        println!("skipped: only root may run dpkg, and dpkg-dev must be there");
        return;
    }
    let mut root = Root::new();
    let (first, second) = (root.package("0.1"), root.package("0.2"));
    let fields = Command::new("dpkg-deb").arg("-f").arg(&first).output().expect("dpkg-deb");
    let fields = String::from_utf8_lossy(&fields.stdout).into_owned();
    for field in ["Provides: pgpool2", "Conflicts: pgpool2", "Replaces: pgpool2", "Version: 0.1"] {
        assert!(fields.contains(field), "{fields}");
    }

    root.dpkg("-i", &first);
    for name in [
        "usr/sbin/pcp_node_info",
        "usr/sbin/pg_md5",
        "usr/share/man/man8/pgpool.8.gz",
        "usr/share/man/man1/pcp_node_info.1.gz",
        "etc/pgpool2/pcp.conf",
        "etc/pgpool2/pool_hba.conf",
    ] {
        assert!(root.at(name).exists(), "{name}");
    }
    for page in ["man8/pgpool.8", "man1/pcp_node_info.1", "man1/pg_enc.1"] {
        let packed =
            Command::new("gzip").arg("-dc").arg(root.at(&format!("usr/share/man/{page}.gz"))).output().expect("gzip");
        assert!(packed.stdout.windows(3).any(|text| text == b".TH"), "{page}");
    }
    let unit = fs::read_to_string(root.at("lib/systemd/system/pgpool2.service")).expect("the unit");
    assert!(unit.contains("ExecStart=/usr/sbin/pgpool -n -f /etc/pgpool2/pgpool.conf\n"), "{unit}");
    let conf = root.at("etc/pgpool2/pgpool.conf");
    let shipped = fs::read_to_string(&conf).expect("pgpool.conf");
    assert!(shipped.contains("pid_file_name = '/var/run/postgresql/pgpool.pid'\n"), "{shipped}");

    let run = root.at("run").display().to_string();
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let edited = format!(
        "{shipped}\nlisten_addresses = '127.0.0.1'\nport = {port}\nnum_init_children = 2\nunix_socket_directories = '{run}'\n\
         pcp_listen_addresses = ''\npcp_socket_dir = '{run}'\nwork_dir = '{run}'\npid_file_name = '{run}/pgpool.pid'\n\
         backend_hostname0 = '{run}'\nbackend_port0 = 5432\n\tpid_file_name = '{run}/pgpool.pid' # where it's looked for\n"
    );
    fs::write(&conf, &edited).expect("pgpool.conf");
    let log = File::create(root.at("log")).expect("log");
    let started = Command::new(root.at("usr/sbin/pgpool")).arg("-n").arg("-f").arg(&conf).stderr(log).spawn();
    root.running = Some(started.expect("pgpool"));
    wait_for("pgpool to serve", || root.log().contains("successfully started"));
    let old = root.pid().expect("a pid");
    assert!(!root.log().contains("has group or world access"), "{}", root.log());

    // Nobody is refused while the new version takes over.
    let said = root.dpkg("-i", &second);
    assert!(said.contains("has taken over from"), "{said}\n{}", root.log());
    let new = root.pid().expect("a pid");
    assert!(new != old && is_alive(new));
    let ended = root.running.take().expect("pgpool").wait().expect("wait");
    assert_eq!(ended.code(), Some(0), "it has no session");
    TcpStream::connect(("127.0.0.1", port)).expect("the new one listens");
    assert_eq!(fs::read_to_string(&conf).expect("pgpool.conf"), edited, "it is the administrator's");

    root.dpkg("-r", Path::new("pgpool"));
    wait_for("the end", || !is_alive(new));
    assert!(conf.exists() && !root.at("usr/sbin/pgpool").exists() && !root.at("run/pgpool.pid").exists());
    root.dpkg("-P", Path::new("pgpool"));
    assert!(!root.at("etc/pgpool2").exists());
    let left: Vec<_> =
        ["usr/sbin", "usr/share/pgpool2", "usr/share/doc/pgpool", "usr/share/man"].map(|name| root.at(name)).to_vec();
    assert!(left.iter().all(|path| !path.exists()), "{left:?}");
}
