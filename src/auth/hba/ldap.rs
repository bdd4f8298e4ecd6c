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
    /// `ldaps`: TLS from the first byte.
    pub secure: bool,
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

    /// Takes one of the known options. A value that is not understood is never taken for another: `ldapscheme=LDPAS` must
    /// not mean that passwords are sent in clear.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<(), Report> {
        match name {
            "ldapserver" => value.clone_into(&mut self.server),
            "ldapport" => {
                let port = value.parse().ok().filter(|port| *port != 0);
                self.port =
                    Some(port.ok_or_else(|| Report::log_line(format!("invalid LDAP port number: \"{value}\"")))?);
            }
            "ldapscheme" => {
                let slip =
                    || Report::log_line(format!("invalid ldapscheme value: \"{value}\"")).hint("Use ldap or ldaps.");
                self.secure = is_secure(value).ok_or_else(slip)?;
            }
            "ldaptls" => self.tls = is_on(name, value)?,
            "ldapprefix" => value.clone_into(&mut self.prefix),
            "ldapsuffix" => value.clone_into(&mut self.suffix),
            "ldapbasedn" => value.clone_into(&mut self.base_dn),
            "ldapbinddn" => value.clone_into(&mut self.bind_dn),
            "ldapbindpasswd" => self.bind_password = Secret::new(value),
            "ldapsearchattribute" => value.clone_into(&mut self.search_attribute),
            "ldapsearchfilter" => value.clone_into(&mut self.search_filter),
            "backend_use_passwd" => self.use_for_servers = is_on(name, value)?,
            _ => self.set_url(value)?,
        }
        Ok(())
    }

    /// `ldap[s]://host[:port]/basedn[?attribute[?scope[?filter]]]`
    fn set_url(&mut self, url: &str) -> Result<(), Report> {
        let broken = |why: &str| Report::log_line(format!("could not parse LDAP URL \"{url}\": {why}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| broken("no scheme"))?;
        let unsupported = || Report::log_line(format!("unsupported LDAP URL scheme: {scheme}"));
        let secure = is_secure(scheme).ok_or_else(unsupported)?;
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
        // Such as `!StartTLS`: who asks for it must not get less.
        if parts.any(|extension| !extension.is_empty()) {
            return Err(broken("extensions are not supported").hint("Use ldaptls=1, ldapbinddn and ldapbindpasswd."));
        }
        self.scope = match scope.as_str() {
            "" | "base" => Scope::Base,
            "one" | "onelevel" => Scope::One,
            "sub" | "subtree" => Scope::Subtree,
            _ => return Err(broken("bad scope")),
        };
        self.secure = secure;
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

    /// Whether a password is given for who searches.
    pub(super) fn has_password(&self) -> bool {
        !self.bind_password.bytes().is_empty()
    }

    /// Whether the options go together.
    pub(super) fn check(&self) -> Result<(), Report> {
        let searches = [&self.base_dn, &self.bind_dn, &self.search_attribute, &self.search_filter];
        let searches = searches.iter().any(|text| !text.is_empty()) || self.has_password();
        let binds = !self.prefix.is_empty() || !self.suffix.is_empty();
        let slip = if binds && searches {
            "cannot use ldapbasedn, ldapbinddn, ldapbindpasswd, ldapsearchattribute, ldapsearchfilter, or ldapurl \
             together with ldapprefix"
        } else if !binds && self.base_dn.is_empty() {
            "authentication method \"ldap\" requires argument \"ldapbasedn\", \"ldapprefix\", or \"ldapsuffix\" to be set"
        } else if !self.search_attribute.is_empty() && !self.search_filter.is_empty() {
            "cannot use ldapsearchattribute together with ldapsearchfilter"
        } else if !self.search_filter.is_empty() && !self.search_filter.contains("$username") {
            // It finds the same entry for everybody: whoever is in it could be any user.
            "ldapsearchfilter does not depend on the user: there is no \"$username\" in it"
        } else {
            return Ok(());
        };
        Err(Report::log_line(slip))
    }
}

/// Whether a scheme, in letters of any case, is the one with TLS. `None`: it is neither.
fn is_secure(scheme: &str) -> Option<bool> {
    let is = |known: &str| scheme.eq_ignore_ascii_case(known);
    (is("ldap") || is("ldaps")).then(|| is("ldaps"))
}

/// The value of a switch.
pub(super) fn is_on(name: &str, value: &str) -> Result<bool, Report> {
    match value {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err(Report::log_line(format!("invalid {name} value: \"{value}\"")).hint("Use 1 or 0.")),
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
        assert_eq!((ldap.secure, ldap.server.as_str(), ldap.port), (true, "a.b", Some(6360)));
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
            ("ldap://h/dc=x?uid?sub?(uid=$username)?!StartTLS", "could not parse LDAP URL"),
            ("ldap://h/dc=x????bindname=cn%3dreader", "could not parse LDAP URL"),
        ] {
            let slip = from_url(url).expect_err(url);
            assert!(slip.starts_with(text), "{slip}");
        }
    }

    #[test]
    fn the_scope_of_a_url_stays() {
        let mut ldap = from_url("ldap://h/dc=x??one").expect("a URL");
        ldap.set("ldaptls", "1").expect("taken");
        assert_eq!((ldap.scope, ldap.tls), (Scope::One, true));
    }

    #[test]
    fn schemes_in_any_case() {
        for (scheme, secure) in [("ldap", false), ("LDAP", false), ("ldaps", true), ("LDAPS", true), ("Ldaps", true)] {
            let mut ldap = Ldap::default();
            ldap.set("ldapscheme", scheme).expect(scheme);
            assert_eq!(ldap.secure, secure, "{scheme}");
            assert_eq!(from_url(&format!("{scheme}://h/dc=x")).expect(scheme).secure, secure, "{scheme}");
        }
        let mut ldap = Ldap::default();
        assert!(ldap.set("ldapscheme", "ldapss").is_err() && ldap.set("ldaptls", "2").is_err());
    }
}
