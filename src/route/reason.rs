//! Why a statement goes where it goes, in words for an administrator.

use std::fmt;

/// The test that decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the text of each says it")]
pub enum Reason {
    Raw,
    ModeWithoutBalance,
    SeveralStatements,
    NotUnderstood,
    NotARead,
    Writes,
    Locks,
    SessionState,
    LeadingComment,
    BalanceOff,
    InTransaction,
    OnlyHome,
    FactsMissing,
    SystemCatalog,
    TemporaryTable,
    UnloggedTable,
    UnknownRelation,
    QueryPattern,
    WritingFunction,
    UnknownFunction,
    Read,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "backend_clustering_mode is raw: everything goes to the main node",
            Self::ModeWithoutBalance => "this clustering mode does not balance yet",
            Self::SeveralStatements => "the text holds several statements",
            Self::NotUnderstood => "the text could not be understood",
            Self::NotARead => "it is not a read",
            Self::Writes => "it writes",
            Self::Locks => "it locks rows",
            Self::SessionState => "it changes the state of the session",
            Self::LeadingComment => "it does not begin with SELECT or WITH and allow_sql_comments is off",
            Self::BalanceOff => "load_balance_mode is off",
            Self::InTransaction => "an explicit transaction is open",
            Self::OnlyHome => "the session has no other node to read from",
            Self::FactsMissing => "its tables or functions are not known yet",
            Self::SystemCatalog => "it reads a system catalog",
            Self::TemporaryTable => "it reads a temporary table",
            Self::UnloggedTable => "it reads an unlogged table",
            Self::UnknownRelation => "it names a relation that does not exist",
            Self::QueryPattern => "it matches primary_routing_query_pattern_list",
            Self::WritingFunction => "it calls a function that may write",
            Self::UnknownFunction => "it calls a function that does not exist",
            Self::Read => "it is a read",
        })
    }
}
