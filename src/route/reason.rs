//! Why a statement goes where it goes, in words for an administrator.
//!
//! The texts stand behind `reason:` in the log and in the column of PGPOOL EXPLAIN: one sentence without a full stop, about
//! the statement ("it ...") or the session, that names what decided and, where something can be done, what.

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
    /// A function that changes the state of the session: `set_config()`, advisory locks.
    SessionFunction,
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
    /// The load balance node is the primary itself.
    OnlyHome,
    /// The session holds something that only the primary has.
    Tied,
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
    /// A volatile function.
    WritingFunction(Name),
    /// A function of `write_function_list`.
    ListedFunction(Name),
    /// A function that is not in `read_only_function_list`.
    UnlistedFunction(Name),
    /// A function that does not exist.
    UnknownFunction(Name),
    /// A function that PostgreSQL carries out on a primary only.
    RefusedFunction(Name),
    /// `dml_adaptive`: a table written in this transaction.
    WrittenTable(Name),
    /// `dml_adaptive_global`: a table written lately.
    RecentlyWritten(Name),
    /// `dml_adaptive_global`: not yet known what others have written.
    WritesUnknown,
    /// The load balance node is too far behind.
    Delayed,
    /// A read that stays with the statements or the node it came with.
    Companions,
    /// A read.
    Read,
}

