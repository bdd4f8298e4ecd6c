//! Names of users inside names and filters of LDAP. Whatever a client calls itself, it stays one value.

use std::fmt::Write;

/// `value` inside a distinguished name (RFC 4514, 2.4).
pub(super) fn in_dn(value: &[u8]) -> Vec<u8> {
    let last = value.len().saturating_sub(1);
    let mut escaped = Vec::with_capacity(value.len());
    for (at, byte) in value.iter().enumerate() {
        let is_special = match byte {
            b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';' | b'=' => true,
            b'#' => at == 0,
            b' ' => at == 0 || at == last,
            _ => false,
        };
        if is_special {
            escaped.push(b'\\');
        }
        escaped.push(*byte);
    }
    escaped
}

/// `value` inside a filter (RFC 4515, 3).
pub(super) fn in_filter(value: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(value.len());
    for byte in value {
        match byte {
            b'*' | b'(' | b')' | b'\\' | 0 => {
                let mut digits = String::new();
                let _ = write!(digits, "\\{byte:02x}");
                escaped.extend_from_slice(digits.as_bytes());
            }
            _ => escaped.push(*byte),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_values() {
        for (value, dn, filter) in [
            ("alice", "alice", "alice"),
            ("al ice", "al ice", "al ice"),
            (" a,ou=x ", "\\ a\\,ou\\=x\\ ", " a,ou=x "),
            ("#a#", "\\#a#", "#a#"),
            ("*)(uid=*", "*)(uid\\=*", "\\2a\\29\\28uid=\\2a"),
            ("a\\2a", "a\\\\2a", "a\\5c2a"),
            ("é+\"<>;", "é\\+\\\"\\<\\>\\;", "é+\"<>;"),
        ] {
            assert_eq!(in_dn(value.as_bytes()), dn.as_bytes(), "{value}");
            assert_eq!(in_filter(value.as_bytes()), filter.as_bytes(), "{value}");
        }
    }
}
