//! TLS towards clients: the context with key, certificate and rules (auth 17.2).

use super::{ALPN, ALPN_LIST, passphrase, reason};
use crate::config::Settings;
use crate::report::Report;
use crate::sys::tls::{TICKET_KEYS, set_ticket_keys};
use openssl::dh::Dh;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslOptions, SslSessionCacheMode,
    SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::x509::X509;
use openssl::x509::store::X509Lookup;
use openssl::x509::verify::X509VerifyFlags;
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

/// Accepts TLS sessions of clients.
#[derive(Clone, Debug)]
pub struct Acceptor {
    context: SslContext,
}

impl Acceptor {
    /// By the `ssl_*` parameters. `tickets`: keys of session tickets, the same in all processes; `patience`: what
    /// `ssl_passphrase_command` may take. Things that are wrong but do no harm are logged.
    ///
    /// # Errors
    /// Why there can be no TLS for clients.
    pub fn new(settings: &Settings, tickets: &[u8; TICKET_KEYS], patience: Duration) -> Result<Self, Report> {
        let could_not =
            |errors: ErrorStack| Report::warning(format!("could not create SSL context: {}", reason(&errors)));
        let mut builder = SslContext::builder(SslMethod::tls_server()).map_err(could_not)?;
        identify(&mut builder, settings, patience)?;
        restrict(&mut builder, settings)?;
        verify_clients(&mut builder, settings)?;
        builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
        // Tickets are kept by clients; nothing about past sessions is kept here.
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_session_id_context(b"pgpool").map_err(could_not)?;
        // A session that is resumed is not verified again, and its certificate may have been revoked since. Otherwise one
        // ticket is enough: clients that resume get a new one each time.
        let resumes = settings.ssl_ca_cert.is_empty() && set_ticket_keys(&mut builder, tickets);
        builder.set_num_tickets(usize::from(resumes)).map_err(could_not)?;
        if !resumes {
            builder.set_options(SslOptions::NO_TICKET);
        }
        builder.set_alpn_select_callback(|_, offered| match select_next_proto(ALPN_LIST, offered) {
            Some(chosen) if chosen == ALPN => Ok(chosen),
            _ => Err(AlpnError::ALERT_FATAL),
        });
        Ok(Self { context: builder.build() })
    }

    /// State for one new session.
    pub(in crate::net) fn ssl(&self) -> Result<Ssl, ErrorStack> {
        Ssl::new(&self.context)
    }
}

/// Certificate and key.
fn identify(builder: &mut SslContextBuilder, settings: &Settings, patience: Duration) -> Result<(), Report> {
    let file = &settings.ssl_cert;
    builder.set_certificate_chain_file(file).map_err(|errors| {
        Report::warning(format!("could not load server certificate file \"{file}\": {}", reason(&errors)))
    })?;
    let key = load_key(&settings.ssl_key, &settings.ssl_passphrase_command, patience)?;
    builder
        .set_private_key(&key)
        .and_then(|()| builder.check_private_key())
        .map_err(|errors| Report::warning(format!("check of private key failed: {}", reason(&errors))))
}

fn load_key(file: &str, command: &str, patience: Duration) -> Result<PKey<Private>, Report> {
    let refuse = |error| Report::warning(format!("could not access private key file \"{file}\": {error}"));
    let metadata = fs::metadata(file).map_err(refuse)?;
    if !metadata.is_file() {
        return Err(Report::warning(format!("private key file \"{file}\" is not a regular file")));
    }
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        Report::warning(format!("private key file \"{file}\" has group or world access"))
            .detail(
                "File must have permissions u=rw (0600) or less if owned by the Pgpool-II user, or permissions u=rw,g=r \
                 (0640) or less if owned by root.",
            )
            .log();
    }
    let pem = fs::read(file).map_err(refuse)?;
    // Whatever comes of it, the command runs once.
    let mut failure = None;
    let asked = Cell::new(false);
    let key = PKey::private_key_from_pem_callback(&pem, |buffer| {
        asked.set(true);
        if command.is_empty() {
            return Ok(0);
        }
        match passphrase::ask(command, patience) {
            Ok(phrase) => {
                let length = phrase.len().min(buffer.len());
                buffer[..length].copy_from_slice(&phrase.as_bytes()[..length]);
                Ok(length)
            }
            Err(report) => {
                failure = Some(report);
                Ok(0)
            }
        }
    });
    match (key, failure) {
        (_, Some(report)) => Err(report),
        (Ok(key), None) => Ok(key),
        (Err(_), None) if asked.get() && command.is_empty() => Err(Report::warning(format!(
            "private key file \"{file}\" cannot be reloaded because it requires a passphrase"
        ))
        .hint("Set ssl_passphrase_command.")),
        (Err(errors), None) => {
            Err(Report::warning(format!("could not load private key file \"{file}\": {}", reason(&errors))))
        }
    }
}

