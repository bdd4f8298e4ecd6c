//! What is known of names, and for how long.

mod hidden;
mod sharing;

use super::change::{Change, SessionChange};
use super::hidden::HiddenCalls;
use super::names::{FOR_EVER, Names};
use super::scope::Scope;
use super::tables::{MAX_NAMES, Tables};
use crate::config::Settings;
use crate::report::Report;
use crate::route::{Catalog, Known, RelationKind, Volatility, missing};
use crate::sql::{DiscardTarget, Isolation, Kind, Name, Statement};
use crate::state::{Fingerprint, Shared};
use pgpool_shm::ByteHasher;
use std::collections::HashMap;
use std::rc::Rc;

/// How long a name counts as not existing, in seconds. Statements with such a name go to the primary meanwhile, which is
/// right even if it exists by now.
const ABSENCE: u32 = 10;
/// Scopes for which the shared table has room, and the least it holds.
const SHARED_SCOPES: usize = 16;
const SHARED_MINIMUM: usize = 4096;
const SHARED_MAXIMUM: usize = 1 << 20;

/// How many facts the shared table holds; 0 without `enable_shared_relcache`.
pub fn shared_facts(settings: &Settings) -> usize {
    let size = usize::try_from(settings.relcache_size).unwrap_or(0);
    if !settings.enable_shared_relcache {
        return 0;
    }
    size.saturating_mul(SHARED_SCOPES).clamp(SHARED_MINIMUM, SHARED_MAXIMUM)
}

/// Known facts, used by one session at a time.
#[derive(Debug)]
pub struct Facts {
    shared: Shared,
    /// Scope of sessions as they begin.
    scope: Scope,
    /// Scope of the session now.
    current: Scope,
    /// The generation in which its server connection was made. Later ones may have been given another search path.
    made_in: Option<u32>,
    /// What the connection was given, if that has been asked.
    origin: Option<Fingerprint>,
    /// `relcache_size`: names of each kind.
    size: usize,
    /// `relcache_expire`: seconds that a fact counts.
    life: u32,
    /// The generation that everything here belongs to.
    generation: u32,
    /// How often something that was known has ceased to count.
    losses: u64,
    relations: Names<RelationKind>,
    functions: Names<Volatility>,
    /// The default isolation level, under an empty name.
    isolation: Names<Isolation>,
    /// For the query cache only.
    tables: HashMap<Name, Tables, ByteHasher>,
    /// For the query cache only: what the whole database calls unnamed.
    hidden_calls: Option<Rc<HiddenCalls>>,
    /// That counts for the transaction block only in which it was asked for.
    hidden_calls_pass: bool,
    /// The server has refused to tell of it.
    refusal: Option<Refusal>,
    /// Stamp of the query cache that tables and hidden calls were looked up under.
    tables_stamp: u64,
    session: Session,
    doubt: Doubt,
    told_of_trimming: bool,
    told_of_refusal: bool,
}

/// The server has refused to answer.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    /// When it may be asked again.
    end: u32,
    /// The user must not see it.
    is_forbidden: bool,
}

/// What the session has done to the meaning of names.
#[derive(Debug, Default)]
struct Session {
    /// Its names may mean something of their own.
    private: bool,
    /// It has changed something, and its primary has not come to rest since.
    unsettled: bool,
    /// What it changed concerns all.
    changing: bool,
    /// The scope when the SET search_path under way has succeeded.
    moving: Option<Scope>,
    /// A DISCARD ALL is under way: afterwards the session is as it was when it began.
    restarting: bool,
}

/// Whether names may mean something else since code has run of which nobody knows what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    Open,
    /// And something was learnt meanwhile.
    Learnt,
}

impl Facts {
    /// Nothing known yet, for sessions of this scope on a server connection that was made in the generation `made_in`.
    pub fn new(shared: &Shared, scope: Scope, settings: &Settings, made_in: u32) -> Self {
        let life = u32::try_from(settings.relcache_expire).unwrap_or(FOR_EVER);
        Self {
            generation: shared.relcache().generation(),
            shared: shared.clone(),
            scope,
            current: scope,
            made_in: Some(made_in),
            origin: None,
            size: usize::try_from(settings.relcache_size).unwrap_or(0),
            life: if life == 0 { FOR_EVER } else { life },
            losses: 0,
            relations: Names::default(),
            functions: Names::default(),
            isolation: Names::default(),
            tables: HashMap::default(),
            hidden_calls: None,
            hidden_calls_pass: false,
            refusal: None,
            tables_stamp: 0,
            session: Session::default(),
            doubt: Doubt::None,
            told_of_trimming: false,
            told_of_refusal: false,
        }
    }

