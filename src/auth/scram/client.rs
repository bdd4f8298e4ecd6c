//! The side that proves to know a password: towards servers (auth 14.2).

use super::super::secret::{hmac, same};
use super::super::{Credential, base64};
use super::message::{Attributes, check_nonce, malformed};
use super::server::xor;
use super::{LoginKeys, MAX_ITERATIONS, MAX_MESSAGE, Mechanism, keys_of};
use crate::report::{Report, SqlState};
use openssl::sha::sha256;

/// A server that has been greeted.
#[derive(Debug)]
pub struct Hello {
    nonce: String,
    bare: String,
    binding: String,
}

/// A server that has the proof and must now prove itself.
#[derive(Debug)]
pub struct Verify {
    signature: [u8; 32],
}

impl Hello {
    /// Begins with `nonce` as our part: the mechanism to be named, and the client-first-message. `mechanisms` are those
    /// the server offers, names ended by zero bytes; `end_point` is the data for channel binding, if there is any.
    ///
    /// # Errors
    /// The server offers nothing we know.
    pub fn new(mechanisms: &[u8], nonce: &str, end_point: Option<&[u8]>) -> Result<(Mechanism, String, Self), Report> {
        let offers =
            |mechanism: Mechanism| mechanisms.split(|byte| *byte == 0).any(|name| name == mechanism.name().as_bytes());
        let (mechanism, header) = match end_point {
            Some(_) if offers(Mechanism::Plus) => (Mechanism::Plus, "p=tls-server-end-point,,"),
            _ if !offers(Mechanism::Plain) => {
                return Err(failed("none of the server's SASL authentication mechanisms are supported")
                    .code(SqlState::FEATURE_NOT_SUPPORTED));
            }
            Some(_) => (Mechanism::Plain, "y,,"),
            None => (Mechanism::Plain, "n,,"),
        };
        let mut binding = header.as_bytes().to_vec();
        if mechanism == Mechanism::Plus {
            binding.extend_from_slice(end_point.unwrap_or_default());
        }
        let bare = format!("n=,r={nonce}");
        let message = format!("{header}{bare}");
        Ok((mechanism, message, Self { nonce: nonce.to_owned(), bare, binding: base64::encode(&binding) }))
    }

    /// Answers a server-first-message with the proof.
    ///
    /// # Errors
    /// The message is malformed or asks for too much, or `credential` cannot make a proof of it.
    pub fn prove(self, first: &[u8], credential: &Credential) -> Result<(String, Verify), Report> {
        let mut attributes = Attributes::new(bounded(first)?)?;
        let whole = attributes.rest();
        if whole.starts_with('e') {
            return Err(told(attributes.value('e')?));
        }
        let nonce = attributes.value('r')?;
        check_nonce(nonce)?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(failed("invalid SCRAM response").detail("The server's nonce does not continue ours."));
        }
        let salt = base64::decode(attributes.value('s')?.as_bytes())
            .filter(|salt| !salt.is_empty())
            .ok_or_else(|| malformed("The server's salt is not in base64."))?;
        let iterations = attributes.value('i')?;
        let iterations = iterations
            .parse::<u32>()
            .ok()
            .filter(|count| *count > 0)
            .ok_or_else(|| malformed("The server's iteration count is not a positive number."))?;
        if iterations > MAX_ITERATIONS {
            return Err(failed(format!("the server asks for {iterations} iterations of SCRAM"))
                .detail(format!("No more than {MAX_ITERATIONS} are done."))
                .hint("Reduce scram_iterations on the server and set the password anew."));
        }
        let keys = keys(credential, &salt, iterations)?;
        let without_proof = format!("c={},r={nonce}", self.binding);
        let signed = [self.bare.as_bytes(), b",", whole.as_bytes(), b",", without_proof.as_bytes()];
        let proof = xor(keys.client_key, hmac(&sha256(&keys.client_key), &signed));
        let message = format!("{without_proof},p={}", base64::encode(&proof));
        Ok((message, Verify { signature: hmac(&keys.server_key, &signed) }))
    }
}

impl Verify {
    /// Checks a server-final-message: whether the server knows the password, too.
    ///
    /// # Errors
    /// It does not.
    pub fn check(self, last: &[u8]) -> Result<(), Report> {
        let mut attributes = Attributes::new(bounded(last)?)?;
        if attributes.rest().starts_with('e') {
            return Err(told(attributes.value('e')?));
        }
        let signature = base64::decode(attributes.value('v')?.as_bytes())
            .ok_or_else(|| malformed("The server's signature is not in base64."))?;
        if same(&signature, &self.signature) { Ok(()) } else { Err(failed("incorrect server signature")) }
    }
}

/// No server has reason to say much.
fn bounded(message: &[u8]) -> Result<&[u8], Report> {
    if message.len() > MAX_MESSAGE { Err(malformed("The server's message is too long.")) } else { Ok(message) }
}

/// The keys for this salt and count.
fn keys(credential: &Credential, salt: &[u8], iterations: u32) -> Result<LoginKeys, Report> {
    match credential {
        Credential::Password(password) => Ok(keys_of(password.bytes(), salt, iterations)),
        Credential::Keys(keys) if keys.fit(salt, iterations) => Ok((**keys).clone()),
        Credential::Keys(_) => Err(failed("failed to authenticate with backend using SCRAM")
            .detail("The verifier in pool_passwd is not the one that the server has.")
            .hint("Copy rolpassword of pg_authid from the primary into pool_passwd.")),
        Credential::Md5(_) | Credential::None => {
            Err(failed("failed to authenticate with backend using SCRAM").detail("valid password not found"))
        }
    }
}

fn told(error: &str) -> Report {
    failed(format!("error received from server in SCRAM exchange: {}", error.escape_default()))
}

fn failed(message: impl Into<String>) -> Report {
    Report::fatal(message).code(SqlState::INVALID_AUTHORIZATION)
}
