//! What servers send.

use super::{Cursor, Malformed, TransactionStatus};

/// Name of a server message, for logs and errors.
pub fn name(kind: u8) -> &'static str {
    match kind {
        b'R' => "AuthenticationRequest",
        b'K' => "BackendKeyData",
        b'S' => "ParameterStatus",
        b'Z' => "ReadyForQuery",
        b'v' => "NegotiateProtocolVersion",
        b'T' => "RowDescription",
        b'D' => "DataRow",
        b'C' => "CommandComplete",
        b'I' => "EmptyQueryResponse",
        b'E' => "ErrorResponse",
        b'N' => "NoticeResponse",
        b'A' => "NotificationResponse",
        b'1' => "ParseComplete",
        b'2' => "BindComplete",
        b'3' => "CloseComplete",
        b't' => "ParameterDescription",
        b'n' => "NoData",
        b's' => "PortalSuspended",
        b'G' => "CopyInResponse",
        b'H' => "CopyOutResponse",
        b'W' => "CopyBothResponse",
        b'd' => "CopyData",
        b'c' => "CopyDone",
        b'V' => "FunctionCallResponse",
        _ => "unknown message",
    }
}

/// Transaction status in ReadyForQuery.
pub fn ready_for_query(content: &[u8]) -> Result<TransactionStatus, Malformed> {
    match content {
        [byte] => TransactionStatus::from_byte(*byte).ok_or(Malformed::Content("ReadyForQuery")),
        _ => Err(Malformed::Content("ReadyForQuery")),
    }
}

/// Name and value in ParameterStatus.
pub fn parameter_status(content: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let mut cursor = Cursor::new(content);
    match (cursor.text(), cursor.text()) {
        (Some(name), Some(value)) => Ok((name, value)),
        _ => Err(Malformed::Content("ParameterStatus")),
    }
}

/// Pid and cancel key in BackendKeyData.
pub fn backend_key_data(content: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let mut cursor = Cursor::new(content);
    match cursor.u32() {
        Some(pid) if (1..=super::startup::MAX_CANCEL_KEY).contains(&cursor.rest().len()) => Ok((pid, cursor.rest())),
        _ => Err(Malformed::Content("BackendKeyData")),
    }
}

/// What a server wants to know of us before it lets us in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication<'a> {
    /// We are in.
    Ok,
    /// A method: its code, and what comes with it.
    Method(u32, &'a [u8]),
}

/// Decodes an authentication request.
pub fn authentication(content: &[u8]) -> Result<Authentication<'_>, Malformed> {
    let mut cursor = Cursor::new(content);
    match cursor.u32() {
        Some(0) => Ok(Authentication::Ok),
        Some(code) => Ok(Authentication::Method(code, cursor.rest())),
        None => Err(Malformed::Content("AuthenticationRequest")),
    }
}

/// Name of an authentication method, for errors.
pub fn authentication_name(code: u32) -> &'static str {
    match code {
        2 => "Kerberos V5",
        3 => "password",
        5 => "md5",
        7 => "GSSAPI",
        9 => "SSPI",
        10 => "SASL (scram-sha-256)",
        _ => "an unknown method",
    }
}

/// Fields of an ErrorResponse or NoticeResponse.
#[derive(Clone, Copy, Debug)]
pub struct ErrorFields<'a>(&'a [u8]);

impl<'a> ErrorFields<'a> {
    /// Over the content of the message.
    pub fn new(content: &'a [u8]) -> Self {
        Self(content)
    }

    /// The field with tag `tag`.
    pub fn get(&self, tag: u8) -> Option<&'a [u8]> {
        let mut cursor = Cursor::new(self.0);
        loop {
            let found = cursor.u8()?;
            if found == 0 {
                return None;
            }
            let text = cursor.text()?;
            if found == tag {
                return Some(text);
            }
        }
    }

    /// Severity, not translated by the server if it tells it (field V, from PostgreSQL 9.6).
    pub fn severity(&self) -> &'a [u8] {
        self.get(b'V').or_else(|| self.get(b'S')).unwrap_or_default()
    }

    /// SQLSTATE.
    pub fn code(&self) -> &'a [u8] {
        self.get(b'C').unwrap_or_default()
    }

    /// The primary message as text.
    pub fn message(&self) -> String {
        String::from_utf8_lossy(self.get(b'M').unwrap_or_default()).into_owned()
    }
}
