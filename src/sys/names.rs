//! The name of an address, as the system's resolver tells it.

use socket2::SockAddr;
use std::ffi::CStr;
use std::net::{IpAddr, SocketAddr};

/// The name of `address`; `None`: it has none, or nobody answers. Waits as long as the resolver does.
pub fn name_of(address: IpAddr) -> Option<String> {
    let address = SockAddr::from(SocketAddr::new(address, 0));
    let mut name = [0u8; libc::NI_MAXHOST as usize];
    // SAFETY: pointers and lengths are those of `address` and `name`, which live through the call; no service is asked for.
    let status = unsafe {
        libc::getnameinfo(
            address.as_ptr().cast(),
            address.len(),
            name.as_mut_ptr().cast(),
            name.len() as libc::socklen_t,
            std::ptr::null_mut(),
            0,
            libc::NI_NAMEREQD,
        )
    };
    if status != 0 {
        return None;
    }
    CStr::from_bytes_until_nul(&name).ok()?.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_nobody_have_no_name() {
        // Reserved for documentation.
        assert_eq!(name_of("192.0.2.77".parse().expect("address")), None);
    }
}
