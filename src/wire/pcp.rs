//! PCP, the protocol of administration (pcp 1-5): the requests, and the words inside replies.
//!
//! A PCP frame is a PostgreSQL message: type byte, length, content. [`super::Header`] reads it and [`super::write::message`]
//! writes it, [`super::backend::ErrorFields`] reads the fields of errors and notices, [`super::Cursor`] the texts of the
//! rest. Both sides use this file.

use super::write;

/// First text of a reply that is complete with it, and last frame of a stream of records (pcp 3.3).
pub const COMPLETE: &[u8] = b"CommandComplete";
/// First text of the frame that announces a stream of records.
pub const ARRAY_SIZE: &[u8] = b"ArraySize";
/// First text of a record about a node.
pub const NODE_INFO: &[u8] = b"NodeInfo";
/// First text of a record about a slot of a session process.
pub const PROCESS_INFO: &[u8] = b"ProcessInfo";
/// First text of a record about a parameter.
pub const PROCESS_CONFIG: &[u8] = b"ProcessConfig";
/// Text of the reply to a right answer to the salt.
pub const AUTHENTICATED: &[u8] = b"AuthenticationOK";

/// Type of the reply that carries the salt.
pub const SALT_REPLY: u8 = b'm';
/// Type of the reply to a right answer to the salt.
pub const AUTHENTICATED_REPLY: u8 = b'r';
/// Type of an error.
pub const ERROR: u8 = b'E';
/// Type of a notice; it may come at any time.
pub const NOTICE: u8 = b'N';

/// What node id stands for all nodes, in [`Request::NodeInfo`] and [`Request::WatchdogInfo`].
pub const ALL: i32 = -1;

/// How to stop pgpool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopMode {
    /// When the last session has ended.
    #[default]
    Smart,
    /// Sessions are ended.
    Fast,
    /// Without tidying up.
    Immediate,
}

/// Whom an order reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// This pgpool.
    #[default]
    Local,
    /// Every pgpool of the watchdog cluster.
    Cluster,
}

/// A request of a client (pcp 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Asks for a salt.
    Salt,
    /// The answer to the salt; `hash` is 32 hexadecimal digits (pcp 2.3).
    Authenticate {
        /// User of pcp.conf.
        user: &'a [u8],
        /// The hash.
        hash: &'a [u8],
    },
    /// Says goodbye; there is no reply.
    Disconnect,
    /// How many nodes there are.
    NodeCount,
    /// About this node, or [`ALL`].
    NodeInfo(i32),
    /// Process ids of the session processes.
    ProcessCount,
    /// About the session process with this id; 0: all.
    ProcessInfo(i32),
    /// The parameters.
    PoolStatus,
    /// Figures of the health check of this node.
    HealthCheckStats(i32),
    /// About this node of the watchdog cluster, or [`ALL`].
    WatchdogInfo(i32),
    /// Takes this node into service.
    Attach(i32),
    /// Takes this node out of service.
    Detach {
        /// Node id.
        node: i32,
        /// Only when all sessions have ended.
        gracefully: bool,
    },
    /// Makes this node the primary.
    Promote {
        /// Node id.
        node: i32,
        /// Only when all sessions have ended.
        gracefully: bool,
        /// The server is promoted; otherwise only pgpool's view of it changes.
        switchover: bool,
    },
    /// Makes a standby of this node anew (online recovery).
    Recover(i32),
    /// Stops pgpool.
    Stop(StopMode, Scope),
    /// Reads the files of the configuration again.
    Reload(Scope),
    /// Begins a new log file.
    RotateLog(Scope),
    /// Empties the query cache.
    InvalidateCache,
}

