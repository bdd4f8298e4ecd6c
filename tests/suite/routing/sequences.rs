//! Whole transactions and a pipeline, statement by statement, as the servers hear them (second part of routing 17.1, and
//! 17.3). Where ours differs from the original, both are written down.

use super::rows::sections;
use super::stage::{DATABASE, Stage, ask, cluster};
use crate::harness::frontend::{bind, execute, parse, sync};
use crate::harness::{Entry, Reply, Wire, foreign};
use crate::needs_pgpool;

/// What a sequence has led to.
struct Played {
    /// What the primary and the standby have heard, statements in lower case.
    heard: [Vec<String>; 2],
    replies: Vec<Reply>,
}

impl Played {
    /// Asserts what the servers have heard.
    #[track_caller]
    fn at(&self, primary: &[&str], standby: &[&str]) {
        assert_eq!(self.heard[0], primary, "primary");
        assert_eq!(self.heard[1], standby, "standby");
    }

    /// What they have heard from ours.
    #[track_caller]
    fn ours(&self, primary: &[&str], standby: &[&str]) {
        if !foreign() {
            self.at(primary, standby);
        }
    }

    /// What they have heard from the original.
    #[track_caller]
    fn original(&self, primary: &[&str], standby: &[&str]) {
        if foreign() {
            self.at(primary, standby);
        }
    }

    /// State of the transaction behind each statement.
    fn states(&self) -> String {
        self.replies.iter().map(Reply::state).collect()
    }
}

/// What the client said, or pgpool in its name; what pgpool itself wants to know is left out.
fn told(entries: &[Entry]) -> Vec<String> {
    let is_question = |text: &String| ["pg_", "version()", "current_setting("].iter().any(|word| text.contains(word));
    // A text that fails is logged a second time, as the cause of the error.
    let logged = entries.iter().filter(|entry| entry.kind == "LOG");
    let told = logged.filter_map(|entry| entry.statement().map(str::to_lowercase).or_else(|| parse_of(entry)));
    told.filter(|text| !is_question(text)).collect()
}

fn parse_of(entry: &Entry) -> Option<String> {
    entry.parse().map(|parse| format!("parse {parse}"))
}

/// What is to be expected of the pgpool under test.
fn ours_or<T>(ours: T, original: T) -> T {
    if foreign() { original } else { ours }
}

fn stage(name: &str, settings: &[(&str, &str)]) -> Stage {
    let name = &format!("sequence_{name}");
    let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Stage::start(cluster(&sections()), name, &settings)
}

/// Plays statements in one session. The last one should be a read of the standby, which has heard the end of its
/// transaction then.
fn play(name: &str, settings: &[(&str, &str)], statements: &[&str]) -> Played {
    let mut stage = stage(name, settings);
    let mut session = stage.session(&[]);
    stage.hear();
    let replies = statements.iter().map(|text| ask(&mut session, text.as_bytes()).expect("an answer")).collect();
    let heard = stage.hear().each_ref().map(|entries| told(entries));
    Played { heard, replies }
}

/// How a transaction ends on the standby. Ours lets it go before the primary's COMMIT, which may be waiting for it.
fn commit_on_standby() -> &'static str {
    ours_or("rollback", "commit")
}

#[test]
fn reads_of_a_transaction_follow_its_first_write() {
    needs_pgpool!();
    let insert = "insert into filler values (1)";
    let played =
        play("write", &[], &["begin", "select 1", "show port", "select 2", insert, "select 3", "commit", "select 4"]);
    played.at(
        &["begin", insert, "select 3", "commit"],
        &["begin", "select 1", "show port", "select 2", commit_on_standby(), "select 4"],
    );
    assert_eq!(played.states(), "TTTTTTII");
}

/// The original tells the standby at once, ours before its next read, which there is none in this transaction.
#[test]
fn set_local_counts_as_a_write() {
    needs_pgpool!();
    let set = "set local work_mem = 64";
    let played = play("set_local", &[], &["begin", "select 1", set, "select 2", "commit", "select 3"]);
    let primary = ["begin", set, "select 2", "commit"];
    played.ours(&primary, &["begin", "select 1", commit_on_standby(), "select 3"]);
    played.original(&primary, &["begin", "select 1", set, "commit", "select 3"]);
}

/// In ours a savepoint still counts as a write behind ROLLBACK TO (docs/differences.md).
#[test]
fn reads_behind_rollback_to() {
    needs_pgpool!();
    let played = play("savepoint", &[], &["begin", "savepoint a", "rollback to a", "select 1", "commit", "select 2"]);
    played.ours(&["begin", "savepoint a", "rollback to a", "select 1", "commit"], &["select 2"]);
    played.original(
        &["begin", "savepoint a", "rollback to a", "commit"],
        &["begin", "savepoint a", "rollback to a", "select 1", "commit", "select 2"],
    );
}

