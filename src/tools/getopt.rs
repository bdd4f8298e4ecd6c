//! Command lines as the GNU C library reads them, message by message: options behind operands, abbreviated long names.
//!
//! Scripts written for the original rely on both, and the crates for command lines know neither.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// A long option.
#[derive(Clone, Copy, Debug)]
pub(super) struct Long {
    /// The name without the hyphens.
    pub name: &'static str,
    /// Whether it takes a value.
    pub takes_value: bool,
    /// The letter that stands for it, whether or not it is a short option.
    pub letter: u8,
}

/// A table entry: name, value or not, letter.
pub(super) const fn long(name: &'static str, takes_value: bool, letter: u8) -> Long {
    Long { name, takes_value, letter }
}

/// A command line being read, one option after the other. What is no option collects in [`Reader::operands`].
#[derive(Debug)]
pub(super) struct Reader<'a> {
    program: String,
    short: &'a str,
    long: &'a [Long],
    rest: VecDeque<OsString>,
    /// Letters of a word such as `-vw` that are still to be read.
    letters: Vec<u8>,
    /// The operands met so far, complete when no option is left.
    pub operands: Vec<OsString>,
}

/// An option: its letter, and its value if it takes one.
pub(super) type Found = (u8, Option<OsString>);

impl<'a> Reader<'a> {
    /// Reads `arguments`, the first of which is the program's name. `short` are the short options, a colon behind those
    /// that take a value.
    pub fn new(arguments: impl IntoIterator<Item = OsString>, short: &'a str, long: &'a [Long]) -> Self {
        let mut rest = arguments.into_iter().collect::<VecDeque<_>>();
        let program = rest.pop_front().unwrap_or_default().to_string_lossy().into_owned();
        Self { program, short, long, rest, letters: Vec::new(), operands: Vec::new() }
    }

    /// The next option; `None` when there is none left.
    ///
    /// # Errors
    /// The C library's message, with the end of the line.
    pub fn next(&mut self) -> Result<Option<Found>, String> {
        if !self.letters.is_empty() {
            return self.short_option().map(Some);
        }
        while let Some(word) = self.rest.pop_front() {
            match word.as_bytes() {
                b"--" => self.operands.extend(self.rest.drain(..)),
                [b'-', b'-', name @ ..] => return self.long_option(name).map(Some),
                [b'-', letters @ ..] if !letters.is_empty() => {
                    self.letters = letters.to_vec();
                    return self.short_option().map(Some);
                }
                _ => self.operands.push(word),
            }
        }
        Ok(None)
    }

    fn short_option(&mut self) -> Result<Found, String> {
        let letter = self.letters.remove(0);
        let takes_value = match self.short.bytes().position(|known| known == letter && known != b':') {
            None => return Err(self.message(format_args!("invalid option -- '{}'", show(&[letter])))),
            Some(at) => self.short.as_bytes().get(at + 1) == Some(&b':'),
        };
        if !takes_value {
            return Ok((letter, None));
        }
        let value = match std::mem::take(&mut self.letters) {
            attached if !attached.is_empty() => Some(OsString::from_vec(attached)),
            _ => self.rest.pop_front(),
        };
        match value {
            Some(value) => Ok((letter, Some(value))),
            None => Err(self.message(format_args!("option requires an argument -- '{}'", show(&[letter])))),
        }
    }

    fn long_option(&mut self, word: &[u8]) -> Result<Found, String> {
        let (name, attached) = match word.iter().position(|byte| *byte == b'=') {
            Some(at) => (&word[..at], Some(OsStr::from_bytes(&word[at + 1..]).to_owned())),
            None => (word, None),
        };
        let option = self.find(name, word)?;
        let value = match (option.takes_value, attached) {
            (false, None) => None,
            (false, Some(_)) => {
                return Err(self.message(format_args!("option '--{}' doesn't allow an argument", option.name)));
            }
            (true, Some(value)) => Some(value),
            (true, None) => match self.rest.pop_front() {
                Some(value) => Some(value),
                None => return Err(self.message(format_args!("option '--{}' requires an argument", option.name))),
            },
        };
        Ok((option.letter, value))
    }

    /// The option of this name, or the only one that begins so.
    fn find(&self, name: &[u8], word: &[u8]) -> Result<Long, String> {
        if let Some(exact) = self.long.iter().find(|option| option.name.as_bytes() == name) {
            return Ok(*exact);
        }
        let similar = self.long.iter().filter(|option| option.name.as_bytes().starts_with(name)).collect::<Vec<_>>();
        let Some((first, others)) = similar.split_first() else {
            return Err(self.message(format_args!("unrecognized option '--{}'", show(word))));
        };
        if others.iter().all(|other| (other.letter, other.takes_value) == (first.letter, first.takes_value)) {
            return Ok(**first);
        }
        let names: String = similar.iter().map(|option| format!(" '--{}'", option.name)).collect();
        Err(self.message(format_args!("option '--{}' is ambiguous; possibilities:{names}", show(word))))
    }

    fn message(&self, text: std::fmt::Arguments<'_>) -> String {
        format!("{}: {text}\n", self.program)
    }
}

fn show(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &[Long] = &[
        long("host", true, b'h'),
        long("no-password", false, b'w'),
        long("node-id", true, b'n'),
        long("all", false, b'a'),
    ];

    /// Options as words such as `h=x`, then the operands; or the message.
    fn read(arguments: &[&str]) -> Result<Vec<String>, String> {
        let arguments = ["prog"].iter().chain(arguments).map(OsString::from);
        let mut reader = Reader::new(arguments, "h:wn:a", LONG);
        let mut found = Vec::new();
        while let Some((letter, value)) = reader.next()? {
            let value = value.map(|value| format!("={}", value.to_string_lossy())).unwrap_or_default();
            found.push(format!("{}{value}", char::from(letter)));
        }
        found.extend(reader.operands.iter().map(|operand| operand.to_string_lossy().into_owned()));
        Ok(found)
    }

    #[test]
    fn all_forms() {
        let cases: [(&[&str], &[&str]); 8] = [
            (&["1", "-h", "x", "2", "-w"], &["h=x", "w", "1", "2"]),
            (&["-wah", "x"], &["w", "a", "h=x"]),
            (&["-wahx", "-"], &["w", "a", "h=x", "-"]),
            (&["--host=x", "--host", "y", "--h="], &["h=x", "h=y", "h="]),
            (&["--no-p", "--nod=3", "--al"], &["w", "n=3", "a"]),
            (&["-w", "--", "-a", "--all"], &["w", "-a", "--all"]),
            (&["-h", "--", "-a"], &["h=--", "a"]),
            (&[], &[]),
        ];
        for (arguments, expected) in cases {
            assert_eq!(read(arguments).expect("read"), expected, "{arguments:?}");
        }
    }

    #[test]
    fn the_messages_of_the_c_library() {
        for (arguments, message) in [
            (&["-x"][..], "invalid option -- 'x'"),
            (&["-w:"], "invalid option -- ':'"),
            (&["-?"], "invalid option -- '?'"),
            (&["-h"], "option requires an argument -- 'h'"),
            (&["--nosuch=1"], "unrecognized option '--nosuch=1'"),
            (&["--no"], "option '--no' is ambiguous; possibilities: '--no-password' '--node-id'"),
            (&["--host"], "option '--host' requires an argument"),
            (&["--al=3"], "option '--all' doesn't allow an argument"),
        ] {
            assert_eq!(read(arguments), Err(format!("prog: {message}\n")), "{arguments:?}");
        }
    }
}