impl Request<'_> {
    /// The type byte.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Salt => b'M',
            Self::Authenticate { .. } => b'R',
            Self::Disconnect => b'X',
            Self::NodeCount => b'L',
            Self::NodeInfo(_) => b'I',
            Self::ProcessCount => b'N',
            Self::ProcessInfo(_) => b'P',
            Self::PoolStatus => b'B',
            Self::HealthCheckStats(_) => b'H',
            Self::WatchdogInfo(_) => b'W',
            Self::Attach(_) => b'C',
            Self::Detach { gracefully: false, .. } => b'D',
            Self::Detach { gracefully: true, .. } => b'd',
            Self::Promote { gracefully: false, .. } => b'J',
            Self::Promote { gracefully: true, .. } => b'j',
            Self::Recover(_) => b'O',
            Self::Stop(_, Scope::Local) => b'T',
            Self::Stop(_, Scope::Cluster) => b't',
            Self::Reload(_) => b'Z',
            Self::RotateLog(_) => b'V',
            Self::InvalidateCache => b'G',
        }
    }

    /// The type byte of its replies (pcp 8.4); `None` for the one that has none.
    pub fn reply_kind(&self) -> Option<u8> {
        match self {
            Self::Disconnect => None,
            Self::Recover(_) => Some(b'c'),
            Self::Promote { .. } => Some(b'd'),
            other => Some(other.kind().to_ascii_lowercase()),
        }
    }

    /// Appends the request to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write::message(out, self.kind(), |out| match *self {
            Self::Authenticate { user, hash } => {
                for text in [user, hash] {
                    out.extend_from_slice(text);
                    out.push(0);
                }
            }
            Self::NodeInfo(id)
            | Self::ProcessInfo(id)
            | Self::HealthCheckStats(id)
            | Self::WatchdogInfo(id)
            | Self::Attach(id)
            | Self::Detach { node: id, .. }
            | Self::Recover(id) => out.extend_from_slice(format!("{id}\0").as_bytes()),
            Self::Promote { node, switchover, .. } => {
                out.extend_from_slice(format!("{node} \0{}", if switchover { 's' } else { 'n' }).as_bytes());
            }
            Self::Stop(mode, _) => out.push(match mode {
                StopMode::Smart => b's',
                StopMode::Fast => b'f',
                StopMode::Immediate => b'i',
            }),
            Self::Reload(scope) | Self::RotateLog(scope) => out.push(match scope {
                Scope::Local => b'l',
                Scope::Cluster => b'c',
            }),
            Self::Salt
            | Self::Disconnect
            | Self::NodeCount
            | Self::ProcessCount
            | Self::PoolStatus
            | Self::InvalidateCache => {}
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(request: Request<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        request.write(&mut out);
        out
    }

    /// The bytes of pcp 10.
    #[test]
    fn requests_as_observed() {
        let hash = b"60304671a2939999810fd6d3fdf9e920";
        let cases: [(Request, &[u8]); 15] = [
            (Request::Salt, b"M\0\0\0\x04"),
            (
                Request::Authenticate { user: b"pgpool", hash },
                b"R\0\0\0\x2cpgpool\x0060304671a2939999810fd6d3fdf9e920\0",
            ),
            (Request::NodeInfo(ALL), b"I\0\0\0\x07-1\0"),
            (Request::Disconnect, b"X\0\0\0\x04"),
            (Request::NodeCount, b"L\0\0\0\x04"),
            (Request::ProcessCount, b"N\0\0\0\x04"),
            (Request::ProcessInfo(0), b"P\0\0\0\x060\0"),
            (Request::HealthCheckStats(1), b"H\0\0\0\x061\0"),
            (Request::PoolStatus, b"B\0\0\0\x04"),
            (Request::Detach { node: 1, gracefully: false }, b"D\0\0\0\x061\0"),
            (Request::Promote { node: 1, gracefully: false, switchover: true }, b"J\0\0\0\x081 \0s"),
            (Request::Promote { node: 10, gracefully: false, switchover: false }, b"J\0\0\0\x0910 \0n"),
            (Request::Stop(StopMode::Fast, Scope::Local), b"T\0\0\0\x05f"),
            (Request::Reload(Scope::Local), b"Z\0\0\0\x05l"),
            (Request::RotateLog(Scope::Cluster), b"V\0\0\0\x05c"),
        ];
        for (request, bytes) in cases {
            assert_eq!(written(request), bytes, "{request:?}");
        }
    }

    #[test]
    fn replies_have_the_letter_of_their_request_with_exceptions() {
        let gracefully = true;
        assert_eq!(Request::HealthCheckStats(0).reply_kind(), Some(b'h'));
        assert_eq!(Request::Recover(0).reply_kind(), Some(b'c'));
        assert_eq!(Request::Promote { node: 0, gracefully, switchover: false }.reply_kind(), Some(b'd'));
        assert_eq!(Request::Detach { node: 0, gracefully }.reply_kind(), Some(b'd'));
        assert_eq!(Request::Stop(StopMode::Smart, Scope::Cluster).reply_kind(), Some(b't'));
        assert_eq!(Request::Disconnect.reply_kind(), None);
    }
}
