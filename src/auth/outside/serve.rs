//! The process's side: takes a request, has it answered, reports, and ends.

use super::line::{Kind, Line};
use super::{Judge, Request, ldap, orphans, pam};
use crate::sys::{descriptor, die_with_parent, title};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{chdir, getppid};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Serves the worker at the other end of standard input. Returns the exit status, which tells nothing.
pub fn serve() -> i32 {
    die_with_parent(getppid(), Signal::SIGKILL);
    orphans::adopt_all();
    // Whatever the starting shell of pgpool left open, this process has no use for.
    descriptor::close_inherited();
    // Libraries look for configuration in the working directory, which may be anybody's: OpenLDAP's `ldaprc`.
    let moved = chdir("/").map_err(io::Error::from);
    // What this process knows must not be found in a file if a module crashes.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let answered = moved.and_then(|()| take_line()).and_then(|line| {
        let (kind, request) = line.receive()?;
        let request = (kind == Kind::Request).then(|| serde_json::from_slice::<Request>(request.bytes()));
        let request = request.ok_or(io::ErrorKind::InvalidData)?.map_err(io::Error::other)?;
        let verdict = if is_granted(&request, &line) { Kind::Granted } else { Kind::Refused };
        line.send(verdict, &[])
    });
    i32::from(answered.is_err())
}

fn is_granted(request: &Request, line: &Line) -> bool {
    let user = String::from_utf8_lossy(&request.user);
    let Some(password) = line.secret() else { return false };
    match &request.judge {
        Judge::Pam { service, address, by_name } => {
            title::set(&format!("PAM authentication of {user}"));
            let host = address.map(|address| pam::host_of(address, *by_name));
            pam::is_granted(service, &request.user, host, line)
        }
        Judge::Ldap(options) => {
            title::set(&format!("LDAP authentication of {user}"));
            ldap::is_granted(options, &password, &request.user, request.within, line)
        }
    }
}

/// Standard input becomes a line of our own, which no program that a module starts will get.
fn take_line() -> io::Result<Line> {
    let line = Line::new(io::stdin().as_fd().try_clone_to_owned()?);
    descriptor::replace(File::open("/dev/null")?, 0)?;
    Ok(line)
}
