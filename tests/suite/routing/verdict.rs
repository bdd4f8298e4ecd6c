//! Whether a statement has arrived where its row says.

use pgpool::sql::{DiscardTarget, Kind, VariableScope};

use super::scene::{Outcome, PROBE, Scene};
use super::stage::Heard;
use crate::harness::{Entry, foreign};

impl Scene<'_> {
    /// The text as the servers write it.
    fn text(&self) -> String {
        let is_latin1 = self.before.parameters.iter().any(|(_, value)| value == "LATIN1");
        match String::from_utf8(self.row.text.clone()) {
            _ if is_latin1 => self.row.text.iter().copied().map(char::from).collect(),
            Ok(text) => text,
            Err(_) => "invalid byte sequence for encoding \"UTF8\"".to_owned(),
        }
    }

    /// Where among the entries the text is.
    fn position(&self, heard: &Heard, node: usize) -> Option<usize> {
        let text = self.text();
        let is_invalid = std::str::from_utf8(&self.row.text).is_err() && text.starts_with("invalid");
        heard[node].iter().position(|entry| {
            entry.statement() == Some(&text) || is_invalid && entry.kind == "ERROR" && entry.text.starts_with(&text)
        })
    }

    /// What is wrong, if anything is.
    pub fn judge(&self, outcome: &Outcome) -> Result<(), &'static str> {
        let at_once = |node| self.position(&outcome.at_once, node).is_some();
        let ever = |node| self.position(&outcome.in_all, node).is_some();
        // A standby that refuses a read as a write does not have the last word.
        let is_refused = outcome.at_once[1].iter().any(Entry::refuses_write);
        let faults: &[(bool, &str)] = match self.target() {
            "balance" => &[(!at_once(1), "not at the standby"), (ever(0) && !is_refused, "at the primary")],
            "primary" | "main" => &[(!at_once(0), "not at the primary"), (ever(1), "at the standby")],
            "nowhere" => &[(ever(0) || ever(1), "at a server")],
            "both" => &[(!at_once(0), "not at the primary")],
            other => panic!("{}: what is {other}?", self.row.place),
        };
        match faults.iter().find(|(is_so, _)| *is_so) {
            Some((_, why)) => Err(why),
            None if self.target() != "both" => Ok(()),
            None if foreign() => self.judge_original(outcome),
            None => self.judge_both(outcome),
        }
    }

    /// The original tells the standby at once; a BEGIN that it would refuse as a plain one (routing 7.6).
    fn judge_original(&self, outcome: &Outcome) -> Result<(), &'static str> {
        let is_begin = matches!(self.section.given.facts(&self.row.text).kind, Kind::Begin(_));
        let plain = outcome.at_once[1].iter().any(|entry| entry.statement() == Some("BEGIN"));
        let is_told = self.position(&outcome.at_once, 1).is_some() || is_begin && plain;
        if is_told { Ok(()) } else { Err("not at the standby at once") }
    }

    /// Ours tells the standby in front of its next read, if there is one, and if it changes anything there.
    fn judge_both(&self, outcome: &Outcome) -> Result<(), &'static str> {
        if self.before.stays {
            return Ok(());
        }
        let at =
            |is: &dyn Fn(&str) -> bool| outcome.in_all[1].iter().position(|entry| entry.statement().is_some_and(is));
        let read = at(&|text| text.ends_with(PROBE)).ok_or("the next read did not go to the standby")?;
        let verbatim = self.position(&outcome.in_all, 1);
        let facts = self.section.given.facts(&self.row.text);
        let told = match &facts.kind {
            _ if outcome.reply.error().is_some() => return Ok(()),
            // Only reads of its own transaction need a BEGIN, and serializable ones are done on the primary.
            kind @ Kind::Begin(_) if kind.asks_serializable() || outcome.reply.state() != 'T' => return Ok(()),
            Kind::Begin(_) => verbatim.or(at(&|text| text == "BEGIN")),
            // For the transaction only, although it does not say LOCAL.
            Kind::Set { name, .. } if ["transaction_isolation", "transaction_read_only"].contains(&&**name) => {
                return Ok(());
            }
            Kind::Set { scope: VariableScope::Session, .. }
            | Kind::SetTransaction { scope: VariableScope::Session, .. }
            | Kind::Reset(_)
            | Kind::Deallocate(None)
            | Kind::Discard(DiscardTarget::All) => verbatim,
            _ => return Ok(()),
        };
        match told {
            Some(told) if told < read => Ok(()),
            Some(_) => Err("at the standby behind its next read"),
            None => Err("not at the standby before its next read"),
        }
    }
}
