//! What /proc tells of processes.

use std::fs;
use std::time::Duration;

use nix::unistd::Pid;

/// Process ids of the children of this parent, by a text of their titles, as `Pgpool::children`.
pub fn children_of(parent: Pid, title: &str) -> Vec<Pid> {
    let pids = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let pids = pids.split_whitespace().filter_map(|pid| pid.parse().ok());
    let is_meant = |shown: &str| shown.contains(title) && (title.contains("PCP") || !shown.contains("PCP: "));
    pids.filter(|pid| is_meant(&process_title(*pid))).map(Pid::from_raw).collect()
}

/// The processor time a process has used.
pub fn cpu_time(pid: Pid) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the command's name in parentheses: utime and stime are the 14th and 15th field of all.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3).and_then(|ticks| ticks.parse::<u64>().ok()).expect("ticks");
    Duration::from_millis((ticks(14) + ticks(15)) * 10)
}

/// What ps shows of a process.
pub fn process_title(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ").trim_end().to_owned()
}
