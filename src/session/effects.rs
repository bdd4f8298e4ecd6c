//! What one statement leaves behind in its session, by its facts: what the journal has to keep of it (routing 4.1, 7).

use crate::sql::{DiscardTarget, Isolation, Kind, Statement, TransactionModes, VariableScope};

/// What one statement leaves behind if it succeeds.
#[derive(Debug)]
pub(super) enum Effect {
    /// Nothing that another node must know.
    Nothing,
    /// A setting of the session.
    Setting(Entry),
    /// Something that ends with the transaction block: SET LOCAL, SAVEPOINT, ... It may set the isolation level.
    Local(Entry, Option<Isolation>),
    /// RELEASE of this savepoint.
    Release(Entry, Box<str>),
    /// ROLLBACK TO this savepoint.
    RollbackTo(Entry, Box<str>),
    /// Something in the transaction block that no other node can follow.
    PrimaryOnly,
    /// BEGIN.
    Begin {
        text: Box<[u8]>,
        modes: TransactionModes,
        /// Statements of the same batch stand in front of it: they belong to the transaction.
        is_joined: bool,
    },
    /// COMMIT, ROLLBACK.
    End { chain: bool },
    /// A text of several statements, with transaction control among them or settings.
    Several { control: bool, settings: bool },
    /// A change that cannot be brought to another node.
    Tie,
}

/// A statement to be replayed.
#[derive(Debug)]
pub(super) struct Entry {
    pub text: Box<[u8]>,
    pub scope: Scope,
    /// A later setting with the same key replaces it.
    pub key: Option<Box<str>>,
    /// It makes this savepoint.
    pub savepoint: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// It lives as long as the transaction block.
    Block,
    /// It lives as long as the session.
    Session,
    /// It forgets all prepared statements at once, whatever becomes of the transaction (DEALLOCATE ALL).
    Statements,
    /// It ends all settings (DISCARD ALL).
    Discard,
}

impl Entry {
    pub fn local(text: &[u8]) -> Self {
        Self { text: text.into(), scope: Scope::Block, key: None, savepoint: None }
    }
}

/// What `text`, whose facts these are, leaves behind. `is_joined`: it stands behind others of the same batch.
pub(super) fn effect_of(facts: &Statement, text: &[u8], is_joined: bool) -> Effect {
    if facts.is_multi() {
        let control = facts.kinds().any(is_control);
        let settings =
            facts.kinds().any(|kind| setting(kind, b"").is_some() || names_statement(kind)) || updates_settings(facts);
        let local = facts.kinds().any(is_local);
        return match (control || settings, local) {
            (true, _) => Effect::Several { control, settings },
            (false, true) => Effect::PrimaryOnly,
            (false, false) => Effect::Nothing,
        };
    }
    let kind = &facts.kind;
    // What a standby refuses is kept from it: it only reads.
    let refused = kind.asks_read_write() || kind.asks_serializable();
    let local = |isolation| if refused { Effect::PrimaryOnly } else { Effect::Local(Entry::local(text), isolation) };
    match kind {
        Kind::Begin(modes) => {
            Effect::Begin { text: if refused { b"BEGIN" } else { text }.into(), modes: *modes, is_joined }
        }
        Kind::Commit { chain } | Kind::Rollback { chain } => Effect::End { chain: *chain },
        Kind::PrepareTransaction => Effect::End { chain: false },
        Kind::Savepoint(name) => Effect::Local(Entry { savepoint: Some(name.clone()), ..Entry::local(text) }, None),
        Kind::RollbackTo(name) => Effect::RollbackTo(Entry::local(text), name.clone()),
        Kind::Release(name) => Effect::Release(Entry::local(text), name.clone()),
        Kind::Lock { writes: false } => local(None),
        Kind::SetTransaction { scope: VariableScope::Transaction, modes } => local(modes.isolation),
        Kind::Set { name, .. } if &**name == "transaction_snapshot" => Effect::PrimaryOnly,
        Kind::Set { name, value, .. } if &**name == "transaction_isolation" => {
            local(value.as_deref().and_then(Isolation::from_name))
        }
        Kind::Set { name, .. } if &**name == "transaction_read_only" => local(None),
        Kind::Set { scope: VariableScope::Transaction, .. } => local(None),
        // A standby would accept the setting and then refuse every read.
        _ if kind.asks_serializable() => Effect::Tie,
        _ => match setting(kind, text) {
            Some(entry) => Effect::Setting(entry),
            None if calls_set_config(facts) || updates_settings(facts) => Effect::Tie,
            None => Effect::Nothing,
        },
    }
}

