//! How the server will read the bytes of a statement.

/// What decides, besides the bytes themselves, how a server splits a text into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lexing {
    /// The session's `client_encoding`.
    pub encoding: Encoding,
    /// The session's `standard_conforming_strings`: backslashes in plain literals are ordinary characters.
    pub standard_conforming_strings: bool,
}

impl Default for Lexing {
    /// UTF-8 and standard strings, as PostgreSQL's own defaults.
    fn default() -> Self {
        Self { encoding: Encoding::Utf8, standard_conforming_strings: true }
    }
}

/// What a client encoding means for finding the end of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// UTF-8.
    Utf8,
    /// Bytes below 0x80 are always the ASCII characters, as in every encoding a server may have.
    AsciiSuperset,
    /// Bytes below 0x80 may be the second half of a character (SJIS, BIG5, GBK, ...), or the encoding is not known.
    Ambiguous,
}

impl Encoding {
    /// Classifies the value of the parameter `client_encoding`, in any of PostgreSQL's spellings.
    pub fn from_name(name: &str) -> Self {
        let folded: String = name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect();
        match folded.as_str() {
            "utf8" | "unicode" => Self::Utf8,
            "sqlascii" | "eucjp" | "eucjis2004" | "euccn" | "euckr" | "euctw" | "koi8" | "koi8r" | "koi8u" | "abc"
            | "alt" | "tcvn" | "tcvn5712" | "vscii" | "muleinternal" => Self::AsciiSuperset,
            name if ["latin", "iso8859", "win", "windows"].iter().any(|family| {
                name.strip_prefix(family).is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()))
            }) =>
            {
                // Windows code pages of East Asia are the ambiguous encodings under another name.
                match name {
                    "win932" | "windows932" | "win936" | "windows936" | "win949" | "windows949" | "win950"
                    | "windows950" => Self::Ambiguous,
                    _ => Self::AsciiSuperset,
                }
            }
            _ => Self::Ambiguous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Encoding::{self, *};

    #[test]
    fn names_are_read_in_every_spelling() {
        let expected = [
            ("UTF8", Utf8),
            ("utf-8", Utf8),
            ("UNICODE", Utf8),
            ("LATIN1", AsciiSuperset),
            ("iso_8859_5", AsciiSuperset),
            ("WIN1252", AsciiSuperset),
            ("EUC_JIS_2004", AsciiSuperset),
            ("SQL_ASCII", AsciiSuperset),
            ("SJIS", Ambiguous),
            ("SHIFT_JIS_2004", Ambiguous),
            ("GB18030", Ambiguous),
            ("WIN950", Ambiguous),
            ("JOHAB", Ambiguous),
            ("something new", Ambiguous),
        ];
        for (name, encoding) in expected {
            assert_eq!(Encoding::from_name(name), encoding, "{name}");
        }
    }
}
