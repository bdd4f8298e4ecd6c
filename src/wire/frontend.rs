//! What clients send.

use super::{Cursor, Malformed};

/// Name of a client message, for logs and errors.
pub fn name(kind: u8) -> &'static str {
    match kind {
        b'Q' => "Query",
        b'P' => "Parse",
        b'B' => "Bind",
        b'D' => "Describe",
        b'E' => "Execute",
        b'C' => "Close",
        b'S' => "Sync",
        b'H' => "Flush",
        b'F' => "FunctionCall",
        b'd' => "CopyData",
        b'c' => "CopyDone",
        b'f' => "CopyFail",
        b'X' => "Terminate",
        b'p' => "PasswordMessage",
        _ => "unknown message",
    }
}

/// Content of Query: the text without its zero. Texts with a zero inside are malformed.
pub fn query(content: &[u8]) -> Result<&[u8], Malformed> {
    let mut cursor = Cursor::new(content);
    match cursor.text() {
        Some(text) if cursor.rest().is_empty() => Ok(text),
        _ => Err(Malformed::Content("Query")),
    }
}

/// Content of Parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// Name of the statement; empty: the unnamed one.
    pub statement: &'a [u8],
    /// The SQL text.
    pub query: &'a [u8],
}

/// Decodes Parse.
pub fn parse(content: &[u8]) -> Result<Parse<'_>, Malformed> {
    let mut cursor = Cursor::new(content);
    match (cursor.text(), cursor.text()) {
        (Some(statement), Some(query)) => Ok(Parse { statement, query }),
        _ => Err(Malformed::Content("Parse")),
    }
}

/// Names at the beginning of Bind. The content may be incomplete behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// Portal to make; empty: the unnamed one.
    pub portal: &'a [u8],
    /// Statement to use.
    pub statement: &'a [u8],
}

/// Decodes the names of Bind.
pub fn bind(content: &[u8]) -> Result<Bind<'_>, Malformed> {
    let mut cursor = Cursor::new(content);
    match (cursor.text(), cursor.text()) {
        (Some(portal), Some(statement)) => Ok(Bind { portal, statement }),
        _ => Err(Malformed::Content("Bind")),
    }
}

/// What Bind says behind its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindValues {
    /// How many parameter values there are.
    pub parameters: usize,
    /// Format codes of the result columns: none, one for all, or one for each.
    pub formats: Vec<u16>,
}

/// Decodes what comes behind the names of a whole Bind.
pub fn bind_values(content: &[u8]) -> Result<BindValues, Malformed> {
    let values = || {
        let mut cursor = Cursor::new(content);
        cursor.text()?;
        cursor.text()?;
        let formats = cursor.u16()?;
        cursor.take(usize::from(formats) * 2)?;
        let parameters = usize::from(cursor.u16()?);
        for _ in 0..parameters {
            match cursor.u32()? {
                u32::MAX => {}
                length => {
                    cursor.take(length as usize)?;
                }
            }
        }
        let count = usize::from(cursor.u16()?);
        let formats = cursor.take(count * 2)?;
        let formats = formats.chunks_exact(2).map(|code| u16::from_be_bytes([code[0], code[1]])).collect();
        cursor.rest().is_empty().then_some(BindValues { parameters, formats })
    };
    values().ok_or(Malformed::Content("Bind"))
}

/// What Describe and Close speak of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

/// Decodes Describe or Close.
pub fn object<'a>(content: &'a [u8], message: &'static str) -> Result<Object<'a>, Malformed> {
    let mut cursor = Cursor::new(content);
    match (cursor.u8(), cursor.text()) {
        (Some(b'S'), Some(name)) => Ok(Object::Statement(name)),
        (Some(b'P'), Some(name)) => Ok(Object::Portal(name)),
        _ => Err(Malformed::Content(message)),
    }
}

/// Function named by FunctionCall: its OID.
pub fn function_call(content: &[u8]) -> Result<u32, Malformed> {
    Cursor::new(content).u32().ok_or(Malformed::Content("FunctionCall"))
}

/// Portal named by Execute.
pub fn execute(content: &[u8]) -> Result<&[u8], Malformed> {
    Cursor::new(content).text().ok_or(Malformed::Content("Execute"))
}

/// Portal named by a whole Execute, and how many rows it may send at most; 0: all.
pub fn execute_limit(content: &[u8]) -> Result<(&[u8], usize), Malformed> {
    let mut cursor = Cursor::new(content);
    match (cursor.text(), cursor.u32()) {
        // Negative numbers set no limit either.
        (Some(portal), Some(limit)) => Ok((portal, i32::try_from(limit).map_or(0, |limit| limit as usize))),
        _ => Err(Malformed::Content("Execute")),
    }
}
