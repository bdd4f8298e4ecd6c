//! What is asked of a client's certificate (auth 19). It has been verified in the handshake.

use openssl::nid::Nid;
use openssl::x509::X509Ref;

/// A client's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The first common name of its subject; `None` without one, or with one that holds a zero byte.
    pub common_name: Option<String>,
}

impl Certificate {
    pub(super) fn read(certificate: &X509Ref) -> Self {
        let name = certificate.subject_name().entries_by_nid(Nid::COMMONNAME).next();
        let text = name.and_then(|name| name.data().to_string().ok());
        Self { common_name: text.filter(|text| !text.is_empty() && !text.contains('\0')) }
    }
}
