//! The floor: the least a relay with one process per connection can cost.
//!
//! Each of the pre-forked processes accepts a client, connects to the server and then repeats: read client, write
//! server, read server, write client; four syscalls per query and nothing looked at, save the last six bytes of what
//! the server sent: a reply has ended when they are a ReadyForQuery. Good for trust logins and for clients that wait
//! for each reply, which is what pgbench is; no pooling, no COPY, no pipelines.
//!
//! It is compiled by itself, without crates: fork and poll are declared here, so that this is the only place beside shm/ and
//! src/sys with `unsafe` in it.
//!
//! Usage: floor LISTEN_PORT SERVER_PORT PROCESSES [poll]      poll: wait in poll() before each read (6 syscalls)

use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

unsafe extern "C" {
    safe fn fork() -> i32;
    fn poll(fds: *mut PollFd, count: u64, timeout_ms: i32) -> i32;
}

fn receive(from: &mut TcpStream, buffer: &mut [u8], poll_first: bool) -> Result<usize> {
    if poll_first {
        let mut entry = PollFd { fd: from.as_raw_fd(), events: 1, revents: 0 };
        // SAFETY: one valid entry is passed, and poll() keeps no pointer to it.
        unsafe { poll(&mut entry, 1, -1) };
    }
    from.read(buffer)
}

fn is_ready_for_query(tail: &[u8]) -> bool {
    tail.len() == 6 && tail.starts_with(b"Z\0\0\0\x05")
}

fn relay(mut client: TcpStream, mut server: TcpStream, poll_first: bool) -> Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut buffer = vec![0u8; 64 * 1024];
    let mut tail = Vec::with_capacity(12);
    loop {
        let length = receive(&mut client, &mut buffer, poll_first)?;
        if length == 0 {
            return Ok(());
        }
        server.write_all(&buffer[..length])?;
        tail.clear();
        while !is_ready_for_query(&tail) {
            let length = receive(&mut server, &mut buffer, poll_first)?;
            if length == 0 {
                return Ok(());
            }
            client.write_all(&buffer[..length])?;
            tail.extend_from_slice(&buffer[length.saturating_sub(6)..length]);
            tail.drain(..tail.len().saturating_sub(6));
        }
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let number = |at: usize| -> u16 { arguments[at].parse().expect("a number") };
    let (listen_port, server_port, processes) = (number(1), number(2), number(3));
    let poll_first = arguments.get(4).is_some_and(|word| word == "poll");

    let listener = TcpListener::bind(("127.0.0.1", listen_port))?;
    for _ in 1..processes {
        if fork() == 0 {
            break;
        }
    }
    loop {
        let (client, _) = listener.accept()?;
        // A connection that breaks ends only itself.
        let _ = TcpStream::connect(("127.0.0.1", server_port)).and_then(|server| relay(client, server, poll_first));
    }
}