impl Reason {
    /// The objects and parameters that decided: `function f (volatile)`, `parameter load_balance_mode`. Empty when it was
    /// the statement itself or the state of the session.
    pub fn decided_by(&self) -> String {
        let table = |name: &Name, what: &str| format!("table {name} ({what})");
        let function = |name: &Name, what: &str| format!("function {name} ({what})");
        match self {
            Self::Raw | Self::ModeWithoutBalance => "parameter backend_clustering_mode".to_owned(),
            Self::LeadingComment => "parameter allow_sql_comments".to_owned(),
            Self::BalanceOff => "parameter load_balance_mode".to_owned(),
            Self::QueryPattern => "parameter primary_routing_query_pattern_list".to_owned(),
            Self::WroteBefore | Self::WritingTransaction => "parameter disable_load_balance_on_write".to_owned(),
            Self::Delayed => "parameters delay_threshold, delay_threshold_by_time".to_owned(),
            Self::SystemCatalog(name) => table(name, "system catalog"),
            Self::TemporaryTable(name) => table(name, "temporary"),
            Self::UnloggedTable(name) => table(name, "unlogged"),
            Self::UnknownRelation(name) => table(name, "does not exist"),
            Self::WrittenTable(name) => table(name, "written in this transaction"),
            Self::WritingFunction(name) => function(name, "volatile"),
            Self::ListedFunction(name) => function(name, "in write_function_list"),
            Self::UnlistedFunction(name) => function(name, "not in read_only_function_list"),
            Self::UnknownFunction(name) => function(name, "does not exist"),
            Self::RefusedFunction(name) => function(name, "on a primary only"),
            Self::RecentlyWritten(name) => table(name, "written lately"),
            Self::WritesUnknown => "parameter disable_load_balance_on_write".to_owned(),
            _ => String::new(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "backend_clustering_mode is raw: everything goes to the main node",
            Self::ModeWithoutBalance => {
                "backend_clustering_mode is one that is not balanced yet: everything goes to the main node"
            }
            Self::SeveralStatements => "the text holds several statements, which stay together; sent one by one its reads are balanced",
            Self::NotUnderstood(why) => return write!(f, "the text is not understood, so it may write: {why}"),
            Self::NotARead => "it is no read: only SELECT, SHOW and COPY TO STDOUT are balanced",
            Self::Writes => "it writes",
            Self::Locks => "it locks rows (FOR UPDATE, FOR SHARE), which a standby refuses",
            Self::LocksTable => "it locks a table in a mode that a standby refuses",
            Self::TransactionControl => {
                "it controls the transaction: the primary gets it now, another node before its next statement"
            }
            Self::SessionState => {
                "it changes the state of the session: the primary gets it now, another node before its next statement"
            }
            Self::SessionFunction => "it calls a function that changes the state of the session, which the primary keeps",
            Self::AsksSerializable => "it asks for SERIALIZABLE transactions, which a standby refuses",
            Self::AsksReadWrite => "it asks for READ WRITE transactions, which a standby refuses",
            Self::Snapshot => "it imports a snapshot, which exists only on the server that exported it",
            Self::CopyToServer => "it copies to a file or program of the server; COPY TO STDOUT would be balanced",
            Self::PreparedOnPrimary => "what PREPARE makes stays on the primary; what a driver prepares is balanced",
            Self::WherePrepared => "the statement was prepared there",
            Self::UnknownPrepared => "the session has no prepared statement of that name",
            Self::OurOwn => "it is a command for pgpool itself",
            Self::LeadingComment => "it begins with a comment, a blank or VALUES while allow_sql_comments is off",
            Self::BalanceOff => "load_balance_mode is off",
            Self::WroteBefore => "the session has written and disable_load_balance_on_write is always",
            Self::WritingTransaction => {
                "the transaction has written, and disable_load_balance_on_write keeps its reads on the primary since"
            }
            Self::FailedTransaction => "the transaction has failed: only its end is accepted, by ROLLBACK",
            Self::SerializableTransaction => "the transaction is SERIALIZABLE, which a standby refuses",
            Self::IsolationUnknown => "the isolation level of the transaction is not known yet",
            Self::TransactionOnPrimary => {
                "the transaction was begun by a text of several statements, so only the primary has it; send BEGIN alone"
            }
            Self::InTransaction => "it stands inside a transaction, which only the primary has",
            Self::OnlyHome => {
                "the session reads from the primary: no other node was drawn by the weights, or none is attached"
            }
            Self::Tied => {
                "the session has made settings that only the primary has (set_config(), SETs in one text), until DISCARD ALL"
            }
            Self::FactsMissing => "its tables or functions have not been looked up",
            Self::SystemCatalog(name) => return write!(f, "it reads the system catalog {name}"),
            Self::TemporaryTable(name) => {
                return write!(f, "it reads the temporary table {name}, which only the primary has");
            }
            Self::UnloggedTable(name) => {
                return write!(f, "it reads the unlogged table {name}, which a standby cannot read");
            }
            Self::UnknownRelation(name) => {
                return write!(f, "it names the table {name}, which the primary does not have in its search_path");
            }
            Self::QueryPattern => "it matches primary_routing_query_pattern_list",
            Self::WritingFunction(name) => {
                return write!(f, "it calls {name}(), which is VOLATILE and may write; declare it STABLE if it only reads");
            }
            Self::ListedFunction(name) => return write!(f, "it calls {name}(), which is in write_function_list"),
            Self::UnlistedFunction(name) => {
                return write!(f, "it calls {name}(), which is not in read_only_function_list");
            }
            Self::UnknownFunction(name) => return write!(f, "it calls {name}(), which the primary does not have"),
            Self::WrittenTable(name) => {
                return write!(f, "the transaction has written {name} and disable_load_balance_on_write is dml_adaptive");
            }
            Self::RefusedFunction(name) => return write!(f, "it calls {name}(), which PostgreSQL refuses on a standby"),
            Self::RecentlyWritten(name) => {
                return write!(f, "{name} was written so short a while ago that a standby may not have it yet");
            }
            Self::WritesUnknown => {
                "what others write is not known yet, which disable_load_balance_on_write = dml_adaptive_global needs"
            }
            Self::Delayed => {
                "the load balance node is further behind than delay_threshold or delay_threshold_by_time allows"
            }
            Self::Companions => {
                "it is a read, but it goes with the statements of its batch, or the load balance node could not take it"
            }
            Self::Read => "it is a read that the load balance node can answer",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decided_is_named_with_its_kind() {
        let name = || Name::qualified("s", "x");
        for (reason, decided_by) in [
            (Reason::BalanceOff, "parameter load_balance_mode"),
            (Reason::UnloggedTable(name()), "table s.x (unlogged)"),
            (Reason::WritingFunction(name()), "function s.x (volatile)"),
            (Reason::UnlistedFunction(name()), "function s.x (not in read_only_function_list)"),
            (Reason::Read, ""),
            (Reason::Writes, ""),
        ] {
            assert_eq!(reason.decided_by(), decided_by);
        }
    }

    /// Whoever reads the reason finds in it what the column beside it names.
    #[test]
    fn a_sentence_names_what_decided() {
        let name = || Name::bare("x");
        for reason in [
            Reason::Raw,
            Reason::ModeWithoutBalance,
            Reason::LeadingComment,
            Reason::BalanceOff,
            Reason::QueryPattern,
            Reason::WroteBefore,
            Reason::WritingTransaction,
            Reason::Delayed,
            Reason::SystemCatalog(name()),
            Reason::TemporaryTable(name()),
            Reason::UnloggedTable(name()),
            Reason::UnknownRelation(name()),
            Reason::WrittenTable(name()),
            Reason::WritingFunction(name()),
            Reason::ListedFunction(name()),
            Reason::UnlistedFunction(name()),
            Reason::UnknownFunction(name()),
            Reason::RefusedFunction(name()),
            Reason::RecentlyWritten(name()),
            Reason::WritesUnknown,
        ] {
            let (text, decided_by) = (reason.to_string(), reason.decided_by());
            let named = decided_by.split([' ', ',']).filter(|word| word.contains('_') || *word == "x");
            assert!(named.clone().count() > 0, "{decided_by}");
            assert!(named.map(|word| word.trim_matches(['(', ')'])).all(|word| text.contains(word)), "{text}");
            assert!(!text.ends_with('.') && text.len() <= 110, "{text}");
        }
    }
}
