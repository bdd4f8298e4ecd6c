//! The options of LDAP (auth 3.9).

use super::super::Secret;
use crate::report::Report;
use serde::{Deserialize, Serialize};

/// How much of the directory below `basedn` is searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// The entry itself.
    Base,
    /// The entries right below.
    One,
    /// All of it.
    #[default]
    Subtree,
}

/// What is asked of which directory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ldap {
    /// Hosts, separated by blanks.
    pub server: String,
    /// Port; `None`: that of the scheme.
    pub port: Option<u16>,
    /// `ldap` or `ldaps`; empty: `ldap`.
    pub scheme: String,
    /// StartTLS.
    pub tls: bool,
    /// In front of the user's name, for a simple bind.
    pub prefix: String,
    /// Behind the user's name, for a simple bind.
    pub suffix: String,
    /// Where the search begins.
    pub base_dn: String,
    /// Who searches; empty: anybody.
    pub bind_dn: String,
    /// The password of who searches.
    #[serde(skip)]
    pub bind_password: Secret,
    /// The attribute that holds the user's name.
    pub search_attribute: String,
    /// The filter, in which `$username` stands for the user's name.
    pub search_filter: String,
    /// How much is searched.
    pub scope: Scope,
    /// `backend_use_passwd`: the password logs in to servers, too.
    pub use_for_servers: bool,
}

const NAMES: [&str; 13] = [
    "ldapserver",
    "ldapport",
    "ldapscheme",
    "ldaptls",
    "ldapprefix",
    "ldapsuffix",
    "ldapbasedn",
    "ldapbinddn",
    "ldapbindpasswd",
    "ldapsearchattribute",
    "ldapsearchfilter",
    "ldapurl",
    "backend_use_passwd",
];

impl Ldap {
    pub(super) fn knows(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// Takes one of the known options.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Report> {
        match name {
            "ldapserver" => value.clone_into(&mut self.server),
            "ldapport" => {
                let port = value.parse().ok().filter(|port| *port != 0);
                self.port =
                    Some(port.ok_or_else(|| Report::log_line(format!("invalid LDAP port number: \"{value}\"")))?);
            }
            "ldapscheme" => self.scheme = scheme(value, || format!("invalid ldapscheme value: \"{value}\""))?,
            "ldaptls" => self.tls = flag(name, value)?,
            "ldapprefix" => value.clone_into(&mut self.prefix),
            "ldapsuffix" => value.clone_into(&mut self.suffix),
            "ldapbasedn" => value.clone_into(&mut self.base_dn),
            "ldapbinddn" => value.clone_into(&mut self.bind_dn),
            "ldapbindpasswd" => self.bind_password = Secret::new(value),
            "ldapsearchattribute" => value.clone_into(&mut self.search_attribute),
            "ldapsearchfilter" => value.clone_into(&mut self.search_filter),
            "backend_use_passwd" => self.use_for_servers = flag(name, value)?,
            _ => self.set_url(value)?,
        }
        Ok(())
    }

    /// `ldap[s]://host[:port]/basedn[?attribute[?scope[?filter]]]`
    fn set_url(&mut self, url: &str) -> Result<(), Report> {
        let broken = |why: &str| Report::log_line(format!("could not parse LDAP URL \"{url}\": {why}"));
        let (word, rest) = url.split_once("://").ok_or_else(|| broken("no scheme"))?;
        let scheme = scheme(word, || format!("unsupported LDAP URL scheme: {word}"))?;
        let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = match place.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(|| broken("bad port"))?;
                (host, Some(port))
            }
            _ => (place, None),
        };
        let mut parts = path.split('?');
        let mut next = || decode(parts.next().unwrap_or_default()).ok_or_else(|| broken("bad percent encoding"));
        let (base_dn, attributes, scope, filter) = (next()?, next()?, next()?, next()?);
        // One may demand TLS; none is understood.
        if !next()?.is_empty() {
            return Err(broken("it has extensions"));
        }
        self.scope = match scope.as_str() {
            "" | "base" => Scope::Base,
            "one" | "onelevel" => Scope::One,
            "sub" | "subtree" => Scope::Subtree,
            _ => return Err(broken("bad scope")),
        };
        self.scheme = scheme;
        self.server = decode(host).ok_or_else(|| broken("bad host"))?;
        self.port = port.or(self.port);
        self.base_dn = base_dn;
        if let Some(attribute) = attributes.split(',').next().filter(|attribute| !attribute.is_empty()) {
            attribute.clone_into(&mut self.search_attribute);
        }
        if !filter.is_empty() {
            self.search_filter = filter;
        }
        Ok(())
    }

    /// Whether the options go together. `Ok(Some)`: with this remark.
    pub(super) fn check(&self) -> Result<Option<Report>, Report> {
        let searches = [&self.base_dn, &self.bind_dn, &self.search_attribute, &self.search_filter];
        let searches = searches.iter().any(|text| !text.is_empty()) || !self.bind_password.bytes().is_empty();
        let binds = !self.prefix.is_empty() || !self.suffix.is_empty();
        let slip = if binds && searches {
            "cannot use ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter, or ldapurl \
             together with ldapprefix"
        } else if !binds && self.base_dn.is_empty() {
            "authentication method \"ldap\" requires argument \"ldapbasedn\", \"ldapprefix\", or \"ldapsuffix\" to be set"
        } else if !self.search_attribute.is_empty() && !self.search_filter.is_empty() {
            "cannot use ldapsearchattribute together with ldapsearchfilter"
        } else if !self.search_filter.is_empty() && !self.search_filter.contains("$username") {
            let text = "ldapsearchfilter has no $username: it finds the same entry for everybody";
            return Ok(Some(Report::warning(text).detail("Whoever knows the password of that entry is every user.")));
        } else {
            return Ok(None);
        };
        Err(Report::log_line(slip))
    }
}

