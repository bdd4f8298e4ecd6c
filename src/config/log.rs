//! The log parameters in the form that `report` wants.

use super::choices::Choice;
use super::{LogErrorVerbosity, LogFormat, MessageLevel, Settings};
use crate::report::{Format, LinePrefix, LogSettings, Severity, Syslog, Verbosity};

impl Settings {
    /// Where and how much is logged.
    pub fn log_settings(&self) -> LogSettings {
        LogSettings {
            prefix: LinePrefix::parse(&self.log_line_prefix),
            min_messages: self.log_min_messages.severity(),
            verbosity: match self.log_error_verbosity {
                LogErrorVerbosity::Terse => Verbosity::Terse,
                LogErrorVerbosity::Default => Verbosity::Default,
                LogErrorVerbosity::Verbose => Verbosity::Verbose,
            },
            format: match self.log_format {
                LogFormat::Text => Format::Text,
                LogFormat::Json => Format::Json,
            },
            folds: self.log_fold_repeated,
            stderr: self.log_destination.stderr,
            syslog: self
                .log_destination
                .syslog
                .then(|| Syslog { local: self.syslog_facility.position() as u8, ident: self.syslog_ident.clone() }),
        }
    }
}

impl MessageLevel {
    /// The severity of that name.
    pub fn severity(self) -> Severity {
        match self {
            Self::Debug5 => Severity::Debug5,
            Self::Debug4 => Severity::Debug4,
            Self::Debug3 => Severity::Debug3,
            Self::Debug2 => Severity::Debug2,
            Self::Debug1 => Severity::Debug1,
            Self::Info => Severity::Info,
            Self::Notice => Severity::Notice,
            Self::Warning => Severity::Warning,
            Self::Error => Severity::Error,
            Self::Log => Severity::Log,
            Self::Fatal => Severity::Fatal,
            Self::Panic => Severity::Panic,
        }
    }
}
