//! TLS towards servers: when it is asked for, and how far the server is trusted (auth 18).

use super::material::{File, Unusable, content, private_key, warn_of_readers};
use super::{ALPN_LIST, reason, revoked};
use crate::config::{BackendSslmode, BackendSslnegotiation, Settings};
use crate::report::Report;
use crate::sys::Secret;
use openssl::error::ErrorStack;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{Ssl, SslContext, SslFiletype, SslMethod, SslOptions, SslVerifyMode};
use openssl::x509::store::X509Lookup;
use openssl::x509::verify::X509CheckFlags;
use std::fs;
use std::net::IpAddr;

/// What is wanted of a connection to a server, as libpq has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS if the server has it.
    Prefer,
    /// TLS, whoever answers.
    Require,
    /// TLS, with a certificate of a CA that is trusted.
    VerifyCa,
    /// The same, and the certificate is for this host.
    VerifyFull,
}

/// Begins TLS sessions with servers.
#[derive(Clone, Debug)]
pub struct Connector {
    mode: SslMode,
    /// A server without TLS is good enough, too.
    is_opportunistic: bool,
    direct: bool,
    /// The files and the directory that tell whom to trust.
    trusted: [String; 3],
    /// None with [`SslMode::Disable`].
    context: Option<SslContext>,
}

impl Connector {
    /// No TLS at all.
    pub const PLAIN: Self = Self {
        mode: SslMode::Disable,
        is_opportunistic: true,
        direct: false,
        trusted: [String::new(), String::new(), String::new()],
        context: None,
    };

    /// By `ssl`, `ssl_ca_cert`, `ssl_ca_cert_dir` and the parameters `backend_ssl*`.
    ///
    /// # Errors
    /// A file cannot be used: no connection may be made that was to be verified by it.
    pub fn new(settings: &Settings) -> Result<Self, Report> {
        let mode = mode(settings);
        if mode == SslMode::Disable {
            return Ok(Self::PLAIN);
        }
        let is_opportunistic = is_opportunistic(settings, mode);
        let direct = settings.backend_sslnegotiation == BackendSslnegotiation::Direct && !is_opportunistic;
        let context = Some(context(settings, mode)?);
        Ok(Self { mode, is_opportunistic, direct, trusted: trusted(settings), context })
    }

    /// Tells what is wrong with the files and does no harm. For the parent, so that it is told once.
    pub fn warn(settings: &Settings) {
        let key = &settings.backend_sslkey;
        if let (false, Ok(metadata)) = (settings.backend_sslcert.is_empty(), fs::metadata(key)) {
            warn_of_readers(key, &metadata);
        }
    }

    /// Whether it asks servers for no less than `settings` do, and trusts those whom they trust.
    pub fn is_as_strict_as(&self, settings: &Settings) -> bool {
        let mode = mode(settings);
        let trusts_the_same = mode < SslMode::VerifyCa || self.trusted == trusted(settings);
        trusts_the_same && self.mode >= mode && (!self.is_opportunistic || is_opportunistic(settings, mode))
    }

    /// What is wanted.
    pub fn mode(&self) -> SslMode {
        self.mode
    }

    /// Whether a server that says that it has no TLS is good enough.
    pub fn is_opportunistic(&self) -> bool {
        self.is_opportunistic
    }

    /// The handshake comes first, without asking the server by an SSLRequest (PostgreSQL 17).
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// State for one new session with `host`.
    pub(in crate::net) fn ssl(&self, host: &str) -> Result<Option<Ssl>, ErrorStack> {
        let Some(context) = &self.context else { return Ok(None) };
        let mut ssl = Ssl::new(context)?;
        let address = host.parse::<IpAddr>().ok();
        if address.is_none() {
            ssl.set_hostname(host)?;
        }
        if self.mode == SslMode::VerifyFull {
            match address {
                Some(address) => ssl.param_mut().set_ip(address)?,
                None => {
                    // As libpq: `*` stands for a whole label or for nothing.
                    ssl.param_mut().set_hostflags(X509CheckFlags::NO_PARTIAL_WILDCARDS);
                    ssl.param_mut().set_host(host)?;
                }
            }
        }
        Ok(Some(ssl))
    }
}

/// With a CA the original verifies the servers that have TLS, and goes on in clear with those that have none.
fn is_opportunistic(settings: &Settings, mode: SslMode) -> bool {
    mode <= SslMode::Prefer || settings.backend_sslmode == BackendSslmode::Auto
}