/// `ldap` or `ldaps`, whatever its case. Another word must not mean the one that has no TLS.
fn scheme(word: &str, wrong: impl FnOnce() -> String) -> Result<String, Report> {
    let lower = word.to_ascii_lowercase();
    if matches!(lower.as_str(), "ldap" | "ldaps") { Ok(lower) } else { Err(Report::log_line(wrong())) }
}

/// An option that is on or off. Another word must not mean off.
pub(super) fn flag(name: &str, value: &str) -> Result<bool, Report> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(Report::log_line(format!("invalid {name} value: \"{value}\"")).hint("It is 1 or 0.")),
    }
}

/// Resolves percent encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        if *first == b'%' {
            let (digits, more) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = more;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_url(url: &str) -> Result<Ldap, String> {
        let mut ldap = Ldap::default();
        ldap.set("ldapurl", url).map(|_| ldap).map_err(|report| report.message)
    }

    #[test]
    fn urls() {
        let ldap = from_url("ldaps://a.b:6360/dc=x,dc=y%20z?cn,mail?sub?(cn=$username)").expect("a URL");
        assert_eq!((ldap.scheme.as_str(), ldap.server.as_str(), ldap.port), ("ldaps", "a.b", Some(6360)));
        assert_eq!((ldap.base_dn.as_str(), ldap.search_attribute.as_str()), ("dc=x,dc=y z", "cn"));
        assert_eq!((ldap.scope, ldap.search_filter.as_str()), (Scope::Subtree, "(cn=$username)"));
        let ldap = from_url("ldap://[::1]/dc=x").expect("a URL");
        assert_eq!((ldap.server.as_str(), ldap.port, ldap.scope), ("[::1]", None, Scope::Base));
        for (url, text) in [
            ("http://x/", "unsupported LDAP URL scheme: http"),
            ("ldapi://x/", "unsupported LDAP URL scheme: ldapi"),
            ("nothing", "could not parse LDAP URL \"nothing\""),
            ("ldap://h:0/x", "could not parse LDAP URL"),
            ("ldap://h/x??far", "could not parse LDAP URL"),
            ("ldap://h/%zz", "could not parse LDAP URL"),
            ("ldap://h/dc=x?uid?sub?(f)?!StartTLS", "could not parse LDAP URL"),
        ] {
            let slip = from_url(url).expect_err(url);
            assert!(slip.starts_with(text), "{slip}");
        }
    }

    #[test]
    fn nothing_else_means_without_tls() {
        let mut ldap = from_url("LDAPS://h/dc=x").expect("a URL");
        assert_eq!(ldap.scheme, "ldaps");
        for (name, value, is_taken) in [
            ("ldapscheme", "LDAPS", true),
            ("ldapscheme", "ldap", true),
            ("ldapscheme", "tls", false),
            ("ldapscheme", "", false),
            ("ldaptls", "0", true),
            ("ldaptls", "on", false),
            ("backend_use_passwd", "yes", false),
        ] {
            assert_eq!(ldap.set(name, value).is_ok(), is_taken, "{name}={value}");
        }
    }

    #[test]
    fn the_scope_of_a_url_stays() {
        let mut ldap = from_url("ldap://h/dc=x??one").expect("a URL");
        ldap.set("ldaptls", "1").expect("taken");
        assert_eq!((ldap.scope, ldap.tls), (Scope::One, true));
    }
}
