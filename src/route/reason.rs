//! Why a statement goes where it goes, in words for an administrator.

use crate::sql::{Name, Unparsable};
use std::fmt;

/// The test that decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Clustering mode raw.
    Raw,
    /// A clustering mode whose rules are not there yet.
    ModeWithoutBalance,
    /// A text of several statements.
    SeveralStatements,
    /// Unparsable text.
    NotUnderstood(Unparsable),
    /// A statement of another kind.
    NotARead,
    /// It modifies data, or makes a table.
    Writes,
    /// FOR UPDATE and the like.
    Locks,
    /// LOCK TABLE in a mode that a standby refuses.
    LocksTable,
    /// BEGIN, COMMIT, SAVEPOINT, ...
    TransactionControl,
    /// SET, RESET, DISCARD, ...
    SessionState,
    /// SET ... SERIALIZABLE.
    AsksSerializable,
    /// SET ... READ WRITE.
    AsksReadWrite,
    /// SET TRANSACTION SNAPSHOT.
    Snapshot,
    /// COPY to a file or program of the server.
    CopyToServer,
    /// PREPARE, while prepared statements live on the primary.
    PreparedOnPrimary,
    /// EXECUTE, DEALLOCATE: where the statement was prepared.
    WherePrepared,
    /// EXECUTE, DEALLOCATE of an unknown name.
    UnknownPrepared,
    /// `PGPOOL ...`.
    OurOwn,
    /// The first character rule.
    LeadingComment,
    /// `load_balance_mode` is off.
    BalanceOff,
    /// `disable_load_balance_on_write = always`.
    WroteBefore,
    /// Written in this transaction.
    WritingTransaction,
    /// The transaction has failed.
    FailedTransaction,
    /// SERIALIZABLE transaction.
    SerializableTransaction,
    /// The isolation level is not known yet.
    IsolationUnknown,
    /// The transaction exists on the primary only.
    TransactionOnPrimary,
    /// In a transaction block, which the session does not open on other nodes.
    InTransaction,
    /// There is no other node.
    OnlyHome,
    /// Facts of the catalog are missing.
    FactsMissing,
    /// A relation in `pg_catalog`.
    SystemCatalog(Name),
    /// A temporary table.
    TemporaryTable(Name),
    /// An unlogged table.
    UnloggedTable(Name),
    /// A relation that does not exist.
    UnknownRelation(Name),
    /// `primary_routing_query_pattern_list`.
    QueryPattern,
    /// A volatile function, or one of the lists says so.
    WritingFunction(Name),
    /// A function that does not exist.
    UnknownFunction(Name),
    /// `dml_adaptive`: a table written in this transaction.
    WrittenTable(Name),
    /// The load balance node is too far behind.
    Delayed,
    /// A read.
    Read,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "backend_clustering_mode is raw: everything goes to the main node",
            Self::ModeWithoutBalance => "this clustering mode does not balance yet",
            Self::SeveralStatements => "the text holds several statements",
            Self::NotUnderstood(why) => return write!(f, "the text could not be understood: {why}"),
            Self::NotARead => "only SELECT, SHOW and COPY TO STDOUT are balanced",
            Self::Writes => "it writes",
            Self::Locks => "it locks rows",
            Self::LocksTable => "it locks a table in a mode that a standby refuses",
            Self::TransactionControl => "it controls the transaction",
            Self::SessionState => "it changes the state of the session",
            Self::AsksSerializable => "it asks for serializable transactions, which a standby refuses",
            Self::AsksReadWrite => "it asks for transactions that write, which a standby refuses",
            Self::Snapshot => "a snapshot can be imported only where it was exported",
            Self::CopyToServer => "COPY writes to a file or program of the server",
            Self::PreparedOnPrimary => "statements prepared by PREPARE are kept on the primary",
            Self::WherePrepared => "the statement was prepared there",
            Self::UnknownPrepared => "no statement of that name is known",
            Self::OurOwn => "it is for pgpool itself",
            Self::LeadingComment => "it does not begin with SELECT, WITH or TABLE and allow_sql_comments is off",
            Self::BalanceOff => "load_balance_mode is off",
            Self::WroteBefore => "the session has written and disable_load_balance_on_write is always",
            Self::WritingTransaction => "the transaction has written",
            Self::FailedTransaction => "the transaction has failed",
            Self::SerializableTransaction => "the transaction is serializable, which a standby refuses",
            Self::IsolationUnknown => "the isolation level of the transaction is not known yet",
            Self::TransactionOnPrimary => {
                "the transaction was begun by a text of several statements, on the primary only"
            }
            Self::InTransaction => "an explicit transaction is open",
            Self::OnlyHome => "the session has no other node to read from",
            Self::FactsMissing => "its tables or functions are not known yet",
            Self::SystemCatalog(name) => return write!(f, "it reads the system catalog {name}"),
            Self::TemporaryTable(name) => return write!(f, "it reads the temporary table {name}"),
            Self::UnloggedTable(name) => return write!(f, "it reads the unlogged table {name}"),
            Self::UnknownRelation(name) => return write!(f, "it names the relation {name}, which does not exist"),
            Self::QueryPattern => "it matches primary_routing_query_pattern_list",
            Self::WritingFunction(name) => return write!(f, "it calls {name}(), which may write"),
            Self::UnknownFunction(name) => return write!(f, "it calls {name}(), which does not exist"),
            Self::WrittenTable(name) => return write!(f, "the transaction has written {name}"),
            Self::Delayed => "the load balance node is too far behind the primary",
            Self::Read => "it is a read",
        })
    }
}
