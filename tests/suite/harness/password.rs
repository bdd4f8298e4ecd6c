//! Logging in with a password, and what was asked for on the way.

use super::template::DATABASE;
use super::{Wire, frontend};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use std::io;

/// How a login went.
pub struct Attempt {
    /// What was asked for, in order: `T` the password, `M` an md5 answer, `S` SCRAM.
    pub asked: String,
    /// The connection, or SQLSTATE and message.
    pub outcome: Result<Wire, String>,
}

impl Attempt {
    /// Logs in as `user` to the tests' database, answering whatever is asked for.
    #[track_caller]
    pub fn new(port: u16, user: &str, password: &str) -> Attempt {
        let wire = Wire::open(port).expect("connect");
        Attempt::on(wire, &[("user", user), ("database", DATABASE)], password)
    }

    /// As [`Attempt::new`], on a connection made already.
    #[track_caller]
    pub fn on(mut wire: Wire, startup: &[(&str, &str)], password: &str) -> Attempt {
        let user = startup.iter().find(|(name, _)| *name == "user").expect("a user").1;
        let mut asked = String::new();
        let outcome = log_in(&mut wire, &mut asked, startup, user, password);
        Attempt { asked, outcome: outcome.map(|()| wire) }
    }

    /// What was asked and whether that was enough, in one word or two: `T ok`, `M 28P01`, `ok`.
    pub fn summary(&self) -> String {
        let end = self.outcome.as_ref().map_or_else(|error| error.split(' ').next().unwrap_or_default(), |_| "ok");
        format!("{} {end}", self.asked).trim_start().to_owned()
    }
}

fn log_in(
    wire: &mut Wire,
    asked: &mut String,
    startup: &[(&str, &str)],
    user: &str,
    password: &str,
) -> Result<(), String> {
    let lost = |error: io::Error| format!("lost {error}");
    wire.try_send(&frontend::startup(0, startup)).map_err(lost)?;
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    loop {
        let message = wire.try_read().map_err(lost)?.ok_or("closed")?;
        let answer = match (message.kind, message.body.first_chunk().map(|code| u32::from_be_bytes(*code))) {
            (b'E', _) => {
                let part = |code| message.field(code).unwrap_or_default();
                return Err(format!("{} {}: {}", part('C'), part('M'), part('D')));
            }
            (b'Z', _) => return Ok(()),
            (b'R', Some(3)) => {
                asked.push('T');
                terminated(password)
            }
            (b'R', Some(5)) => {
                asked.push('M');
                let salt = message.body[4..].try_into().expect("a salt of four bytes");
                terminated(&md5_hash(user.as_bytes(), password.as_bytes(), salt))
            }
            (b'R', Some(10)) => {
                asked.push('S');
                assert_eq!(&message.body[4..], b"SCRAM-SHA-256\0\0");
                let mut answer = terminated("SCRAM-SHA-256");
                answer.extend((scram.message().len() as u32).to_be_bytes());
                answer.extend(scram.message());
                answer
            }
            (b'R', Some(11)) => {
                scram.update(&message.body[4..]).expect("the server's challenge");
                scram.message().to_vec()
            }
            (b'R', Some(12)) => {
                scram.finish(&message.body[4..]).expect("the server's proof");
                continue;
            }
            _ => continue,
        };
        wire.try_send(&frontend::message('p', &answer)).map_err(lost)?;
    }
}

fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}
