//! What servers ask for at login, and the answers (auth 9.2, 11, 14.2).

use super::login::{Login, LoginError};
use crate::auth::md5::Md5Hash;
use crate::auth::scram::{Hello, nonce};
use crate::auth::{Credential, Secret};
use crate::report::{Report, SqlState};
use crate::wire::backend::{self, Authentication};
use crate::wire::{Malformed, write};

/// What a server asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing.
    Nothing,
    /// Nothing, of one who has `backend_sslcert`: that may have been pgpool's proof, and tells nothing of a client.
    Certificate,
    /// Nothing, by a Unix socket: pgpool's operating system user may have been its proof (`peer`), and tells nothing of a
    /// client.
    OsUser,
    /// The password in clear text.
    Password,
    /// An answer to an md5 challenge.
    Md5,
    /// SCRAM-SHA-256.
    Scram,
}

impl Demand {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "trust",
            Self::Certificate => "cert",
            Self::OsUser => "trust or peer",
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Scram => "scram-sha-256",
        }
    }
}

/// An authentication request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// We are in.
    Nothing,
    Password,
    /// With this salt.
    Md5([u8; 4]),
    /// One of these mechanisms, each ended by a zero byte.
    Sasl(Vec<u8>),
    /// SCRAM goes on with this message.
    SaslContinue(Vec<u8>),
    /// SCRAM ends with this message.
    SaslFinal(Vec<u8>),
}

/// A request that cannot be taken.
pub(super) enum Strange {
    Malformed(Malformed),
    Unsupported(Box<Report>),
}

impl Request {
    /// Decodes the content of a message of node `node`.
    pub fn read(content: &[u8], node: usize) -> Result<Self, Strange> {
        Ok(match backend::authentication(content).map_err(Strange::Malformed)? {
            Authentication::Ok => Self::Nothing,
            Authentication::Method(3, _) => Self::Password,
            Authentication::Method(5, salt) => Self::Md5(
                salt.try_into().map_err(|_| Strange::Malformed(Malformed::Content("AuthenticationMD5Password")))?,
            ),
            Authentication::Method(10, mechanisms) => Self::Sasl(mechanisms.to_vec()),
            Authentication::Method(11, data) => Self::SaslContinue(data.to_vec()),
            Authentication::Method(12, data) => Self::SaslFinal(data.to_vec()),
            Authentication::Method(code, _) => return Err(Strange::Unsupported(Box::new(unsupported(node, code)))),
        })
    }

    pub fn demand(&self) -> Demand {
        match self {
            Self::Password => Demand::Password,
            Self::Md5(_) => Demand::Md5,
            Self::Sasl(_) | Self::SaslContinue(_) | Self::SaslFinal(_) => Demand::Scram,
            Self::Nothing => Demand::Nothing,
        }
    }
}

fn unsupported(node: usize, code: u32) -> Report {
    let method = backend::authentication_name(code);
    Report::fatal("failed to authenticate with backend")
        .detail(format!("unsupported auth kind received from backend: authkind:{code} ({method}, DB node id: {node})"))
        .hint("Use trust, password, md5, or scram-sha-256 for pgpool's host in pg_hba.conf of the server.")
        .code(SqlState::FEATURE_NOT_SUPPORTED)
}

/// Answers `request`, up to AuthenticationOk.
pub(super) fn prove(login: &mut Login<'_>, request: Request, credential: &Credential) -> Result<(), LoginError> {
    let node = login.node;
    match request {
        Request::Nothing => return Ok(()),
        Request::Password => match credential {
            Credential::Password(password) if fits_a_message(password) => send(login, password.bytes(), true)?,
            _ => return Err(missing(node, "clear text password authentication failed", "unable to get the password")),
        },
        Request::Md5(salt) => {
            let user = login.user();
            let hash = match credential {
                Credential::Password(password) => Md5Hash::of(password.bytes(), &user),
                Credential::Md5(hash) => Some(hash.clone()),
                Credential::None | Credential::Keys(_) => None,
            };
            let answer = hash.and_then(|hash| hash.answer(salt));
            let answer = answer.ok_or_else(|| {
                missing(node, "failed to authenticate with backend using md5", "valid password not found")
            })?;
            send(login, &answer, true)?;
        }
        Request::Sasl(mechanisms) => scram(login, &mechanisms, credential)?,
        other => return Err(out_of_order(login, &other)),
    }
    match login.next_request()? {
        Request::Nothing => Ok(()),
        other => Err(out_of_order(login, &other)),
    }
}

fn scram(login: &mut Login<'_>, mechanisms: &[u8], credential: &Credential) -> Result<(), LoginError> {
    let node = login.node;
    if matches!(credential, Credential::None | Credential::Md5(_)) {
        return Err(missing(node, "failed to authenticate with backend using SCRAM", "valid password not found"));
    }
    let strange = |report: Report| LoginError::Unsupported(report.context(format!("login to DB node {node}")));
    let end_point = login.end_point();
    let (mechanism, first, hello) = Hello::new(mechanisms, &nonce(), end_point.as_deref()).map_err(strange)?;
    let mut initial = mechanism.name().as_bytes().to_vec();
    initial.push(0);
    initial.extend((first.len() as u32).to_be_bytes());
    initial.extend_from_slice(first.as_bytes());
    send(login, &initial, false)?;
    let answer = match login.next_request()? {
        Request::SaslContinue(answer) => answer,
        other => return Err(out_of_order(login, &other)),
    };
    let (last, verify) = hello.prove(&answer, credential).map_err(strange)?;
    send(login, last.as_bytes(), false)?;
    // A server that lets us in without its own proof does not know the password.
    match login.next_request()? {
        Request::SaslFinal(answer) => verify.check(&answer).map_err(strange),
        other => Err(out_of_order(login, &other)),
    }
}

fn send(login: &Login<'_>, content: &[u8], terminated: bool) -> Result<(), LoginError> {
    let mut message = Vec::with_capacity(content.len() + 6);
    write::message(&mut message, b'p', |out| {
        out.extend_from_slice(content);
        if terminated {
            out.push(0);
        }
    });
    login.send(Secret::new(message).bytes())
}

fn fits_a_message(password: &Secret) -> bool {
    !password.bytes().is_empty() && !password.bytes().contains(&0)
}

fn missing(node: usize, text: &str, detail: &str) -> LoginError {
    LoginError::Unsupported(
        Report::fatal(text)
            .detail(detail)
            .hint("Put the user with a password of a kind that serves this method into pool_passwd.")
            .context(format!("login to DB node {node}"))
            .code(SqlState::INVALID_AUTHORIZATION),
    )
}

fn out_of_order(login: &Login<'_>, request: &Request) -> LoginError {
    let what = match request {
        Request::Nothing => "AuthenticationOk",
        Request::SaslContinue(_) => "AuthenticationSASLContinue",
        Request::SaslFinal(_) => "AuthenticationSASLFinal",
        Request::Password | Request::Md5(_) | Request::Sasl(_) => "another authentication request",
    };
    login.lost(&format!("{what} arrived where the exchange does not allow it"))
}
