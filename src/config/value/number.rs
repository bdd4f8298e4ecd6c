//! Whole numbers with units, and fractional numbers (config 3.2, 3.3).

/// Units a bare number can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unit {
    B,
    Kb,
    Ms,
    S,
    Min,
}

/// Suffixes and their size in the smallest of them, largest first.
const MEMORY: [(&str, i128); 5] = [("TB", 1 << 40), ("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10), ("B", 1)];
const TIME: [(&str, i128); 6] =
    [("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1_000), ("us", 1)];

impl Unit {
    /// The unit as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::B => "B",
            Self::Kb => "kB",
            Self::Ms => "ms",
            Self::S => "s",
            Self::Min => "min",
        }
    }

    /// The hint that lists the suffixes.
    pub fn hint(self) -> &'static str {
        match self {
            Self::B | Self::Kb => r#"Valid units for this parameter are "B", "kB", "MB", "GB", and "TB"."#,
            Self::Ms | Self::S | Self::Min => {
                r#"Valid units for this parameter are "us", "ms", "s", "min", "h", and "d"."#
            }
        }
    }

    /// Whether `text` is one of the suffixes.
    pub fn accepts(self, text: &str) -> bool {
        self.suffixes().iter().any(|(name, _)| *name == text)
    }

    fn suffixes(self) -> &'static [(&'static str, i128)] {
        match self {
            Self::B | Self::Kb => &MEMORY,
            Self::Ms | Self::S | Self::Min => &TIME,
        }
    }

    fn size(self) -> i128 {
        self.suffixes().iter().find(|(name, _)| *name == self.as_str()).map_or(1, |(_, size)| *size)
    }
}

/// Why a text is not a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotANumber {
    /// Not a number at all.
    Garbage,
    /// A number followed by something that is not a unit.
    BadUnit,
    /// Larger than the type.
    TooLarge,
}

/// Reads a whole number as C's `strtol` with base 0 does, or a fractional one, with an optional unit, and converts it
/// to the base unit, rounding half to even.
pub(super) fn parse_int(text: &str, unit: Option<Unit>, bits: u8) -> Result<i64, NotANumber> {
    let (number, rest) = Number::read(text.trim_start()).ok_or(NotANumber::Garbage)?;
    let suffix = rest.trim();
    let value = match (suffix, unit) {
        ("", None) => number.rounded(1, 1, 1),
        ("", Some(base)) => number.rounded(base.size(), base.size(), base.size()),
        (_, None) => return Err(NotANumber::BadUnit),
        (_, Some(base)) => {
            let suffixes = base.suffixes();
            let at = suffixes.iter().position(|(name, _)| *name == suffix).ok_or(NotANumber::BadUnit)?;
            let size = suffixes[at].1;
            // A fraction of a unit is first rounded to whole units of the next smaller size.
            let next_smaller = suffixes.get(at + 1).map_or(size, |(_, size)| *size);
            number.rounded(size, next_smaller, base.size())
        }
    };
    let value = value.ok_or(NotANumber::TooLarge)?;
    let fits = if bits == 32 { i32::try_from(value).is_ok() } else { true };
    if fits { Ok(value) } else { Err(NotANumber::TooLarge) }
}

/// Reads a fractional number.
pub(super) fn parse_double(text: &str) -> Option<f64> {
    let text = text.trim();
    let starts_like_a_number = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let is_finite = |number: &f64| number.is_finite();
    text.parse().ok().filter(is_finite).filter(|_| starts_like_a_number)
}

/// `number` in the largest unit that divides it (config 7.6).
pub(super) fn text(number: i64, unit: Option<Unit>) -> String {
    let Some(base) = unit.filter(|_| number > 0) else { return number.to_string() };
    let size = i128::from(number) * base.size();
    let largest = base.suffixes().iter().find(|(_, unit)| *unit >= base.size() && size % unit == 0);
    largest.map_or_else(|| number.to_string(), |(name, unit)| format!("{}{name}", size / unit))
}

/// A number as it was written.
enum Number {
    Whole(i128),
    Fraction(f64),
}

impl Number {
    /// Reads a number from the beginning of `text`; gives it and what is behind it.
    fn read(text: &str) -> Option<(Self, &str)> {
        let (whole, rest) = Self::read_whole(text);
        if let Some(whole) = whole
            && !rest.starts_with(['.', 'e', 'E'])
        {
            return Some((Self::Whole(whole), rest));
        }
        let (fraction, rest) = split_fraction(text);
        fraction.parse().ok().map(|fraction| (Self::Fraction(fraction), rest))
    }

    /// `0x1f`, `0777`, `42` with a sign; none if there is no digit or too many.
    fn read_whole(text: &str) -> (Option<i128>, &str) {
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let hex = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
        let hex = hex.filter(|hex| hex.starts_with(|c: char| c.is_ascii_hexdigit()));
        let (radix, digits) = match hex {
            Some(hex) => (16, hex),
            None if digits.starts_with('0') => (8, digits),
            None => (10, digits),
        };
        let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
        let number = i128::from_str_radix(&digits[..end], radix).ok();
        (number.map(|n| if negative { -n } else { n }), &digits[end..])
    }

