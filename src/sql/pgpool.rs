//! `PGPOOL ...` statements, which PostgreSQL's grammar does not have (config 7.1, 8.1).

use super::text::{skip_ignored, trim_space};

/// A statement for pgpool itself. Names are folded to lower case unless quoted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PgpoolCommand {
    /// `PGPOOL SHOW name`; `all` and group names included.
    Show(Box<str>),
    /// `PGPOOL SET name TO value`; several values are joined with `, `; None is DEFAULT.
    Set {
        /// The parameter.
        name: Box<str>,
        /// The new value.
        value: Option<Box<str>>,
    },
    /// `PGPOOL RESET name`; `all` for RESET ALL.
    Reset(Box<str>),
    /// `PGPOOL SET CACHE DELETE 'query'`.
    DeleteCached(Box<str>),
    /// `PGPOOL EXPLAIN statement`: the bytes behind the word and its white space as they are, whatever they are. Nothing
    /// of them is read here: their comments and semicolons matter to routing.
    Explain(Box<[u8]>),
}

impl PgpoolCommand {
    /// Reads `text` if it begins with the word PGPOOL. None for everything else, also for a PGPOOL statement that is
    /// not well-formed: a server then reports the syntax error.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let rest = skip_ignored(text);
        // Decides nearly every text: cheap for those that are not ours.
        if !rest.get(..6)?.eq_ignore_ascii_case(b"pgpool") {
            return None;
        }
        let mut tokens = Tokens { rest };
        if tokens.next()? != Token::Word("pgpool".into()) {
            return None;
        }
        let command = match tokens.word()?.as_str() {
            "show" => Self::Show(tokens.name()?),
            "reset" => Self::Reset(tokens.name()?),
            "set" => tokens.set()?,
            "explain" => return Some(Self::Explain(trim_space(tokens.rest).into())),
            _ => return None,
        };
        tokens.end().then_some(command)
    }
}

/// Whether `text` may be a statement that pgpool answers itself, by its first word; cheap for those that are not.
#[inline]
pub fn may_be_ours(text: &[u8]) -> bool {
    let begins = |text: &[u8]| {
        let begins_with = |word: &[u8]| text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word));
        begins_with(b"show") || begins_with(b"pgpool")
    };
    match text.first() {
        Some(b'a'..=b'o' | b'q' | b'r' | b't'..=b'z' | b'A'..=b'O' | b'Q' | b'R' | b'T'..=b'Z') => false,
        _ => begins(skip_ignored(text)),
    }
}

/// What stands behind the first statement of `text`, which is SHOW of one name.
pub fn behind_show(text: &[u8]) -> Option<&[u8]> {
    let mut tokens = Tokens { rest: text };
    while tokens.peek() == Some(b';') {
        tokens.next()?;
    }
    (tokens.word()? == "show" && tokens.name_part().is_some() && tokens.next()? == Token::Sign(b';'))
        .then_some(tokens.rest)
}

/// A token of the small grammar.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    /// A bare identifier or keyword, in lower case.
    Word(String),
    /// A quoted identifier.
    Quoted(String),
    /// A string literal.
    Literal(String),
    /// A number, perhaps with a sign and a unit behind it.
    Number(String),
    /// Any other character.
    Sign(u8),
}

/// The tokens of a text, read from its front.
struct Tokens<'a> {
    rest: &'a [u8],
}

