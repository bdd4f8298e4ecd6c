//! Listening sockets that somebody else has opened for this process: a service manager (process-model 3 knows none).
//!
//! What is configured and offered is taken instead of being bound. What is offered and not configured is used all the same,
//! if it can be told what for: by its name, or by its port.

use super::Names;
use crate::report::Report;
use crate::sys::inherited::Inherited;
use socket2::{SockRef, Type};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// With IPv6's wildcard address, whether IPv4 is listened on as well.
    Tcp(SocketAddr, bool),
    Unix(PathBuf),
}

#[derive(Debug)]
struct Offer {
    socket: OwnedFd,
    name: String,
    place: Place,
}

/// What is offered and not taken yet.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Offered {
    offers: Vec<Offer>,
    /// Where somebody listens already, by sockets taken or not.
    places: Vec<Place>,
}

impl Offered {
    /// What of `inherited` are sockets to accept from; the rest is closed, with a warning.
    pub fn new(inherited: Vec<Inherited>) -> Self {
        let offers: Vec<Offer> = inherited.into_iter().filter_map(Offer::new).collect();
        let places = offers.iter().map(|offer| offer.place.clone()).collect();
        Self { offers, places }
    }

    /// The socket that listens on this address.
    pub fn take_tcp(&mut self, address: SocketAddr) -> Option<OwnedFd> {
        self.take(|place| matches!(place, Place::Tcp(offered, _) if *offered == address))
    }

    /// The socket of this path.
    pub fn take_unix(&mut self, path: &Path) -> Option<OwnedFd> {
        self.take(|place| matches!(place, Place::Unix(offered) if offered == path))
    }

    fn take(&mut self, is_it: impl Fn(&Place) -> bool) -> Option<OwnedFd> {
        let found = self.offers.iter().position(|offer| is_it(&offer.place))?;
        let offer = self.offers.remove(found);
        offer.tell();
        Some(offer.socket)
    }

    /// Whether a wildcard address that was offered has this one in it.
    pub fn covers(&self, address: SocketAddr) -> bool {
        self.places.iter().any(|place| match place {
            Place::Tcp(wildcard, and_ipv4) => {
                let same_family = wildcard.is_ipv4() == address.is_ipv4() || (*and_ipv4 && address.is_ipv4());
                wildcard.ip().is_unspecified() && wildcard.port() == address.port() && same_family
            }
            Place::Unix(_) => false,
        })
    }

    /// All that is left for `names`, Unix sockets first.
    pub(super) fn take_rest(&mut self, port: i32, names: &Names) -> Vec<OwnedFd> {
        let (mut meant, rest): (Vec<_>, Vec<_>) = self.offers.drain(..).partition(|offer| offer.is_for(port, names));
        self.offers = rest;
        meant.sort_by_key(|offer| matches!(offer.place, Place::Tcp(..)));
        meant.iter().for_each(Offer::tell);
        meant.into_iter().map(|offer| offer.socket).collect()
    }

    /// Closes what nothing was found for.
    pub fn warn_of_rest(self) {
        for offer in self.offers {
            Report::warning(format!("the service manager has opened {}, which pgpool has no use for", offer.place))
                .hint("Name it clients, pcp or metrics (FileDescriptorName=), or use the port of pgpool.conf.")
                .log();
        }
    }
}

impl Offer {
    fn new(inherited: Inherited) -> Option<Self> {
        let Inherited { descriptor: socket, name } = inherited;
        let place = place_of(&socket);
        if place.is_none() {
            Report::warning(format!("a descriptor of the service manager, named \"{name}\", is no listening socket"))
                .log();
        }
        Some(Self { place: place?, socket, name })
    }

    fn is_for(&self, port: i32, names: &Names) -> bool {
        if names.purpose == self.name {
            return true;
        }
        let is_named = super::ALL.iter().any(|other| other.purpose == self.name);
        !is_named
            && match &self.place {
                Place::Tcp(address, _) => i32::from(address.port()) == port,
                Place::Unix(path) => path.file_name().is_some_and(|name| *name == *format!(".s.PGSQL.{port}")),
            }
    }

    fn tell(&self) {
        Report::log_line(format!("listening on {}, which the service manager has opened", self.place)).log();
    }
}

fn place_of(socket: &OwnedFd) -> Option<Place> {
    let socket = SockRef::from(socket);
    if socket.r#type().ok()? != Type::STREAM || !socket.is_listener().ok()? {
        return None;
    }
    let address = socket.local_addr().ok()?;
    match address.as_socket() {
        Some(tcp) => Some(Place::Tcp(tcp, tcp.is_ipv6() && !socket.only_v6().unwrap_or(true))),
        None => address.as_pathname().map(|path| Place::Unix(path.to_owned())),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address, _) => write!(out, "{address}"),
            Place::Unix(path) => write!(out, "\"{}\"", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FOR_CLIENTS, FOR_METRICS, FOR_PCP};
    use super::*;
    use std::net::{TcpListener, UdpSocket};
    use std::os::unix::net::UnixListener;

    fn named(descriptor: impl Into<OwnedFd>, name: &str) -> Inherited {
        Inherited { descriptor: descriptor.into(), name: name.to_owned() }
    }

    fn listener(address: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(address).expect("bind");
        let address = listener.local_addr().expect("address");
        (listener, address)
    }

    #[test]
    fn a_socket_is_known_by_its_address() {
        let path = std::env::temp_dir().join(format!("pgpool-offered-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let (tcp, address) = listener("127.0.0.1:0");
        let unix = UnixListener::bind(&path).expect("bind");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let mut offered = Offered::new(vec![named(tcp, ""), named(unix, ""), named(udp, "")]);
        assert!(offered.take_tcp(SocketAddr::from(([127, 0, 0, 2], address.port()))).is_none());
        assert!(offered.take_tcp(address).is_some() && offered.take_tcp(address).is_none());
        assert!(offered.take_unix(Path::new("/other")).is_none() && offered.take_unix(&path).is_some());
        assert!(!offered.covers(address), "no wildcard");
        assert!(offered.offers.is_empty());
        std::fs::remove_file(path).expect("remove");
    }

    #[test]
    fn a_wildcard_covers_its_port_also_when_it_is_taken() {
        let (four, address) = listener("0.0.0.0:0");
        let local = SocketAddr::from(([127, 0, 0, 1], address.port()));
        let mut offered = Offered::new(vec![named(four, "")]);
        assert!(offered.covers(local) && offered.take_tcp(address).is_some() && offered.covers(local));
        assert!(!offered.covers(SocketAddr::from(([127, 0, 0, 1], address.port() ^ 1))));
        assert!(!offered.covers(SocketAddr::from(([0; 16], address.port()))));
    }

    #[test]
    fn names_go_before_ports() {
        let (one, at) = listener("127.0.0.1:0");
        let (two, other) = listener("127.0.0.1:0");
        let (port, other_port) = (i32::from(at.port()), i32::from(other.port()));
        let mut offered = Offered::new(vec![named(one, "pcp"), named(two, "pgpool.socket")]);
        assert!(offered.take_rest(port, &FOR_CLIENTS).is_empty(), "it has another name");
        assert_eq!(offered.take_rest(0, &FOR_PCP).len(), 1);
        assert!(offered.take_rest(port, &FOR_METRICS).is_empty());
        assert_eq!(offered.take_rest(other_port, &FOR_METRICS).len(), 1, "a name that says nothing");
    }
}
