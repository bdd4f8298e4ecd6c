//! What is known of the functions that statements may call unnamed, or that it must not be known.

use super::{ABSENCE, Facts, Refusal};
use crate::catalog::exchange::NothingHidden;
use crate::catalog::hidden::HiddenCalls;
use crate::report::{Report, SqlState};
use crate::sql::Name;
use std::rc::Rc;

/// How long nothing is asked that the user must not see, in seconds.
const REFUSAL: u32 = 60;
impl Facts {
    /// The functions that statements may call unnamed, if they have been asked for.
    pub fn hidden_calls(&self) -> Option<&HiddenCalls> {
        self.hidden_calls.as_deref()
    }

    /// Takes over what another session of this process has learnt, of the same database.
    pub fn take_hidden_calls(&mut self, hidden: &Rc<HiddenCalls>) {
        self.hidden_calls = Some(Rc::clone(hidden));
        self.hidden_calls_pass = false;
    }

    /// What others may take over: not what a session was told that sees the catalog otherwise than they do.
    pub fn hidden_calls_for_others(&self) -> Option<&Rc<HiddenCalls>> {
        self.hidden_calls.as_ref().filter(|_| !self.hidden_calls_pass)
    }

    /// `sees_commits`: what others have committed counts for this session.
    pub(in crate::catalog) fn learn_hidden_calls(&mut self, hidden: HiddenCalls, sees_commits: bool) {
        self.learn();
        self.hidden_calls_pass = self.session.unsettled || !sees_commits;
        if hidden.is_empty() && !self.hidden_calls_pass {
            self.tell(&self.hidden_name(), NothingHidden);
        }
        self.hidden_calls = Some(Rc::new(hidden));
    }

    /// The server has refused to tell of hidden calls. Said once.
    pub(in crate::catalog) fn refused_hidden_calls(&mut self, report: Report) {
        let is_forbidden = report.code == SqlState::INSUFFICIENT_PRIVILEGE;
        let life = if is_forbidden { REFUSAL } else { ABSENCE };
        self.refusal = Some(Refusal { end: self.shared.relcache().now() + life, is_forbidden });
        if !std::mem::replace(&mut self.told_of_refusal, true) {
            report.log();
        }
    }

    /// Whether it is of no use to ask for hidden calls now.
    pub fn refuses_hidden_calls(&self) -> bool {
        self.refusal.is_some_and(|refusal| refusal.end > self.shared.relcache().now())
    }

    /// Whether the user must not know of hidden calls.
    pub fn forbids_hidden_calls(&self) -> bool {
        self.refusal.is_some_and(|refusal| refusal.is_forbidden)
    }

    /// They count for one stamp only.
    pub(super) fn hidden_name(&self) -> Name {
        Name::bare(&self.tables_stamp.to_string())
    }
}
