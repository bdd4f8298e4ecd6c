//! Where statements arrive, by the servers' own logs: the tables of `tests/data/routing` against real servers, and the
//! sequences of routing 17.
//!
//! `observed.txt` holds what was seen of Pgpool-II; its test runs against the original, too, and proves the expectations.

mod given;
#[allow(dead_code, reason = "the tables are also read without servers")]
#[path = "../routing/rows.rs"]
mod rows;
mod sequences;
mod stage;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::{Duration, Instant};

use given::{Preparation, prepare};
use pgpool::sql::{DiscardTarget, Kind, VariableScope};
use rows::{Row, Section, sections};
use stage::{Heard, Stage, ask, cluster};

use crate::harness::{Reply, Wire, foreign};
use crate::{needs_pgpool, only_ours};

/// No test may take longer, whatever hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// A read that nothing but the load balance node binds to a node.
const PROBE: &str = "SELECT 'probe'";

/// Rows that still go elsewhere, with the reason; one that goes right is to be taken from here.
const NOT_YET: [(&str, &str, &str); 1] =
    [("in failed transaction", "deallocate a", "DEALLOCATE does not ask whether the transaction has failed")];

/// A row that can be played, with what must be done before.
struct Scene<'a> {
    section: &'a Section,
    row: &'a Row,
    before: Preparation,
}

/// What became of a row.
struct Outcome {
    reply: Reply,
    /// When the answer had come.
    at_once: Heard,
    /// Until the session had ended.
    in_all: Heard,
    /// The state of the transaction behind the statement.
    state: char,
}

/// The scenes of one file in the order of their settings, and how many rows were left out, by reason.
fn scenes<'a>(tables: &'a [Section], file: &str) -> (Vec<Scene<'a>>, BTreeMap<&'static str, usize>) {
    let mut left_out = BTreeMap::new();
    let mut scenes = Vec::new();
    for section in tables {
        for row in section.rows.iter().filter(|row| row.place.starts_with(file)) {
            match prepare(section, row) {
                Ok(before) => scenes.push(Scene { section, row, before }),
                Err(why) => *left_out.entry(why).or_default() += 1,
            }
        }
    }
    scenes.sort_by(|a, b| a.before.settings.cmp(&b.before.settings));
    (scenes, left_out)
}

/// Plays all rows of one file of the tables.
fn play(file: &str) {
    needs_pgpool!();
    let begin = Instant::now();
    let tables = sections();
    let cluster = cluster(&tables);
    let (scenes, left_out) = scenes(&tables, file);
    assert!(!scenes.is_empty(), "no row of {file} can be played");
    let mut failures = String::new();
    for act in scenes.chunk_by(|a, b| a.before.settings == b.before.settings) {
        let application = format!("routing_{}", file.trim_end_matches(".txt"));
        let mut stage = Stage::start(cluster, &application, &act[0].before.settings);
        for scene in act {
            assert!(begin.elapsed() < DEADLINE, "{file} takes too long\n{failures}");
            match scene.play(&mut stage) {
                Ok(outcome) => match scene.judge(&outcome) {
                    Err(_) if scene.is_not_yet_right() => {}
                    Err(why) => scene.describe(&mut failures, why, Some(outcome)),
                    Ok(()) if scene.is_not_yet_right() => scene.describe(&mut failures, "right by now", Some(outcome)),
                    Ok(()) => {}
                },
                Err(error) => scene.describe(&mut failures, &error, None),
            }
        }
    }
    let count = scenes.len();
    println!("{file}: {count} rows in {:?}, left out {left_out:?}", begin.elapsed());
    assert!(failures.is_empty(), "{failures}");
}

