//! The log of a session's messages: log_statement, log_per_node_statement, notice_per_node_statement,
//! log_client_messages, log_backend_messages (routing 18, process-model 11).

mod messages;
mod nodes;
mod notices;

use crate::harness::{Pgpool, Reply, Wire, frontend, shared};

/// A pgpool with one session whose log is read piece by piece.
struct Logged {
    pool: Pgpool,
    session: Wire,
    /// Process of node 0's server.
    pid: String,
    read: usize,
}

impl Logged {
    /// All statements go to node 0.
    fn start(settings: &[(&str, &str)]) -> Logged {
        Logged::start_on(&[1.0, 0.0, 0.0], settings)
    }

    fn start_on(weights: &[f64], settings: &[(&str, &str)]) -> Logged {
        let config = Pgpool::on(shared()).weights(weights).set("log_line_prefix", "");
        let pool = settings.iter().fold(config, |config, (name, value)| config.set(name, value)).start();
        let mut session = pool.connect();
        // The original asks for the server's version with the first statement of a process.
        session.query("BEGIN; COMMIT").succeeded();
        let pid = session.value("/* on the primary */ SELECT pg_backend_pid()");
        let read = pool.log().len();
        Logged { pool, session, pid, read }
    }

    /// The lines since the last call. The process id of node 0's server is shown as PID.
    fn lines(&mut self) -> Vec<String> {
        let log = self.pool.log();
        let new = &log[self.read..];
        self.read = log.len();
        let pid = format!("backend pid: {} ", self.pid);
        new.lines().map(|line| line.replace(&pid, "backend pid: PID ")).collect()
    }

    /// Sends these messages, reads to ReadyForQuery, and returns the answer.
    fn ask(&mut self, messages: &[Vec<u8>]) -> Reply {
        self.session.ask(messages.concat())
    }

    /// What a simple query leaves in the log.
    fn lines_of(&mut self, sql: &str) -> Vec<String> {
        self.session.query(sql).succeeded();
        self.lines()
    }
}

/// One of each message of a prepared statement.
fn prepared_statement() -> Vec<Vec<u8>> {
    vec![
        frontend::parse("s", "SELECT 1", &[]),
        frontend::bind("p", "s", &[]),
        frontend::describe_statement("s"),
        frontend::describe_portal("p"),
        frontend::execute("p", 0),
        frontend::close_portal("p"),
        frontend::close_statement("s"),
        frontend::sync(),
    ]
}

/// The messages of the notices in an answer.
fn notices(reply: &Reply) -> Vec<String> {
    reply.all('N').map(|notice| notice.field('M').unwrap_or_default()).collect()
}

/// Node and text of the per node lines, without those of catalog queries.
fn sent_to_nodes(lines: &[String]) -> Vec<String> {
    let is_query = |at: usize| lines.get(at + 1).is_some_and(|line| line.starts_with("CONTEXT:  while searching"));
    let lines = lines.iter().enumerate().filter(|(at, _)| !is_query(*at));
    let parts = lines.filter_map(|(_, line)| line.strip_prefix("LOG:  DB node id: ")?.split_once(" backend pid: "));
    parts.filter_map(|(node, rest)| Some(format!("{node}: {}", rest.split_once(" statement: ")?.1))).collect()
}
