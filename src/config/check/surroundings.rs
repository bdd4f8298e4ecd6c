//! What the settings name on this machine: directories that must be there, programs that must be executable. A start, or
//! a failover, would find out.

use crate::config::load::Loaded;
use crate::config::{Problem, Settings};
use crate::report::Report;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The placeholders of the commands of failover (failover 9.1), behind their `%`.
pub const PLACEHOLDERS: &str = "dhpDmHrRMPNS%";

/// A remark for each directory that is missing and each command that cannot be run as it stands.
pub fn surroundings(loaded: &Loaded) -> Vec<Problem> {
    let Loaded { settings, positions, .. } = loaded;
    let mut reports: Vec<(&'static str, Report)> = Vec::new();
    for (name, directory) in directories(settings) {
        if !directory.as_os_str().is_empty() && !directory.is_dir() {
            reports.push((name, missing(name, directory)));
        }
    }
    let failover = [
        ("failover_command", &settings.failover_command),
        ("failback_command", &settings.failback_command),
        ("follow_primary_command", &settings.follow_primary_command),
    ];
    for (name, command) in failover {
        reports.extend(unknown_placeholder(name, command).map(|report| (name, report)));
    }
    for (name, command) in failover.into_iter().chain([("ssl_passphrase_command", &settings.ssl_passphrase_command)]) {
        reports.extend(not_executable(name, command).map(|report| (name, report)));
    }
    reports.into_iter().map(|(name, report)| Problem::new(report, positions.place(name, None))).collect()
}

/// What has to be there at the start. Of its own directory the log makes the last part.
fn directories(settings: &Settings) -> Vec<(&'static str, &Path)> {
    let mut all = vec![("pid_file_name", parent(&settings.pid_file_name)), ("work_dir", Path::new(&settings.work_dir))];
    all.extend(settings.unix_socket_directories.iter().map(|path| ("unix_socket_directories", Path::new(path))));
    all.extend(settings.pcp_socket_dir.iter().map(|path| ("pcp_socket_dir", Path::new(path))));
    if settings.logging_collector {
        all.push(("log_directory", parent(&settings.log_directory)));
    }
    all
}

fn parent(file: &str) -> &Path {
    Path::new(file).parent().unwrap_or(Path::new(""))
}

fn missing(name: &str, directory: &Path) -> Report {
    Report::warning(format!("{name}: there is no directory \"{}\"", directory.display())).hint(
        "Make it, and let the user write there that runs pgpool; a service manager may do so before it starts it.",
    )
}

/// A program that is named with its whole path can be looked at; what the shell makes of all else is its own business.
fn not_executable(name: &str, command: &str) -> Option<Report> {
    let program = Path::new(command.split_whitespace().next()?);
    let why = match program.metadata() {
        _ if !program.is_absolute() || command.starts_with(['\'', '"']) => return None,
        Err(error) => error.to_string(),
        Ok(metadata) if !metadata.is_file() => "it is not a file".to_owned(),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => "it is not executable".to_owned(),
        Ok(_) => return None,
    };
    Some(Report::warning(format!("{name} cannot run \"{}\"", program.display())).detail(why))
}

fn unknown_placeholder(name: &str, command: &str) -> Option<Report> {
    let mut characters = command.chars();
    while characters.by_ref().any(|character| character == '%') {
        if let Some(unknown) = characters.next().filter(|character| !PLACEHOLDERS.contains(*character)) {
            let report = Report::warning(format!("{name} has %{unknown}, which stands for nothing and is left out"));
            return Some(report.hint("There are %d %h %p %D, %m %H %r %R, %M, %P %N %S, and %% for a percent sign."));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;

    fn remarks(text: &str) -> Vec<String> {
        let paths = "pid_file_name = '/p'\nwork_dir = '/'\nunix_socket_directories = '/'\npcp_socket_dir = '/'\n";
        let text = format!("backend_hostname0 = 'a'\nbackend_port0 = 5432\nbackend_weight0 = 1\n{paths}{text}");
        let loaded = load_text(Path::new("/nowhere/pgpool.conf"), text.as_bytes()).expect("usable");
        let found = surroundings(&loaded);
        assert!(found.iter().all(|problem| problem.place.is_some()), "{found:?}");
        found.iter().map(|problem| problem.report.to_string()).collect()
    }

    #[test]
    fn what_a_start_would_miss_is_told() {
        let cases = [
            ("", vec![]),
            ("work_dir = '/no/such'", vec!["work_dir: there is no directory \"/no/such\""]),
            ("pid_file_name = '/no/such/pid'", vec!["pid_file_name: there is no directory \"/no/such\""]),
            ("unix_socket_directories = '/,/no'", vec!["unix_socket_directories: there is no directory \"/no\""]),
            ("log_directory = '/no/such/log'", vec![]),
            ("logging_collector = on\nlog_directory = '/made'", vec![]),
            (
                "logging_collector = on\nlog_directory = '/no/such'",
                vec!["log_directory: there is no directory \"/no\""],
            ),
            ("failover_command = '/bin/true %d %% %S'", vec![]),
            ("failover_command = 'relative.sh'", vec![]),
            (
                "failover_command = '/no/failover.sh %d'",
                vec!["failover_command cannot run \"/no/failover.sh\" (No such file or directory (os error 2))"],
            ),
            (
                "follow_primary_command = '/etc/passwd %% %x'",
                vec![
                    "follow_primary_command has %x, which stands for nothing and is left out",
                    "follow_primary_command cannot run \"/etc/passwd\" (it is not executable)",
                ],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(remarks(text), expected, "{text}");
        }
    }
}
