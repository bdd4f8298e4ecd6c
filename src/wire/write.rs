//! Writers: each appends one message to the caller's buffer.

use super::TransactionStatus;

/// Appends a message of type `kind` whose content `content` writes.
pub fn message(out: &mut Vec<u8>, kind: u8, content: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    content(out);
    let length = u32::try_from(out.len() - length_at).unwrap_or(u32::MAX);
    out[length_at..length_at + 4].copy_from_slice(&length.to_be_bytes());
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(text);
    out.push(0);
}

/// Query. `sql` holds no zero byte.
pub fn query(out: &mut Vec<u8>, sql: &[u8]) {
    message(out, b'Q', |out| text(out, sql));
}

/// Parse, Bind, Execute and Sync of one statement with text parameters, none of them NULL, by the unnamed statement and
/// portal. `sql` holds no zero byte.
pub fn query_with(out: &mut Vec<u8>, sql: &[u8], values: &[&[u8]]) {
    message(out, b'P', |out| {
        text(out, b"");
        text(out, sql);
        out.extend(0u16.to_be_bytes());
    });
    message(out, b'B', |out| {
        text(out, b"");
        text(out, b"");
        out.extend(0u16.to_be_bytes());
        out.extend((values.len() as u16).to_be_bytes());
        for value in values {
            out.extend((value.len() as u32).to_be_bytes());
            out.extend_from_slice(value);
        }
        out.extend(0u16.to_be_bytes());
    });
    message(out, b'E', |out| {
        text(out, b"");
        out.extend(0u32.to_be_bytes());
    });
    sync(out);
}

/// Close of a prepared statement.
pub fn close_statement(out: &mut Vec<u8>, name: &[u8]) {
    message(out, b'C', |out| {
        out.push(b'S');
        text(out, name);
    });
}

/// Describe of a prepared statement.
pub fn describe_statement(out: &mut Vec<u8>, name: &[u8]) {
    message(out, b'D', |out| {
        out.push(b'S');
        text(out, name);
    });
}

/// Sync.
pub fn sync(out: &mut Vec<u8>) {
    message(out, b'S', |_| {});
}

/// Flush.
pub fn flush(out: &mut Vec<u8>) {
    message(out, b'H', |_| {});
}

/// Terminate.
pub fn terminate(out: &mut Vec<u8>) {
    message(out, b'X', |_| {});
}

/// CancelRequest, which has no type byte.
pub fn cancel_request(out: &mut Vec<u8>, pid: u32, key: &[u8]) {
    out.extend(((12 + key.len()) as u32).to_be_bytes());
    out.extend(80_877_102u32.to_be_bytes());
    out.extend(pid.to_be_bytes());
    out.extend_from_slice(key);
}

/// A startup packet of protocol 3.0.
pub fn startup(out: &mut Vec<u8>, parameters: &[(&str, &str)]) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend((3u32 << 16).to_be_bytes());
    for (name, value) in parameters {
        text(out, name.as_bytes());
        text(out, value.as_bytes());
    }
    out.push(0);
    let length = (out.len() - start) as u32;
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// AuthenticationOk.
pub fn authentication_ok(out: &mut Vec<u8>) {
    message(out, b'R', |out| out.extend_from_slice(&[0; 4]));
}

/// An authentication request: its code, and what comes with it.
pub fn authentication(out: &mut Vec<u8>, code: u32, data: &[u8]) {
    message(out, b'R', |out| {
        out.extend(code.to_be_bytes());
        out.extend_from_slice(data);
    });
}

/// ParameterStatus.
pub fn parameter_status(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    message(out, b'S', |out| {
        text(out, name);
        text(out, value);
    });
}

/// BackendKeyData.
pub fn backend_key_data(out: &mut Vec<u8>, pid: u32, key: &[u8]) {
    message(out, b'K', |out| {
        out.extend(pid.to_be_bytes());
        out.extend_from_slice(key);
    });
}

/// ReadyForQuery.
pub fn ready_for_query(out: &mut Vec<u8>, status: TransactionStatus) {
    message(out, b'Z', |out| out.push(status.byte()));
}

/// NegotiateProtocolVersion: the newest minor version and the options that are not understood.
pub fn negotiate_protocol_version(out: &mut Vec<u8>, minor: u16, options: &[&[u8]]) {
    message(out, b'v', |out| {
        out.extend((3u32 << 16 | u32::from(minor)).to_be_bytes());
        out.extend((options.len() as u32).to_be_bytes());
        for option in options {
            text(out, option);
        }
    });
}

/// NoticeResponse of severity NOTICE. `message` is in the client's encoding; zero bytes in it are left out.
pub fn notice(out: &mut Vec<u8>, code: &str, message_text: &[u8]) {
    message(out, b'N', |out| {
        for (tag, value) in [(b'S', &b"NOTICE"[..]), (b'V', b"NOTICE"), (b'C', code.as_bytes()), (b'M', message_text)] {
            out.push(tag);
            out.extend(value.iter().filter(|byte| **byte != 0));
            out.push(0);
        }
        out.push(0);
    });
}

/// Type OID of `text`.
const TEXT_OID: u32 = 25;

/// RowDescription of text columns (show-commands 3.1, with the type told).
pub fn row_description<T: AsRef<str>>(out: &mut Vec<u8>, columns: &[T]) {
    row_description_in(out, columns, |_| 0);
}

/// The same, with the format in which the values of each column will come: 0 text, 1 binary. Of text both look the same.
pub fn row_description_in<T: AsRef<str>>(out: &mut Vec<u8>, columns: &[T], format: impl Fn(usize) -> u16) {
    message(out, b'T', |out| {
        out.extend((columns.len() as u16).to_be_bytes());
        for (index, column) in columns.iter().enumerate() {
            text(out, column.as_ref().as_bytes());
            out.extend(0u32.to_be_bytes());
            out.extend((index as u16).to_be_bytes());
            out.extend(TEXT_OID.to_be_bytes());
            out.extend((-1i16).to_be_bytes());
            out.extend((-1i32).to_be_bytes());
            out.extend(format(index).to_be_bytes());
        }
    });
}

/// DataRow of text values, none of them NULL.
pub fn data_row<T: AsRef<str>>(out: &mut Vec<u8>, values: &[T]) {
    message(out, b'D', |out| {
        out.extend((values.len() as u16).to_be_bytes());
        for value in values {
            out.extend((value.as_ref().len() as u32).to_be_bytes());
            out.extend_from_slice(value.as_ref().as_bytes());
        }
    });
}

/// CommandComplete.
pub fn command_complete(out: &mut Vec<u8>, tag: &str) {
    message(out, b'C', |out| text(out, tag.as_bytes()));
}

/// ParseComplete.
pub fn parse_complete(out: &mut Vec<u8>) {
    message(out, b'1', |_| {});
}

/// BindComplete.
pub fn bind_complete(out: &mut Vec<u8>) {
    message(out, b'2', |_| {});
}

/// CloseComplete.
pub fn close_complete(out: &mut Vec<u8>) {
    message(out, b'3', |_| {});
}

/// NoData.
pub fn no_data(out: &mut Vec<u8>) {
    message(out, b'n', |_| {});
}

/// PortalSuspended.
pub fn portal_suspended(out: &mut Vec<u8>) {
    message(out, b's', |_| {});
}

/// ParameterDescription of a statement without parameters.
pub fn no_parameters(out: &mut Vec<u8>) {
    message(out, b't', |out| out.extend_from_slice(&[0; 2]));
}
