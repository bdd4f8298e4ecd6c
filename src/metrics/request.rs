//! What a visitor asks: the head of an HTTP/1 request. Pure; any bytes are safe to read.

use super::response::Status;

/// Bytes of a head at most.
pub(super) const MAX_HEAD: usize = 8192;

/// What the bytes received so far are.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Head<'a> {
    /// The beginning of a request.
    Incomplete,
    /// A request.
    Request(Request<'a>),
    /// Nothing that is answered otherwise.
    Bad(Status),
}

/// A request; what stands behind it is of no interest.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    /// HEAD: everything but the body.
    pub head_only: bool,
    /// Without the part behind `?`.
    pub path: &'a str,
    /// The header of that name.
    pub authorization: Option<&'a str>,
}

/// Reads them.
pub(super) fn parse(bytes: &[u8]) -> Head<'_> {
    let Some(head) = head(bytes) else {
        return if bytes.len() >= MAX_HEAD { Head::Bad(Status::HeadTooLarge) } else { Head::Incomplete };
    };
    if head.len() > MAX_HEAD {
        return Head::Bad(Status::HeadTooLarge);
    }
    let Ok(text) = std::str::from_utf8(head) else { return Head::Bad(Status::BadRequest) };
    let mut lines = text.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Head::Bad(Status::BadRequest);
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Head::Bad(Status::BadRequest);
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Head::Bad(Status::NotAllowed),
    };
    let path = target.split('?').next().unwrap_or_default();
    let header = |line: &'static str| move |(name, _): &(&str, &str)| name.eq_ignore_ascii_case(line);
    let authorization = lines.filter_map(|line| line.split_once(':')).find(header("authorization"));
    Head::Request(Request { head_only, path, authorization: authorization.map(|(_, value)| value.trim()) })
}

/// Everything in front of the empty line.
fn head(bytes: &[u8]) -> Option<&[u8]> {
    let ends = memchr::memchr_iter(b'\n', bytes);
    let mut ends = ends.filter(|at| matches!(bytes.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])));
    ends.next().map(|end| &bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request(text: &str) -> Head<'_> {
        parse(text.as_bytes())
    }

    #[test]
    fn requests_are_read() {
        let plain = Request { head_only: false, path: "/metrics", authorization: None };
        assert_eq!(request("GET /metrics HTTP/1.1\r\nHost: a:1\r\n\r\n"), Head::Request(plain));
        let Head::Request(found) = request("HEAD /x?a=/b HTTP/1.0\nA: b\nAuthorization:  Basic eA== \n\nrest") else {
            panic!("no request")
        };
        assert_eq!(found, Request { head_only: true, path: "/x", authorization: Some("Basic eA==") });
        for half in ["", "GET", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nA: b\r\n\r"] {
            assert_eq!(request(half), Head::Incomplete, "{half:?}");
        }
        for (bad, status) in [
            ("GET /\r\n\r\n", Status::BadRequest),
            ("GET / HTTP/2\r\n\r\n", Status::BadRequest),
            ("GET  / HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("GET http://x/ HTTP/1.1\r\n\r\n", Status::BadRequest),
            ("POST / HTTP/1.1\r\n\r\n", Status::NotAllowed),
            ("\r\n\r\n", Status::BadRequest),
        ] {
            assert_eq!(request(bad), Head::Bad(status), "{bad:?}");
        }
        assert_eq!(parse(&[b'x'; MAX_HEAD]), Head::Bad(Status::HeadTooLarge));
        assert_eq!(parse(b"GET /\xff HTTP/1.1\r\n\r\n"), Head::Bad(Status::BadRequest));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..MAX_HEAD * 2)) {
            prop_assert!(bytes.len() < MAX_HEAD || parse(&bytes) != Head::Incomplete || head(&bytes).is_some());
        }

        #[test]
        fn a_request_is_known_once_it_is_whole(path in "/[a-z/]{0,20}", rest in ".{0,40}") {
            let text = format!("GET {path} HTTP/1.1\r\nA: b\r\n\r\n");
            for end in 0..text.len() {
                prop_assert_eq!(request(&text[..end]), Head::Incomplete);
            }
            let expected = Request { head_only: false, path: &path, authorization: None };
            let text = text + &rest;
            prop_assert_eq!(request(&text), Head::Request(expected));
        }
    }
}
