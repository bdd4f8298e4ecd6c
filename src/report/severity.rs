//! Severities and who gets to see them (process-model 10.4).

/// Severity of a report, from the most talkative to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Severity {
    Debug5 = 10,
    Debug4 = 11,
    Debug3 = 12,
    Debug2 = 13,
    Debug1 = 14,
    Log = 15,
    Info = 17,
    Notice = 18,
    Warning = 19,
    Error = 20,
    Fatal = 21,
    Panic = 22,
}

impl Severity {
    /// The number used by SHOW POOL_STATUS (show-commands 5.8).
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The severity with that number.
    pub fn from_number(number: u8) -> Option<Self> {
        use Severity::*;
        [Debug5, Debug4, Debug3, Debug2, Debug1, Log, Info, Notice, Warning, Error, Fatal, Panic]
            .into_iter()
            .find(|severity| severity.number() == number)
    }

    /// The word in log lines and ErrorResponses.
    pub fn word(self) -> &'static str {
        match self {
            Self::Debug5 | Self::Debug4 | Self::Debug3 | Self::Debug2 | Self::Debug1 => "DEBUG",
            Self::Log => "LOG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
        }
    }

    /// Whether the log gets this when `log_min_messages` is `threshold`. With the threshold `log` only LOG, FATAL and
    /// PANIC are written; otherwise LOG is written unless the threshold is `fatal` or `panic`.
    pub fn reaches_log(self, threshold: Self) -> bool {
        if threshold == Self::Log {
            return matches!(self, Self::Log | Self::Fatal | Self::Panic);
        }
        if self == Self::Log { threshold < Self::Fatal } else { self >= threshold }
    }

    /// Whether a client gets this when `client_min_messages` is `threshold`.
    pub fn reaches_client(self, threshold: Self) -> bool {
        match self {
            Self::Info | Self::Panic => true,
            Self::Log => threshold <= Self::Log,
            _ => self >= threshold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Severity::*;

    #[test]
    fn log_thresholds_follow_the_table() {
        assert!(Log.reaches_log(Warning) && Log.reaches_log(Error) && !Log.reaches_log(Fatal));
        assert!(!Notice.reaches_log(Warning) && Warning.reaches_log(Warning) && Fatal.reaches_log(Warning));
        assert!(Log.reaches_log(Log) && Fatal.reaches_log(Log) && !Error.reaches_log(Log) && !Warning.reaches_log(Log));
        assert!(Debug1.reaches_log(Debug5) && !Debug5.reaches_log(Debug1));
    }

    #[test]
    fn client_thresholds_follow_the_table() {
        assert!(Info.reaches_client(Fatal) && Panic.reaches_client(Panic));
        assert!(Log.reaches_client(Debug1) && Log.reaches_client(Log) && !Log.reaches_client(Notice));
        assert!(Notice.reaches_client(Notice) && !Notice.reaches_client(Warning));
    }
}