/// Versions, ciphers, curves.
fn restrict(builder: &mut SslContextBuilder, settings: &Settings) -> Result<(), Report> {
    let refused = |parameter: &str, value: &str, errors: &ErrorStack| {
        Report::warning(format!("{parameter} = '{value}' is not accepted by OpenSSL: {}", reason(errors)))
    };
    check_dh_parameters(&settings.ssl_dh_params_file);
    let curves = &settings.ssl_ecdh_curve;
    builder.set_groups_list(curves).map_err(|_| Report::warning(format!("ECDH: unrecognized curve name: {curves}")))?;
    let ciphers = &settings.ssl_ciphers;
    builder.set_cipher_list(ciphers).map_err(|errors| refused("ssl_ciphers", ciphers, &errors))?;
    if settings.ssl_prefer_server_ciphers {
        builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    }
    let (least, most) = (&settings.ssl_min_protocol_version, &settings.ssl_max_protocol_version);
    builder
        .set_min_proto_version(version("ssl_min_protocol_version", least)?)
        .map_err(|errors| refused("ssl_min_protocol_version", least, &errors))?;
    builder
        .set_max_proto_version(version("ssl_max_protocol_version", most)?)
        .map_err(|errors| refused("ssl_max_protocol_version", most, &errors))
}

/// A version by PostgreSQL's name for it; `None`: whatever OpenSSL allows.
fn version(parameter: &str, name: &str) -> Result<Option<SslVersion>, Report> {
    Ok(Some(match name {
        "" => return Ok(None),
        "TLSv1" => SslVersion::TLS1,
        "TLSv1.1" => SslVersion::TLS1_1,
        "TLSv1.2" => SslVersion::TLS1_2,
        "TLSv1.3" => SslVersion::TLS1_3,
        _ => {
            return Err(Report::warning(format!("{parameter} = '{name}' is no version of TLS"))
                .hint("Versions are TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3."));
        }
    }))
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

/// With a CA, clients are asked for a certificate, which they need not have; one that is presented must be good.
fn verify_clients(builder: &mut SslContextBuilder, settings: &Settings) -> Result<(), Report> {
    let (authorities, revoked) = (&settings.ssl_ca_cert, &settings.ssl_crl_file);
    if !authorities.is_empty() {
        let failed =
            |cause: String| Report::warning(format!("could not load root certificate file \"{authorities}\": {cause}"));
        let pem = fs::read(authorities).map_err(|error| failed(error.to_string()))?;
        let certificates = X509::stack_from_pem(&pem).map_err(|errors| failed(reason(&errors)))?;
        if certificates.is_empty() {
            return Err(failed("no certificate in it".to_owned()));
        }
        for certificate in certificates {
            builder
                .add_client_ca(&certificate)
                .and_then(|()| builder.cert_store_mut().add_cert(certificate))
                .map_err(|errors| failed(reason(&errors)))?;
        }
        if !settings.ssl_ca_cert_dir.is_empty() {
            builder
                .cert_store_mut()
                .add_lookup(X509Lookup::hash_dir())
                .and_then(|lookup| lookup.add_dir(&settings.ssl_ca_cert_dir, SslFiletype::PEM))
                .map_err(|errors| failed(reason(&errors)))?;
        }
        builder.set_verify(SslVerifyMode::PEER);
    }
    if !revoked.is_empty() {
        let store = builder.cert_store_mut();
        store
            .add_lookup(X509Lookup::file())
            .and_then(|lookup| lookup.load_crl_file(revoked, SslFiletype::PEM).map(drop))
            .and_then(|()| store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL))
            .map_err(|errors| {
                Report::warning(format!(
                    "could not load SSL certificate revocation list file \"{revoked}\": {}",
                    reason(&errors)
                ))
            })?;
    }
    Ok(())
}