impl Scene<'_> {
    fn is_not_yet_right(&self) -> bool {
        let given = &self.section.given.lines;
        NOT_YET
            .iter()
            .any(|(line, text, _)| given.iter().any(|given| given == line) && self.row.text == text.as_bytes())
    }

    fn play(&self, stage: &mut Stage) -> Result<Outcome, String> {
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
        Ok(Outcome { reply, at_once, in_all, state })
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

    fn target(&self) -> &str {
        match &self.row.original {
            Some(original) if foreign() => original,
            _ => &self.row.target,
        }
    }

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

    fn judge(&self, outcome: &Outcome) -> Result<(), &'static str> {
        let at_once = |node| self.position(&outcome.at_once, node).is_some();
        let ever = |node| self.position(&outcome.in_all, node).is_some();
        match self.target() {
            "balance" if !at_once(1) => Err("not at the standby"),
            // A standby that refuses a read as a write does not have the last word.
            "balance" if ever(0) && !outcome.at_once[1].iter().any(|entry| entry.refuses_write()) => {
                Err("at the primary")
            }
            "nowhere" if ever(0) || ever(1) => Err("at a server"),
            "primary" | "main" if !at_once(0) => Err("not at the primary"),
            "primary" | "main" if ever(1) => Err("at the standby"),
            "both" if !at_once(0) => Err("not at the primary"),
            "both" => self.judge_both(outcome),
            _ => Ok(()),
        }
    }

    /// The standby has it in front of its next read, if it changes anything there.
    fn judge_both(&self, outcome: &Outcome) -> Result<(), &'static str> {
        let standby = &outcome.in_all[1];
        let facts = self.section.given.facts(&self.row.text);
        let is = |text: &str| standby.iter().position(|entry| entry.statement() == Some(text));
        let plain = self.position(&outcome.in_all, 1);
        let is_begin = matches!(facts.kind, Kind::Begin(_));
        if foreign() {
            let on_standby = |entry: &&_| entry_is(entry, &self.text()) || is_begin && entry_is(entry, "BEGIN");
            let at_once = outcome.at_once[1].iter().find(on_standby).is_some();
            return if at_once { Ok(()) } else { Err("not at the standby at once") };
        }
        if self.before.stays {
            return Ok(());
        }
        let probe = standby.iter().position(|entry| entry.statement().is_some_and(|text| text.ends_with(PROBE)));
        let read = probe.ok_or("the next read did not go to the standby")?;
        let told = match &facts.kind {
            _ if outcome.reply.error().is_some() => return Ok(()),
            // Only reads of its own transaction need a BEGIN, and serializable ones are done on the primary.
            Kind::Begin(_) if facts.kind.asks_serializable() || outcome.state != 'T' => return Ok(()),
            Kind::Begin(_) => plain.or(is("BEGIN")),
            Kind::Set { name, .. } if ["transaction_isolation", "transaction_read_only"].contains(&&**name) => {
                return Ok(());
            }
            Kind::Set { scope: VariableScope::Session, .. } | Kind::Reset(_) | Kind::Deallocate(None) => plain,
            Kind::SetTransaction { scope: VariableScope::Session, .. } | Kind::Discard(DiscardTarget::All) => plain,
            _ => return Ok(()),
        };
        match told {
            Some(told) if told < read => Ok(()),
            Some(_) => Err("at the standby behind its next read"),
            None => Err("not at the standby before its next read"),
        }
    }

    fn describe(&self, to: &mut String, why: &str, outcome: Option<Outcome>) {
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

fn entry_is(entry: &crate::harness::Entry, text: &str) -> bool {
    entry.statement() == Some(text)
}

#[test]
fn most_rows_can_be_played() {
    let tables = sections();
    let (scenes, left_out) = scenes(&tables, "");
    let (count, without) = (scenes.len(), left_out.values().sum::<usize>());
    println!("{count} rows can be played, {without} cannot: {left_out:?}");
    assert!(count > 9 * without, "{count} rows can be played, {without} cannot");
}

/// The catalogue of observed destinations, also against the original (routing 17.1).
#[test]
fn observed() {
    play("observed.txt");
}

/// A test for each other file of the tables.
macro_rules! files {
    ($($file:ident)*) => {
        $(
            #[test]
            fn $file() {
                only_ours!("the tables say what ours does");
                play(concat!(stringify!($file), ".txt"));
            }
        )*

        /// A file without a test would be one that nobody plays.
        #[test]
        fn every_file_has_a_test() {
            let tested = ["observed", $(stringify!($file)),*];
            for row in sections().iter().flat_map(|section| &section.rows) {
                let (file, _) = row.place.split_once(".txt").expect("a file");
                assert!(tested.contains(&file), "no test for {file}");
            }
        }
    };
}

files! {
    after_writes beginnings copy_explain_cursors ddl functions lists nodes prepared reads relations settings texts
    transactions
}