    /// The number of `size`d units, rounded to whole `step`s and then to whole `base`s.
    fn rounded(&self, size: i128, step: i128, base: i128) -> Option<i64> {
        let in_smallest = match self {
            Self::Whole(whole) => whole.checked_mul(size)?,
            Self::Fraction(fraction) => {
                let steps = (fraction * (size / step) as f64).round_ties_even();
                if steps.abs() > 1e30 {
                    return None;
                }
                (steps as i128).checked_mul(step)?
            }
        };
        i64::try_from(divide_half_even(in_smallest, base)).ok()
    }
}

/// Splits `[sign] digits [. digits] [e [sign] digits]` from what follows.
fn split_fraction(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let mut end = digits(usize::from(bytes.first().is_some_and(|b| b"+-".contains(b))));
    if bytes.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if bytes.get(end).is_some_and(|b| b"eE".contains(b)) {
        let sign = usize::from(bytes.get(end + 1).is_some_and(|b| b"+-".contains(b)));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    text.split_at(end)
}

fn divide_half_even(number: i128, by: i128) -> i128 {
    let (quotient, rest) = (number.div_euclid(by), number.rem_euclid(by));
    match (rest * 2).cmp(&by) {
        std::cmp::Ordering::Less => quotient,
        std::cmp::Ordering::Greater => quotient + 1,
        std::cmp::Ordering::Equal => quotient + quotient.rem_euclid(2),
    }
}

#[cfg(test)]
mod tests {
    use super::NotANumber::*;
    use super::*;

    #[test]
    fn whole_numbers_follow_strtol() {
        let parse = |text| parse_int(text, None, 32);
        assert_eq!(parse("42"), Ok(42));
        assert_eq!(parse(" -7 "), Ok(-7));
        assert_eq!(parse("0777"), Ok(0o777));
        assert_eq!(parse("0x1F"), Ok(31));
        assert_eq!(parse("1e3"), Ok(1000));
        assert_eq!(parse("2.5"), Ok(2), "half to even");
        assert_eq!(parse("3.5"), Ok(4));
        assert_eq!(parse(".5"), Ok(0));
        assert_eq!(parse("08"), Err(BadUnit), "octal ends before the 8");
        assert_eq!(parse(""), Err(Garbage));
        assert_eq!(parse("abc"), Err(Garbage));
        assert_eq!(parse("."), Err(Garbage));
        assert_eq!(parse("10s"), Err(BadUnit));
        assert_eq!(parse("2147483647"), Ok(i64::from(i32::MAX)));
        assert_eq!(parse("2147483648"), Err(TooLarge));
        assert_eq!(parse("1e400"), Err(TooLarge));
        assert_eq!(parse_int("9223372036854775807", None, 64), Ok(i64::MAX));
        assert_eq!(parse_int("9223372036854775808", None, 64), Err(TooLarge));
    }

    #[test]
    fn units_convert_to_the_base_unit() {
        let parse = |text, unit| parse_int(text, Some(unit), 64);
        assert_eq!(parse("5min", Unit::S), Ok(300));
        assert_eq!(parse("5 min", Unit::S), Ok(300));
        assert_eq!(parse("1.5min", Unit::S), Ok(90));
        assert_eq!(parse("1500ms", Unit::S), Ok(2));
        assert_eq!(parse("500ms", Unit::S), Ok(0), "half to even");
        assert_eq!(parse("1d", Unit::Min), Ok(1440));
        assert_eq!(parse("30.1GB", Unit::B), Ok(30822 << 20), "rounded to whole MB");
        assert_eq!(parse("64MB", Unit::Kb), Ok(65536));
        assert_eq!(parse("512B", Unit::Kb), Ok(0));
        assert_eq!(parse("1536B", Unit::Kb), Ok(2));
        assert_eq!(parse("10KB", Unit::B), Err(BadUnit), "case-sensitive");
        assert_eq!(parse("9999999999TB", Unit::B), Err(TooLarge));
    }

    #[test]
    fn printed_in_the_largest_unit_that_divides() {
        let cases = [
            (300, Unit::S, "5min"),
            (60, Unit::S, "1min"),
            (1440, Unit::Min, "1d"),
            (10240, Unit::Kb, "10MB"),
            (67_108_864, Unit::B, "64MB"),
            (409_600, Unit::B, "400kB"),
            (10, Unit::S, "10s"),
            (0, Unit::S, "0"),
            (-1, Unit::S, "-1"),
        ];
        for (number, unit, expected) in cases {
            assert_eq!(text(number, Some(unit)), expected);
        }
        assert_eq!(text(300, None), "300");
    }

    #[test]
    fn fractional_numbers_are_strict() {
        assert_eq!(parse_double("1.5"), Some(1.5));
        assert_eq!(parse_double(" +.5e1 "), Some(5.0));
        for bad in ["", "1abc", "nan", "inf", "-inf", "x"] {
            assert_eq!(parse_double(bad), None, "{bad}");
        }
    }
}
