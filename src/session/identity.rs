//! As whom a session asks the query cache: what decides its answers beside statements and data, asked of the primary.
//!
//! What was told counts until a statement may have changed a setting, or anybody has changed privileges or definitions.
//!
//! Another node may know the session by other settings: code that ran on the primary may have set something that nobody saw,
//! or the connection may be older than a change of a role. So what it answers is kept only under the identity that it tells
//! itself.

use super::Session;
use super::end::End;
use crate::backend::control;
use crate::cache::{self, Effects, Identities, Identity};
use crate::net::Deadline;
use crate::report::{Report, SqlState};
use crate::state::uptime;
use std::time::{Duration, Instant};

/// How long the server may take to tell what the session's settings are.
const LIMIT: Duration = Duration::from_secs(10);

/// What is known of it.
#[derive(Debug)]
pub(super) struct OwnIdentity {
    known: Known,
    /// What was told last, in so far as it is shared.
    last: Option<Identity>,
    /// What other nodes have told since, with when the connection was made that has told it.
    elsewhere: Vec<(usize, Instant, Option<Identity>)>,
    /// What no other session has, nor this one before it was asked last: settings that nobody lists may be others since.
    number: (u32, u128),
    /// The session may have settings that servers do not list.
    has_custom: bool,
    /// A statement under way, or one in this transaction, may have changed a setting.
    is_uncertain: bool,
    /// Code has run since the identity was asked for: names may mean something else.
    is_doubtful: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// It is to be asked for.
    NotYet,
    /// The session has none: it does without the cache.
    None,
    /// With the number of changes to privileges and definitions, anybody's, when it was asked for.
    Identity(Identities, u64),
}

impl OwnIdentity {
    /// Nothing is known. `has_custom`: the session may have settings from its beginning that servers do not list.
    pub fn new(has_custom: bool) -> Self {
        Self {
            known: Known::NotYet,
            last: None,
            elsewhere: Vec::new(),
            number: (std::process::id(), uptime().as_nanos()),
            has_custom,
            is_uncertain: false,
            is_doubtful: false,
        }
    }

    /// Whether a setting may have changed in the transaction under way.
    #[inline]
    pub fn is_uncertain(&self) -> bool {
        self.is_uncertain
    }

    /// What it is, if that is known and nothing under way may change it.
    #[inline]
    pub fn settled(&self) -> Option<Identities> {
        match self.known {
            Known::Identity(identities, _) if !self.is_uncertain => Some(identities),
            _ => None,
        }
    }

    /// Whether names may mean something else than when it was asked for.
    pub fn is_doubtful(&self) -> bool {
        self.is_doubtful
    }

    /// Whether it is known, there having been so many `changes`.
    pub fn is_known(&self, changes: u64) -> bool {
        matches!(self.known, Known::Identity(_, then) if then == changes)
    }

    /// What `node`, whose connection was made at `created`, has told since the primary was asked last. `None`: nothing.
    pub fn told_by(&self, node: usize, created: Instant) -> Option<Option<Identity>> {
        let told = self.elsewhere.iter().find(|told| (told.0, told.1) == (node, created));
        told.map(|(.., identity)| *identity)
    }

    /// The session goes on with another server, or the server with another configuration, as it has told unasked.
    pub fn forget(&mut self) {
        self.known = Known::NotYet;
    }

    /// The primary has told of a setting, in answer to a statement.
    pub fn setting_changed(&mut self) {
        self.is_uncertain = true;
    }

    /// Another node has told of a setting: it is to be asked anew.
    pub fn changed_on(&mut self, node: usize) {
        self.elsewhere.retain(|told| told.0 != node);
    }

    /// A statement with these effects is about to be sent. Whether names may mean something else afterwards.
    pub fn send(&mut self, effects: &Effects) -> bool {
        self.is_uncertain |= effects.sets || effects.runs_code;
        self.has_custom |= effects.sets_custom || effects.runs_code;
        self.is_doubtful |= effects.runs_code;
        effects.runs_code
    }