impl Tokens<'_> {
    fn next(&mut self) -> Option<Token> {
        self.rest = skip_ignored(self.rest);
        let first = *self.rest.first()?;
        let token = match first {
            b'\'' => Token::Literal(self.quoted(b'\'')?),
            b'"' => Token::Quoted(self.quoted(b'"')?),
            b'+' | b'-' | b'0'..=b'9' => Token::Number(self.run(|byte| byte.is_ascii_alphanumeric() || byte == b'.')?),
            byte if is_name_start(byte) => {
                let mut word = self.run(|byte| is_name_start(byte) || byte.is_ascii_digit() || byte == b'$')?;
                word.make_ascii_lowercase();
                Token::Word(word)
            }
            sign => {
                self.rest = &self.rest[1..];
                Token::Sign(sign)
            }
        };
        Some(token)
    }

    fn word(&mut self) -> Option<String> {
        match self.next()? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// A name, possibly with dots.
    fn name(&mut self) -> Option<Box<str>> {
        let mut name = self.name_part()?;
        while self.peek() == Some(b'.') {
            self.next();
            name.push('.');
            name.push_str(&self.name_part()?);
        }
        Some(name.into())
    }

    fn name_part(&mut self) -> Option<String> {
        match self.next()? {
            Token::Word(name) | Token::Quoted(name) => Some(name),
            _ => None,
        }
    }

    /// What follows PGPOOL SET.
    fn set(&mut self) -> Option<PgpoolCommand> {
        let name = self.name()?;
        match self.next()? {
            Token::Word(word) if word == "delete" && &*name == "cache" => match self.next()? {
                Token::Literal(query) => Some(PgpoolCommand::DeleteCached(query.into())),
                _ => None,
            },
            Token::Word(word) if word == "to" => Some(PgpoolCommand::Set { name, value: self.values()? }),
            Token::Sign(b'=') => Some(PgpoolCommand::Set { name, value: self.values()? }),
            _ => None,
        }
    }

    /// One or more values; None inside is DEFAULT.
    #[expect(clippy::option_option, reason = "no value and the default value are different answers")]
    fn values(&mut self) -> Option<Option<Box<str>>> {
        let mut values = match self.next()? {
            Token::Word(word) if word == "default" => return Some(None),
            token => value(token)?,
        };
        while self.peek() == Some(b',') {
            self.next();
            values.push_str(", ");
            values.push_str(&value(self.next()?)?);
        }
        Some(Some(values.into()))
    }

    /// Nothing but semicolons follows.
    fn end(&mut self) -> bool {
        while let Some(token) = self.next() {
            if token != Token::Sign(b';') {
                return false;
            }
        }
        self.rest.is_empty()
    }

    fn peek(&mut self) -> Option<u8> {
        self.rest = skip_ignored(self.rest);
        self.rest.first().copied()
    }

    /// The first byte, and those after it for which `belongs` holds.
    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> Option<String> {
        let length = 1 + self.rest[1..].iter().take_while(|byte| belongs(**byte)).count();
        let (run, rest) = self.rest.split_at(length);
        self.rest = rest;
        String::from_utf8(run.to_vec()).ok()
    }

    /// Text between `quote`s, where a doubled one stands for itself.
    fn quoted(&mut self, quote: u8) -> Option<String> {
        let mut text = Vec::new();
        let mut rest = &self.rest[1..];
        loop {
            let end = memchr::memchr(quote, rest)?;
            text.extend_from_slice(&rest[..end]);
            rest = &rest[end + 1..];
            if rest.first() != Some(&quote) {
                break;
            }
            text.push(quote);
            rest = &rest[1..];
        }
        self.rest = rest;
        String::from_utf8(text).ok()
    }
}

