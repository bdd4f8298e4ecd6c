//! TLS towards clients: the context with key, certificate and rules (auth 17.2).

use super::material::{File, Material};
use super::{ALPN, ALPN_LIST, reason, revoked};
use crate::report::Report;
use crate::sys::tls::{TICKET_KEYS, set_ticket_keys};
use openssl::error::ErrorStack;
use openssl::ssl::{
    AlpnError, Ssl, SslContext, SslContextBuilder, SslFiletype, SslMethod, SslOptions, SslSessionCacheMode,
    SslVerifyMode, SslVersion, select_next_proto,
};
use openssl::x509::X509;
use openssl::x509::store::X509Lookup;

/// Accepts TLS sessions of clients.
#[derive(Clone, Debug)]
pub struct Acceptor {
    context: SslContext,
}

impl Acceptor {
    /// Of this material, whose key is open. `tickets`: keys of session tickets, the same in all processes.
    ///
    /// # Errors
    /// Why there can be no TLS for clients.
    pub fn new(material: &Material, tickets: &[u8; TICKET_KEYS]) -> Result<Self, Report> {
        let could_not =
            |errors: ErrorStack| Report::warning(format!("could not create SSL context: {}", reason(&errors)));
        let mut builder = SslContext::builder(SslMethod::tls_server()).map_err(could_not)?;
        identify(&mut builder, material)?;
        restrict(&mut builder, material)?;
        verify_clients(&mut builder, material)?;
        builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
        // Tickets are kept by clients; nothing about past sessions is kept here.
        builder.set_session_cache_mode(SslSessionCacheMode::OFF);
        builder.set_session_id_context(b"pgpool").map_err(could_not)?;
        // A session that is resumed is not verified again, and its certificate may have been revoked since. Otherwise one
        // ticket is enough: clients that resume get a new one each time.
        let resumes = material.authorities.name.is_empty() && set_ticket_keys(&mut builder, tickets);
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
fn identify(builder: &mut SslContextBuilder, material: &Material) -> Result<(), Report> {
    let File { name, content } = &material.certificate;
    let failed = |cause: &str| Report::warning(format!("could not load server certificate file \"{name}\": {cause}"));
    let mut chain = X509::stack_from_pem(content).map_err(|errors| failed(&reason(&errors)))?.into_iter();
    let own = chain.next().ok_or_else(|| failed("no certificate in it"))?;
    builder
        .set_certificate(&own)
        .and_then(|()| chain.try_for_each(|certificate| builder.add_extra_chain_cert(certificate)))
        .map_err(|errors| failed(&reason(&errors)))?;
    let key = material.private_key()?;
    builder
        .set_private_key(&key)
        .and_then(|()| builder.check_private_key())
        .map_err(|errors| Report::warning(format!("check of private key failed: {}", reason(&errors))))
}

/// Versions, ciphers, curves.
fn restrict(builder: &mut SslContextBuilder, material: &Material) -> Result<(), Report> {
    let refused = |parameter: &str, value: &str, errors: &ErrorStack| {
        Report::warning(format!("{parameter} = '{value}' is not accepted by OpenSSL: {}", reason(errors)))
    };
    let curves = &material.curves;
    builder.set_groups_list(curves).map_err(|_| Report::warning(format!("ECDH: unrecognized curve name: {curves}")))?;
    let ciphers = &material.ciphers;
    builder.set_cipher_list(ciphers).map_err(|errors| refused("ssl_ciphers", ciphers, &errors))?;
    if material.own_ciphers_first {
        builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE);
    }
    let (least, most) = (&material.least_version, &material.most_version);
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

/// With a CA, clients are asked for a certificate, which they need not have; one that is presented must be good.
fn verify_clients(builder: &mut SslContextBuilder, material: &Material) -> Result<(), Report> {
    let File { name, content } = &material.authorities;
    if !name.is_empty() {
        let failed = |cause: &str| Report::warning(format!("could not load root certificate file \"{name}\": {cause}"));
        let certificates = X509::stack_from_pem(content).map_err(|errors| failed(&reason(&errors)))?;
        if certificates.is_empty() {
            return Err(failed("no certificate in it"));
        }
        for certificate in certificates {
            builder
                .add_client_ca(&certificate)
                .and_then(|()| builder.cert_store_mut().add_cert(certificate))
                .map_err(|errors| failed(&reason(&errors)))?;
        }
        if !material.directory.is_empty() {
            builder
                .cert_store_mut()
                .add_lookup(X509Lookup::hash_dir())
                .and_then(|lookup| lookup.add_dir(&material.directory, SslFiletype::PEM))
                .map_err(|errors| failed(&reason(&errors)))?;
        }
        builder.set_verify(SslVerifyMode::PEER);
    }
    revoked::refuse(builder.cert_store_mut(), &material.revoked).map_err(|cause| {
        let name = &material.revoked.name;
        Report::warning(format!("could not load SSL certificate revocation list file \"{name}\": {cause}"))
    })
}
