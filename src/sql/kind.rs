//! What kind of statement a text is.

use super::PgpoolCommand;
use std::fmt;

/// The kind of one statement, with the few details that decide where it goes and how a session follows it.
///
/// Names are as the parser folds them: lower case unless quoted.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// No statement: empty text, blanks, comments, a lone `;`.
    Empty,
    /// Text that could not be understood.
    Unparsable(Unparsable),
    /// SELECT, VALUES, TABLE.
    Select,
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
    /// MERGE.
    Merge,
    /// BEGIN, START TRANSACTION.
    Begin(TransactionModes),
    /// COMMIT, END; `chain`: AND CHAIN.
    Commit {
        /// AND CHAIN was given.
        chain: bool,
    },
    /// ROLLBACK, ABORT.
    Rollback {
        /// AND CHAIN was given.
        chain: bool,
    },
    /// SAVEPOINT name.
    Savepoint(Box<str>),
    /// RELEASE SAVEPOINT name.
    Release(Box<str>),
    /// ROLLBACK TO SAVEPOINT name.
    RollbackTo(Box<str>),
    /// PREPARE TRANSACTION.
    PrepareTransaction,
    /// COMMIT PREPARED.
    CommitPrepared,
    /// ROLLBACK PREPARED.
    RollbackPrepared,
    /// SET TRANSACTION modes, and SET SESSION CHARACTERISTICS AS TRANSACTION modes (scope session).
    SetTransaction {
        /// For which transactions.
        scope: VariableScope,
        /// What is set.
        modes: TransactionModes,
    },
    /// SET name, SET LOCAL name, also SET ROLE (`role`), SET SESSION AUTHORIZATION, SET TIME ZONE.
    Set {
        /// SET or SET LOCAL.
        scope: VariableScope,
        /// The parameter.
        name: Box<str>,
        /// The value when it is a single constant; None for DEFAULT, FROM CURRENT and lists.
        value: Option<Box<str>>,
    },
    /// RESET name; None is RESET ALL.
    Reset(Option<Box<str>>),
    /// SET CONSTRAINTS.
    SetConstraints,
    /// SHOW name; `all` for SHOW ALL.
    Show(Box<str>),
    /// DISCARD.
    Discard(DiscardTarget),
    /// PREPARE name AS ...
    Prepare {
        /// Of the prepared statement.
        name: Box<str>,
        /// What it prepares.
        inner: Box<Kind>,
    },
    /// EXECUTE name.
    Execute(Box<str>),
    /// DEALLOCATE name; None is DEALLOCATE ALL.
    Deallocate(Option<Box<str>>),
    /// COPY ... FROM.
    CopyFrom(CopyPeer),
    /// COPY table TO, COPY (query) TO.
    CopyTo {
        /// Where the rows go.
        peer: CopyPeer,
        /// What the parentheses hold; None for a table.
        query: Option<Box<Kind>>,
    },
    /// EXPLAIN.
    Explain {
        /// The option ANALYZE is given and not switched off.
        analyze: bool,
        /// What is explained.
        inner: Box<Kind>,
    },
    /// DECLARE name CURSOR.
    Declare {
        /// Of the cursor.
        name: Box<str>,
        /// WITH HOLD.
        hold: bool,
    },
    /// FETCH, MOVE from the named cursor.
    Fetch(Box<str>),
    /// CLOSE name; None is CLOSE ALL.
    Close(Option<Box<str>>),
    /// LISTEN.
    Listen,
    /// UNLISTEN.
    Unlisten,
    /// NOTIFY.
    Notify,
    /// LOCK TABLE; `writes`: ROW EXCLUSIVE or stronger, which a standby refuses.
    Lock {
        /// The mode is ROW EXCLUSIVE or stronger.
        writes: bool,
    },
    /// CREATE TABLE.
    CreateTable {
        /// TEMPORARY, or in schema pg_temp.
        temporary: bool,
    },
    /// CREATE TABLE AS, CREATE MATERIALIZED VIEW.
    CreateTableAs {
        /// TEMPORARY, or in schema pg_temp.
        temporary: bool,
    },
    /// TRUNCATE.
    Truncate,
    /// DROP of tables, views and the like.
    Drop,
    /// DROP DATABASE name.
    DropDatabase(Box<str>),
    /// CALL.
    Call,
    /// DO.
    Do,
    /// LOAD.
    Load,
    /// CHECKPOINT.
    Checkpoint,
    /// VACUUM, ANALYZE.
    Vacuum,
    /// Every other statement of the grammar: CREATE, ALTER, GRANT, COMMENT, ...
    Ddl,
    /// PGPOOL SHOW, SET, RESET, EXPLAIN: for us, not for a server.
    Pgpool(PgpoolCommand),
}

/// Why a text was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unparsable {
    /// The grammar's error message.
    Syntax(Box<str>),
    /// Longer than [`MAX_ANALYSED`](super::parse::MAX_ANALYSED) bytes.
    TooLong,
    /// More than [`MAX_COMMENTS`](super::parse::MAX_COMMENTS) beginnings of comments.
    Comments,
    /// Bytes that the client encoding makes ambiguous, or that are no valid UTF-8.
    Encoding,
    /// A backslash while `standard_conforming_strings` is off.
    Backslash,
    /// The grammar took it, but its tree holds something unknown.
    UnknownNode,
    /// The parser failed for a reason of its own (out of memory, a defect); not kept in the cache.
    ParserFailed,
}

