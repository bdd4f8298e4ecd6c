//! `backend_flagN` (config 4.7).

use crate::report::{Report, Result};
use std::fmt;

/// Flags of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct NodeFlags {
    /// DISALLOW_TO_FAILOVER: the node is never detached by itself.
    pub disallow_to_failover: bool,
    /// ALWAYS_PRIMARY: this node is the primary, nobody need search.
    pub always_primary: bool,
}

const WORDS: [&str; 3] = ["ALLOW_TO_FAILOVER", "DISALLOW_TO_FAILOVER", "ALWAYS_PRIMARY"];

impl NodeFlags {
    pub(super) fn parse(name: &str, text: &str, warnings: &mut Vec<Report>) -> Result<Self> {
        let wrong = |detail: &str| Report::error(format!("invalid configuration for key \"{name}\"")).detail(detail);
        let (mut flags, mut allow) = (Self::default(), false);
        for word in text.split('|').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "ALLOW_TO_FAILOVER" => allow = true,
                "DISALLOW_TO_FAILOVER" => flags.disallow_to_failover = true,
                "ALWAYS_PRIMARY" => flags.always_primary = true,
                "ALWAYS_MASTER" => {
                    flags.always_primary = true;
                    warnings.push(
                        Report::warning(format!("flag ALWAYS_MASTER of {name} is changed to ALWAYS_PRIMARY"))
                            .detail("The flag was called ALWAYS_MASTER before 4.2; it is understood."),
                    );
                }
                _ => {
                    let known = WORDS.iter().find(|known| known.eq_ignore_ascii_case(word));
                    let guess = known.map(|known| format!(" Did you mean {known}?")).unwrap_or_default();
                    return Err(wrong(&format!("unknown backend flag:{word}")).hint(format!(
                        "Available flags, joined with |: {}; upper and lower case matter.{guess}",
                        WORDS.join(", ")
                    )));
                }
            }
        }
        if allow && flags.disallow_to_failover {
            return Err(wrong("cannot set ALLOW_TO_FAILOVER and DISALLOW_TO_FAILOVER at the same time"));
        }
        Ok(flags)
    }
}

impl fmt::Display for NodeFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.disallow_to_failover { "DISALLOW_TO_FAILOVER" } else { "ALLOW_TO_FAILOVER" })?;
        if self.always_primary { f.write_str("|ALWAYS_PRIMARY") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NodeFlags> {
        NodeFlags::parse("backend_flag0", text, &mut Vec::new())
    }

    #[test]
    fn words_join_with_a_bar() {
        let flags = parse("DISALLOW_TO_FAILOVER | ALWAYS_PRIMARY").unwrap();
        assert_eq!(flags, NodeFlags { disallow_to_failover: true, always_primary: true });
        assert_eq!(flags.to_string(), "DISALLOW_TO_FAILOVER|ALWAYS_PRIMARY");
        assert_eq!(parse("").unwrap().to_string(), "ALLOW_TO_FAILOVER");
    }

    #[test]
    fn the_old_word_is_understood_with_a_warning() {
        let mut warnings = Vec::new();
        assert!(NodeFlags::parse("backend_flag0", "ALWAYS_MASTER", &mut warnings).unwrap().always_primary);
        assert_eq!(warnings.len(), 1);
    }

    #[test]
    fn errors_carry_the_known_texts() {
        let error = parse("always_primary").unwrap_err();
        assert_eq!(error.message, "invalid configuration for key \"backend_flag0\"");
        assert_eq!(error.detail.as_deref(), Some("unknown backend flag:always_primary"));
        assert!(error.hint.unwrap().contains("Did you mean ALWAYS_PRIMARY?"));
        assert!(parse("ALLOW_TO_FAILOVER|DISALLOW_TO_FAILOVER").is_err());
    }
}
