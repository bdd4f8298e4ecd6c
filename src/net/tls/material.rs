//! What TLS with clients is made of: files and parameters as they were at one moment (auth 17.2).
//!
//! The parent reads it, opens the key, and makes an [`Acceptor`](super::Acceptor) of it, which is the proof that it is good.
//! Then it hands it to the workers as bytes: they neither look at files nor ask for a pass phrase, and use what was
//! proved, whatever has become of the files.

use super::reason;
use crate::config::Settings;
use crate::report::Report;
use crate::state::parts;
use crate::sys::Secret;
use openssl::dh::Dh;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// The longest file that is read, in bytes.
const MAX_LENGTH: u64 = 8 << 20;

/// A file, as it was when it was read. Without a name: there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct File<C> {
    pub name: String,
    pub content: C,
}

impl File<Vec<u8>> {
    pub fn read(name: &str) -> io::Result<Self> {
        let content = if name.is_empty() { Vec::new() } else { content(name)? };
        Ok(Self { name: name.to_owned(), content })
    }
}

/// The content of a file, for which nobody has to wait.
pub(super) fn content(name: &str) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(name)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    if metadata.len() > MAX_LENGTH {
        return Err(io::Error::other(format!("it is longer than {MAX_LENGTH} bytes")));
    }
    fs::read(name)
}

/// What an acceptor is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Material {
    pub(super) certificate: File<Vec<u8>>,
    pub(super) key: File<Secret>,
    /// Who signs certificates of clients, and where more of them are.
    pub(super) authorities: File<Vec<u8>>,
    pub(super) directory: String,
    pub(super) revoked: File<Vec<u8>>,
    pub(super) ciphers: String,
    pub(super) own_ciphers_first: bool,
    pub(super) curves: String,
    pub(super) least_version: String,
    pub(super) most_version: String,
    /// The key cannot be used without a pass phrase.
    is_locked: bool,
}

impl Material {
    /// By the `ssl_*` parameters. Things that are wrong but do no harm are logged.
    ///
    /// # Errors
    /// A file cannot be read, or its key can never be opened.
    pub fn read(settings: &Settings) -> Result<Self, Report> {
        let failed = |what: &str, file: &str, error: io::Error| {
            Report::warning(format!("could not load {what} file \"{file}\": {error}"))
        };
        let read = |what, file| File::read(file).map_err(|error| failed(what, file, error));
        let certificate = read("server certificate", &settings.ssl_cert)?;
        let key = read_key(&settings.ssl_key)?;
        check_dh_parameters(&settings.ssl_dh_params_file);
        let mut material = Self {
            certificate,
            key,
            authorities: read("root certificate", &settings.ssl_ca_cert)?,
            directory: settings.ssl_ca_cert_dir.clone(),
            revoked: read("SSL certificate revocation list", &settings.ssl_crl_file)?,
            ciphers: settings.ssl_ciphers.clone(),
            own_ciphers_first: settings.ssl_prefer_server_ciphers,
            curves: settings.ssl_ecdh_curve.clone(),
            least_version: settings.ssl_min_protocol_version.clone(),
            most_version: settings.ssl_max_protocol_version.clone(),
            is_locked: false,
        };
        match private_key(&material.key.content, None) {
            Err(Unusable::NeedsPhrase) => material.is_locked = true,
            Err(Unusable::Wrong(errors)) => return Err(material.bad_key(&errors)),
            Err(Unusable::PhraseTooLong(_)) | Ok(_) => {}
        }
        if material.is_locked && settings.ssl_passphrase_command.is_empty() {
            let text = format!(
                "private key file \"{}\" cannot be reloaded because it requires a passphrase",
                material.key.name
            );
            return Err(Report::warning(text).hint("Set ssl_passphrase_command."));
        }
        Ok(material)
    }

    /// Whether its key has to be opened first.
    pub fn is_locked(&self) -> bool {
        self.is_locked
    }

    /// Opens the key.
    ///
    /// # Errors
    /// It is not the pass phrase.
    pub fn unlock(&mut self, phrase: &Secret) -> Result<(), Report> {
        let key = private_key(&self.key.content, Some(phrase)).map_err(|unusable| match unusable {
            Unusable::Wrong(errors) => self.bad_key(&errors),
            Unusable::NeedsPhrase => self.bad_key(&ErrorStack::get()),
            Unusable::PhraseTooLong(limit) => {
                Report::warning(format!("the pass phrase of \"{}\" is too long", self.key.name))
                    .detail(format!("OpenSSL takes {limit} bytes at most."))
            }
        })?;
        self.key.content = key.private_key_to_pem_pkcs8().map(Secret::new).map_err(|errors| self.bad_key(&errors))?;
        self.is_locked = false;
        Ok(())
    }

