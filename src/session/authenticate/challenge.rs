//! The exchanges of the methods with a client (auth 10, 14.1, 15). What each returns: the password or the key that the
//! client has proved to know, or `None` if it does not.

use super::Channel;
use super::dialogue::{Dialogue, invalid};
use crate::auth::md5::{self, Md5Hash};
use crate::auth::passwords::Entry;
use crate::auth::scram::{Challenge, LoginKeys, MAX_MESSAGE, Mechanism, Verifier, nonce, own_verifier};
use crate::auth::{Credential, Secret};
use crate::report::{Report, SqlState};
use crate::session::end::End;
use crate::wire::{Cursor, write};

/// Asks for the password in clear text. It is not empty.
pub(super) fn password(dialogue: &mut Dialogue<'_>) -> Result<Secret, End> {
    let content = dialogue.ask(|out| write::authentication(out, 3, &[]))?;
    let mut cursor = Cursor::new(content.bytes());
    match cursor.text() {
        Some(_) if !cursor.rest().is_empty() => Err(invalid("The password packet holds more than the password.")),
        None => Err(invalid("The password is not terminated.")),
        // A directory, or a server's own check, might take an empty one for no password at all.
        Some([]) => Err(Report::fatal("clear text authentication failed")
            .detail("empty password returned by client")
            .code(SqlState::INVALID_PASSWORD)
            .into()),
        Some(password) => Ok(Secret::new(password)),
    }
}

/// Sends an md5 challenge. Without a hash to compare with it is sent all the same, and no answer is right.
pub(super) fn md5(dialogue: &mut Dialogue<'_>, hash: Option<&Md5Hash>) -> Result<bool, End> {
    let salt = md5::salt();
    let answer = dialogue.ask(|out| write::authentication(out, 5, &salt))?;
    let answer = answer.bytes().strip_suffix(b"\0").ok_or_else(|| invalid("The password is not terminated."))?;
    // Nobody's hash, so that unknown users take the same time.
    let nobody = Md5Hash::from_stored(b"md500000000000000000000000000000000");
    let is_right = hash.or(nobody.as_ref()).is_some_and(|hash| hash.accepts(answer, salt));
    Ok(is_right && hash.is_some())
}

/// Goes through a SCRAM exchange. Without a verifier it goes on to the end all the same, and no proof is right. `iterations`:
/// those that verifiers usually have.
pub(super) fn scram(
    dialogue: &mut Dialogue<'_>,
    user: &[u8],
    (entry, iterations): (&Entry, u32),
    channel: Channel<'_>,
) -> Result<Option<Credential>, End> {
    let mechanisms =
        if channel.end_point.is_some() { &[Mechanism::Plus, Mechanism::Plain][..] } else { &[Mechanism::Plain] };
    let mut offer = Vec::new();
    for mechanism in mechanisms {
        offer.extend_from_slice(mechanism.name().as_bytes());
        offer.push(0);
    }
    offer.push(0);
    let initial = dialogue.ask(|out| write::authentication(out, 10, &offer))?;
    let mut cursor = Cursor::new(initial.bytes());
    let chosen = cursor.text().and_then(Mechanism::from_name).filter(|chosen| mechanisms.contains(chosen));
    let Some(chosen) = chosen else {
        return Err(Report::fatal("client selected an invalid SASL authentication mechanism")
            .code(SqlState::PROTOCOL_VIOLATION)
            .into());
    };
    let first = match cursor.u32() {
        // No initial response: it is asked for.
        Some(u32::MAX) => dialogue.ask(|out| write::authentication(out, 11, &[]))?,
        Some(length) if cursor.rest().len() == length as usize => Secret::new(cursor.rest()),
        _ => return Err(invalid("The length of the SASL response does not agree with the packet.")),
    };
    let (verifier, is_known) = verifier(user, entry, iterations);
    let (answer, challenge) =
        Challenge::new(bounded(&first)?, chosen, (verifier, is_known), &nonce(), channel.end_point)?;
    let last = dialogue.ask(|out| write::authentication(out, 11, answer.as_bytes()))?;
    let Some(proved) = challenge.check(bounded(&last)?)? else { return Ok(None) };
    dialogue.tell_later(|out| write::authentication(out, 12, proved.message.as_bytes()));
    Ok(Some(credential(entry, proved.keys)))
}

/// What the client's proof is checked by, and whether it can be right.
fn verifier(user: &[u8], entry: &Entry, iterations: u32) -> (Verifier, bool) {
    match entry {
        Entry::Password(password, _) => (own_verifier(user, Some(password.bytes()), iterations), true),
        Entry::Verifier(verifier) => ((**verifier).clone(), true),
        _ => (own_verifier(user, None, iterations), false),
    }
}

/// With a password in pool_passwd it logs in to servers; with a verifier the client's own key does.
fn credential(entry: &Entry, keys: LoginKeys) -> Credential {
    match entry {
        Entry::Password(password, _) => Credential::Password(password.clone()),
        _ => Credential::Keys(Box::new(keys)),
    }
}

fn bounded(message: &Secret) -> Result<&[u8], End> {
    if message.bytes().len() > MAX_MESSAGE {
        Err(invalid("The SASL message is too long."))
    } else {
        Ok(message.bytes())
    }
}
