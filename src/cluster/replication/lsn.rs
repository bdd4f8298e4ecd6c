//! Positions in the WAL.

use std::fmt;
use std::str::FromStr;

/// A position in the WAL, counted in bytes over its whole life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Lsn(u64);

impl Lsn {
    /// Bytes from `other` to here; none if `other` is ahead.
    pub fn since(self, other: Self) -> u64 {
        self.0.saturating_sub(other.0)
    }
}

/// A text that is no position.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid LSN format: wrong log location format: {0}")]
pub(super) struct NotAPosition(String);

impl FromStr for Lsn {
    type Err = NotAPosition;

    /// Reads `X/Y`, two numbers of up to eight hexadecimal digits: the halves of 64 bits. The original gets wrong whatever
    /// lies on both sides of a multiple of 4 GiB (failover 14.4).
    fn from_str(text: &str) -> Result<Self, NotAPosition> {
        let half = |digits: &str| {
            let fits = (1..=8).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            if fits { u64::from_str_radix(digits, 16).ok() } else { None }
        };
        let halves = text.split_once('/').and_then(|(high, low)| Some((half(high)?, half(low)?)));
        halves.map(|(high, low)| Self(high << 32 | low)).ok_or_else(|| NotAPosition(text.to_owned()))
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsn(text: &str) -> Lsn {
        text.parse().expect(text)
    }

    #[test]
    fn distances_are_exact_across_the_halves() {
        assert_eq!(lsn("0/3000060").since(lsn("0/3000000")), 0x60);
        assert_eq!(lsn("2/0").since(lsn("1/FFFFFFFF")), 1);
        assert_eq!(lsn("1/10").since(lsn("0/FFFFFFF0")), 0x20);
        assert_eq!(lsn("FFFFFFFF/FFFFFFFF").since(lsn("0/0")), u64::MAX);
        assert_eq!(lsn("1/0").since(lsn("1/1")), 0);
        assert!(lsn("10/0") > lsn("F/FFFFFFFF"));
    }

    #[test]
    fn what_is_written_is_read() {
        for text in ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(lsn(text).to_string(), text);
        }
        assert_eq!(lsn("0a/00ff").to_string(), "A/FF");
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            ["", "/", "1/", "/1", "1", "1/2/3", "g/1", "-1/0", "+1/0", "1 /2", "123456789/0", "0/123456789", "é/1"]
        {
            assert_eq!(text.parse::<Lsn>(), Err(NotAPosition(text.to_owned())), "{text:?}");
        }
    }
}
