//! Ports on 127.0.0.1 that nobody uses.
//!
//! Test programs that run side by side share them in blocks: a block belongs to whoever has bound its name, that of an
//! abstract Unix socket, and is free again when that program has ended.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Mutex, PoisonError};

/// Below the kernel's ephemeral range, so that no outgoing connection takes one between our look and the use.
const FIRST: u16 = 20_000;
const BLOCKS: u16 = 120;
/// Ports in a block.
const SIZE: u16 = 100;

/// The ports of this process.
struct Ports {
    /// The first port of each block, with what makes it ours.
    blocks: Vec<(u16, UnixDatagram)>,
    /// How many of them have been handed out.
    used: usize,
}

/// A port that is free now, and that this process has not handed out before as long as there are others.
pub fn free_port() -> u16 {
    static PORTS: Mutex<Ports> = Mutex::new(Ports { blocks: Vec::new(), used: 0 });
    let mut ports = PORTS.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        let port = ports.next();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Ports {
    fn next(&mut self) -> u16 {
        let size = usize::from(SIZE);
        if self.used == self.blocks.len() * size {
            match claim() {
                Some(block) => self.blocks.push(block),
                None => self.used = 0,
            }
        }
        let (first, _) = self.blocks.get(self.used / size).expect("all ports belong to other test programs");
        let port = first + (self.used % size) as u16;
        self.used += 1;
        port
    }
}

/// A block that no other program has.
fn claim() -> Option<(u16, UnixDatagram)> {
    let start = (std::process::id() % u32::from(BLOCKS)) as u16;
    (0..BLOCKS).find_map(|number| {
        let first = FIRST + (start + number) % BLOCKS * SIZE;
        let name = SocketAddr::from_abstract_name(format!("pgpool-suite-ports-{first}")).ok()?;
        Some((first, UnixDatagram::bind_addr(&name).ok()?))
    })
}
