//! PAM (auth 20): whether a service lets in a user. Each prompt without echo is passed on to the client.

use super::line::Line;
use crate::net::{Deadline, names};
use crate::report::Report;
use crate::sys::pam::{self, Reply, Style};
use std::ffi::CString;
use std::net::IpAddr;
use std::time::Duration;

/// The longest answer that modules are made for, in bytes: `PAM_MAX_RESP_SIZE` without its end.
const MAX_ANSWER: usize = 511;

/// Where the client comes from.
pub(super) struct Origin {
    pub address: Option<IpAddr>,
    /// Modules are told the name of the address.
    pub by_name: bool,
    /// How long names may be looked for.
    pub within: Duration,
}

/// Whether the client may come in.
pub(super) fn is_granted(service: &str, user: &[u8], origin: &Origin, line: &Line) -> bool {
    let host = origin.address.map(|address| {
        let name = origin.by_name.then(|| confirmed_name(address, Deadline::after(origin.within))).flatten();
        name.unwrap_or_else(|| address.to_string())
    });
    let host = host.and_then(|host| CString::new(host).ok());
    let (Ok(service), Ok(user)) = (CString::new(service), CString::new(user)) else { return false };
    let mut talk = |style: Style, text: &str| match style {
        Style::Prompt => match line.ask() {
            Some(password) if password.bytes().len() > MAX_ANSWER => {
                line.say(error(format!("the password is longer than the {MAX_ANSWER} bytes that PAM takes")));
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

/// The name of an address, if the name leads back to it: else whoever has the address could choose any name (auth 3.7).
fn confirmed_name(address: IpAddr, deadline: Deadline) -> Option<String> {
    let is_name = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let name = names::name(address, deadline).filter(is_name)?;
    names::addresses(&name, deadline).contains(&address).then_some(name)
}

fn error(detail: String) -> Report {
    Report::log_line("PAM Error").detail(detail)
}
