//! One initdb per server version, copied for every node.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use nix::unistd::Uid;

use super::environment::{full_server_version, server_program, server_user, target_dir};
use super::scratch::Scratch;

/// The database every test uses; `postgres` will not do, connections to it are never pooled (protocol 10).
pub const DATABASE: &str = "test";

/// What the database holds from the start.
const CONTENT: &str = "CREATE TABLE ten AS SELECT n FROM generate_series(1, 10) n";

/// To be changed with anything that changes the template, so that cached ones are not used any more.
const CONTENT_VERSION: u32 = 1;

/// Copies the template to a new data directory. Copies are clones of one stopped server, so one can be the streaming
/// standby of another without a base backup.
pub fn copy_to(data: &Path) {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    copy(TEMPLATE.get_or_init(cached_template), data);
}

fn cached_template() -> PathBuf {
    let cache = target_dir().join("test-cache");
    let template = cache.join(format!("{}-{CONTENT_VERSION}-uid{}", full_server_version(), Uid::effective()));
    if !template.exists() {
        let scratch = Scratch::new("initdb");
        let data = scratch.path().join("data");
        make(&data);
        fs::create_dir_all(&cache).expect("cache directory");
        // Under another name first: a test program running beside this one sees a complete template or none.
        let unfinished = cache.join(format!("unfinished-{}", std::process::id()));
        copy(&data, &unfinished);
        if fs::rename(&unfinished, &template).is_err() {
            fs::remove_dir_all(&unfinished).expect("removing a second template");
        }
    }
    template
}

fn make(data: &Path) {
    let mut initdb = as_server_user(&server_program("initdb"));
    initdb.arg("-D").arg(data).args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]);
    initdb.args(["--wal-segsize=1", "--no-sync"]);
    let output = initdb.output().expect("initdb");
    assert!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));

    run_single(data, "postgres", &format!("CREATE DATABASE {DATABASE}"));
    run_single(data, DATABASE, CONTENT);
}

fn run_single(data: &Path, database: &str, sql: &str) {
    let mut single = as_server_user(&server_program("postgres"));
    single.args(["--single", "-F", "-D"]).arg(data).arg(database);
    let mut single =
        single.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("postgres --single");
    single.stdin.take().expect("stdin").write_all(sql.as_bytes()).expect("postgres --single");
    assert!(single.wait().expect("postgres --single").success(), "postgres --single failed");
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--reflink=auto"]).arg(from).arg(to).status().expect("cp");
    assert!(status.success(), "cp -a {} {} failed", from.display(), to.display());
}

/// A command that runs as the servers' user.
pub fn as_server_user(program: &Path) -> Command {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    if let Some(user) = server_user() {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    command.current_dir("/");
    command
}