fn value(token: Token) -> Option<String> {
    match token {
        Token::Word(text) | Token::Quoted(text) | Token::Literal(text) | Token::Number(text) => Some(text),
        Token::Sign(_) => None,
    }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::PgpoolCommand::{self, *};

    fn set(name: &str, value: Option<&str>) -> PgpoolCommand {
        Set { name: name.into(), value: value.map(Into::into) }
    }

    #[test]
    fn commands_are_read() {
        for (text, command) in [
            ("PGPOOL SHOW ALL", Show("all".into())),
            (" /* x */ pgpool show \"delegate_IP\" ;", Show("delegate_IP".into())),
            ("pgpool show a.b", Show("a.b".into())),
            ("PGPOOL RESET log_statement", Reset("log_statement".into())),
            ("PGPOOL SET client_idle_limit TO 30", set("client_idle_limit", Some("30"))),
            ("PGPOOL SET client_idle_limit = '5min'", set("client_idle_limit", Some("5min"))),
            ("pgpool set a=-1", set("a", Some("-1"))),
            ("PGPOOL SET a TO default", set("a", None)),
            ("PGPOOL SET a TO x, 'it''s',2", set("a", Some("x, it's, 2"))),
            ("PGPOOL SET CACHE DELETE 'select 1';", DeleteCached("select 1".into())),
            ("PGPOOL SET cache = on", set("cache", Some("on"))),
        ] {
            assert_eq!(PgpoolCommand::read(text.as_bytes()), Some(command), "{text}");
        }
    }

    #[test]
    fn the_first_word_tells() {
        for text in ["show pool_nodes", " /* x */ SHOW x", "-- x\nPgPool show all", "pgpool"] {
            assert!(super::may_be_ours(text.as_bytes()), "{text}");
        }
        for text in ["select 1", "sho", "", "/* show", "SELECT 'show'", "(show x)", "set x = 1", "prepare x as show y"]
        {
            assert!(!super::may_be_ours(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn a_text_goes_on_behind_show() {
        for (text, rest) in [
            ("SHOW pool_nodes; SELECT ';'", Some(" SELECT ';'")),
            (" ; /* ; */ show \"pool_nodes\" -- ;\n ;SHOW x", Some("SHOW x")),
            ("SHOW pool_nodes", None),
            ("SELECT 1; SHOW x", None),
            ("SHOW TIME ZONE; SELECT 1", None),
        ] {
            assert_eq!(super::behind_show(text.as_bytes()), rest.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn what_is_explained_is_taken_verbatim() {
        for (text, statement) in [
            ("PGPOOL EXPLAIN SELECT 1", "SELECT 1"),
            ("/* a */ pgpool -- b\n explain\t\n SELECT 'it''s' ;", "SELECT 'it''s' ;"),
            ("PGPOOL EXPLAIN /* NO LOAD BALANCE */ SELECT 1 -- c", "/* NO LOAD BALANCE */ SELECT 1 -- c"),
            ("PGPOOL EXPLAIN SELECT \"a;b\", $$'$$; SELECT 'open", "SELECT \"a;b\", $$'$$; SELECT 'open"),
            ("PGPOOL EXPLAIN(SELECT 1)", "(SELECT 1)"),
            ("PGPOOL EXPLAIN PGPOOL EXPLAIN x", "PGPOOL EXPLAIN x"),
            ("PGPOOL EXPLAIN", ""),
            ("PGPOOL EXPLAIN ;", ";"),
        ] {
            assert_eq!(PgpoolCommand::read(text.as_bytes()), Some(Explain(statement.as_bytes().into())), "{text}");
        }
        let latin1 = b"PGPOOL EXPLAIN SELECT '\xe4\0'";
        assert_eq!(PgpoolCommand::read(latin1), Some(Explain(b"SELECT '\xe4\0'".as_slice().into())));
    }

    #[test]
    fn everything_else_is_left_to_a_server() {
        for text in [
            "select 1",
            "pgpool",
            "pgpool_x show all",
            "PGPOOL SHOW",
            "PGPOOL SHOW all more",
            "PGPOOL SET a",
            "PGPOOL SET a TO",
            "PGPOOL SET a TO 'open",
            "PGPOOL SET CACHE DELETE x",
            "PGPOOL RESET 5",
            "PGPOOL EXPLAINS x",
            "PGPOOL \"explain\" x",
            "PGPOOL 'explain' x",
            "PGPOOL SHOW all; select 1",
            "PGPOOL SHOW \u{0}",
        ] {
            assert_eq!(PgpoolCommand::read(text.as_bytes()), None, "{text}");
        }
    }
}
