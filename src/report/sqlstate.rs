//! The SQLSTATEs pgpool itself sends (protocol 13.3).

/// A five-character SQLSTATE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

#[allow(missing_docs)]
impl SqlState {
    pub const SUCCESSFUL_COMPLETION: Self = Self(*b"00000");
    pub const CONNECTION_FAILURE: Self = Self(*b"08006");
    pub const UNABLE_TO_ESTABLISH: Self = Self(*b"08001");
    pub const PROTOCOL_VIOLATION: Self = Self(*b"08P01");
    pub const NO_NODE: Self = Self(*b"08S01");
    pub const FEATURE_NOT_SUPPORTED: Self = Self(*b"0A000");
    pub const CHARACTER_NOT_IN_REPERTOIRE: Self = Self(*b"22021");
    pub const INVALID_PARAMETER_VALUE: Self = Self(*b"22023");
    pub const IN_FAILED_TRANSACTION: Self = Self(*b"25P02");
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self(*b"25P03");
    pub const INVALID_STATEMENT_NAME: Self = Self(*b"26000");
    pub const INVALID_AUTHORIZATION: Self = Self(*b"28000");
    pub const INVALID_PASSWORD: Self = Self(*b"28P01");
    pub const INVALID_CURSOR_NAME: Self = Self(*b"34000");
    pub const SERIALIZATION_FAILURE: Self = Self(*b"40001");
    pub const INSUFFICIENT_PRIVILEGE: Self = Self(*b"42501");
    pub const SYNTAX_ERROR: Self = Self(*b"42601");
    pub const DUPLICATE_CURSOR: Self = Self(*b"42P03");
    pub const DUPLICATE_PREPARED_STATEMENT: Self = Self(*b"42P05");
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: Self = Self(*b"55000");
    pub const UNDEFINED_OBJECT: Self = Self(*b"42704");
    pub const PROGRAM_LIMIT_EXCEEDED: Self = Self(*b"54000");
    pub const TOO_MANY_CONNECTIONS: Self = Self(*b"53300");
    pub const OPERATOR_INTERVENTION: Self = Self(*b"57000");
    pub const QUERY_CANCELED: Self = Self(*b"57014");
    pub const ADMIN_SHUTDOWN: Self = Self(*b"57P01");
    pub const CRASH_SHUTDOWN: Self = Self(*b"57P02");
    pub const CANNOT_CONNECT_NOW: Self = Self(*b"57P03");
    pub const INTERNAL_ERROR: Self = Self(*b"XX000");

    /// The code as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// A code received from a server; anything but five ASCII characters is XX000.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match <[u8; 5]>::try_from(bytes) {
            Ok(code) if code.is_ascii() => Self(code),
            _ => Self::INTERNAL_ERROR,
        }
    }
}
