//! LDAP (auth 21): whether a directory takes the user's name and password.
//!
//! The user's name in the directory is prefix, name and suffix, or what a search finds. Servers are asked in their order;
//! the next one is when one cannot answer. Each has its share of the time that is left, and a process of its own.

use super::line::Line;
use super::{attempt, escape};
use crate::auth::Secret;
use crate::auth::hba::{Ldap, Scope};
use crate::net::Deadline;
use crate::report::Report;
use crate::sys::ldap::{self, Connection, Error};
use std::ffi::CString;
use std::time::Duration;

/// Whether the client may come in. Its password is asked for; `password` is that of `ldapbinddn`.
pub(super) fn is_granted(options: &Ldap, password: &Secret, user: &[u8], within: Duration, line: &Line) -> bool {
    let library = match ldap::Ldap::load() {
        Ok(library) => library,
        Err(error) => {
            line.say(Report::log_line(format!("could not load the library of LDAP: {error}")));
            return false;
        }
    };
    let Some(servers) = servers(options, &library, line) else { return false };
    let Some(typed) = line.ask() else { return false };
    // A directory takes a name without a password for nobody, and says yes (auth 23.3).
    if typed.bytes().is_empty() {
        return false;
    }
    let deadline = Deadline::after(within);
    for (at, server) in servers.iter().enumerate() {
        let left = deadline.remaining().unwrap_or(within);
        let share = left / (servers.len() - at) as u32;
        // So much less than its share that the library can tell what it waits for.
        let question = Question { library: &library, options, server, limit: share * 9 / 10, line };
        let ask = || match question.is_granted(password, user, &typed) {
            Ok(true) => GRANTED,
            Ok(false) => REFUSED,
            Err(Unreachable) => UNREACHABLE,
        };
        match attempt::within(share, ask) {
            Ok(Some(GRANTED)) => return true,
            Ok(Some(UNREACHABLE)) => {}
            Ok(Some(_)) => return false,
            Ok(None) => line.say(Report::log_line(format!("LDAP server \"{server}\" did not answer in time"))),
            Err(error) => line.say(Report::log_line(format!("could not ask LDAP server \"{server}\": {error}"))),
        }
    }
    false
}

/// Verdicts of attempts.
const GRANTED: u8 = b'Y';
const REFUSED: u8 = b'N';
const UNREACHABLE: u8 = b'U';

/// The servers in their order, as `host:port`.
fn servers(options: &Ldap, library: &ldap::Ldap, line: &Line) -> Option<Vec<String>> {
    if !options.server.is_empty() {
        return Some(addresses(options));
    }
    let complain = |text: &str| {
        line.say(Report::log_line(text));
        None
    };
    if options.base_dn.is_empty() {
        return complain("LDAP server not specified, and no ldapbasedn");
    }
    let Some(domain) = CString::new(&*options.base_dn).ok().and_then(|dn| library.domain_of(&dn)) else {
        return complain("could not extract domain name from ldapbasedn");
    };
    let Some(servers) = library.servers_of(&domain) else {
        let domain = domain.to_string_lossy();
        let text = format!("LDAP authentication could not find DNS SRV records for \"{domain}\"");
        line.say(Report::log_line(text).hint("Set an LDAP server name explicitly."));
        return None;
    };
    Some(servers.to_string_lossy().split_whitespace().map(str::to_owned).collect())
}

/// The servers of `ldapserver`, with their port.
fn addresses(options: &Ldap) -> Vec<String> {
    let port = options.port.unwrap_or(if options.secure { 636 } else { 389 });
    let address = |host: &str| match host {
        // An address of IPv6 without its brackets.
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]:{port}"),
        host => format!("{host}:{port}"),
    };
    options.server.split_whitespace().map(address).collect()
}

/// The server cannot answer; that is in the log.
struct Unreachable;

/// What one server is asked.
struct Question<'a> {
    library: &'a ldap::Ldap,
    options: &'a Ldap,
    server: &'a str,
    /// How long each step may take.
    limit: Duration,
    line: &'a Line,
}

