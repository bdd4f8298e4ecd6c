//! Listening sockets that somebody else has opened for this process: a service manager, or the pgpool that this one
//! replaces (process-model 3 knows neither).
//!
//! What is configured and offered is taken instead of being bound. What a service manager offers and is not configured is
//! used all the same, if it can be told what for: by its name, or by its port. What a former pgpool had and is not
//! configured any more is closed when it has handed over its business, not before.

use super::Names;
use super::{Listeners, Listening, Owner};
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

/// A socket that is offered.
#[derive(Debug)]
pub(super) struct Offer {
    pub socket: OwnedFd,
    name: String,
    place: Place,
    /// It is the service manager's.
    pub is_lent: bool,
}

/// What is offered and not taken yet.
#[derive(Debug, Default)]
pub(in crate::supervisor) struct Offered {
    offers: Vec<Offer>,
    /// Where somebody listens already, by sockets taken or not.
    places: Vec<Place>,
}

impl Offered {
    /// What of `inherited` are sockets to accept from; the rest is closed, with a warning. Those of a former pgpool have a
    /// mark at their names if they are a service manager's.
    pub fn new(inherited: Vec<Inherited>, is_former_pgpools: bool) -> Self {
        let offers: Vec<Offer> =
            inherited.into_iter().filter_map(|inherited| Offer::new(inherited, is_former_pgpools)).collect();
        let places = offers.iter().map(|offer| offer.place.clone()).collect();
        Self { offers, places }
    }

    /// The socket that listens on this address.
    pub(super) fn take_tcp(&mut self, address: SocketAddr) -> Option<Offer> {
        self.take(|place| matches!(place, Place::Tcp(offered, _) if *offered == address))
    }

    /// The socket of this path.
    pub(super) fn take_unix(&mut self, path: &Path) -> Option<Offer> {
        self.take(|place| matches!(place, Place::Unix(offered) if offered == path))
    }

    /// The socket of a wildcard address that has this one in it.
    pub(super) fn take_covering(&mut self, address: SocketAddr) -> Option<Offer> {
        self.take(|place| place.covers(address))
    }

    fn take(&mut self, is_it: impl Fn(&Place) -> bool) -> Option<Offer> {
        let found = self.offers.iter().position(|offer| is_it(&offer.place))?;
        let offer = self.offers.remove(found);
        offer.tell();
        Some(offer)
    }

    /// Whether a wildcard address that was offered has this one in it.
    pub fn covers(&self, address: SocketAddr) -> bool {
        self.places.iter().any(|place| place.covers(address))
    }

    /// The former pgpool's socket that keeps everybody from listening on this address while it listens itself: one of the
    /// two is the wildcard that has the other in it.
    pub(super) fn in_the_way(&self, wanted: SocketAddr) -> Option<String> {
        let has_it = self.offers.iter().any(|offer| matches!(offer.place, Place::Tcp(at, _) if at == wanted));
        let is_in_the_way = |offer: &&Offer| match &offer.place {
            Place::Tcp(at, only) => offer.place.covers(wanted) || Place::Tcp(wanted, *only).covers(*at),
            Place::Unix(_) => false,
        };
        let mut formers = self.offers.iter().filter(|offer| !offer.is_lent);
        formers.find(is_in_the_way).filter(|_| !has_it).map(|offer| offer.place.to_string())
    }

    /// All of the service manager's that is left for `names`, Unix sockets first.
    pub(super) fn take_rest(&mut self, port: i32, names: &Names) -> Vec<Offer> {
        let (mut meant, rest): (Vec<_>, Vec<_>) = self.offers.drain(..).partition(|offer| offer.is_for(port, names));
        self.offers = rest;
        meant.sort_by_key(|offer| matches!(offer.place, Place::Tcp(..)));
        meant.iter().for_each(Offer::tell);
        meant
    }

    /// What nothing was found for. The service manager's is closed, with a warning; the former pgpool's is returned.
    pub fn rest(self) -> Listeners {
        let (lent, former): (Vec<_>, Vec<_>) = self.offers.into_iter().partition(|offer| offer.is_lent);
        for offer in lent {
            Report::warning(format!("the service manager has opened {}, which pgpool has no use for", offer.place))
                .hint("Name it clients, pcp or metrics (FileDescriptorName=), or use the port of pgpool.conf.")
                .log();
        }
        let mut rest = Listeners::default();
        for offer in former {
            rest.inherit_file(&offer, None);
            rest.sockets.push(Listening { socket: offer.socket, owner: Owner::FormerPgpool, purpose: "" });
        }
        rest
    }
}

