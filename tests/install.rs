//! `make install`: what is put where, and that it needs nothing of the source tree.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory that goes away with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The files below `directory`, as paths from there.
fn files(directory: &Path, inside: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory.join(inside)).expect(inside).flatten() {
        let name = format!("{inside}/{}", entry.file_name().to_string_lossy()).trim_start_matches('/').to_owned();
        if entry.path().is_dir() {
            found.extend(files(directory, &name));
        } else {
            found.insert(name);
        }
    }
    found
}

#[test]
fn programs_samples_and_documents_are_installed_and_work_from_there() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = Path::new(env!("CARGO_BIN_EXE_pgpool"));
    let folder = Folder(std::env::temp_dir().join(format!("pgpool-install-{}", std::process::id())));
    let destination = folder.0.join("stage");
    // The programs are those that were built for the tests: nothing is built here.
    let output = Command::new("make")
        .current_dir(source)
        .args(["install", "CARGO=true", "PREFIX=/opt/pgpool"])
        .arg(format!("DESTDIR={}", destination.display()))
        .arg(format!("RELEASE={}", built.parent().expect("directory").display()))
        .output()
        .expect("make");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let installed = files(&destination, "");
    let prefix = |name: &str| format!("opt/pgpool/{name}");
    let outside: Vec<_> = installed.iter().filter(|name| !name.starts_with("opt/pgpool/")).collect();
    assert!(outside.is_empty(), "{outside:?}");
    for name in ["bin/pgpool", "etc/pgpool.conf.sample", "etc/pool_hba.conf.sample", "etc/pcp.conf.sample"] {
        assert!(installed.contains(&prefix(name)), "{name} is missing: {installed:?}");
    }
    let unit = fs::read_to_string(destination.join(prefix("lib/systemd/system/pgpool.service"))).expect("the unit");
    assert!(unit.contains("ExecStart=/opt/pgpool/bin/pgpool -n -f /opt/pgpool/etc/pgpool.conf\n"), "{unit}");
    assert!(installed.contains(&prefix("lib/systemd/system/pgpool.socket")), "{installed:?}");
    for script in files(source, "scripts/samples") {
        let name = format!("etc/{}.sample", script.rsplit('/').next().unwrap_or_default());
        let file = fs::metadata(destination.join(prefix(&name))).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(file.permissions().mode() & 0o777, 0o755, "{name}");
    }
    assert!(installed.contains(&prefix("share/pgpool/grafana/pgpool.json")), "{installed:?}");
    for document in files(source, "docs").into_iter().chain(["README.md".to_owned()]).filter(|n| n.ends_with(".md")) {
        let name = document.rsplit('/').next().unwrap_or_default();
        assert!(installed.contains(&prefix(&format!("share/doc/pgpool/{name}"))), "{name} is missing");
    }
    for page in files(source, "docs/man").into_iter().filter(|name| !name.ends_with(".toml")) {
        let (name, section) =
            (page.rsplit('/').next().unwrap_or_default(), page.rsplit('.').next().unwrap_or_default());
        assert!(installed.contains(&prefix(&format!("share/man/man{section}/{name}"))), "{name} is missing");
    }

    let root = destination.join("opt/pgpool");
    let program = |arguments: &[&str]| {
        let output = Command::new(root.join("bin/pgpool")).args(arguments).current_dir("/").output().expect("pgpool");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let (status, text) = program(&["--version"]);
    assert!(status == Some(0) && text.contains("pgpool-II version"), "{text}");
    let overview = Command::new(root.join("bin/pcp")).arg("--help").output().expect("pcp");
    let overview = String::from_utf8_lossy(&overview.stdout).into_owned();
    let commands = overview.lines().filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next());
    let names =
        commands.map(|command| format!("pcp_{command}")).chain(["pg_md5", "pg_enc", "pgproto"].map(String::from));
    let names = names.collect::<Vec<_>>();
    assert_eq!(names.len(), 18, "{overview}");
    for name in names {
        let output = Command::new(root.join("bin").join(&name)).arg("--help").output().expect(&name);
        let text = [output.stdout, output.stderr].concat();
        assert!(output.status.success() && !text.is_empty(), "{name}");
        assert!(installed.contains(&prefix(&format!("share/man/man1/{name}.1"))), "{name} has no manual page");
    }
    let sample = root.join("etc/pgpool.conf.sample");
    let (status, text) = program(&["-f", &sample.display().to_string(), "check"]);
    assert!(status == Some(0) && text.contains("The configuration can be used"), "{text}");
}

#[test]
fn programs_know_the_prefix_they_are_built_for() {
    let folder = Folder(std::env::temp_dir().join(format!("pgpool-nothing-built-{}", std::process::id())));
    let built_for = |more: &[&str]| {
        let output = Command::new("make")
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env_remove("PGPOOL_SYSCONFDIR")
            .args(["install", "CARGO=printf '<%s>' \"$$PGPOOL_SYSCONFDIR\" #"])
            .arg(format!("RELEASE={}", folder.0.display()))
            .arg(format!("DESTDIR={}", folder.0.display()))
            .args(more)
            .output()
            .expect("make");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(built_for(&["PREFIX=/opt/pgpool"]).contains("</opt/pgpool/etc>"));
    assert!(built_for(&["PREFIX=/usr", "PGPOOL_SYSCONFDIR=/etc/pgpool2"]).contains("</etc/pgpool2>"));
    // The default, which is no reason to build all anew.
    assert!(built_for(&[]).contains("<>"));
}
