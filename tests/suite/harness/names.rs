//! A name service under control: a pgpool with an /etc/hosts of its own, in a mount namespace, which root may make.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use super::Scratch;

/// The names that one pgpool knows. What is not in the file is asked for at a name server.
pub struct Names {
    scratch: Scratch,
    /// Keeps the port of a name server that never answers.
    silent: Option<UdpSocket>,
}

/// What becomes of a name that is not in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameServer {
    /// There is none: it has no address.
    None,
    /// It is asked for in vain, for as long as resolv.conf says.
    Silent,
}

/// What a name server tells of a name.
#[derive(Clone, Debug)]
pub enum Record {
    Address(Ipv4Addr),
    /// A server of a domain, which is asked for as `_ldap._tcp.example.com`: its port and its name.
    Service(u16, &'static str),
}

impl Record {
    /// Type and content, as they are sent.
    fn encoded(&self) -> (u16, Vec<u8>) {
        match self {
            Record::Address(address) => (1, address.octets().to_vec()),
            Record::Service(port, name) => (33, [&[0, 0, 0, 0], &port.to_be_bytes()[..], &encoded(name)].concat()),
        }
    }
}

/// A name as DNS has it.
fn encoded(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// The answer to a query; of what there is no record, there is none.
fn answer(query: &[u8], records: &[(&str, Record)]) -> Vec<u8> {
    let question = &query[12..];
    let end = question.iter().position(|byte| *byte == 0).expect("the end of the name") + 1;
    let (name, kind) = (&question[..end], &question[end..end + 2]);
    let fits = |(of, record): &&(&str, Record)| {
        encoded(of).eq_ignore_ascii_case(name) && record.encoded().0.to_be_bytes() == kind
    };
    let found: Vec<Vec<u8>> = records.iter().filter(fits).map(|(_, record)| record.encoded().1).collect();
    let count = (found.len() as u16).to_be_bytes();
    let mut reply = [&query[..2], &[0x81, 0x80, 0, 1], &count, &[0; 4], &question[..end + 4]].concat();
    for content in found {
        let length = (content.len() as u16).to_be_bytes();
        reply.extend([&[0xc0, 12], kind, &[0, 1, 0, 0, 0, 0], &length, &content].concat());
    }
    reply
}

impl Names {
    /// A name server of its own tells these records, and of no others.
    pub fn served(records: Vec<(&'static str, Record)>) -> Names {
        let names = Names::new("", NameServer::Silent);
        let socket = names.silent.as_ref().expect("a name server").try_clone().expect("a socket");
        // It ends with the test program.
        thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let _ = socket.send_to(&answer(&query[..length], &records), from);
            }
        });
        names
    }

    /// `names` are this machine.
    pub fn new(names: &str, server: NameServer) -> Names {
        // Other test programs may be at work on this machine.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        static COUNT: AtomicU8 = AtomicU8::new(53);
        let address = Ipv4Addr::new(127, COUNT.fetch_add(1, Ordering::Relaxed), high, low);
        let silent = (server == NameServer::Silent).then(|| UdpSocket::bind((address, 53)).expect("port 53"));
        let services = if silent.is_some() { "hosts: files dns\n" } else { "hosts: files\n" };
        let own = Names { scratch: Scratch::new("names"), silent };
        fs::write(own.file("nsswitch.conf"), services).expect("nsswitch.conf");
        fs::write(own.file("resolv.conf"), format!("nameserver {address}\noptions timeout:5 attempts:2\n"))
            .expect("resolv.conf");
        own.say(names);
        own
    }

    /// From now on `names`, and no others, are this machine.
    pub fn say(&self, names: &str) {
        fs::write(self.file("hosts"), format!("127.0.0.1 localhost {names}\n")).expect("hosts");
    }

    fn file(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The command that runs `program` with these names.
    pub fn command(&self, program: &Path) -> Command {
        let script = "cd \"$1\" && for file in *; do mount --bind $file /etc/$file || exit; done; shift; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script, "sh"]).arg(self.scratch.path()).arg(program);
        command
    }
}
