//! The side that checks a proof: towards clients (auth 14.1).

use super::super::base64;
use super::super::secret::{hmac, same};
use super::keys::Key;
use super::message::{Attributes, check_nonce, malformed};
use super::{KEY_LENGTH, LoginKeys, Mechanism, Verifier};
use crate::report::{Report, SqlState};
use openssl::sha::sha256;

/// A client that has been challenged.
#[derive(Debug)]
pub struct Challenge {
    verifier: Verifier,
    is_known: bool,
    nonce: String,
    /// What `c=` must hold.
    binding: String,
    /// client-first-message-bare and server-first-message, as far as they are signed.
    signed: String,
}

/// A client that has proved to know the password.
#[derive(Debug)]
pub struct Proved {
    /// server-final-message.
    pub message: String,
    /// What it would log in with: the client's proof gives away its key to whoever knows the verifier.
    pub keys: LoginKeys,
}

impl Challenge {
    /// Answers a client-first-message. `is_known`: whether there is a user of whom the verifier is; without one the
    /// exchange goes on all the same and ends like one with a wrong password. `nonce` is our part. `end_point`: data for
    /// channel binding of type tls-server-end-point, if the connection has them (auth 14.3).
    ///
    /// # Errors
    /// The message is malformed, or asks for what is not supported.
    pub fn new(
        first: &[u8],
        mechanism: Mechanism,
        (verifier, is_known): (Verifier, bool),
        nonce: &str,
        end_point: Option<&[u8]>,
    ) -> Result<(String, Self), Report> {
        let mut attributes = Attributes::new(first)?;
        let header = gs2_header(&mut attributes, mechanism, end_point.is_some())?;
        let bare = attributes.rest();
        if bare.starts_with('m') {
            return Err(unsupported("client requires an unsupported SCRAM extension"));
        }
        attributes.value('n')?;
        let client_nonce = attributes.value('r')?;
        check_nonce(client_nonce)?;
        // Optional extensions mean nothing to us.
        while attributes.any()?.is_some() {}
        let mut binding = header.as_bytes().to_vec();
        if header.starts_with('p') {
            binding.extend_from_slice(end_point.unwrap_or_default());
        }
        let nonce = format!("{client_nonce}{nonce}");
        let answer = format!("r={nonce},s={},i={}", base64::encode(&verifier.salt), verifier.iterations);
        let signed = format!("{bare},{answer},");
        Ok((answer, Self { verifier, is_known, nonce, binding: base64::encode(&binding), signed }))
    }

    /// Checks a client-final-message. `Ok(None)`: it is in order, but the proof is wrong.
    ///
    /// # Errors
    /// The message is malformed or does not belong to this exchange.
    pub fn check(self, last: &[u8]) -> Result<Option<Proved>, Report> {
        let mut attributes = Attributes::new(last)?;
        let whole = attributes.rest();
        if attributes.value('c')? != self.binding {
            return Err(Report::fatal("unexpected SCRAM channel-binding attribute in client-final-message")
                .code(SqlState::PROTOCOL_VIOLATION));
        }
        if !same(attributes.value('r')?.as_bytes(), self.nonce.as_bytes()) {
            return Err(Report::fatal("invalid SCRAM response")
                .detail("Nonce does not match.")
                .code(SqlState::PROTOCOL_VIOLATION));
        }
        let proof = loop {
            match attributes.any()? {
                Some(('p', proof)) => break proof,
                Some(_) => {}
                None => return Err(malformed("Expected attribute \"p\" but found \"\".")),
            }
        };
        if !attributes.rest().is_empty() || whole.ends_with(',') {
            return Err(malformed("Garbage found at the end of client-final-message."));
        }
        let without_proof = &whole[..whole.len() - proof.len() - ",p=".len()];
        let proof = base64::decode(proof.as_bytes())
            .and_then(|proof| Key::try_from(proof).ok())
            .ok_or_else(|| malformed("Malformed proof in client-final-message."))?;
        let Verifier { iterations, salt, stored_key, server_key } = self.verifier;
        let signed = [self.signed.as_bytes(), without_proof.as_bytes()];
        let client_key = xor(proof, hmac(&stored_key, &signed));
        let is_right = same(&sha256(&client_key), &stored_key);
        let signature = hmac(&server_key, &signed);
        if !is_right || !self.is_known {
            return Ok(None);
        }
        let message = format!("v={}", base64::encode(&signature));
        Ok(Some(Proved { message, keys: LoginKeys { iterations, salt, client_key, server_key } }))
    }
}

/// Takes the GS2 header, which says what the client thinks of channel binding, and returns it.
fn gs2_header<'a>(attributes: &mut Attributes<'a>, mechanism: Mechanism, can_bind: bool) -> Result<&'a str, Report> {
    let whole = attributes.rest();
    let length = match (whole.as_bytes()[0], mechanism) {
        (b'n', Mechanism::Plain) => 1,
        // It could, and believes that we cannot: somebody has taken the other mechanism off our list.
        (b'y', Mechanism::Plain) if can_bind => {
            return Err(Report::fatal("SCRAM channel binding negotiation error")
                .detail("The client supports SCRAM channel binding but thinks the server does not. However, this server does support channel binding.")
                .code(SqlState::INVALID_AUTHORIZATION));
        }
        (b'y', Mechanism::Plain) => 1,
        (b'p', Mechanism::Plain) => {
            return Err(unsupported("client requires SCRAM channel binding, but it is not supported"));
        }
        (b'p', Mechanism::Plus) => {
            const TYPE: &str = "p=tls-server-end-point";
            if whole.split(',').next() != Some(TYPE) {
                return Err(unsupported("unsupported SCRAM channel-binding type"));
            }
            TYPE.len()
        }
        (b'n' | b'y', Mechanism::Plus) => {
            return Err(malformed(
                "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
            ));
        }
        _ => {
            let flag = whole.chars().next().unwrap_or_default().escape_default();
            return Err(malformed(format!("Unexpected channel-binding flag \"{flag}\".")));
        }
    };
    attributes.skip(length);
    comma(attributes)?;
    if attributes.rest().starts_with('a') {
        return Err(unsupported("client uses authorization identity, but it is not supported"));
    }
    match attributes.rest().chars().next() {
        Some(',') => attributes.skip(1),
        other => {
            let found = other.unwrap_or_default().escape_default();
            return Err(malformed(format!("Unexpected attribute \"{found}\" in client-first-message.")));
        }
    }
    Ok(&whole[..length + 2])
}

fn comma(attributes: &mut Attributes<'_>) -> Result<(), Report> {
    match attributes.rest().chars().next() {
        Some(',') => attributes.skip(1),
        other => {
            let found = other.unwrap_or_default().escape_default();
            return Err(malformed(format!("Comma expected, but found character \"{found}\".")));
        }
    }
    Ok(())
}

fn unsupported(message: &str) -> Report {
    Report::fatal(message).code(SqlState::FEATURE_NOT_SUPPORTED)
}

pub(super) fn xor(mut one: Key, two: Key) -> Key {
    const { assert!(KEY_LENGTH == size_of::<Key>()) };
    one.iter_mut().zip(two).for_each(|(one, two)| *one ^= two);
    one
}
