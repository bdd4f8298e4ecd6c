//! What a session logs in to servers with.

use super::Secret;
use super::md5::Md5Hash;
use super::scram::LoginKeys;

/// What is known of a user's password.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing: only a server that trusts lets us in.
    #[default]
    None,
    /// The password itself, which serves every method.
    Password(Secret),
    /// Its md5 hash, which serves the method md5 only.
    Md5(Md5Hash),
    /// Its SCRAM keys, which serve SCRAM where the server has the same verifier.
    Keys(Box<LoginKeys>),
}

impl Credential {
    /// Of a password.
    pub fn password(password: impl Into<Vec<u8>>) -> Self {
        Self::Password(Secret::new(password))
    }

    /// Its kind, in words.
    pub fn name(&self) -> &'static str {
        match self {
            Self::None => "no password",
            Self::Password(_) => "the password",
            Self::Md5(_) => "the md5 hash",
            Self::Keys(_) => "the SCRAM keys",
        }
    }
}
