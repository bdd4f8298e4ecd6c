//! Help texts (pcp 9.6).

use super::program::{Kind, PROGRAMS, Program, Subject};

/// Help of one program.
pub(super) fn text(program: &Program) -> String {
    let Program { name, purpose, .. } = program;
    let operand = match program.subject {
        Subject::None | Subject::NodeOrAll => "",
        Subject::Node => "[node-id]",
        Subject::Watchdog => "[watchdog-id]",
        Subject::Process => "[process-id]",
    };
    let mut text = format!("{name} - {purpose}\nUsage:\n{name} [OPTION...] {operand}\nOptions:\n");
    for (option, meaning) in options(program) {
        text.push_str(&format!("  {option:<23}{meaning}\n"));
    }
    text.push('\n');
    text
}

/// The options in their order; a meaning that needs more lines goes on in entries without an option.
fn options(program: &Program) -> Vec<(&'static str, &'static str)> {
    let has = |letter: char| program.short.contains(letter);
    let mut lines = vec![
        ("-U, --username=NAME", "username for PCP authentication"),
        ("-h, --host=HOSTNAME", "pgpool-II host"),
        ("-p, --port=PORT", "PCP port number"),
        ("-w, --no-password", "never prompt for password"),
        ("-W, --password", "force password prompt (should happen automatically)"),
    ];
    if matches!(program.subject, Subject::Node | Subject::NodeOrAll) {
        lines.push(("-n, --node-id=NODEID", "ID of a backend node"));
    }
    if program.kind == Kind::NodeInfo {
        lines.push(("-a, --all", "display all backend nodes information"));
    }
    if has('m') {
        lines.push(("-m, --mode=MODE", "MODE can be \"smart\", \"fast\", or \"immediate\""));
    }
    if has('s') && !matches!(program.kind, Kind::PromoteNode | Kind::InvalidateQueryCache) {
        lines.extend([
            ("-s, --scope=SCOPE", "SCOPE can be \"cluster\", or \"local\""),
            ("", "cluster scope do operations on all Pgpool-II nodes"),
            ("", "part of the watchdog cluster"),
        ]);
    }
    if has('g') {
        lines.push(("-g, --gracefully", "promote gracefully (optional)"));
    }
    if program.kind == Kind::PromoteNode {
        lines.push(("-s, --switchover", "switchover primary to specified node (optional)"));
    }
    if program.subject == Subject::Watchdog {
        lines.extend([
            ("-n, --watchdog-id=ID", "ID of a other pgpool to get information for"),
            ("", "ID 0 for the local watchdog"),
            ("", "If omitted then get information of all watchdog nodes"),
        ]);
    }
    if program.subject == Subject::Process {
        lines.extend([
            ("-P, --process-id=PID", "PID of the child process to get information for (optional)"),
            ("-a, --all", "display all child processes and their available connection slots"),
        ]);
    }
    lines.extend([("-d, --debug", "enable debug message (optional)"), ("-v, --verbose", "output verbose messages")]);
    if program.prints_records() {
        lines.push(("    --json", "output JSON"));
    }
    lines.extend([
        ("    --strict", "exit status 1 whenever it failed"),
        ("    --timeout=SECONDS", "wait no longer for the reply, 0: for ever"),
        ("-?, --help", "print this help"),
    ]);
    lines
}

/// The commands of `pcp`.
pub(super) fn overview() -> String {
    let mut text = "pcp - administration of pgpool-II\nUsage:\npcp COMMAND [OPTION...]\nCommands:\n".to_owned();
    for Program { name, purpose, .. } in PROGRAMS {
        text.push_str(&format!("  {:<24} {purpose}\n", name.trim_start_matches("pcp_")));
    }
    text.push_str(
        "\n\"pcp COMMAND --help\" tells the options of a command. Each is a program, too: pcp_node_info etc.\n",
    );
    text
}