/// A setting of the session, if one is made.
fn setting(kind: &Kind, text: &[u8]) -> Option<Entry> {
    let (scope, key) = match kind {
        Kind::Set { scope: VariableScope::Session, name, .. } | Kind::Reset(Some(name)) => {
            (Scope::Session, Some(name.to_ascii_lowercase().into()))
        }
        // Each may set others of the characteristics.
        Kind::SetTransaction { scope: VariableScope::Session, .. } => {
            (Scope::Session, Some(format!("characteristics: {}", String::from_utf8_lossy(text)).into()))
        }
        Kind::Reset(None) => (Scope::Session, Some("reset all".into())),
        Kind::Deallocate(None) => (Scope::Statements, Some("deallocate all".into())),
        Kind::Discard(DiscardTarget::All) => (Scope::Discard, None),
        _ => return None,
    };
    Some(Entry { text: text.into(), scope, key, savepoint: None })
}

/// Whether a statement leaves something behind that a new primary cannot be given: temporary tables, session locks, LISTEN,
/// held cursors, whatever unknown functions do. Settings and prepared statements are kept and can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Roots {
    No,
    /// If it succeeds: a text that could not be read, and is most often refused.
    IfDone,
    /// Even if it fails: session locks outlive an error.
    Always,
}

/// What `text`, whose facts these are, leaves behind that a new primary cannot be given.
pub(super) fn roots(facts: &Statement, text: &[u8]) -> Roots {
    let is_kept = |kind: &Kind| {
        matches!(
            kind,
            Kind::Set { .. }
                | Kind::SetTransaction { .. }
                | Kind::Reset(_)
                | Kind::Prepare { .. }
                | Kind::Deallocate(_)
                | Kind::Discard(_)
        )
    };
    // From then on everything that is made may be temporary.
    let sets_path = |kind: &Kind| matches!(kind, Kind::Set { name, .. } if name.eq_ignore_ascii_case("search_path"));
    let makes_temporary = || facts.kinds().any(sets_path) && names_temporary(text);
    match facts.has.unknown_functions || (facts.has.session_state && (facts.is_multi() || !is_kept(&facts.kind))) {
        true if matches!(facts.kind, Kind::Unparsable(_)) => Roots::IfDone,
        true => Roots::Always,
        false if makes_temporary() => Roots::IfDone,
        false => Roots::No,
    }
}

/// Whether the schema of temporary objects is named.
pub(super) fn names_temporary(text: &[u8]) -> bool {
    text.windows(b"pg_temp".len()).any(|part| part.eq_ignore_ascii_case(b"pg_temp"))
}

/// The view of all parameters: writing to it sets them.
fn updates_settings(facts: &Statement) -> bool {
    facts.has.modification && facts.writes().any(|relation| &*relation.name == "pg_settings")
}

fn calls_set_config(facts: &Statement) -> bool {
    facts.has.session_state && facts.functions.iter().any(|function| &*function.name == "set_config")
}

fn names_statement(kind: &Kind) -> bool {
    matches!(kind, Kind::Prepare { .. } | Kind::Deallocate(_))
}

/// Whether it leaves something behind in the transaction block only.
fn is_local(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Savepoint(_)
            | Kind::Release(_)
            | Kind::RollbackTo(_)
            | Kind::Set { scope: VariableScope::Transaction, .. }
            | Kind::SetTransaction { scope: VariableScope::Transaction, .. }
    )
}

fn is_control(kind: &Kind) -> bool {
    matches!(kind, Kind::Begin(_) | Kind::Commit { .. } | Kind::Rollback { .. } | Kind::PrepareTransaction)
}
