//! Methods and their options (auth 3.8, 3.9).

use super::ldap::{Ldap, is_on};
use super::token::Token;
use crate::report::Report;

/// How a client must prove itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Not at all.
    Trust,
    /// It is not let in.
    Reject,
    /// The password in clear text.
    Password,
    /// An md5 challenge.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
    /// A certificate whose common name is the user's.
    Cert,
    /// PAM decides.
    Pam(Pam),
    /// A directory decides.
    Ldap(Box<Ldap>),
}

/// Options of PAM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pam {
    /// `pamservice`
    pub service: String,
    /// `pam_use_hostname`
    pub use_hostname: bool,
    /// `backend_use_passwd`: the password logs in to servers, too. Not in the original.
    pub use_for_servers: bool,
}

const NAMES: [&str; 8] = ["trust", "reject", "password", "md5", "scram-sha-256", "cert", "pam", "ldap"];

impl Method {
    /// The method of this name, without options.
    pub(super) fn new(token: &Token) -> Result<Self, Report> {
        Ok(match token.text.as_slice() {
            b"trust" => Self::Trust,
            b"reject" => Self::Reject,
            b"password" => Self::Password,
            b"md5" => Self::Md5,
            b"scram-sha-256" => Self::Scram,
            b"cert" => Self::Cert,
            b"pam" => Self::Pam(Pam { service: "pgpool".to_owned(), use_hostname: false, use_for_servers: false }),
            b"ldap" => Self::Ldap(Box::default()),
            _ => {
                let report = Report::log_line(format!("invalid authentication method \"{token}\""));
                return Err(report.hint(format!("The methods are {}.", NAMES.join(", "))));
            }
        })
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Reject => "reject",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Scram => "scram-sha-256",
            Self::Cert => "cert",
            Self::Pam(_) => "pam",
            Self::Ldap(_) => "ldap",
        }
    }

    /// Whether the token is an option of some method, by its name.
    pub(super) fn knows(option: &Token) -> bool {
        let text = String::from_utf8_lossy(&option.text);
        text.split_once('=').is_some_and(|(name, _)| {
            matches!(name, "pamservice" | "pam_use_hostname" | "clientcert") || Ldap::knows(name)
        })
    }

    /// Takes one option. `Ok(Some)`: it is taken with this remark.
    pub(super) fn set(&mut self, option: &Token) -> Result<Option<Report>, Report> {
        let text = String::from_utf8_lossy(&option.text);
        let Some((name, value)) = text.split_once('=') else {
            return Err(Report::log_line(format!("authentication option not in name=value format: {text}")));
        };
        match (name, &mut *self) {
            ("pamservice", Self::Pam(pam)) => value.clone_into(&mut pam.service),
            ("pam_use_hostname", Self::Pam(pam)) => pam.use_hostname = is_on(name, value)?,
            ("backend_use_passwd", Self::Pam(pam)) => pam.use_for_servers = is_on(name, value)?,
            ("pamservice" | "pam_use_hostname", _) => {
                return Ok(Some(Report::log_line(format!(
                    "{name} authentication option can only be configured for authentication method \"pam\""
                ))));
            }
            (name, Self::Ldap(ldap)) if Ldap::knows(name) => ldap.set(name, value)?,
            (name, _) if Ldap::knows(name) => {
                return Err(Report::log_line(format!(
                    "authentication option \"{name}\" is only valid for authentication methods ldap"
                )));
            }
            _ => return Err(Report::log_line(format!("unrecognized authentication option name: \"{name}\""))),
        }
        Ok(None)
    }

    /// Whether the options go together.
    pub(super) fn check(&self) -> Result<(), Report> {
        if let Self::Ldap(ldap) = self { ldap.check() } else { Ok(()) }
    }
}
