//! What the two programs that make entries of pool_passwd are asked on their command lines (tools 5, 6).

use super::getopt::{Long, Reader};
use super::{EXIT_USAGE, complain, say};
use std::ffi::{OsStr, OsString};

/// What is asked of the program.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// The name it was called by.
    pub program: OsString,
    /// Ask for the password.
    pub prompt: bool,
    /// Ask for the key.
    pub prompt_for_key: bool,
    /// Read the password from standard input.
    pub stdin: bool,
    /// Write an entry of pool_passwd.
    pub update: bool,
    pub user: Option<OsString>,
    pub key: Option<OsString>,
    pub key_file: Option<OsString>,
    /// pgpool.conf.
    pub config: Option<OsString>,
    /// A file of users and passwords.
    pub pairs: Option<OsString>,
    /// The first word that is no option.
    pub operand: Option<OsString>,
}

impl Options {
    /// Reads `arguments`, the first of which is the program's name, of a program that knows these options.
    ///
    /// # Errors
    /// The exit status, when there is nothing more to do: the usage has been told.
    pub fn read(
        arguments: impl IntoIterator<Item = OsString>,
        short: &str,
        long: &[Long],
        usage: fn(&OsStr) -> String,
    ) -> Result<Self, i32> {
        let mut arguments = arguments.into_iter().peekable();
        let program = arguments.peek().cloned().unwrap_or_default();
        let mut reader = Reader::new(arguments, short, long);
        let mut options = Self { program, ..Self::default() };
        loop {
            let (letter, value) = match reader.next() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(message) => {
                    complain(message);
                    say(usage(&options.program));
                    return Err(EXIT_USAGE);
                }
            };
            match letter {
                b'p' => options.prompt = true,
                b'P' => options.prompt_for_key = true,
                b's' => options.stdin = true,
                b'm' => options.update = true,
                b'u' => options.user = value,
                b'K' => options.key = value,
                b'k' => options.key_file = value,
                b'f' => options.config = value,
                b'i' => options.pairs = value,
                _ => {
                    say(usage(&options.program));
                    return Err(0);
                }
            }
        }
        options.operand = reader.operands.into_iter().next();
        Ok(options)
    }
}
