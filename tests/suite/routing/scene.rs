//! A row of the tables and its circumstances, played in a session of its own.

use std::fmt::Write;

use pgpool::sql::Kind;

use super::given::Preparation;
use super::rows::{Row, Section};
use super::stage::{Heard, Stage, ask};
use crate::harness::{Reply, Wire, foreign};

/// A read that nothing but the load balance node binds to a node.
pub const PROBE: &str = "SELECT 'probe'";

/// A row that can be played, with what must be done before.
pub struct Scene<'a> {
    pub section: &'a Section,
    pub row: &'a Row,
    pub before: Preparation,
}

/// What became of a row.
pub struct Outcome {
    pub reply: Reply,
    /// What the nodes had heard when the answer had come.
    pub at_once: Heard,
    /// What they have heard until the session had ended.
    pub in_all: Heard,
}

impl Scene<'_> {
    /// Plays it in a session of its own; an error is one of the connection or of the preparation.
    pub fn play(&self, stage: &mut Stage) -> Result<Outcome, String> {
        let parameters: Vec<(&str, &str)> = self.before.parameters.iter().map(|(n, v)| (*n, v.as_str())).collect();
        let mut session = stage.session(&parameters);
        for text in &self.before.statements {
            let reply = ask(&mut session, text.as_bytes())?;
            if reply.error().is_some() && text != "selct" {
                return Err(format!("{text}: {reply:?}"));
            }
        }
        stage.hear();
        let reply = ask(&mut session, &self.row.text)?;
        let state = reply.state();
        let at_once = stage.hear();
        if self.target() == "both" && !self.before.stays {
            self.probe(&mut session, state)?;
        }
        session.close();
        // The only worker is free again when it has reset the servers.
        stage.session(&[]).close();
        let mut in_all = at_once.clone();
        in_all.iter_mut().zip(stage.hear()).for_each(|(all, later)| all.extend(later));
        Ok(Outcome { reply, at_once, in_all })
    }

    /// Reads where the session reads, at the latest behind its transaction.
    fn probe(&self, session: &mut Wire, state: char) -> Result<(), String> {
        // A name that is free again is so on every node.
        if let Kind::Deallocate(Some(name)) = &self.section.given.facts(&self.row.text).kind {
            let reply = ask(session, format!("PREPARE {name} AS {PROBE}").as_bytes())?;
            return reply.error().map_or(Ok(()), |error| Err(format!("the name is not free: {error:?}")));
        }
        if state != 'E' {
            ask(session, PROBE.as_bytes())?;
        }
        if state != 'I' {
            ask(session, b"COMMIT")?;
            ask(session, PROBE.as_bytes())?;
        }
        Ok(())
    }

    /// Where the pgpool under test is to send it.
    pub fn target(&self) -> &str {
        match &self.row.original {
            Some(original) if foreign() => original,
            _ => &self.row.target,
        }
    }

    /// All that is known of it, for a person.
    pub fn describe(&self, to: &mut String, why: &str, outcome: Option<Outcome>) {
        let row = self.row;
        let _ = writeln!(
            to,
            "\n{} ({}): {why}\n  statement  {}\n  given      {}\n  expected   {}  {}\n  done       {:?}",
            row.place,
            self.section.title,
            String::from_utf8_lossy(&row.text),
            self.section.given.lines.join("; "),
            self.target(),
            row.reason,
            self.before.statements,
        );
        if let Some(outcome) = outcome {
            let _ = writeln!(to, "  answer     {:?}", outcome.reply);
            for (node, heard) in outcome.in_all.iter().enumerate() {
                let heard: Vec<&str> = heard.iter().map(|entry| entry.text.as_str()).collect();
                let _ = writeln!(to, "  node {node}     {heard:?}");
            }
        }
    }
}
