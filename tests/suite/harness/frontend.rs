//! Builders of client messages. Join several with `concat`: `[parse("", sql, &[]), sync()].concat()`.

/// Code of the SSLRequest and of the CancelRequest, in place of a protocol version.
pub const SSL_REQUEST: u32 = 80_877_103;
pub const CANCEL_REQUEST: u32 = 80_877_102;

/// A message with its kind and length.
pub fn message(kind: char, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind as u8];
    bytes.extend((body.len() as u32 + 4).to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A packet of the startup phase: length, code, body.
pub fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (body.len() as u32 + 8).to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

/// A startup packet of protocol 3.`minor`.
pub fn startup(minor: u16, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, value) in parameters {
        body.extend(string(name));
        body.extend(string(value));
    }
    body.push(0);
    packet(3 << 16 | u32::from(minor), &body)
}

pub fn cancel(pid: u32, key: &[u8]) -> Vec<u8> {
    packet(CANCEL_REQUEST, &[&pid.to_be_bytes(), key].concat())
}

pub fn query(sql: &str) -> Vec<u8> {
    message('Q', &string(sql))
}

/// Parse, with the types of the first parameters.
pub fn parse(statement: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = [string(statement), string(sql), (types.len() as u16).to_be_bytes().to_vec()].concat();
    types.iter().for_each(|oid| body.extend(oid.to_be_bytes()));
    message('P', &body)
}

/// Bind with parameters in text format; results in text format.
pub fn bind(portal: &str, statement: &str, values: &[Option<&str>]) -> Vec<u8> {
    let mut body = [string(portal), string(statement)].concat();
    body.extend(0u16.to_be_bytes());
    body.extend((values.len() as u16).to_be_bytes());
    for value in values {
        match value {
            Some(value) => {
                body.extend((value.len() as u32).to_be_bytes());
                body.extend(value.as_bytes());
            }
            None => body.extend((-1i32).to_be_bytes()),
        }
    }
    body.extend(0u16.to_be_bytes());
    message('B', &body)
}

pub fn describe_statement(name: &str) -> Vec<u8> {
    named('D', 'S', name)
}

pub fn describe_portal(name: &str) -> Vec<u8> {
    named('D', 'P', name)
}

pub fn close_statement(name: &str) -> Vec<u8> {
    named('C', 'S', name)
}

pub fn close_portal(name: &str) -> Vec<u8> {
    named('C', 'P', name)
}

/// Execute at most `limit` rows; 0 is all.
pub fn execute(portal: &str, limit: u32) -> Vec<u8> {
    message('E', &[string(portal), limit.to_be_bytes().to_vec()].concat())
}

/// Parse, Bind and Execute of an unnamed statement without parameters.
pub fn run(sql: &str) -> Vec<u8> {
    [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat()
}

pub fn sync() -> Vec<u8> {
    message('S', b"")
}

pub fn flush() -> Vec<u8> {
    message('H', b"")
}

pub fn terminate() -> Vec<u8> {
    message('X', b"")
}

pub fn copy_data(data: &[u8]) -> Vec<u8> {
    message('d', data)
}

pub fn copy_done() -> Vec<u8> {
    message('c', b"")
}

pub fn copy_fail(why: &str) -> Vec<u8> {
    message('f', &string(why))
}

/// FunctionCall with text arguments and a text result.
pub fn function_call(function: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = function.to_be_bytes().to_vec();
    body.extend(0u16.to_be_bytes());
    body.extend((arguments.len() as u16).to_be_bytes());
    for argument in arguments {
        body.extend((argument.len() as u32).to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend(0u16.to_be_bytes());
    message('F', &body)
}

fn named(kind: char, what: char, name: &str) -> Vec<u8> {
    message(kind, &[vec![what as u8], string(name)].concat())
}

fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}
