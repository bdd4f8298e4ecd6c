//! Settings as bytes, by which the parent hands them to processes that run already (config 6).
//!
//! What differs from the defaults, as name and text in the form of a file, each ended by a zero byte: no value holds one.

use super::catalogue::{Access, PARAMETERS, Table, Target};
use super::settings::Settings;

impl Settings {
    /// The settings as bytes.
    pub fn to_snapshot(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut add = |target: Target| {
            let text = target.text(self);
            if text != target.parameter.default_value().text(&target.parameter.kind) {
                for part in [target.name(), text] {
                    bytes.extend_from_slice(part.as_bytes());
                    bytes.push(0);
                }
            }
        };
        for parameter in PARAMETERS.iter().filter(|parameter| parameter.alias_of.is_none()) {
            if parameter.has_plain_form() {
                add(Target { parameter, index: None });
            }
            if let Access::Numbered(numbered) = &parameter.access {
                let rows = match numbered.table {
                    Table::Nodes => self.nodes.len(),
                    Table::WatchdogNodes => self.watchdog_nodes.len(),
                    Table::Heartbeats => self.heartbeats.len(),
                };
                (0..rows).for_each(|index| add(Target { parameter, index: Some(index) }));
            }
        }
        bytes
    }

    /// The settings that became these bytes. `None`: they never were settings.
    pub fn from_snapshot(bytes: &[u8]) -> Option<Self> {
        let mut settings = Self::default();
        let mut parts = std::str::from_utf8(bytes).ok()?.split_terminator('\0');
        while let Some(name) = parts.next() {
            // Remarks were made when the file was read.
            settings.assign(name, parts.next()?).ok()?;
        }
        Some(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{load, load_text};
    use std::path::Path;

    #[test]
    fn what_goes_in_comes_out() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let lab = load(&root.join("tests/data/lab/pgpool.conf")).unwrap().settings;
        let odd = "backend_hostname2 = 'x'\nbackend_port2 = 5432\nbackend_weight2 = 0.1\nbackend_flag2 = 'ALWAYS_PRIMARY'\n\
                   health_check_period = 90\nhealth_check_timeout2 = 7\nlog_line_prefix = 'it''s = # %t'\n\
                   write_function_list = 'a,b.*,c('\ndatabase_redirect_preference_list = 'x:standby(0.3)'\n\
                   reset_query_list = ''\nunix_socket_permissions = 0700\nheartbeat_hostname1 = 'h'\nheartbeat_port1 = 9694\n\
                   log_destination = 'syslog,stderr'\nmemqcache_total_size = 1GB\nlog_min_messages = DEBUG";
        let odd = load_text(Path::new("/etc/pgpool.conf"), odd.as_bytes()).unwrap().settings;
        for settings in [Settings::default(), lab, odd] {
            assert_eq!(Settings::from_snapshot(&settings.to_snapshot()), Some(settings));
        }
    }

    #[test]
    fn what_never_was_settings_is_refused() {
        for bytes in [&b"port\0"[..], b"port\0nonsense\0", b"no such name\x001\0", b"\xff\0\xff\0"] {
            assert_eq!(Settings::from_snapshot(bytes), None);
        }
    }
}
