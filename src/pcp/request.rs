//! What a client asks for (pcp 3.1, 5).

use super::frame::Frame;
use crate::wire::Cursor;

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// `M`: a salt for a login.
    Salt,
    /// `R`: a login.
    Login {
        /// The name, as bytes of whatever encoding.
        user: Vec<u8>,
        /// The answer to the salt.
        answer: Vec<u8>,
    },
    /// `X`: goodbye.
    Disconnect,
    /// `L`.
    NodeCount,
    /// `I`: -1 for all.
    NodeInfo(Number),
    /// `N`.
    ProcessCount,
    /// `P`: a process id, 0 for all.
    ProcessInfo(Number),
    /// `B`.
    PoolStatus,
    /// `H`.
    HealthCheckStats(Number),
    /// `W`: -1 for all.
    WatchdogInfo,
    /// `C`.
    Attach(Number),
    /// `D`, `d`.
    Detach {
        /// The node.
        node: Number,
        /// After the clients have left.
        gracefully: bool,
    },
    /// `J`, `j`.
    Promote {
        /// The node.
        node: Number,
        /// After the clients have left.
        gracefully: bool,
        /// Let `failover_command` promote the server; else only pgpool's view changes.
        switchover: bool,
    },
    /// `O`.
    Recover(Number),
    /// `T`, `t`.
    Stop {
        /// `s`, `f`, `i`, if it is one of them.
        mode: u8,
        /// Every pgpool of the watchdog cluster.
        cluster: bool,
    },
    /// `Z`.
    Reload,
    /// `V`.
    RotateLog,
    /// `G`.
    InvalidateCache,
    /// `A`.
    SetParameter {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// `F`: a request without meaning any more.
    StopRecovery,
}

/// A number as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// The text.
    pub text: String,
    /// What it says, if it is a number.
    pub value: Option<i64>,
}

/// Why a frame is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No request has this type byte.
    Kind(u8),
    /// The payload is not what this request has.
    Payload,
}

impl Request {
    /// Reads a frame.
    ///
    /// # Errors
    /// Its type is unknown, or its payload is not what belongs to the type.
    pub fn parse(frame: Frame<'_>) -> Result<Self, Malformed> {
        let mut payload = Cursor::new(frame.payload);
        let mut text = || payload.text().ok_or(Malformed::Payload);
        let byte = || frame.payload.first().copied().ok_or(Malformed::Payload);
        Ok(match frame.kind {
            b'M' => Self::Salt,
            b'R' => Self::Login { user: text()?.to_vec(), answer: text()?.to_vec() },
            b'X' => Self::Disconnect,
            b'L' => Self::NodeCount,
            b'I' => Self::NodeInfo(Number::read(text()?)?),
            b'N' => Self::ProcessCount,
            b'P' => Self::ProcessInfo(Number::read(text()?)?),
            b'B' => Self::PoolStatus,
            b'H' => Self::HealthCheckStats(Number::read(text()?)?),
            b'W' => Number::read(text()?).map(|_| Self::WatchdogInfo)?,
            b'C' => Self::Attach(Number::read(text()?)?),
            b'D' | b'd' => Self::Detach { node: Number::read(text()?)?, gracefully: frame.kind == b'd' },
            b'J' | b'j' => {
                // The number has a blank behind it, and behind the NUL stands the option; older clients send neither.
                let node = text()?;
                let node = Number::read(node.strip_suffix(b" ").unwrap_or(node))?;
                Self::Promote {
                    node,
                    gracefully: frame.kind == b'j',
                    switchover: payload.rest().first() == Some(&b's'),
                }
            }
            b'O' => Self::Recover(Number::read(text()?)?),
            b'T' | b't' => Self::Stop { mode: byte()?, cluster: frame.kind == b't' },
            b'Z' => byte().map(|_| Self::Reload)?,
            b'V' => byte().map(|_| Self::RotateLog)?,
            b'G' => Self::InvalidateCache,
            b'A' => {
                let mut owned = || text().map(|text| String::from_utf8_lossy(text).into_owned());
                Self::SetParameter { name: owned()?, value: owned()? }
            }
            b'F' => Self::StopRecovery,
            kind => return Err(Malformed::Kind(kind)),
        })
    }

    /// What it orders, in words for the log; `None` if it only asks.
    pub fn order(&self) -> Option<String> {
        let gracefully = |gracefully: bool| if gracefully { ", gracefully" } else { "" };
        Some(match self {
            Self::Attach(node) => format!("attach node {}", node.text),
            Self::Detach { node, gracefully: how } => format!("detach node {}{}", node.text, gracefully(*how)),
            Self::Promote { node, gracefully: how, switchover } => {
                let switchover = if *switchover { " by a switchover" } else { "" };
                format!("promote node {}{switchover}{}", node.text, gracefully(*how))
            }
            Self::Recover(node) => format!("recover node {}", node.text),
            Self::Stop { mode: b's', .. } => "stop, smart".to_owned(),
            Self::Stop { mode: b'f', .. } => "stop, fast".to_owned(),
            Self::Stop { mode: b'i', .. } => "stop, immediate".to_owned(),
            Self::Stop { .. } => "stop".to_owned(),
            Self::Reload => "reload the configuration".to_owned(),
            Self::RotateLog => "rotate the log".to_owned(),
            Self::InvalidateCache => "empty the query cache".to_owned(),
            _ => return None,
        })
    }

