//! The login: a salt, and the answer to it (pcp 2).

use super::user_file::{self, Hash};
use crate::auth::{md5, same};
use crate::report::{Report, Result};
use openssl::rand;
use std::path::Path;

/// Bytes of a user's name at most.
const MAX_USER: usize = 127;

/// The salt a client was given, once it was given one.
#[derive(Debug, Default)]
pub(super) struct Challenge(Option<[u8; 4]>);

impl Challenge {
    /// A fresh salt, which replaces an earlier one.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn renew(&mut self) -> Result<[u8; 4]> {
        let mut salt = [0; 4];
        rand::rand_bytes(&mut salt).map_err(|error| failed().detail(error.to_string()))?;
        self.0 = Some(salt);
        Ok(salt)
    }

    /// Checks an answer; the salt is used up.
    ///
    /// # Errors
    /// FATAL, the words of (pcp 2.5): it is wrong, no salt was given, or pcp.conf cannot be read.
    pub fn check(&mut self, user: &[u8], answer: &[u8], users: &Path) -> Result<()> {
        let no_match = |message: String| Err(Report::fatal(message).detail("username and/or password does not match"));
        let Some(salt) = self.0.take() else { return no_match("authentication failed".to_owned()) };
        if user.len() > MAX_USER {
            return Err(failed().detail("error while reading authentication packet"));
        }
        if is_right(user, answer, salt, &user_file::hashes(users, user)?) {
            return Ok(());
        }
        no_match(format!("authentication failed for user \"{}\"", String::from_utf8_lossy(user)))
    }
}

/// Whether a user of pcp.conf has this password, given in clear.
///
/// # Errors
/// pcp.conf cannot be read.
pub fn is_password(users: &Path, user: &[u8], password: &[u8]) -> Result<bool> {
    if user.len() > MAX_USER {
        return Ok(false);
    }
    let stored = user_file::hashes(users, user)?;
    // The answer that a client makes of the password, so that there is one comparison.
    let answer = md5::hex(&[password]).and_then(|hash| md5::pcp_answer(&hash, user, &[0; 4]));
    Ok(answer.is_some_and(|answer| is_right(user, &answer, [0; 4], &stored)))
}

fn failed() -> Report {
    Report::fatal("failed to authenticate PCP user")
}

/// Whether `answer` belongs to one of the `stored` hashes. It takes as long for a user who has none.
fn is_right(user: &[u8], answer: &[u8], salt: [u8; 4], stored: &[Hash]) -> bool {
    let nobody = [Hash::default()];
    let candidates = if stored.is_empty() { &nobody[..] } else { stored };
    let fits = |stored: &&Hash| md5::pcp_answer(stored, user, &salt).is_some_and(|expected| same(&expected, answer));
    // All are compared, so that the time does not tell which one it was.
    candidates.iter().filter(fits).count() > 0 && !stored.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_the_worked_session() {
        let stored = md5::hex(&[b"secret"]).expect("md5");
        assert_eq!(stored, *b"5ebe2294ecd0e0f08eab7690d2a6ee69");
        let right = |answer: &[u8], stored: &[Hash]| is_right(b"pgpool", answer, [1, 2, 3, 4], stored);
        let (answer, other) = (b"60304671a2939999810fd6d3fdf9e920", [b'0'; 32]);
        assert!(right(answer, &[stored]) && right(answer, &[other, stored, other]));
        assert!(
            !right(answer, &[])
                && !right(answer, &[other])
                && !right(&answer[1..], &[stored])
                && !right(b"", &[stored])
        );
        let nobody = md5::pcp_answer(&Hash::default(), b"pgpool", &[1, 2, 3, 4]);
        assert!(!right(&nobody.expect("md5"), &[]), "the comparison for nobody counts for nobody");
    }

    #[test]
    fn a_salt_serves_once() {
        let mut challenge = Challenge::default();
        let file = Path::new("/nowhere/pcp.conf");
        let message =
            |challenge: &mut Challenge, user: &[u8]| challenge.check(user, b"x", file).expect_err("no file").message;
        assert_eq!(message(&mut challenge, b"ann"), "authentication failed");
        let first = challenge.renew().expect("salt");
        assert!((0..4).any(|_| challenge.renew().expect("salt") != first), "salts differ");
        assert_eq!(message(&mut challenge, b"ann"), "failed to authenticate PCP user");
        assert_eq!(message(&mut challenge, b"ann"), "authentication failed");
    }
}
