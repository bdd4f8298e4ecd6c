//! The fifteen programs: names, purposes, options, operands (pcp 9.2).

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    AttachNode,
    DetachNode,
    HealthCheckStats,
    InvalidateQueryCache,
    LogRotate,
    NodeCount,
    NodeInfo,
    PoolStatus,
    ProcCount,
    ProcInfo,
    PromoteNode,
    RecoveryNode,
    ReloadConfig,
    StopPgpool,
    WatchdogInfo,
}

/// What `-n`, `-P` and the first operand mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// Nothing: there is no such option.
    None,
    /// A node, which must be given.
    Node,
    /// A node; without one, all.
    NodeOrAll,
    /// A pgpool of the watchdog cluster; without one, all.
    Watchdog,
    /// A session process; without one, all.
    Process,
}

/// A program.
#[derive(Debug)]
pub(super) struct Program {
    pub kind: Kind,
    pub name: &'static str,
    /// What it does, for the help text.
    pub purpose: &'static str,
    /// Its short options besides those of all, as getopt takes them.
    pub short: &'static str,
    pub subject: Subject,
}

impl Program {
    /// The program of this name.
    pub fn named(name: &str) -> Option<&'static Program> {
        PROGRAMS.iter().find(|program| program.name == name)
    }

    /// Whether it prints more than that it was successful.
    pub fn prints_records(&self) -> bool {
        use Kind::*;
        matches!(self.kind, NodeCount | NodeInfo | HealthCheckStats | ProcCount | ProcInfo | PoolStatus | WatchdogInfo)
    }

    /// Whether the request may rightly take as long as sessions last or a server takes to be copied.
    pub fn may_last(&self) -> bool {
        matches!(self.kind, Kind::RecoveryNode | Kind::DetachNode | Kind::PromoteNode)
    }
}

/// All programs.
pub(super) const PROGRAMS: &[Program] = &[
    Program {
        kind: Kind::AttachNode,
        name: "pcp_attach_node",
        purpose: "attach a node from pgpool-II",
        short: "n:",
        subject: Subject::Node,
    },
    Program {
        kind: Kind::DetachNode,
        name: "pcp_detach_node",
        purpose: "detach a node from pgpool-II",
        short: "n:g",
        subject: Subject::Node,
    },
    Program {
        kind: Kind::HealthCheckStats,
        name: "pcp_health_check_stats",
        purpose: "display a pgpool-II health check stats data",
        short: "n:",
        subject: Subject::Node,
    },
    Program {
        kind: Kind::InvalidateQueryCache,
        name: "pcp_invalidate_query_cache",
        purpose: "invalidate the query cache of pgpool-II",
        short: "s:",
        subject: Subject::None,
    },
    Program {
        kind: Kind::LogRotate,
        name: "pcp_log_rotate",
        purpose: "rotate the log file of pgpool-II",
        short: "s:",
        subject: Subject::None,
    },
    Program {
        kind: Kind::NodeCount,
        name: "pcp_node_count",
        purpose: "display the total number of nodes under pgpool-II's control",
        short: "",
        subject: Subject::None,
    },
    Program {
        kind: Kind::NodeInfo,
        name: "pcp_node_info",
        purpose: "display a pgpool-II node's information",
        short: "n:a",
        subject: Subject::NodeOrAll,
    },
    Program {
        kind: Kind::PoolStatus,
        name: "pcp_pool_status",
        purpose: "display pgpool configuration and status",
        short: "",
        subject: Subject::None,
    },
    Program {
        kind: Kind::ProcCount,
        name: "pcp_proc_count",
        purpose: "display the list of pgpool-II child process PIDs",
        short: "",
        subject: Subject::None,
    },
    Program {
        kind: Kind::ProcInfo,
        name: "pcp_proc_info",
        purpose: "display a pgpool-II child process' information",
        short: "P:a",
        subject: Subject::Process,
    },
    Program {
        kind: Kind::PromoteNode,
        name: "pcp_promote_node",
        purpose: "promote a node as new main from pgpool-II",
        short: "n:gs",
        subject: Subject::Node,
    },
    Program {
        kind: Kind::RecoveryNode,
        name: "pcp_recovery_node",
        purpose: "recover a node",
        short: "n:",
        subject: Subject::Node,
    },
    Program {
        kind: Kind::ReloadConfig,
        name: "pcp_reload_config",
        purpose: "reload a pgpool-II config file",
        short: "s:",
        subject: Subject::None,
    },
    Program {
        kind: Kind::StopPgpool,
        name: "pcp_stop_pgpool",
        purpose: "terminate pgpool-II",
        short: "m:s:a",
        subject: Subject::None,
    },
    Program {
        kind: Kind::WatchdogInfo,
        name: "pcp_watchdog_info",
        purpose: "display a pgpool-II watchdog's information",
        short: "n:",
        subject: Subject::Watchdog,
    },
];