    /// What the process title says while it is carried out (process-model 5).
    pub fn title(&self) -> &'static str {
        match self {
            Self::Salt | Self::Login { .. } => "PCP: processing authentication",
            Self::NodeCount => "PCP: processing node count request",
            Self::NodeInfo(_) => "PCP: processing node info request",
            Self::ProcessCount => "PCP: processing process count request",
            Self::ProcessInfo(_) => "PCP: processing process info request",
            Self::PoolStatus => "PCP: processing status request request",
            Self::HealthCheckStats(_) => "PCP: processing health check stats request",
            Self::WatchdogInfo => "PCP: processing watchdog info request",
            Self::Attach(_) => "PCP: processing attach node request",
            Self::Detach { .. } => "PCP: processing detach node request",
            Self::Promote { .. } => "PCP: processing promote node request",
            Self::Recover(_) | Self::StopRecovery => "PCP: processing recovery request",
            Self::Stop { .. } => "PCP: processing shutdown request",
            Self::Reload => "PCP: processing reload config request",
            Self::RotateLog => "PCP: processing log rotation request",
            Self::InvalidateCache => "PCP: processing invalidate query cache request",
            Self::SetParameter { .. } => "PCP: processing set configuration parameter request",
            Self::Disconnect => "PCP: wait for request",
        }
    }
}

impl Number {
    /// Blanks in front and a sign are allowed; anything behind it makes it none.
    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let text = str::from_utf8(bytes).map_err(|_| Malformed::Payload)?;
        Ok(Self { value: text.trim_start().parse().ok(), text: text.to_owned() })
    }

    /// The number as an index below `count`.
    pub fn below(&self, count: usize) -> Option<usize> {
        self.value.and_then(|value| usize::try_from(value).ok()).filter(|index| *index < count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(kind: u8, payload: &[u8]) -> Result<Request, Malformed> {
        Request::parse(Frame { kind, payload })
    }

    fn number(text: &str, value: i64) -> Number {
        Number { text: text.to_owned(), value: Some(value) }
    }

    #[test]
    fn requests_of_real_clients() {
        let login = Request::Login { user: b"pgpool".to_vec(), answer: b"6030".to_vec() };
        assert_eq!(parse(b'R', b"pgpool\x006030\0"), Ok(login));
        assert_eq!(parse(b'I', b"-1\0"), Ok(Request::NodeInfo(number("-1", -1))));
        let promote = |text, value, gracefully, switchover| {
            Ok(Request::Promote { node: number(text, value), gracefully, switchover })
        };
        assert_eq!(parse(b'J', b"1 \0s"), promote("1", 1, false, true));
        assert_eq!(parse(b'j', b"10 \0n"), promote("10", 10, true, false));
        assert_eq!(parse(b'J', b"1\0"), promote("1", 1, false, false));
        assert_eq!(parse(b'T', b"f"), Ok(Request::Stop { mode: b'f', cluster: false }));
        let set = Request::SetParameter { name: "client_min_messages".into(), value: "debug1".into() };
        assert_eq!(parse(b'A', b"client_min_messages\0debug1\0"), Ok(set));
    }

    #[test]
    fn what_lacks_its_payload_or_its_end_is_refused() {
        for kind in *b"IHPWCDdOJjTtVZAR" {
            assert_eq!(parse(kind, b""), Err(Malformed::Payload), "{}", kind as char);
        }
        for kind in *b"IHPWCDdOJjAR" {
            assert_eq!(parse(kind, b"1"), Err(Malformed::Payload), "{}", kind as char);
        }
        assert_eq!(parse(b'A', b"name\0value"), Err(Malformed::Payload));
        assert_eq!(parse(b'K', b"1\0"), Err(Malformed::Kind(b'K')));
    }

    #[test]
    fn a_number_is_one_as_a_whole() {
        let value = |text: &[u8]| Number::read(text).map(|number| number.value);
        assert_eq!((value(b" +7"), value(b"-1"), value(b"007")), (Ok(Some(7)), Ok(Some(-1)), Ok(Some(7))));
        assert_eq!((value(b"abc"), value(b"1x"), value(b"")), (Ok(None), Ok(None), Ok(None)));
        assert_eq!((value(b"99999999999999999999"), value(b"\xff")), (Ok(None), Err(Malformed::Payload)));
        assert_eq!(
            (number("2", 2).below(3), number("3", 3).below(3), number("-1", -1).below(3)),
            (Some(2), None, None)
        );
    }

    proptest! {
        #[test]
        fn no_payload_is_too_odd(kind: u8, payload in prop::collection::vec(any::<u8>(), 0..=255)) {
            if let Ok(request) = parse(kind, &payload) {
                prop_assert!(request.title().starts_with("PCP: "));
            }
        }
    }
}
