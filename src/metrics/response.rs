//! What a visitor gets: an HTTP/1.1 response. The connection ends with it.

use std::rc::Rc;

/// The statuses there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "as in HTTP")]
pub(super) enum Status {
    Ok,
    BadRequest,
    Unauthorized,
    NotFound,
    NotAllowed,
    RequestTimeout,
    TooManyRequests,
    HeadTooLarge,
    Unavailable,
}

impl Status {
    /// Number and phrase.
    fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::Unauthorized => "401 Unauthorized",
            Self::NotFound => "404 Not Found",
            Self::NotAllowed => "405 Method Not Allowed",
            Self::RequestTimeout => "408 Request Timeout",
            Self::TooManyRequests => "429 Too Many Requests",
            Self::HeadTooLarge => "431 Request Header Fields Too Large",
            Self::Unavailable => "503 Service Unavailable",
        }
    }
}

/// The types of bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Plain text.
    Text,
    /// The text format of Prometheus.
    Metrics,
    /// JSON.
    Json,
    /// The page.
    Html,
}

impl Kind {
    fn header(self) -> &'static str {
        match self {
            Self::Text => "text/plain; charset=utf-8",
            Self::Metrics => "text/plain; version=0.0.4; charset=utf-8",
            Self::Json => "application/json",
            Self::Html => "text/html; charset=utf-8",
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub status: Status,
    kind: Kind,
    body: Rc<[u8]>,
    /// The body is kept back: HEAD.
    head_only: bool,
}

impl Answer {
    /// An answer of this kind.
    pub fn new(status: Status, kind: Kind, body: Rc<[u8]>) -> Self {
        Self { status, kind, body, head_only: false }
    }

    /// One line of text.
    pub fn line(status: Status, line: &str) -> Self {
        Self::new(status, Kind::Text, format!("{line}\n").into_bytes().into())
    }

    /// Nothing but the status.
    pub fn refusal(status: Status) -> Self {
        Self::line(status, status.line())
    }

    /// The same for HEAD: its head tells the length of the body, which is not sent.
    pub fn head_only(self) -> Self {
        Self { head_only: true, ..self }
    }

    /// What follows the head.
    pub fn body(&self) -> &[u8] {
        if self.head_only { &[] } else { &self.body }
    }

    /// Everything in front of the body. A browser is told to let the page load nothing from anywhere else.
    pub fn head(&self) -> Vec<u8> {
        let more = match self.status {
            Status::Unauthorized => "WWW-Authenticate: Basic realm=\"pgpool\", charset=\"UTF-8\"\r\n",
            Status::NotAllowed => "Allow: GET, HEAD\r\n",
            Status::TooManyRequests => "Retry-After: 1\r\n",
            _ => "",
        };
        format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
             X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nContent-Security-Policy: default-src 'none'; \
             style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:\r\n{more}\r\n",
            self.status.line(),
            self.kind.header(),
            self.body.len(),
        )
        .into_bytes()
    }
}