fn mode(settings: &Settings) -> SslMode {
    match settings.backend_sslmode {
        // What the original does: opportunistic without a CA, verified with one.
        BackendSslmode::Auto if !settings.ssl => SslMode::Disable,
        BackendSslmode::Auto if has_authorities(settings) => SslMode::VerifyCa,
        BackendSslmode::Auto | BackendSslmode::Prefer => SslMode::Prefer,
        BackendSslmode::Disable => SslMode::Disable,
        BackendSslmode::Require => SslMode::Require,
        BackendSslmode::VerifyCa => SslMode::VerifyCa,
        BackendSslmode::VerifyFull => SslMode::VerifyFull,
    }
}

/// `backend_sslrootcert`, or what also serves for clients.
fn authorities(settings: &Settings) -> &str {
    if settings.backend_sslrootcert.is_empty() { &settings.ssl_ca_cert } else { &settings.backend_sslrootcert }
}

/// Whom to trust: authorities and revoked certificates.
fn trusted(settings: &Settings) -> [String; 3] {
    [authorities(settings), &settings.ssl_ca_cert_dir, &settings.backend_sslcrl].map(str::to_owned)
}

fn has_authorities(settings: &Settings) -> bool {
    !authorities(settings).is_empty() || !settings.ssl_ca_cert_dir.is_empty()
}

fn context(settings: &Settings, mode: SslMode) -> Result<SslContext, Report> {
    let failed = |what: &str, file: &str, cause: &str| {
        Report::error(format!("TLS to servers cannot be used: {what} \"{file}\": {cause}"))
            .hint("See backend_sslmode, backend_sslrootcert, backend_sslcrl, backend_sslcert and backend_sslkey.")
    };
    let general = |errors: ErrorStack| failed("could not create SSL context", "", &reason(&errors));
    let mut builder = SslContext::builder(SslMethod::tls_client()).map_err(general)?;
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
    builder.set_alpn_protos(ALPN_LIST).map_err(general)?;
    if mode >= SslMode::VerifyCa {
        let (file, directory) = (authorities(settings), settings.ssl_ca_cert_dir.as_str());
        if !file.is_empty() {
            builder
                .set_ca_file(file)
                .map_err(|errors| failed("could not load root certificate file", file, &reason(&errors)))?;
        }
        if !directory.is_empty() {
            builder
                .cert_store_mut()
                .add_lookup(X509Lookup::hash_dir())
                .and_then(|lookup| lookup.add_dir(directory, SslFiletype::PEM))
                .map_err(|errors| failed("could not use the directory", directory, &reason(&errors)))?;
        }
        if file.is_empty() && directory.is_empty() {
            builder.set_default_verify_paths().map_err(general)?;
        }
        let list = &settings.backend_sslcrl;
        let failed = |cause: &str| failed("could not load SSL certificate revocation list file", list, cause);
        let lists = File::read(list).map_err(|error| failed(&error.to_string()))?;
        revoked::refuse(builder.cert_store_mut(), &lists).map_err(|cause| failed(&cause))?;
        builder.set_verify(SslVerifyMode::PEER);
    } else {
        builder.set_verify(SslVerifyMode::NONE);
    }
    let (certificate, key) = (&settings.backend_sslcert, &settings.backend_sslkey);
    if !certificate.is_empty() {
        builder
            .set_certificate_chain_file(certificate)
            .map_err(|errors| failed("could not load certificate file", certificate, &reason(&errors)))?;
        let failed = |cause: &str| failed("could not load private key file", key, cause);
        let private = load_key(key).map_err(|cause| failed(&cause))?;
        builder
            .set_private_key(&private)
            .and_then(|()| builder.check_private_key())
            .map_err(|errors| failed(&reason(&errors)))?;
    }
    Ok(builder.build())
}

/// The private key in `file`.
fn load_key(file: &str) -> Result<PKey<Private>, String> {
    let pem = content(file).map(Secret::new).map_err(|error| error.to_string())?;
    private_key(&pem, None).map_err(|unusable| match unusable {
        Unusable::Wrong(errors) => reason(&errors),
        Unusable::NeedsPhrase | Unusable::PhraseTooLong(_) => {
            "it requires a passphrase, which is not supported here".to_owned()
        }
    })
}
