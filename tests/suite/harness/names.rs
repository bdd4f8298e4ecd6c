//! A name service under control: a pgpool with an /etc/hosts of its own, in a mount namespace, which root may make.

use std::fs;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Scratch;

/// The names that one pgpool knows. What is not in the file is asked for at a name server.
pub struct Names {
    scratch: Scratch,
    /// Keeps the port of a name server that never answers.
    _silent: Option<UdpSocket>,
}

/// What becomes of a name that is not in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameServer {
    /// There is none: it has no address.
    None,
    /// It is asked for in vain, for as long as resolv.conf says.
    Silent,
}

impl Names {
    /// `names` are this machine.
    pub fn new(names: &str, server: NameServer) -> Names {
        // Other test programs may be at work on this machine.
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let address = std::net::Ipv4Addr::new(127, 53, high, low);
        let silent = (server == NameServer::Silent).then(|| UdpSocket::bind((address, 53)).expect("port 53"));
        let services = if silent.is_some() { "hosts: files dns\n" } else { "hosts: files\n" };
        let own = Names { scratch: Scratch::new("names"), _silent: silent };
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
