//! What pgpool says: one [`Report`] for every message, whoever reads it.
//!
//! A report carries severity, SQLSTATE, message, detail and hint. It becomes a log line ([`Report::log`]), an
//! ErrorResponse or NoticeResponse ([`Report::encode`]), or a Rust error value that travels up to whoever decides.
//! Messages name the node, the cause and the remedy; the severities and their thresholds are those of
//! (process-model 10.4), the texts people grep for those of the reference.
//!
//! This room must not know any other room: it is the lowest floor.

mod client;
mod fold;
pub mod frame;
mod guard;
mod identity;
mod json;
mod logger;
mod origin;
mod prefix;
mod severity;
mod sink;
mod sqlstate;
mod syslog;
pub mod version;

pub use guard::guarded;
pub use identity::{clear_session, set_application_name, set_process, set_session};
pub use logger::{Format, LogSettings, Verbosity, configure, finish, foreign_line, init, is_logged, render, serve};
pub use origin::Origin;
pub use prefix::LinePrefix;
pub use severity::Severity;
pub use sink::{Sink, to_collector};
pub use sqlstate::SqlState;
pub use syslog::Syslog;

use std::fmt;

/// One message with everything that is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How bad it is, and who gets to see it.
    pub severity: Severity,
    /// SQLSTATE sent to clients.
    pub code: SqlState,
    /// The primary message, one line, without a final full stop.
    pub message: String,
    /// Facts behind the message.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where it happened, for the log only.
    pub context: Option<String>,
    /// Where it was made, for the log only.
    pub origin: Origin,
}

/// The result of everything that can fail with a message for a person.
pub type Result<T, E = Report> = std::result::Result<T, E>;

impl Report {
    /// A report of `severity` with SQLSTATE XX000, the original's default (protocol 13.3).
    #[track_caller]
    pub fn new(severity: Severity, message: impl Into<String>) -> Self {
        let code = if severity >= Severity::Error { SqlState::INTERNAL_ERROR } else { SqlState::SUCCESSFUL_COMPLETION };
        Self {
            severity,
            code,
            message: message.into(),
            detail: None,
            hint: None,
            context: None,
            origin: Origin::here(),
        }
    }

    /// DEBUG1.
    #[track_caller]
    pub fn debug(message: impl Into<String>) -> Self {
        Self::new(Severity::Debug1, message)
    }

    /// LOG: for the administrator, never for a client.
    #[track_caller]
    pub fn log_line(message: impl Into<String>) -> Self {
        Self::new(Severity::Log, message)
    }

    /// NOTICE.
    #[track_caller]
    pub fn notice(message: impl Into<String>) -> Self {
        Self::new(Severity::Notice, message)
    }

    /// WARNING.
    #[track_caller]
    pub fn warning(message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, message)
    }

    /// ERROR: the statement or session fails.
    #[track_caller]
    pub fn error(message: impl Into<String>) -> Self {
        Self::new(Severity::Error, message)
    }

    /// FATAL: the session or process ends.
    #[track_caller]
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(Severity::Fatal, message)
    }

    /// Sets the SQLSTATE.
    #[must_use]
    pub fn code(mut self, code: SqlState) -> Self {
        self.code = code;
        self
    }

    /// Sets the detail.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Sets the hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets the context.
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }

    /// Writes the report to the log if `log_min_messages` lets it pass.
    pub fn log(&self) {
        logger::write(self);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if let Some(detail) = &self.detail {
            write!(f, " ({detail})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}