    /// Scope of the sessions that may use it.
    pub fn scope(&self) -> Scope {
        self.scope
    }

    /// Drops what does not count any more. To be called before each statement; costs one atomic read, and a look at the
    /// clock if something may have expired. `in_transaction`: a transaction block is open.
    pub fn begin_statement(&mut self, in_transaction: bool) {
        let generation = self.shared.relcache().generation();
        if generation != self.generation {
            self.forget();
            self.generation = generation;
            // The transaction may still see the catalog as it was.
            self.session.unsettled |= in_transaction;
        }
        if self.relations.may_expire() || self.functions.may_expire() || self.isolation.may_expire() {
            self.expire(self.shared.relcache().now());
        }
        let is_trimmed = self.relations.trim(self.size) | self.functions.trim(self.size);
        self.losses += u64::from(is_trimmed);
        if is_trimmed && !self.told_of_trimming {
            self.told_of_trimming = true;
            Report::log_line("searching relcache. cache replacement occurred")
                .hint("If statements use many tables or functions, increase relcache_size.")
                .log();
        }
    }

    /// Moves when something that was known does not count any more: what was concluded from it before has to be concluded
    /// anew. To be asked behind [`Self::begin_statement`].
    #[inline]
    pub fn losses(&self) -> u64 {
        self.losses
    }

    /// Whether anything is still to be asked about the names in `statement`.
    pub fn lacks(&self, statement: &Statement, settings: &Settings) -> bool {
        let (relations, functions) = missing(statement, settings, self);
        !relations.is_empty() || !functions.is_empty()
    }

    /// The isolation level that transactions of these sessions begin with if nothing else is said (routing 7.3).
    pub fn default_isolation(&self) -> Known<Isolation> {
        self.isolation.get(&Name::bare("")).map_or(Known::NotYet, Known::Yes)
    }

    /// A statement is sent to the primary. `in_transaction`: a transaction block is open there.
    pub fn note(&mut self, statement: &Statement, text: &[u8], in_transaction: bool) {
        let change = Change::of(statement, text);
        let session = &mut self.session;
        match change.session {
            SessionChange::None => {}
            SessionChange::SearchPath if !in_transaction && !session.private => {
                let target = self.shared.relcache().fingerprint(&(self.scope, text));
                // One at a time: of several it would not be known which one failed.
                session.private = session.moving.is_some_and(|moving| moving != target);
                session.moving = Some(target);
            }
            SessionChange::SearchPath | SessionChange::Unnamed => session.private = true,
        }
        if change.session != SessionChange::None {
            session.restarting = !statement.is_multi() && statement.kind == Kind::Discard(DiscardTarget::All);
        }
        self.note_two_phase(statement);
        let undoes = matches!(statement.kind, Kind::RollbackTo(_)) && self.session.unsettled;
        if change.session != SessionChange::None || change.catalog || undoes {
            self.session.changing |= change.catalog;
            self.session.unsettled = true;
            self.forget();
        }
    }

    /// Something unknown is sent to the primary.
    pub fn note_unknown(&mut self) {
        self.session =
            Session { private: true, unsettled: true, changing: true, moving: self.session.moving, restarting: false };
        self.forget();
    }

    /// Code has run on the primary of which nobody knows what it did. Until [`Self::resolve_doubt`] nothing is shared.
    pub fn doubt(&mut self) {
        if self.doubt == Doubt::None {
            self.doubt = Doubt::Open;
        }
    }

    /// Names mean what they meant before the doubt, or not.
    pub fn resolve_doubt(&mut self, nothing_has_changed: bool) {
        let doubt = std::mem::replace(&mut self.doubt, Doubt::None);
        if !nothing_has_changed {
            self.session.private = true;
        }
        if !nothing_has_changed || doubt == Doubt::Learnt {
            self.forget();
        }
    }

    /// The primary has answered with an error: of what is under way nothing is certain.
    pub fn failed(&mut self) {
        self.session.private |= self.session.moving.is_some();
        self.session.restarting = false;
    }

