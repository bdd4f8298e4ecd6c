//! Ports on 127.0.0.1 that nobody uses.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the kernel's ephemeral range, so that no outgoing connection takes one between our look and the use.
const FIRST: u16 = 20_000;
const COUNT: u16 = 12_000;

/// A port that is free now and that this process has not handed out before. Test programs running side by side start
/// at different places.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id() % 120) as u16 * 100;
    loop {
        let port = FIRST + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
