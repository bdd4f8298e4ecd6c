//! The addresses a rule is for (auth 3.7).

use std::net::{IpAddr, Ipv4Addr};

/// Whom a rule is for, by where the client comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Anybody.
    All,
    /// Whoever comes from one of this machine's own addresses.
    SameHost,
    /// Whoever comes from a network this machine is in.
    SameNet,
    /// A network: address and mask of one family.
    Network(IpAddr, IpAddr),
    /// A host by its name; with a leading dot all hosts of a domain.
    Host(String),
}

/// What the system knows of names and interfaces.
pub trait Names {
    /// The addresses of this machine, each with its mask where it has one.
    fn interfaces(&mut self) -> Vec<(IpAddr, Option<IpAddr>)>;
    /// The name of an address.
    fn name(&mut self, address: IpAddr) -> Option<String>;
    /// The addresses of a name.
    fn addresses(&mut self, name: &str) -> Vec<IpAddr>;
}

impl Address {
    /// Whether a client at `client` is meant. `host`: the client's name, to be looked up at most once.
    pub(super) fn matches(&self, client: IpAddr, names: &mut dyn Names, host: &mut HostName) -> bool {
        match self {
            Self::All => true,
            Self::SameHost => names.interfaces().iter().any(|(own, _)| *own == client),
            Self::SameNet => {
                let is_near = |(own, mask): &(IpAddr, Option<IpAddr>)| {
                    let usable = mask.filter(|mask| mask.is_ipv4() == own.is_ipv4() && !mask.is_unspecified());
                    in_network(client, *own, usable.unwrap_or_else(|| full_mask(*own)))
                };
                names.interfaces().iter().any(is_near)
            }
            Self::Network(network, mask) => in_network(client, *network, *mask),
            Self::Host(pattern) => host.of(client, names).is_some_and(|name| name_matches(name, pattern)),
        }
    }
}

/// The confirmed name of a client.
#[derive(Debug, Default)]
pub(super) struct HostName(Option<Option<String>>);

impl HostName {
    fn of(&mut self, client: IpAddr, names: &mut dyn Names) -> Option<&str> {
        self.0.get_or_insert_with(|| confirmed_name(client, names)).as_deref()
    }
}

/// The name of a client. It counts only if it leads back to the address: whoever an address belongs to names it as he likes.
pub fn confirmed_name(client: IpAddr, names: &mut dyn Names) -> Option<String> {
    names.name(client).filter(|name| names.addresses(name).contains(&client))
}

fn name_matches(name: &str, pattern: &str) -> bool {
    if pattern.starts_with('.') {
        let from = name.len().checked_sub(pattern.len());
        return from.and_then(|from| name.get(from..)).is_some_and(|end| end.eq_ignore_ascii_case(pattern));
    }
    name.eq_ignore_ascii_case(pattern)
}

fn in_network(client: IpAddr, network: IpAddr, mask: IpAddr) -> bool {
    match (client, network, mask) {
        (IpAddr::V4(client), IpAddr::V4(network), IpAddr::V4(mask)) => client & mask == network & mask,
        (IpAddr::V6(client), IpAddr::V6(network), IpAddr::V6(mask)) => client & mask == network & mask,
        _ => false,
    }
}

fn full_mask(address: IpAddr) -> IpAddr {
    mask(address, if address.is_ipv4() { 32 } else { 128 }).unwrap_or(address)
}

/// The mask of so many bits for this family. `None`: the family has fewer.
pub(super) fn mask(address: IpAddr, bits: u32) -> Option<IpAddr> {
    match address {
        IpAddr::V4(_) if bits <= 32 => Some(Ipv4Addr::from(u32::MAX.checked_shl(32 - bits).unwrap_or(0)).into()),
        IpAddr::V6(_) if bits <= 128 => {
            Some(std::net::Ipv6Addr::from(u128::MAX.checked_shl(128 - bits).unwrap_or(0)).into())
        }
        _ => None,
    }
}

/// A numeric address in any form the C library takes: `127.1` and hexadecimal parts are fine.
pub(super) fn numeric(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let parts: Option<Vec<u32>> = text.split('.').map(number).collect();
    let parts = parts.filter(|parts| parts.len() <= 4)?;
    let (last, first) = parts.split_last()?;
    let free = 32 - 8 * first.len() as u32;
    let fits = first.iter().all(|part| *part < 256) && last.checked_shr(free).is_none_or(|beyond| beyond == 0);
    let head = first.iter().fold(0u32, |sum, part| sum << 8 | part);
    fits.then(|| IpAddr::V4((head.checked_shl(free).unwrap_or(0) | last).into()))
}

