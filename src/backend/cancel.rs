//! Cancelling what a server process is running (protocol 4).

use crate::net::{Address, ConnectError, Deadline, connect};
use crate::wire::write;
use std::time::Duration;

/// How long a cancel request may take to reach a server.
const LIMIT: Duration = Duration::from_secs(5);

/// Asks the server at `address` to cancel what its process `pid` is running.
///
/// # Errors
/// The server cannot be reached. A wrong key is not told by any server.
pub fn request(address: &Address, pid: u32, key: &[u8]) -> Result<(), ConnectError> {
    let stream = connect(address, Deadline::after(LIMIT))?;
    let mut packet = Vec::with_capacity(12 + key.len());
    write::cancel_request(&mut packet, pid, key);
    match stream.send(&packet) {
        Ok(sent) if sent == packet.len() => Ok(()),
        Ok(_) => Err(ConnectError::TimedOut),
        Err(error) => Err(ConnectError::Failed(error)),
    }
}
