//! PAM (auth 20): whether a service lets in a user. Each prompt without echo is passed on to the client.

use super::line::Line;
use crate::report::Report;
use crate::sys::names::name_of;
use crate::sys::pam::{self, Reply, Style};
use std::ffi::CString;
use std::net::IpAddr;

/// Whether the client may come in.
pub(super) fn is_granted(service: &str, user: &[u8], address: Option<IpAddr>, by_name: bool, line: &Line) -> bool {
    let host =
        address.map(|address| by_name.then(|| name_of(address)).flatten().unwrap_or_else(|| address.to_string()));
    let host = host.and_then(|host| CString::new(host).ok());
    let (Ok(service), Ok(user)) = (CString::new(service), CString::new(user)) else { return false };
    let mut talk = |style: Style, text: &str| match style {
        Style::Prompt => line.ask().map_or(Reply::Fail, |password| Reply::Answer(password.bytes().to_vec())),
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

fn error(detail: String) -> Report {
    Report::log_line("PAM Error").detail(detail)
}
