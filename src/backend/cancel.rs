//! Cancelling what a server process is running (protocol 4).

use super::secure::secure;
use crate::net::{Address, ConnectError, Deadline, InBuffer, Received, connect};
use crate::sys::signal;
use crate::wire::write;
use std::time::Duration;

/// How long a cancel request may take.
const LIMIT: Duration = Duration::from_secs(5);
/// The same while pgpool is being stopped.
const LIMIT_AT_STOP: Duration = Duration::from_secs(1);

/// Asks the server at `address` to cancel what its process `pid` is running, and waits until it has done so: a server
/// closes the connection when it has sent the signal. `Ok(false)`: it has not closed in time, and the request may still meet
/// the next statement of that process, which must not be another client's.
///
/// # Errors
/// The server cannot be reached, and has not got the request. A wrong key is not told by any server.
pub fn request(address: &Address, pid: u32, key: &[u8]) -> Result<bool, ConnectError> {
    let deadline = Deadline::after(if signal::told_to_stop() { LIMIT_AT_STOP } else { LIMIT });
    let mut stream = connect(address, deadline)?;
    secure(&mut stream, address, deadline).map_err(|error| ConnectError::Failed(error.into_io()))?;
    let mut packet = Vec::with_capacity(12 + key.len());
    write::cancel_request(&mut packet, pid, key);
    match stream.send(&packet) {
        Ok(sent) if sent == packet.len() => {}
        Ok(_) => return Err(ConnectError::TimedOut),
        Err(error) => return Err(ConnectError::Failed(error)),
    }
    let mut ignored = InBuffer::with_capacity(256);
    loop {
        match ignored.receive_until(&stream, deadline) {
            Ok(Received::Closed) | Err(_) => return Ok(true),
            Ok(Received::Interrupted) if signal::told_to_stop() => return Ok(false),
            Ok(_) if deadline.passed() => return Ok(false),
            Ok(_) => ignored.consume(ignored.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn a_request_lasts_until_the_server_has_closed() {
        static CLOSING: AtomicBool = AtomicBool::new(false);
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("accept");
            let mut packet = [0; 16];
            stream.read_exact(&mut packet).expect("packet");
            // Long enough for somebody who does not wait to be seen.
            thread::sleep(Duration::from_millis(100));
            CLOSING.store(true, Ordering::SeqCst);
            packet
        });
        crate::backend::configure_tls(&crate::config::Settings::default()).expect("no TLS");
        assert!(request(&Address { host: "127.0.0.1".to_owned(), port }, 4711, b"keys").expect("request"), "told");
        assert!(CLOSING.load(Ordering::SeqCst), "it did not wait");
        assert_eq!(&server.join().expect("server")[8..], b"\0\0\x12\x67keys");
    }
}
