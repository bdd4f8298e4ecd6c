//! `log_destination` (config 4.6).

use crate::report::{Report, Result};
use std::sync::Arc;

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogDestinations {
    text: Arc<str>,
    /// To standard error, or to the collector's files.
    pub stderr: bool,
    /// To syslog.
    pub syslog: bool,
}

impl Default for LogDestinations {
    fn default() -> Self {
        Self { text: "stderr".into(), stderr: true, syslog: false }
    }
}

impl LogDestinations {
    pub(super) fn parse(name: &str, text: &str) -> Result<Self> {
        let mut destinations = Self { text: text.into(), stderr: false, syslog: false };
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "stderr" => destinations.stderr = true,
                "syslog" => destinations.syslog = true,
                _ => {
                    return Err(Report::error(format!("invalid configuration for \"{name}\""))
                        .detail(format!("unknown destination :{word}"))
                        .hint("Available values: stderr, syslog, or both with a comma between."));
                }
            }
        }
        if destinations.stderr || destinations.syslog {
            Ok(destinations)
        } else {
            Err(Report::error(format!("invalid value \"{text}\" for {name}"))
                .hint("Available values: stderr, syslog, or both with a comma between."))
        }
    }

    /// The words as they were written.
    pub fn text(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::LogDestinations;

    #[test]
    fn words_and_errors() {
        let parse = |text| LogDestinations::parse("log_destination", text);
        let both = parse("stderr , syslog").unwrap();
        assert!(both.stderr && both.syslog);
        assert_eq!(parse("").unwrap_err().message, "invalid value \"\" for log_destination");
        assert_eq!(parse("STDERR").unwrap_err().detail.unwrap(), "unknown destination :STDERR");
    }
}