    /// The primary is outside of a transaction block: what was changed is in force, or undone. `answered`: the primary
    /// owes nothing, so this is the end of everything sent.
    pub fn settle(&mut self, answered: bool) {
        if std::mem::take(&mut self.hidden_calls_pass) {
            self.hidden_calls = None;
            self.losses += 1;
        }
        if !self.session.unsettled {
            return;
        }
        if self.session.changing {
            self.shared.relcache().bump();
        }
        self.forget();
        if !answered {
            return;
        }
        let Session { private, moving, restarting, .. } = std::mem::take(&mut self.session);
        if restarting {
            self.current = self.scope;
        } else {
            self.session.private = private;
            self.current = moving.unwrap_or(self.current);
        }
    }

    /// The session has ended, and its server has done with it as far as can be known. Returns what later sessions of the
    /// same scope may use on the same connection.
    pub fn end_session(mut self) -> Option<Self> {
        if self.session.changing {
            self.shared.relcache().bump();
        }
        if !self.is_certain() || self.current != self.scope {
            return None;
        }
        self.relations.retain(|kind| kind != RelationKind::Temporary);
        if std::mem::take(&mut self.hidden_calls_pass) {
            self.hidden_calls = None;
        }
        Some(self)
    }

    pub(super) fn learn_relation(&mut self, name: &Name, kind: RelationKind) {
        self.learn();
        let end = self.end(kind == RelationKind::None);
        self.relations.insert(name, kind, end);
        self.tell(name, kind);
    }

    pub(super) fn learn_function(&mut self, name: &Name, volatility: Volatility) {
        self.learn();
        let end = self.end(volatility == Volatility::None);
        self.functions.insert(name, volatility, end);
        self.tell(name, volatility);
    }

    pub(super) fn learn_isolation(&mut self, isolation: Isolation) {
        let (name, end) = (Name::bare(""), self.end(false));
        self.isolation.insert(&name, isolation, end);
        self.tell(&name, isolation);
    }

    /// PREPARE TRANSACTION keeps changes for a COMMIT PREPARED by whomever.
    fn note_two_phase(&mut self, statement: &Statement) {
        for kind in statement.kinds() {
            match kind {
                Kind::PrepareTransaction if self.session.changing => self.shared.relcache().change_prepared(),
                Kind::CommitPrepared if self.shared.relcache().has_prepared_change() => {
                    self.session.changing = true;
                    self.session.unsettled = true;
                }
                _ => {}
            }
        }
    }

    /// The tables behind a name, if they have been asked for.
    pub fn tables(&self, name: &Name) -> Option<&Tables> {
        self.tables.get(name)
    }

    /// What was looked up under another stamp of the query cache does not count any more.
    pub fn begin_tables(&mut self, stamp: u64) {
        if std::mem::replace(&mut self.tables_stamp, stamp) != stamp {
            self.tables.clear();
            self.hidden_calls = None;
            self.losses += 1;
        }
    }

    pub(super) fn learn_tables(&mut self, name: &Name, tables: Tables) {
        self.learn();
        if self.tables.len() >= MAX_NAMES {
            self.tables.clear();
        }
        self.tables.insert(name.clone(), tables);
    }

    /// Something is about to be learnt.
    fn learn(&mut self) {
        if self.doubt == Doubt::Open {
            self.doubt = Doubt::Learnt;
        }
    }

    /// The end of a fact learnt now.
    fn end(&self, is_absent: bool) -> u32 {
        match self.life {
            life if is_absent => self.shared.relcache().now() + life.min(ABSENCE),
            FOR_EVER => FOR_EVER,
            _ => self.end_of(self.shared.relcache().now()),
        }
    }

    fn end_of(&self, learnt: u32) -> u32 {
        learnt.saturating_add(self.life)
    }

    fn expire(&mut self, now: u32) {
        let has_lost = self.relations.expire(now) | self.functions.expire(now) | self.isolation.expire(now);
        self.losses += u64::from(has_lost);
    }

    fn forget(&mut self) {
        self.losses += 1;
        self.relations.clear();
        self.functions.clear();
        self.isolation.clear();
        self.tables.clear();
        self.refusal = None;
    }
}

impl Catalog for Facts {
    fn function(&self, name: &Name) -> Known<Volatility> {
        self.functions.get(name).map_or(Known::NotYet, Known::Yes)
    }

    fn relation(&self, name: &Name) -> Known<RelationKind> {
        self.relations.get(name).map_or(Known::NotYet, Known::Yes)
    }
}
