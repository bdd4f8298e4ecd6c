//! Short names of reasons, for counting them.

use super::Reason;

/// Declares them: `variant => name`.
macro_rules! labels {
    ($($variant:ident $(($data:pat))? => $label:literal,)*) => {
        enum Label {
            $($variant,)*
        }

        impl Reason {
            /// The names of all reasons; where one stands is [`Reason::index`].
            pub const LABELS: &'static [&'static str] = &[$($label,)*];

            /// Which one it is, whatever it names.
            #[inline]
            pub fn index(&self) -> usize {
                let label = match self {
                    $(Self::$variant $(($data))? => Label::$variant,)*
                };
                label as usize
            }
        }
    };
}

labels! {
    Raw => "raw",
    ModeWithoutBalance => "mode_without_balance",
    SeveralStatements => "several_statements",
    NotUnderstood(_) => "not_understood",
    NotARead => "not_a_read",
    Writes => "writes",
    Locks => "locks_rows",
    LocksTable => "locks_table",
    TransactionControl => "transaction_control",
    SessionState => "session_state",
    SessionFunction => "session_function",
    AsksSerializable => "asks_serializable",
    AsksReadWrite => "asks_read_write",
    Snapshot => "snapshot",
    CopyToServer => "copy_to_server",
    PreparedOnPrimary => "prepared_on_primary",
    WherePrepared => "where_prepared",
    UnknownPrepared => "unknown_prepared",
    OurOwn => "pgpool_command",
    LeadingComment => "leading_comment",
    BalanceOff => "balance_off",
    WroteBefore => "wrote_before",
    WritingTransaction => "writing_transaction",
    FailedTransaction => "failed_transaction",
    SerializableTransaction => "serializable_transaction",
    IsolationUnknown => "isolation_unknown",
    TransactionOnPrimary => "transaction_on_primary",
    InTransaction => "in_transaction",
    OnlyHome => "only_primary",
    Tied => "session_tied",
    FactsMissing => "facts_missing",
    SystemCatalog(_) => "system_catalog",
    TemporaryTable(_) => "temporary_table",
    UnloggedTable(_) => "unlogged_table",
    UnknownRelation(_) => "unknown_relation",
    QueryPattern => "query_pattern",
    WritingFunction(_) => "writing_function",
    ListedFunction(_) => "listed_function",
    UnlistedFunction(_) => "unlisted_function",
    UnknownFunction(_) => "unknown_function",
    RefusedFunction(_) => "refused_function",
    WrittenTable(_) => "written_table",
    RecentlyWritten(_) => "recently_written",
    WritesUnknown => "writes_unknown",
    Delayed => "delayed",
    Companions => "companions",
    Read => "read",
}

const _: () = assert!(Reason::LABELS.len() <= crate::state::MAX_REASONS);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Name;

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let label = |reason: Reason| Reason::LABELS[reason.index()];
        assert_eq!(label(Reason::Raw), "raw");
        assert_eq!(label(Reason::UnloggedTable(Name::bare("x"))), "unlogged_table");
        assert_eq!(label(Reason::Read), "read");
        let mut labels = Reason::LABELS.to_vec();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Reason::LABELS.len());
    }
}
