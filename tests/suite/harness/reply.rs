//! What a server answers: messages and what can be read from them.

use std::fmt;

/// One message from the server.
#[derive(Clone, PartialEq)]
pub struct Message {
    pub kind: u8,
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse, such as `C` for the SQLSTATE.
    pub fn field(&self, code: char) -> Option<String> {
        let mut fields = self.body.split(|&byte| byte == 0);
        fields.find(|field| field.first() == Some(&(code as u8))).map(|field| text(&field[1..]))
    }

    /// The values of a DataRow; None is NULL.
    pub fn values(&self) -> Vec<Option<String>> {
        assert_eq!(self.kind, b'D', "not a DataRow: {self:?}");
        let mut rest = &self.body[2..];
        (0..u16::from_be_bytes([self.body[0], self.body[1]]))
            .map(|_| {
                let (length, after) = rest.split_at(4);
                let length = i32::from_be_bytes(length.try_into().expect("four bytes"));
                rest = after;
                (length >= 0).then(|| {
                    let (value, after) = rest.split_at(length as usize);
                    rest = after;
                    text(value)
                })
            })
            .collect()
    }

    /// The zero-terminated strings of the body: a command tag, a parameter and its value, a notification.
    pub fn strings(&self) -> Vec<String> {
        self.body.split(|&byte| byte == 0).map(text).collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(200)];
        let body = text(shown).escape_debug().to_string();
        write!(f, "{}({} bytes: {body})", self.kind as char, self.body.len())
    }
}

/// The messages of an answer, usually up to and including ReadyForQuery.
#[derive(Clone, Debug)]
pub struct Reply(pub Vec<Message>);

impl Reply {
    /// The kinds of all messages in order, such as `TDDCZ`.
    pub fn kinds(&self) -> String {
        self.0.iter().map(|message| message.kind as char).collect()
    }

    /// All messages of one kind.
    pub fn all(&self, kind: char) -> impl Iterator<Item = &Message> {
        self.0.iter().filter(move |message| message.kind == kind as u8)
    }

    pub fn rows(&self) -> Vec<Vec<Option<String>>> {
        self.all('D').map(Message::values).collect()
    }

    /// The first column of all rows; NULL is an empty string.
    pub fn column(&self) -> Vec<String> {
        self.rows().into_iter().map(|row| row.into_iter().next().flatten().unwrap_or_default()).collect()
    }

    pub fn first_value(&self) -> Option<String> {
        self.column().into_iter().next()
    }

    /// The command tags, such as `INSERT 0 1`.
    pub fn tags(&self) -> Vec<String> {
        self.all('C').map(|message| message.strings()[0].clone()).collect()
    }

    /// The first ErrorResponse.
    pub fn error(&self) -> Option<&Message> {
        self.all('E').next()
    }

    /// The SQLSTATE of the first error; empty when there is none.
    pub fn sqlstate(&self) -> String {
        self.error().and_then(|error| error.field('C')).unwrap_or_default()
    }

    /// The transaction state of the last ReadyForQuery: `I`, `T` or `E`.
    pub fn state(&self) -> char {
        self.all('Z').last().and_then(|ready| ready.body.first()).map_or('?', |&state| state as char)
    }

    /// Fails the test when there is an error.
    #[track_caller]
    pub fn succeeded(self) -> Reply {
        assert!(self.error().is_none(), "unexpected error: {self:?}");
        self
    }
}