impl Question<'_> {
    fn is_granted(&self, password: &Secret, user: &[u8], typed: &Secret) -> Result<bool, Unreachable> {
        let name = if self.options.base_dn.is_empty() {
            CString::new(bound_name(self.options, user)).ok()
        } else {
            self.find(password, user)?
        };
        // A server takes an empty name for nobody.
        let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(false) };
        let Some(connection) = self.connect()? else { return Ok(false) };
        match connection.bind(&name, typed.bytes()) {
            Ok(()) => Ok(true),
            Err(error) => {
                let name = name.to_string_lossy();
                let server = self.server;
                self.failed(&format!("LDAP login failed for user \"{name}\" on server \"{server}\""), &error)
            }
        }
    }

    /// The one entry of the user, if there is one.
    fn find(&self, password: &Secret, user: &[u8]) -> Result<Option<CString>, Unreachable> {
        let Ldap { base_dn, bind_dn, scope, .. } = self.options;
        let server = self.server;
        let Some(connection) = self.connect()? else { return Ok(None) };
        let strings = (CString::new(&**bind_dn), CString::new(&**base_dn), CString::new(filter(self.options, user)));
        let (Ok(binder), Ok(base), Ok(filter)) = strings else { return Ok(None) };
        if let Err(error) = connection.bind(&binder, password.bytes()) {
            let what =
                format!("could not perform initial LDAP bind for ldapbinddn \"{bind_dn}\" on server \"{server}\"");
            return self.failed(&what, &error).map(|_| None);
        }
        let scope = match scope {
            Scope::Base => ldap::Scope::Base,
            Scope::One => ldap::Scope::One,
            Scope::Subtree => ldap::Scope::Subtree,
        };
        let found = connection.search(&base, scope, &filter);
        let filter = filter.to_string_lossy();
        let count = match found {
            Ok(mut names) if names.len() == 1 => return Ok(names.pop()),
            Ok(names) => names.len(),
            Err(error) if error.too_many() => ldap::MAX_ENTRIES,
            Err(error) => {
                let what = format!("could not search LDAP for filter \"{filter}\" on server \"{server}\"");
                return self.failed(&what, &error).map(|_| None);
            }
        };
        let user = String::from_utf8_lossy(user);
        let search = format!("LDAP search for filter \"{filter}\" on server \"{server}\" returned");
        self.line.say(match count {
            0 => {
                Report::log_line(format!("LDAP user \"{user}\" does not exist")).detail(format!("{search} no entries."))
            }
            _ => Report::log_line(format!("LDAP user \"{user}\" is not unique"))
                .detail(format!("{search} {count} entries.")),
        });
        Ok(None)
    }

    /// A connection with TLS where it is wanted. `None`: it will never be.
    fn connect(&self) -> Result<Option<Connection<'_>>, Unreachable> {
        let scheme = if self.options.secure { "ldaps" } else { "ldap" };
        let Ok(uri) = CString::new(format!("{scheme}://{}", self.server)) else { return Ok(None) };
        let connection = match self.library.connect(&uri, self.limit) {
            Ok(connection) => connection,
            Err(error) => return self.failed("could not initialize LDAP", &error).map(|_| None),
        };
        if self.options.tls
            && let Err(error) = connection.start_tls()
        {
            return self.failed("could not start LDAP TLS session", &error).map(|_| None);
        }
        Ok(Some(connection))
    }

    /// Tells the log; another server may do better if it is this one's fault.
    fn failed(&self, what: &str, error: &Error) -> Result<bool, Unreachable> {
        let mut report = Report::log_line(format!("{what}: {error}"));
        if !error.diagnostics.is_empty() {
            report = report.detail(format!("LDAP diagnostics: {}", error.diagnostics));
        }
        self.line.say(report);
        if error.is_of_server() { Err(Unreachable) } else { Ok(false) }
    }
}

/// The user's name in the directory by `ldapprefix` and `ldapsuffix`. They make a distinguished name if there is an `=` in
/// them; else it is a name as Active Directory has it, `user@domain` or `DOMAIN\user`, in which nothing is special.
fn bound_name(options: &Ldap, user: &[u8]) -> Vec<u8> {
    let Ldap { prefix, suffix, .. } = options;
    let is_distinguished = prefix.contains('=') || suffix.contains('=');
    let user = if is_distinguished { escape::in_dn(user) } else { user.to_vec() };
    [prefix.as_bytes(), &user, suffix.as_bytes()].concat()
}

/// The filter that finds the user.
fn filter(options: &Ldap, user: &[u8]) -> Vec<u8> {
    let user = escape::in_filter(user);
    let Ldap { search_filter, search_attribute, .. } = options;
    if !search_filter.is_empty() {
        let parts: Vec<&[u8]> = search_filter.split("$username").map(str::as_bytes).collect();
        return parts.join(user.as_slice());
    }
    let attribute = if search_attribute.is_empty() { "uid" } else { search_attribute };
    [b"(", attribute.as_bytes(), b"=", &user, b")"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Ldap {
        Ldap { base_dn: "dc=x".to_owned(), server: "a  ::1 [::2]".to_owned(), ..Ldap::default() }
    }

    #[test]
    fn servers_have_the_port_of_the_scheme() {
        assert_eq!(addresses(&options()), ["a:389", "[::1]:389", "[::2]:389"]);
        let secure = Ldap { secure: true, ..options() };
        assert_eq!(addresses(&secure)[0], "a:636");
        assert_eq!(addresses(&Ldap { port: Some(7), ..secure })[0], "a:7");
    }

    #[test]
    fn names_and_filters_hold_the_user_as_a_value() {
        let named = |prefix: &str, suffix: &str| {
            let options = Ldap { prefix: prefix.to_owned(), suffix: suffix.to_owned(), ..Ldap::default() };
            String::from_utf8(bound_name(&options, b"a,b")).expect("UTF-8")
        };
        assert_eq!(named("uid=", ",dc=x"), "uid=a\\,b,dc=x");
        assert_eq!([named("", "@x"), named("X\\", "")], ["a,b@x", "X\\a,b"]);
        let found = |attribute: &str, filter_of: &str| {
            let options =
                Ldap { search_attribute: attribute.to_owned(), search_filter: filter_of.to_owned(), ..options() };
            String::from_utf8(filter(&options, b"a*")).expect("UTF-8")
        };
        assert_eq!([found("", ""), found("cn", "")], ["(uid=a\\2a)", "(cn=a\\2a)"]);
        assert_eq!(found("", "(|(uid=$username)(mail=$username@x))"), "(|(uid=a\\2a)(mail=a\\2a@x))");
    }
}
