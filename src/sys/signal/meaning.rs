//! What each signal means to whom: no other place gives a signal a meaning (process-model 6).
//!
//! Each kind of process has an enum of its own, so that two meanings of one signal do not compile. The table in
//! docs/operations.md is written from here.

use super::Signal;
use std::fmt::Write;

/// The stops, smart, fast and immediate: they are the same signals to every process.
pub const STOPS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT];

macro_rules! meanings {
    ($($kind:ident: $who:literal, unheeded [$($unheeded:ident),*] {
        $($meaning:ident = $signal:ident: $text:literal,)*
    })*) => {
        $(
            #[doc = concat!("To ", $who, ".")]
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            #[repr(i32)]
            pub enum $kind {
                $(#[doc = concat!($text, ".")] $meaning = libc::$signal,)*
            }

            impl $kind {
                /// What such a process handles: also signals that mean nothing to it, but are sent to it together with
                /// others and must not end it.
                pub const HANDLED: &'static [Signal] = &[$(Signal::$signal,)* $(Signal::$unheeded),*];
            }

            impl From<$kind> for Signal {
                #[inline]
                fn from(meaning: $kind) -> Self {
                    match meaning {
                        $($kind::$meaning => Signal::$signal,)*
                    }
                }
            }

            impl From<$kind> for Option<Signal> {
                fn from(meaning: $kind) -> Self {
                    Some(meaning.into())
                }
            }
        )*

        /// Who, and what the signals mean there.
        const MEANINGS: &[(&str, &[(Signal, &str)])] = &[$(($who, &[$((Signal::$signal, $text)),*])),*];
    };
}

meanings! {
    ToParent: "the parent", unheeded [] {
        SmartStop = SIGTERM: "pgpool ends with the last session",
        FastStop = SIGINT: "all sessions are ended",
        ImmediateStop = SIGQUIT: "all sessions are ended",
        Reload = SIGHUP: "the configuration is read again",
        ChildEnded = SIGCHLD: "a child has ended",
        Requests = SIGUSR1: "somebody asks for a failover, or has changed the attached nodes",
        TellWorkers = SIGUSR2: "clients are held back, or not any more: passed on to the workers",
        Upgrade = SIGURG: "another program is to take over",
        Staff = SIGWINCH: "too few workers are idle, or too many",
    }
    ToWorker: "a worker", unheeded [] {
        SmartStop = SIGTERM: "it ends behind its session",
        FastStop = SIGINT: "it ends at once",
        ImmediateStop = SIGQUIT: "it ends at once",
        Reload = SIGHUP: "new parameters are in force",
        ClosePool = SIGUSR1: "pooled connections are closed: somebody drops a database",
        LookAtNodes = SIGUSR2: "the node table has changed, or clients are held back",
    }
    ToDoorman: "the doorman", unheeded [SIGUSR1, SIGUSR2] {
        SmartStop = SIGTERM: "it ends",
        FastStop = SIGINT: "it ends",
        ImmediateStop = SIGQUIT: "it ends",
        Reload = SIGHUP: "new parameters are in force",
        NobodyIsFree = SIGWINCH: "the last idle worker has got a client, or one has ended",
    }
    ToHelper: "health checks, replication check, node finder and search for the primary", unheeded [] {
        SmartStop = SIGTERM: "it ends",
        FastStop = SIGINT: "it ends",
        ImmediateStop = SIGQUIT: "it ends",
        Reload = SIGHUP: "new parameters are in force",
        Restart = SIGUSR1: "a check or the finder ends, and another one takes its place",
        LookAtNode = SIGUSR2: "a health check asks its node at once",
    }
    ToMetrics: "metrics", unheeded [SIGUSR1, SIGUSR2] {
        SmartStop = SIGTERM: "it ends",
        FastStop = SIGINT: "it ends",
        ImmediateStop = SIGQUIT: "it ends",
        Reload = SIGHUP: "new parameters are in force",
    }
    ToPcp: "PCP", unheeded [SIGUSR1, SIGUSR2] {
        SmartStop = SIGTERM: "it ends with its last administrator, who has a second to say goodbye",
        FastStop = SIGINT: "it ends at once",
        ImmediateStop = SIGQUIT: "it ends at once",
        Reload = SIGHUP: "new parameters are in force",
        ChildEnded = SIGCHLD: "an administrator has left",
    }
    ToCollector: "the log collector", unheeded [SIGTERM, SIGINT, SIGQUIT] {
        Reload = SIGHUP: "new parameters are in force",
        Rotate = SIGUSR1: "a new file is begun",
        Point = SIGUSR2: "its pgpool serves: the link to the current file is its own",
    }
}

/// All of them as a table for docs/operations.md.
pub fn table() -> String {
    let mut table = "| to | signal | meaning |\n|---|---|---|\n".to_owned();
    for (who, meanings) in MEANINGS {
        let mut rest = meanings.iter().peekable();
        let mut who = *who;
        while let Some((signal, text)) = rest.next() {
            let mut names = signal.as_str()[3..].to_owned();
            while let Some((signal, _)) = rest.next_if(|(_, next)| next == text) {
                names.extend([", ", &signal.as_str()[3..]]);
            }
            let _ = writeln!(table, "| {who} | {names} | {text} |");
            who = "";
        }
    }
    table
}
