//! The one wish to OpenSSL for which its bindings have no name.

use openssl::ssl::SslContextBuilder;

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
