//! Lists of revoked certificates (auth 17.2), for clients and for servers.

use super::material::File;
use super::reason;
use crate::sys::tls::add_revoked;
use openssl::x509::X509Crl;
use openssl::x509::store::X509StoreBuilderRef;
use openssl::x509::verify::X509VerifyFlags;

/// The end of each list in a file.
const END: &[u8] = b"-----END X509 CRL-----";

/// Certificates are good only if lists in `file` say nothing against any of their chain; without a file all are.
///
/// # Errors
/// Why the file cannot be used.
pub(super) fn refuse(store: &mut X509StoreBuilderRef, file: &File<Vec<u8>>) -> Result<(), String> {
    if file.name.is_empty() {
        return Ok(());
    }
    let mut rest = file.content.as_slice();
    let mut count = 0;
    while let Some(at) = memchr::memmem::find(rest, END) {
        let (list, behind) = rest.split_at(at + END.len());
        X509Crl::from_pem(list).and_then(|list| add_revoked(store, &list)).map_err(|errors| reason(&errors))?;
        (rest, count) = (behind, count + 1);
    }
    if count == 0 {
        return Err("no list in it".to_owned());
    }
    store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL).map_err(|errors| reason(&errors))
}
