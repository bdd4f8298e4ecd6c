//! `pgproto` (tools 1): plays a file of protocol messages against a server, and tells on stderr what is sent and received.
//!
//! [`line`] turns a line of the file into a [`step`], [`received`] a message into what is told of it; both are pure.

mod line;
mod options;
mod received;
mod step;

use super::peer::{Lost, Peer};
use super::{complain, say};
use crate::auth::Credential;
use crate::backend::{LoginError, configure_tls, open};
use crate::config::{BackendSslmode, Settings};
use crate::net::Deadline;
use crate::report::version::VERSION;
use crate::wire::write;
use options::{Options, Slip};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;
use step::{Step, Until};

/// How long to connect and log in.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);
/// How long `y` and `z` wait for a message.
const PATIENCE: Duration = Duration::from_secs(1);

/// Runs it. Returns the exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let options = match options::parse(arguments) {
        Ok(options) => options,
        Err(Slip::Help) => return i32::from(!say(options::USAGE)),
        Err(Slip::Version) => {
            complain(format!("pgproto (pgpool-II) {VERSION}\n"));
            return 0;
        }
        Err(Slip::Wrong(message)) => {
            complain(message);
            say(options::USAGE);
            return super::EXIT_USAGE;
        }
    };
    let Ok(script) = std::fs::read(&options.script) else {
        complain(format!("Failed to open protocol data file: {}.\n", options.script.display()));
        return 1;
    };
    let played = connect(&options).and_then(|peer| Player { peer, options: &options }.play(&script));
    match played {
        Ok(()) => 0,
        Err(message) => {
            complain(message);
            1
        }
    }
}

/// Connects and logs in.
fn connect(options: &Options) -> Result<Peer, Vec<u8>> {
    let mut startup = Vec::new();
    let parameters = [("user", &*options.user), ("database", &*options.database), ("application_name", "pgproto")];
    write::startup(&mut startup, &parameters);
    let failed = |error: LoginError| {
        let report = error.into_report(0);
        let reason = report.detail.unwrap_or(report.message);
        format!("Failed to connect to {}.\n{reason}\n", options.conninfo).into_bytes()
    };
    let credential = match std::env::var_os("PGPASSWORD") {
        Some(password) => Credential::password(password.into_vec()),
        None => Credential::None,
    };
    // Its options know no TLS.
    let plain = Settings { backend_sslmode: BackendSslmode::Disable, ..Settings::default() };
    configure_tls(&plain).map_err(|report| failed(LoginError::Unsupported(report)))?;
    let deadline = Deadline::after(LOGIN_LIMIT);
    let connection = open(0, &options.address, &startup, &credential, deadline).map_err(failed)?;
    Ok(Peer::new(connection.stream, connection.input))
}

/// A script being played. Errors are what stderr is to be told at the end.
struct Player<'a> {
    peer: Peer,
    options: &'a Options,
}

impl Player<'_> {
    fn play(mut self, script: &[u8]) -> Result<(), Vec<u8>> {
        for line in line::lines(script) {
            match step::parse(&line)? {
                Step::Send { told, message } => {
                    complain(told);
                    self.send(&message)?;
                }
                Step::Receive(until) => self.receive(until)?,
                Step::Unknown(kind) => complain([b"Unknown kind: ", &[kind][..]].concat()),
            }
        }
        Ok(())
    }

    /// Sends. That the server has gone is told, and noticed at the next receive.
    fn send(&mut self, message: &[u8]) -> Result<(), Vec<u8>> {
        match self.peer.send(message, self.limit()) {
            Ok(()) => Ok(()),
            Err(Lost::Failed(error)) => {
                complain(format!("write_it: warning write(2) failed: {}\n", super::describe(&error)));
                Ok(())
            }
            Err(lost) => Err(reason(lost)),
        }
    }

    /// Receives, and tells what.
    fn receive(&mut self, until: Until) -> Result<(), Vec<u8>> {
        loop {
            let deadline = match until {
                Until::Ready => self.limit(),
                Until::ReadyOrQuiet | Until::One => self.limit().min(Deadline::after(PATIENCE)),
            };
            let (kind, content) = match self.peer.receive(deadline) {
                Ok(message) => message,
                Err(Lost::TooLate) if until != Until::Ready => return Ok(()),
                Err(lost) => return Err(reason(lost)),
            };
            complain(received::told(kind, &content));
            if !self.options.nap.is_zero() {
                std::thread::sleep(self.options.nap);
            }
            if kind == b'Z' || until == Until::One {
                return Ok(());
            }
        }
    }

    fn limit(&self) -> Deadline {
        self.options.limit.map_or(Deadline::NEVER, Deadline::after)
    }
}

fn reason(lost: Lost) -> Vec<u8> {
    match lost {
        Lost::Closed => "read_it: EOF detected".to_owned(),
        Lost::TooLate => "read_it: nothing received in time\n".to_owned(),
        Lost::Invalid => "read_it: not a message of the protocol\n".to_owned(),
        Lost::Failed(error) => format!("read_it: read(2) returns error {}\n", super::describe(&error)),
    }
    .into_bytes()
}
