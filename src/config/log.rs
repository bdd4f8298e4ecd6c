//! The log parameters in the form that `report` wants.

use super::{LogErrorVerbosity, MessageLevel, Settings};
use crate::report::{LinePrefix, LogSettings, Severity, Verbosity};

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