    /// The primary owes nothing and is outside of a block.
    pub fn rest(&mut self) {
        if std::mem::take(&mut self.is_uncertain) {
            self.known = Known::NotYet;
        }
    }
}

impl Session<'_> {
    /// As whom this session asks, asked of the primary if it is not known. `None`: it cannot be told.
    pub(super) fn identities(&mut self) -> Result<Option<Identities>, End> {
        let Some(caching) = self.caching.as_ref() else { return Ok(None) };
        let now = caching.shared().changes();
        match caching.identity.known {
            Known::Identity(identities, then) if then == now => return Ok(Some(identities)),
            Known::None => return Ok(None),
            _ if !self.is_free(self.home) => return Ok(None),
            _ => {}
        }
        let question = cache::identity_query(caching.answers.are_elsewhere());
        let node = self.home;
        let Some(server) = self.group.get_mut(node) else { return Ok(None) };
        let answer = control::query_aside(server, question, Deadline::after(LIMIT));
        self.statements.unnamed_lost(node);
        self.hear_aside(node);
        match answer {
            Ok(rows) => Ok(self.identified(rows.first().map_or(&[][..], Vec::as_slice), now)),
            Err(report) => self.without_cache(&report).map(|()| None),
        }
    }

    /// The primary has told as whom this session asks, so many `changes` having been made before it was asked.
    fn identified(&mut self, answer: &[Option<String>], changes: u64) -> Option<Identities> {
        let shared = &self.context.shared;
        let identity = &mut self.caching.as_mut()?.identity;
        identity.number.1 += 1;
        let told = cache::identities(shared, answer, &self.group.key.startup, identity.number);
        // What a session was given when it began stays, whatever becomes of where it was given.
        identity.has_custom |= told.is_some_and(|told| told.own.is_some());
        let identities = told.map(|told| if identity.has_custom { told.apart(shared, identity.number) } else { told });
        identity.known = identities.map_or(Known::None, |identities| Known::Identity(identities, changes));
        identity.elsewhere.clear();
        let common = told.map(|told| told.common);
        let is_same = common.is_some() && identity.last == common;
        identity.last = common;
        if std::mem::take(&mut identity.is_doubtful) {
            self.catalog.resolve_doubt(is_same);
        }
        identities
    }

    /// As whom this session asks on `node`, another one than the primary, is asked there once, if it is free to tell.
    pub(super) fn identify_on(&mut self, node: usize) {
        let Some(caching) = self.caching.as_ref() else { return };
        let is_shared = matches!(caching.identity.known, Known::Identity(Identities { own: None, .. }, _));
        if !is_shared || node == self.home || !self.journal.is_current(node) || !self.is_free(node) {
            return;
        }
        let (question, number) = (cache::identity_query(caching.answers.are_elsewhere()), caching.identity.number);
        let Some(server) = self.group.get_mut(node) else { return };
        let created = server.created;
        if caching.identity.told_by(node, created).is_some() {
            return;
        }
        let answer = control::query_aside(server, question, Deadline::after(LIMIT));
        self.statements.unnamed_lost(node);
        self.hear_aside(node);
        let rows = match answer {
            Ok(rows) => rows,
            Err(report) if report.code == SqlState::CONNECTION_FAILURE => {
                return self.leave_node(node, report.detail.as_deref().unwrap_or(&report.message));
            }
            Err(report) => {
                report.log();
                Vec::new()
            }
        };
        let answer = rows.first().map_or(&[][..], Vec::as_slice);
        let told = cache::identities(&self.context.shared, answer, &self.group.key.startup, number);
        if let Some(caching) = &mut self.caching {
            caching.identity.changed_on(node);
            caching.identity.elsewhere.push((node, created, told.map(|told| told.common)));
        }
    }

    /// A question of the cache's has failed: the statement goes its way without.
    pub(super) fn without_cache(&mut self, report: &Report) -> Result<(), End> {
        if report.code == SqlState::CONNECTION_FAILURE {
            return Err(End::server_lost(self.home, report.detail.as_deref().unwrap_or(&report.message)));
        }
        report.log();
        Ok(())
    }
}