impl fmt::Display for Unparsable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => f.write_str(message),
            Self::TooLong => write!(f, "longer than {} bytes", super::parse::MAX_ANALYSED),
            Self::Comments => write!(f, "more than {} comments", super::parse::MAX_COMMENTS),
            Self::Encoding => f.write_str("non-ASCII text that is ambiguous or invalid in the client encoding"),
            Self::Backslash => f.write_str("a backslash while standard_conforming_strings is off"),
            Self::UnknownNode => f.write_str("an unknown construct"),
            Self::ParserFailed => f.write_str("the parser failed"),
        }
    }
}

/// Options of BEGIN and SET TRANSACTION. None: not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionModes {
    /// ISOLATION LEVEL.
    pub isolation: Option<Isolation>,
    /// READ ONLY, READ WRITE.
    pub access: Option<AccessMode>,
}

/// Isolation level of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// READ UNCOMMITTED.
    ReadUncommitted,
    /// READ COMMITTED.
    ReadCommitted,
    /// REPEATABLE READ.
    RepeatableRead,
    /// SERIALIZABLE: refused by a hot standby.
    Serializable,
}

impl Isolation {
    /// The level that `name` means, as SHOW transaction_isolation and SET write it, without regard to case.
    pub fn from_name(name: &str) -> Option<Self> {
        let levels = [
            ("read uncommitted", Self::ReadUncommitted),
            ("read committed", Self::ReadCommitted),
            ("repeatable read", Self::RepeatableRead),
            ("serializable", Self::Serializable),
        ];
        levels.into_iter().find(|(level, _)| level.eq_ignore_ascii_case(name)).map(|(_, isolation)| isolation)
    }
}

/// Access mode of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// READ ONLY.
    ReadOnly,
    /// READ WRITE.
    ReadWrite,
}

/// How long a SET lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariableScope {
    /// To the end of the session.
    Session,
    /// To the end of the transaction.
    Transaction,
}

/// What DISCARD discards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiscardTarget {
    /// DISCARD ALL.
    All,
    /// DISCARD PLANS.
    Plans,
    /// DISCARD SEQUENCES.
    Sequences,
    /// DISCARD TEMP.
    Temp,
}

/// The other end of a COPY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyPeer {
    /// STDIN, STDOUT.
    Client,
    /// A file of the server.
    File,
    /// A program on the server.
    Program,
}

/// Classes that per-node statistics count (show-commands 5.7b).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementClass {
    /// `select_cnt`.
    Select,
    /// `insert_cnt`.
    Insert,
    /// `update_cnt`.
    Update,
    /// `delete_cnt`.
    Delete,
    /// `ddl_cnt`: everything without a class of its own.
    Ddl,
    /// `other_cnt`.
    Other,
}

impl Kind {
    /// Whether it asks for SERIALIZABLE transactions, which a hot standby refuses (routing 4.1).
    pub fn asks_serializable(&self) -> bool {
        match self {
            Self::Begin(modes) | Self::SetTransaction { modes, .. } => modes.isolation == Some(Isolation::Serializable),
            Self::Set { name, value: Some(value), .. } => {
                let isolation = ["transaction_isolation", "default_transaction_isolation"];
                isolation.iter().any(|known| known.eq_ignore_ascii_case(name))
                    && Isolation::from_name(value) == Some(Isolation::Serializable)
            }
            _ => false,
        }
    }

    /// Whether it asks for transactions that may write, which a hot standby refuses (routing 4.1). DEFAULT and RESET do.
    pub fn asks_read_write(&self) -> bool {
        match self {
            Self::Begin(modes) | Self::SetTransaction { modes, .. } => modes.access == Some(AccessMode::ReadWrite),
            Self::Set { name, value, .. } => {
                name.eq_ignore_ascii_case("transaction_read_only") && value.as_deref().is_none_or(is_false)
            }
            Self::Reset(Some(name)) => name.eq_ignore_ascii_case("transaction_read_only"),
            _ => false,
        }
    }

    /// Whether what a name means, or what a function may do, can be different afterwards: facts of the catalog that were
    /// learnt before are out of date.
    pub fn changes_catalog(&self) -> bool {
        match self {
            Self::Explain { inner, .. } | Self::Prepare { inner, .. } => inner.changes_catalog(),
            Self::Ddl
            | Self::CreateTable { .. }
            | Self::CreateTableAs { .. }
            | Self::Drop
            | Self::Call
            | Self::Do
            | Self::Unparsable(_) => true,
            _ => false,
        }
    }

    /// The class that statistics count the statement in (show-commands 5.7b).
    pub fn class(&self) -> StatementClass {
        match self {
            Self::Empty | Self::Select => StatementClass::Select,
            Self::Insert => StatementClass::Insert,
            Self::Update => StatementClass::Update,
            Self::Delete | Self::Unparsable(_) => StatementClass::Delete,
            Self::Merge
            | Self::CopyFrom(_)
            | Self::CopyTo { .. }
            | Self::CreateTable { .. }
            | Self::CreateTableAs { .. }
            | Self::Truncate
            | Self::Drop
            | Self::DropDatabase(_)
            | Self::Call
            | Self::Do
            | Self::Declare { .. }
            | Self::Fetch(_)
            | Self::Close(_)
            | Self::SetConstraints
            | Self::Ddl => StatementClass::Ddl,
            _ => StatementClass::Other,
        }
    }
}

/// PostgreSQL's spellings of false: any unambiguous beginning, in any case.
fn is_false(value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    let begins = |word: &str, shortest: usize| value.len() >= shortest && word.starts_with(&value);
    value == "0" || begins("false", 1) || begins("no", 1) || begins("off", 2)
}
