//! By which methods servers may let pgpool in: `backend_require_auth`, in the words of libpq's `require_auth`.
//!
//! Who sits between pgpool and a server could ask for the password in clear. A server that asks for what is not allowed
//! gets nothing.

use super::Demand;
use crate::report::{Report, Result};

/// The methods that are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Methods {
    password: bool,
    md5: bool,
    scram: bool,
    none: bool,
}

impl Methods {
    /// Of `backend_require_auth`; all if it is empty.
    ///
    /// # Errors
    /// It is no list of methods, or holds one twice.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = |cause: String| {
            Report::error(format!("backend_require_auth = '{text}' cannot be used: {cause}"))
                .hint("It is a list such as 'scram-sha-256,none' or '!password,!md5'. Methods are scram-sha-256, md5, password and none.")
        };
        if text.is_empty() {
            return Ok(Self::each(true));
        }
        let are_forbidden = text.trim_start().starts_with('!');
        let mut methods = Self::each(are_forbidden);
        let mut seen = Vec::new();
        for item in text.split(',').map(str::trim) {
            let name = match item.strip_prefix('!') {
                Some(name) if are_forbidden => name,
                None if !are_forbidden => item,
                _ => return Err(wrong("methods with and without ! cannot be mixed".to_owned())),
            };
            if seen.contains(&name) {
                return Err(wrong(format!("\"{name}\" is there more than once")));
            }
            seen.push(name);
            let method = match name {
                "password" => &mut methods.password,
                "md5" => &mut methods.md5,
                "scram-sha-256" => &mut methods.scram,
                "none" => &mut methods.none,
                // libpq knows them; pgpool never logs in by them.
                "gss" | "sspi" | "oauth" => continue,
                _ => return Err(wrong(format!("\"{name}\" is no method"))),
            };
            *method = !are_forbidden;
        }
        Ok(methods)
    }

    fn each(is_allowed: bool) -> Self {
        Self { password: is_allowed, md5: is_allowed, scram: is_allowed, none: is_allowed }
    }

    /// Whether a server may ask for this.
    pub fn allow(self, demand: Demand) -> bool {
        match demand {
            Demand::Nothing | Demand::Certificate | Demand::OsUser => self.none,
            Demand::Password => self.password,
            Demand::Md5 => self.md5,
            Demand::Scram => self.scram,
        }
    }

    /// Whether nothing is allowed that `other` does not allow.
    pub fn are_within(self, other: Self) -> bool {
        [Demand::Nothing, Demand::Password, Demand::Md5, Demand::Scram]
            .into_iter()
            .all(|demand| other.allow(demand) || !self.allow(demand))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of those that are allowed.
    fn allowed(text: &str) -> String {
        let methods = Methods::parse(text).expect(text);
        let demands = [Demand::Nothing, Demand::Password, Demand::Md5, Demand::Scram];
        demands
            .iter()
            .filter(|demand| methods.allow(**demand))
            .map(|demand| demand.name())
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn lists_as_libpq_has_them() {
        assert_eq!(allowed(""), "trust password md5 scram-sha-256");
        assert_eq!(allowed("scram-sha-256"), "scram-sha-256");
        assert_eq!(allowed("md5, none,gss"), "trust md5");
        assert_eq!(allowed("!password"), "trust md5 scram-sha-256");
        assert_eq!(allowed("!none, !md5,!sspi"), "password scram-sha-256");
        for wrong in ["scram", "md5,md5", "md5,!none", "!md5,none", "md5,", ",", "!", "SCRAM-SHA-256"] {
            let report = Methods::parse(wrong).expect_err(wrong);
            assert!(report.message.starts_with("backend_require_auth = '"), "{report}");
        }
    }

    #[test]
    fn fewer_are_within_more() {
        let within = |one: &str, other: &str| Methods::parse(one).unwrap().are_within(Methods::parse(other).unwrap());
        assert!(within("md5", "") && within("md5", "!password") && within("", ""));
        assert!(!within("", "md5") && !within("md5,none", "md5"));
    }
}