    fn bad_key(&self, errors: &ErrorStack) -> Report {
        Report::warning(format!("could not load private key file \"{}\": {}", self.key.name, reason(errors)))
    }

    /// The key, which is open.
    pub(super) fn private_key(&self) -> Result<PKey<Private>, Report> {
        private_key(&self.key.content, None).map_err(|unusable| match unusable {
            Unusable::Wrong(errors) => self.bad_key(&errors),
            Unusable::NeedsPhrase | Unusable::PhraseTooLong(_) => self.bad_key(&ErrorStack::get()),
        })
    }

    /// All of it as bytes; the key is open.
    pub fn to_bytes(&self) -> Secret {
        let Self { certificate, key, authorities, revoked, .. } = self;
        let first: &[u8] = if self.own_ciphers_first { b"1" } else { b"" };
        Secret::new(parts::join(&[
            certificate.name.as_bytes(),
            &certificate.content,
            key.name.as_bytes(),
            key.content.bytes(),
            authorities.name.as_bytes(),
            &authorities.content,
            self.directory.as_bytes(),
            revoked.name.as_bytes(),
            &revoked.content,
            self.ciphers.as_bytes(),
            first,
            self.curves.as_bytes(),
            self.least_version.as_bytes(),
            self.most_version.as_bytes(),
        ]))
    }

    /// The material of [`Material::to_bytes`]. `None`: the bytes are something else.
    pub fn from_bytes(bytes: &Secret) -> Option<Self> {
        let parts: [&[u8]; 14] = parts::split(bytes.bytes())?.try_into().ok()?;
        let [certificate, chain, key, secret, authorities, trusted, directory, revoked, list, ciphers, first, ..] =
            parts;
        let [.., curves, least, most] = parts;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let file = |name: &[u8], content: &[u8]| Some(File { name: text(name)?, content: content.to_vec() });
        Some(Self {
            certificate: file(certificate, chain)?,
            key: File { name: text(key)?, content: Secret::new(secret) },
            authorities: file(authorities, trusted)?,
            directory: text(directory)?,
            revoked: file(revoked, list)?,
            ciphers: text(ciphers)?,
            own_ciphers_first: !first.is_empty(),
            curves: text(curves)?,
            least_version: text(least)?,
            most_version: text(most)?,
            is_locked: false,
        })
    }
}

fn read_key(file: &str) -> Result<File<Secret>, Report> {
    let refuse = |error| Report::warning(format!("could not access private key file \"{file}\": {error}"));
    let metadata = fs::metadata(file).map_err(refuse)?;
    if !metadata.is_file() {
        return Err(Report::warning(format!("private key file \"{file}\" is not a regular file")));
    }
    warn_of_readers(file, &metadata);
    Ok(File { name: file.to_owned(), content: Secret::new(content(file).map_err(refuse)?) })
}

/// Tells if others can read a private key.
pub(super) fn warn_of_readers(file: &str, metadata: &fs::Metadata) {
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        Report::warning(format!("private key file \"{file}\" has group or world access"))
            .detail(
                "File must have permissions u=rw (0600) or less if owned by the Pgpool-II user, or permissions u=rw,g=r \
                 (0640) or less if owned by root.",
            )
            .log();
    }
}

/// Why there is no key.
pub(super) enum Unusable {
    NeedsPhrase,
    /// Bytes it may have at most.
    PhraseTooLong(usize),
    Wrong(ErrorStack),
}

/// The key in `pem`. OpenSSL itself would ask for a pass phrase on the terminal, and wait.
pub(super) fn private_key(pem: &Secret, phrase: Option<&Secret>) -> Result<PKey<Private>, Unusable> {
    let mut unusable = None;
    let key = PKey::private_key_from_pem_callback(pem.bytes(), |buffer| {
        match phrase.map(Secret::bytes) {
            None => unusable = Some(Unusable::NeedsPhrase),
            Some(phrase) if phrase.len() > buffer.len() => unusable = Some(Unusable::PhraseTooLong(buffer.len())),
            Some(phrase) => {
                buffer[..phrase.len()].copy_from_slice(phrase);
                return Ok(phrase.len());
            }
        }
        Ok(0)
    });
    match (key, unusable) {
        (_, Some(unusable)) => Err(unusable),
        (key, None) => key.map_err(Unusable::Wrong),
    }
}

/// The parameters are checked and have no effect, as with the original: cipher suites that need them are never chosen.
fn check_dh_parameters(file: &str) {
    if file.is_empty() {
        return;
    }
    match fs::read(file) {
        Err(error) => Report::warning(format!("could not open DH parameters file \"{file}\": {error}")).log(),
        Ok(pem) => {
            if let Err(errors) = Dh::params_from_pem(&pem) {
                Report::warning(format!("could not load DH parameters file: {}", reason(&errors))).log();
            }
        }
    }
}