/// Decimal, octal or hexadecimal.
fn number(text: &str) -> Option<u32> {
    let (digits, radix) = match text {
        _ if text.starts_with("0x") || text.starts_with("0X") => (&text[2..], 16),
        _ if text.len() > 1 && text.starts_with('0') => (&text[1..], 8),
        _ => (text, 10),
    };
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_plain.then(|| u32::from_str_radix(digits, radix).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Known;

    impl Names for Known {
        fn interfaces(&mut self) -> Vec<(IpAddr, Option<IpAddr>)> {
            let ip = |text: &str| text.parse().expect(text);
            vec![
                (ip("10.1.2.3"), Some(ip("255.255.0.0"))),
                (ip("fe80::1"), Some(ip("255.0.0.0"))),
                (ip("10.9.9.9"), None),
            ]
        }

        fn name(&mut self, address: IpAddr) -> Option<String> {
            [("10.0.0.1", "a.Ex.com"), ("10.0.0.2", "liar.ex.com")]
                .into_iter()
                .find(|(ip, _)| address.to_string() == *ip)
                .map(|(_, name)| name.to_owned())
        }

        fn addresses(&mut self, name: &str) -> Vec<IpAddr> {
            if name == "a.Ex.com" {
                vec!["10.0.0.1".parse().expect("ip")]
            } else {
                vec!["10.0.0.9".parse().expect("ip")]
            }
        }
    }

    fn matches(address: &Address, client: &str) -> bool {
        address.matches(client.parse().expect(client), &mut Known, &mut HostName::default())
    }

    #[test]
    fn numeric_forms() {
        for (text, expected) in [
            ("127.0.0.1", Some("127.0.0.1")),
            ("127.1", Some("127.0.0.1")),
            ("0x7f.1", Some("127.0.0.1")),
            ("010.1.2.3", Some("8.1.2.3")),
            ("2130706433", Some("127.0.0.1")),
            ("1.2.65535", Some("1.2.255.255")),
            ("::1", Some("::1")),
            ("256.1", None),
            ("1.2.65536", None),
            ("1.2.3.4.5", None),
            ("host", None),
            ("", None),
            ("1..2", None),
            ("+1.2", None),
            ("1.2.3.256", None),
        ] {
            assert_eq!(numeric(text).map(|ip| ip.to_string()).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn networks() {
        let network = |ip: &str, bits| {
            let ip = ip.parse().expect(ip);
            Address::Network(ip, mask(ip, bits).expect("bits"))
        };
        assert!(matches(&network("10.0.0.77", 8), "10.200.1.1") && !matches(&network("10.0.0.77", 8), "11.0.0.1"));
        assert!(matches(&network("0.0.0.0", 0), "1.2.3.4") && !matches(&network("0.0.0.0", 0), "::ffff:1.2.3.4"));
        assert!(matches(&network("fe80::", 10), "fe80::5") && !matches(&network("::1", 128), "::2"));
        let odd = Address::Network("10.0.0.1".parse().expect("ip"), "255.0.0.255".parse().expect("ip"));
        assert!(matches(&odd, "10.7.7.1") && !matches(&odd, "10.7.7.2"));
        assert_eq!(mask("1.1.1.1".parse().expect("ip"), 33), None);
    }

    #[test]
    fn own_addresses_and_networks() {
        assert!(matches(&Address::SameHost, "10.1.2.3") && !matches(&Address::SameHost, "10.1.2.4"));
        assert!(matches(&Address::SameNet, "10.1.200.1") && !matches(&Address::SameNet, "10.2.0.1"));
        assert!(matches(&Address::SameNet, "fe80::1") && !matches(&Address::SameNet, "fe80::2"));
        assert!(matches(&Address::SameNet, "10.9.9.9") && !matches(&Address::SameNet, "10.9.9.8"));
    }

    #[test]
    fn names_must_lead_back() {
        let host = |pattern: &str| Address::Host(pattern.to_owned());
        assert!(matches(&host("A.ex.com"), "10.0.0.1") && matches(&host(".EX.com"), "10.0.0.1"));
        assert!(!matches(&host("x.ex.com"), "10.0.0.1") && !matches(&host(".a.ex.com"), "10.0.0.1"));
        assert!(!matches(&host(".ex.com"), "10.0.0.2") && !matches(&host(".ex.com"), "10.0.0.3"));
    }
}