/// What a standby has done was no write, so that reads stay there; in release 4.7 of the original PREPARE and EXECUTE go to
/// the standby and the next read to the primary, in 4.3 all three go to the primary.
#[test]
fn prepare_and_execute_of_a_read_are_reads() {
    needs_pgpool!();
    let prepare = "prepare ps as select 1";
    let played = play("prepare", &[], &["begin", prepare, "execute ps", "select 2", "commit", "select 3"]);
    played.ours(&["begin", "commit"], &["begin", prepare, "execute ps", "select 2", commit_on_standby(), "select 3"]);
    played.original(&["begin", prepare, "execute ps", "select 2", "commit"], &["begin", "commit", "select 3"]);
}

/// The original opens the transaction on the standby, as an ordinary one, although nothing is read there.
#[test]
fn serializable_transactions_stay_on_the_primary() {
    needs_pgpool!();
    let begin = "begin isolation level serializable";
    let played = play("serializable", &[], &[begin, "select 1", "commit", "select 2"]);
    played.ours(&[begin, "select 1", "commit"], &["select 2"]);
    played.original(&[begin, "select 1", "commit"], &["begin", "commit", "select 2"]);
}

/// In a failed transaction the original answers by itself, in ours the primary does.
#[test]
fn a_write_in_a_read_only_transaction_fails_it() {
    needs_pgpool!();
    let (begin, insert) = ("begin read only", "insert into filler values (1)");
    let played = play("read_only", &[], &[begin, "select 1", insert, "select 2", "rollback", "select 3"]);
    let standby = [begin, "select 1", "rollback", "select 3"];
    played.ours(&[begin, insert, "select 2", "rollback"], &standby);
    played.original(&[begin, insert, "rollback"], &standby);
    assert_eq!(played.states(), "TTEEII");
    assert_eq!(played.replies[2].sqlstate(), "25006");
    assert_eq!(played.replies[3].sqlstate(), "25P02");
}

/// The original commits what was written before the failed read (routing 7.5); ours rolls back, as one server would.
#[test]
fn a_read_that_fails_on_the_standby_fails_the_transaction() {
    needs_pgpool!();
    let insert = "insert into filler values (77)";
    let off = [("disable_load_balance_on_write", "off")];
    let played = play("off", &off, &["begin", insert, "select 1/0", "commit", "select 1"]);
    played.at(&["begin", insert, "commit"], &["begin", "select 1/0", commit_on_standby(), "select 1"]);
    assert_eq!(played.states(), "TTEII");
    assert_eq!(played.replies[3].tags(), [ours_or("ROLLBACK", "COMMIT")]);
    let login = [("user", "postgres"), ("database", DATABASE)];
    let mut primary = Wire::login_with(cluster(&sections()).primary().port, &login).expect("login");
    assert_eq!(primary.value("SELECT count(*) FROM filler WHERE a = 77"), ours_or("0", "1"));
}

#[test]
fn the_primary_need_not_be_node_0() {
    needs_pgpool!();
    let servers = cluster(&sections());
    let ports = [1, 0].map(|id| servers.node(id).port.to_string());
    let swapped = [("backend_port0", &*ports[0]), ("backend_port1", &*ports[1])];
    let settings = [swapped[0], swapped[1], ("backend_weight0", "1"), ("backend_weight1", "0")];
    let insert = "insert into filler values (1)";
    let played = play("swapped", &settings, &["select 1", "begin", "select 2", insert, "commit", "select 3"]);
    played.at(&["begin", insert, "commit"], &["select 1", "begin", "select 2", commit_on_standby(), "select 3"]);
    assert_eq!(played.states(), "ITTTII");
}

/// Routing 17.3. Ours keeps a batch with a write on the primary as a whole; the original sends its statements here and
/// there, and prepares S1 twice. The client cannot tell.
#[test]
fn a_pipeline_that_reads_and_writes() {
    needs_pgpool!();
    let mut stage = stage("pipeline", &[]);
    let mut session = stage.session(&[("user", "postgres"), ("options", "-c log_min_duration_statement=0")]);
    stage.hear();
    let run = |text| [parse("", text, &[]), bind("", "", &[]), execute("", 0)].concat();
    let insert = "insert into filler values (1)";
    let read = [bind("", "S1", &[]), execute("", 0)].concat();
    let batch = [run("begin"), parse("S1", "select 1", &[]), run(insert), read, run("commit"), sync()];
    let reply = session.ask(batch.concat());
    assert_eq!(reply.kinds(), "12C112C2DC12CZ");
    // Behind all that the standby was told in the batch.
    let read = ask(&mut session, b"select 2").expect("an answer");
    let played = Played { heard: stage.hear().each_ref().map(|entries| told(entries)), replies: vec![read] };
    let (begin, commit) = (["parse <unnamed>: begin", "begin"], ["parse <unnamed>: commit", "commit"]);
    let insert = [&format!("parse <unnamed>: {insert}"), insert];
    let (s1, read) = ("parse S1: select 1", "select 1");
    played.ours(&[&begin[..], &[s1], &insert, &[read], &commit].concat(), &["select 2"]);
    played.original(
        &[&begin[..], &insert, &[s1, read], &commit].concat(),
        &[&begin[..], &[s1], &commit, &["select 2"]].concat(),
    );
}
