//! Clients with a certificate: the method `cert`, and `clientcert` with any other (auth 19).
//!
//! One that is not good has failed the handshake, whatever the rule says. What is left is whether there is one, and whose.

use super::Applicant;
use crate::auth::hba::ClientCert;
use crate::net::Stream;
use crate::net::tls::Session;
use crate::report::{Report, SqlState};

/// Whether the certificate is the user's, as the method `cert` wants it: the common name, whatever its case, as the
/// original has it.
pub(super) fn is_of_user(stream: &Stream, applicant: Applicant<'_>) -> bool {
    let certificate = stream.tls(Session::client_certificate).flatten();
    let name = certificate.and_then(|certificate| certificate.common_name);
    let user = String::from_utf8_lossy(applicant.user);
    let is_equal = name.as_ref().is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(applicant.user));
    if let Some(name) = name.filter(|name| is_equal && name.as_bytes() != applicant.user) {
        Report::warning(format!("the certificate of \"{name}\" is taken for that of user \"{user}\""))
            .detail("Servers may have a user of either name.")
            .hint("Use clientcert=verify-full, which asks for exactly the user's name.")
            .log();
    }
    let outcome = if is_equal {
        format!("SSL certificate authentication for user \"{user}\" with Pgpool-II is successful")
    } else {
        format!("SSL certificate authentication for user \"{user}\" failed")
    };
    Report::log_line(outcome).log();
    is_equal
}

/// Whether the client has what `clientcert` of its rule asks for, exactly as a server would see it.
pub(super) fn check(stream: &Stream, applicant: Applicant<'_>, wanted: ClientCert) -> Result<(), Report> {
    let failed = |detail: &str| {
        Err(Report::fatal("connection requires a valid client certificate")
            .detail(detail)
            .code(SqlState::INVALID_AUTHORIZATION))
    };
    let certificate = stream.tls(Session::client_certificate).flatten();
    match (wanted, certificate) {
        (ClientCert::NotAsked, _) | (ClientCert::VerifyCa, Some(_)) => Ok(()),
        (_, None) => failed("no valid certificate presented"),
        (ClientCert::VerifyFull, Some(certificate)) => match certificate.common_name {
            Some(name) if name.as_bytes() == applicant.user => Ok(()),
            _ => failed("the common name of the certificate is not the name of the user"),
        },
    }
}
