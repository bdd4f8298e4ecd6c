//! Wishes to OpenSSL for which its bindings have no name.

use foreign_types::ForeignTypeRef;
use openssl::error::ErrorStack;
use openssl::nid::Nid;
use openssl::ssl::SslContextBuilder;
use openssl::x509::store::X509StoreBuilderRef;
use openssl::x509::{X509CrlRef, X509Ref};

/// Length of the keys of session tickets: name, HMAC key and AES key.
pub const TICKET_KEYS: usize = 80;

/// `SSL_CTRL_SET_TLSEXT_TICKET_KEYS`.
const SET_TICKET_KEYS: libc::c_int = 59;

/// Gives a context the keys of session tickets, so that contexts of several processes accept each other's. Whether it took
/// them.
pub fn set_ticket_keys(context: &mut SslContextBuilder, keys: &[u8; TICKET_KEYS]) -> bool {
    let mut keys = *keys;
    // SAFETY: the context lives as long as its builder; this control copies `larg` bytes from `parg`, which is as long, and
    // keeps no pointer to them.
    let taken = unsafe {
        openssl_sys::SSL_CTX_ctrl(
            context.as_ptr(),
            SET_TICKET_KEYS,
            TICKET_KEYS as libc::c_long,
            keys.as_mut_ptr().cast(),
        )
    };
    taken == 1
}

unsafe extern "C" {
    fn X509_STORE_add_crl(store: *mut openssl_sys::X509_STORE, crl: *mut openssl_sys::X509_CRL) -> libc::c_int;
    fn X509_get_signature_info(
        certificate: *mut openssl_sys::X509,
        digest: *mut libc::c_int,
        algorithm: *mut libc::c_int,
        bits: *mut libc::c_int,
        flags: *mut u32,
    ) -> libc::c_int;
}

/// Adds a list of revoked certificates to a store.
///
/// # Errors
/// OpenSSL does not take it.
pub fn add_revoked(store: &mut X509StoreBuilderRef, list: &X509CrlRef) -> Result<(), ErrorStack> {
    // SAFETY: both live for the time of the call; the store counts a reference of its own to the list.
    let taken = unsafe { X509_STORE_add_crl(store.as_ptr(), list.as_ptr()) };
    if taken == 1 { Ok(()) } else { Err(ErrorStack::get()) }
}

/// The digest that a certificate was signed with; `None`: by an algorithm without one, such as Ed25519. It knows that of
/// RSA-PSS, too, which is a parameter of the signature.
pub fn signature_digest(certificate: &X509Ref) -> Option<Nid> {
    let mut digest = 0;
    let nothing = std::ptr::null_mut();
    // SAFETY: the certificate lives for the time of the call, which may fill in what it caches; places for answers may be null.
    let found =
        unsafe { X509_get_signature_info(certificate.as_ptr(), &mut digest, nothing, nothing, std::ptr::null_mut()) };
    // What it cannot find out is no error of whatever comes next.
    drop(ErrorStack::get());
    (digest != Nid::UNDEF.as_raw() && found == 1).then(|| Nid::from_raw(digest))
}
