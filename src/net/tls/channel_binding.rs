//! Channel binding `tls-server-end-point` (RFC 5929, auth 14.3).

use crate::sys::tls::signature_digest;
use openssl::hash::{MessageDigest, hash};
use openssl::nid::Nid;
use openssl::x509::X509Ref;

/// The digest of the server's certificate, by the digest its signature was made with; MD5 and SHA-1 count as SHA-256. `None`
/// for signatures without one (Ed25519), as PostgreSQL has it.
pub(super) fn server_end_point(certificate: &X509Ref) -> Option<Vec<u8>> {
    let digest = match signature_digest(certificate)? {
        Nid::MD5 | Nid::SHA1 => MessageDigest::sha256(),
        digest => MessageDigest::from_nid(digest)?,
    };
    let encoded = certificate.to_der().ok()?;
    hash(digest, &encoded).ok().map(|digest| digest.to_vec())
}
