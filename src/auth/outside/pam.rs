//! PAM (auth 20): whether a service lets in a user. Each prompt without echo is passed on to the client.

use super::line::Line;
use crate::auth::hba::{Names, confirmed_name};
use crate::report::Report;
use crate::sys::names::name_of;
use crate::sys::pam::{self, Reply, Style};
use std::ffi::CString;
use std::net::{IpAddr, ToSocketAddrs};

/// Whether the client may come in; `host` is where it comes from, if that is another machine.
pub(super) fn is_granted(service: &str, user: &[u8], host: Option<String>, line: &Line) -> bool {
    let host = host.and_then(|host| CString::new(host).ok());
    let (Ok(service), Ok(user)) = (CString::new(service), CString::new(user)) else { return false };
    let mut talk = |style: Style, text: &str| match style {
        Style::Prompt => match line.ask() {
            Some(password) if password.bytes().len() > pam::MAX_ANSWER => {
                line.say(error(format!("the password is longer than PAM takes ({} bytes)", pam::MAX_ANSWER)));
                Reply::Fail
            }
            Some(password) => Reply::Answer(password.bytes().to_vec()),
            None => Reply::Fail,
        },
        Style::Error => {
            line.say(error(format!("error from underlying PAM layer: {text}")));
            Reply::Heard
        }
        Style::Info => {
            line.say(Report::log_line(format!("PAM says: {text}")));
            Reply::Heard
        }
        Style::Other(style) => {
            line.say(error(format!("unsupported PAM conversation {style}/{text}")));
            Reply::Fail
        }
    };
    match pam::check(&service, &user, host.as_deref(), &mut talk) {
        Ok(()) => true,
        Err(reason) => {
            line.say(Report::log_line("failed authentication against PAM").detail(reason));
            false
        }
    }
}

/// What a module is told of where the client comes from: with `by_name` its name, if that is one to be believed, else the
/// address.
pub(super) fn host_of(client: IpAddr, by_name: bool) -> String {
    by_name.then(|| believed_name(client, &mut System)).flatten().unwrap_or_else(|| client.to_string())
}

fn believed_name(client: IpAddr, names: &mut dyn Names) -> Option<String> {
    confirmed_name(client, names).filter(|name| is_plain(name))
}

/// The system's resolver, which is waited for as long as this process has.
struct System;

impl Names for System {
    fn interfaces(&mut self) -> Vec<(IpAddr, Option<IpAddr>)> {
        Vec::new()
    }

    fn name(&mut self, address: IpAddr) -> Option<String> {
        name_of(address)
    }

    fn addresses(&mut self, name: &str) -> Vec<IpAddr> {
        let found = (name, 0).to_socket_addrs();
        found.map(|found| found.map(|address| address.ip()).collect()).unwrap_or_default()
    }
}

/// Modules hand it to scripts and compare it with lists: names that are none are left out.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
        && name.parse::<IpAddr>().is_err()
}

fn error(detail: String) -> Report {
    Report::log_line("PAM Error").detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The client's name, by its own word, and where that name leads.
    struct Told(&'static str, &'static str);

    impl Names for Told {
        fn interfaces(&mut self) -> Vec<(IpAddr, Option<IpAddr>)> {
            Vec::new()
        }

        fn name(&mut self, _: IpAddr) -> Option<String> {
            Some(self.0.to_owned())
        }

        fn addresses(&mut self, _: &str) -> Vec<IpAddr> {
            self.1.parse().into_iter().collect()
        }
    }

    #[test]
    fn only_a_name_that_leads_back_is_told() {
        let client: IpAddr = "192.0.2.7".parse().expect("an address");
        for (name, leads_to, told) in [
            ("a.example.com", "192.0.2.7", true),
            ("trusted.example.com", "10.0.0.1", false),
            ("trusted.example.com", "", false),
            ("localhost", "127.0.0.1", false),
            ("10.0.0.1", "192.0.2.7", false),
            ("a;reboot", "192.0.2.7", false),
            ("a b", "192.0.2.7", false),
        ] {
            let believed = believed_name(client, &mut Told(name, leads_to));
            assert_eq!(believed, told.then(|| name.to_owned()), "{name} {leads_to}");
        }
        assert_eq!(host_of(client, false), "192.0.2.7");
    }
}