impl Offer {
    fn new(inherited: Inherited, is_former_pgpools: bool) -> Option<Self> {
        let Inherited { descriptor: socket, name } = inherited;
        let place = place_of(&socket);
        if place.is_none() {
            Report::warning(format!(
                "a descriptor that was passed to pgpool, named \"{name}\", is no listening socket"
            ))
            .log();
        }
        let is_lent = !is_former_pgpools || name.ends_with(super::LENT);
        Some(Self { place: place?, socket, name: name.trim_end_matches(super::LENT).to_owned(), is_lent })
    }

    /// The file of a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        match &self.place {
            Place::Unix(path) => Some(path),
            Place::Tcp(..) => None,
        }
    }

    fn is_for(&self, port: i32, names: &Names) -> bool {
        if !self.is_lent || names.purpose == self.name {
            return self.is_lent;
        }
        let is_named = super::ALL.iter().any(|other| other.purpose == self.name);
        !is_named
            && match &self.place {
                Place::Tcp(address, _) => i32::from(address.port()) == port,
                Place::Unix(path) => path.file_name().is_some_and(|name| *name == *format!(".s.PGSQL.{port}")),
            }
    }

    fn tell(&self) {
        let whose = if self.is_lent { "the service manager has opened" } else { "is taken over" };
        Report::log_line(format!("listening on {}, which {whose}", self.place)).log();
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

impl Place {
    /// Whether it is a wildcard address that has this one in it.
    fn covers(&self, address: SocketAddr) -> bool {
        let Self::Tcp(wildcard, and_ipv4) = self else { return false };
        let same_family = wildcard.is_ipv4() == address.is_ipv4() || (*and_ipv4 && address.is_ipv4());
        wildcard.ip().is_unspecified() && wildcard.port() == address.port() && same_family
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
        let mut offered = Offered::new(vec![named(tcp, ""), named(unix, ""), named(udp, "")], false);
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
        let mut offered = Offered::new(vec![named(four, "")], false);
        assert!(offered.covers(local) && offered.take_tcp(address).is_some() && offered.covers(local));
        assert!(!offered.covers(SocketAddr::from(([127, 0, 0, 1], address.port() ^ 1))));
        assert!(!offered.covers(SocketAddr::from(([0; 16], address.port()))));
    }

    #[test]
    fn a_former_pgpools_address_is_in_the_way_of_a_wildcard_and_the_other_way_round() {
        let (socket, one) = listener("127.0.0.1:0");
        let all = SocketAddr::from(([0; 4], one.port()));
        let (other, elsewhere) = (SocketAddr::from(([127, 0, 0, 2], one.port())), SocketAddr::from(([0; 4], 1)));
        let former = |socket, name| Offered::new(vec![named(socket, name)], true);
        let offered = former(socket.try_clone().expect("clone"), "clients");
        let in_the_way = |offered: &Offered| [one, other, elsewhere, all].map(|at| offered.in_the_way(at).is_some());
        assert_eq!(in_the_way(&offered), [false, false, false, true]);
        let name = format!("clients{}", super::super::LENT);
        let lent = former(socket.try_clone().expect("clone"), &name);
        assert_eq!(in_the_way(&lent), [false; 4], "it is the service manager who says where");
        drop((socket, offered, lent));
        let socket = TcpListener::bind(all).expect("bind");
        assert_eq!(in_the_way(&former(socket, "clients")), [true, true, false, false]);
    }

    #[test]
    fn names_go_before_ports() {
        let (one, at) = listener("127.0.0.1:0");
        let (two, other) = listener("127.0.0.1:0");
        let (port, other_port) = (i32::from(at.port()), i32::from(other.port()));
        let mut offered = Offered::new(vec![named(one, "pcp"), named(two, "pgpool.socket")], false);
        assert!(offered.take_rest(port, &FOR_CLIENTS).is_empty(), "it has another name");
        assert_eq!(offered.take_rest(0, &FOR_PCP).len(), 1);
        assert!(offered.take_rest(port, &FOR_METRICS).is_empty());
        assert_eq!(offered.take_rest(other_port, &FOR_METRICS).len(), 1, "a name that says nothing");
    }
}
