//! PGPOOL EXPLAIN and `pgpool route`: where a statement goes, and why.
//!
//! The decision is made by `route` and only told here. Two front ends make the same row: a session, which has its load
//! balance node, and the command line, for which any of several may be drawn.

use super::{Table, format, words};
use crate::cache;
use crate::route::{Catalog, Reason, Route, SessionView, Target, Transaction};
use crate::sql::{CopyPeer, Kind, Statement};
use crate::state::{Cluster, Delay};

/// A statement, where it goes, and the circumstances in which that was decided.
pub struct Explained<'a> {
    /// Its facts.
    pub statement: &'a Statement,
    /// The statement as it would be sent.
    pub text: &'a [u8],
    /// The decision; `None`: pgpool answers itself.
    pub route: Option<&'a Route>,
    /// The session that would send it.
    pub session: SessionView<'a>,
    /// What is known of tables and functions.
    pub catalog: &'a dyn Catalog,
    /// The nodes.
    pub cluster: &'a Cluster,
    /// The node that writes: the primary, or the main node where there is none.
    pub home: usize,
    /// The load balance node; those that may be drawn when none is yet, `home` perhaps among them.
    pub balance: &'a [usize],
}

columns! { row: Explained<'_>;
    node => row.nodes(usize::to_string),
    role => row.nodes(|node| words::role(row.session.settings, row.cluster, *node).to_owned()),
    class => row.route.map_or("pgpool command", |_| class(row.statement)),
    reason => row.reason(),
    decided_by => row.route.map(|route| route.reason.decided_by()).unwrap_or_default(),
    cacheable => row.cacheable(),
    state => row.state(),
}

impl Explained<'_> {
    /// `yes`, or `no: ` and the first thing that speaks against it. It does not matter whether the cache is on.
    fn cacheable(&self) -> String {
        cache::obstacle(self.statement, self.text, self.session.settings, self.catalog)
            .map_or_else(|| "yes".to_owned(), |obstacle| format!("no: {obstacle}"))
    }
}

/// Makes the row.
pub fn explain(explained: &Explained<'_>) -> Table {
    Table { columns: explain_columns(), rows: vec![values(explained)] }
}

/// The columns of that table.
pub fn explain_columns() -> Vec<String> {
    super::owned(COLUMNS)
}

impl Explained<'_> {
    /// Something about each node it goes to: `0`, `0,1`; `1 or 2` where the draw decides. Empty if no server gets it.
    fn nodes(&self, describe: impl Fn(&usize) -> String) -> String {
        let any_of = |nodes: &[usize]| {
            let mut described: Vec<_> = nodes.iter().map(&describe).collect();
            described.dedup();
            described.join(" or ")
        };
        let home = describe(&self.home);
        let others: Vec<_> = self.balance.iter().copied().filter(|node| *node != self.home).collect();
        match self.route.map(|route| route.target) {
            None => String::new(),
            Some(Target::Balance) => any_of(self.balance),
            Some(Target::Both) if !others.is_empty() && !self.session.tied => format!("{home},{}", any_of(&others)),
            Some(Target::Both | Target::Primary | Target::Main) => home,
        }
    }

    fn reason(&self) -> String {
        self.route.map_or(&Reason::OurOwn, |route| &route.reason).to_string()
    }

    /// The session's state in words.
    fn state(&self) -> String {
        let transaction = match (self.session.transaction, self.session.writing) {
            (Transaction::Failed, _) => "failed transaction",
            (Transaction::Open { .. }, true) => "the transaction has written",
            (Transaction::Open { .. }, false) => "in a transaction",
            (Transaction::Idle, true) => "no transaction, the session has written",
            (Transaction::Idle, false) => "no transaction",
        };
        let mut state = transaction.to_owned();
        if let [node] = *self.balance
            && node != self.home
            && let Some(server) = self.cluster.nodes.get(node)
        {
            let name = match &*server.application_name {
                "" => format!("{}:{}", server.hostname, server.port),
                name => name.to_owned(),
            };
            state.push_str(&format!("; load balance node {node} ({name}), {}", behind(self.session.delay)));
        }
        if self.session.tied {
            state.push_str("; reads stay on the primary until DISCARD ALL");
        }
        state
    }
}

fn behind(delay: Delay) -> String {
    match delay {
        Delay::Unmeasured => "delay not measured".to_owned(),
        Delay::Unknown => "its delay cannot be measured".to_owned(),
        Delay::Bytes(0) => "not behind".to_owned(),
        Delay::Time(time) if time.is_zero() => "not behind".to_owned(),
        Delay::Bytes(_) => format!("{} bytes behind", format::delay(delay)),
        Delay::Time(_) => format!("{} behind", format::delay(delay)),
    }
}

/// The class of a statement in a word or two (routing 4.1). It tells what the statement is; where it goes may depend on
/// more.
fn class(statement: &Statement) -> &'static str {
    let has = &statement.has;
    match &statement.kind {
        _ if statement.is_multi() => "several statements",
        Kind::Empty => "empty",
        Kind::Unparsable(_) => "not understood",
        Kind::Select | Kind::CopyTo { peer: CopyPeer::Client, .. } if has.modification || has.select_into => "write",
        Kind::Select if has.locking => "locking read",
        Kind::Select | Kind::Show(_) | Kind::CopyTo { peer: CopyPeer::Client, .. } => "read",
        Kind::CopyTo { .. } => "copy to the server",
        Kind::Insert
        | Kind::Update
        | Kind::Delete
        | Kind::Merge
        | Kind::CopyFrom(_)
        | Kind::Truncate
        | Kind::CreateTableAs { .. } => "write",
        Kind::Begin(_)
        | Kind::Commit { .. }
        | Kind::Rollback { .. }
        | Kind::Savepoint(_)
        | Kind::Release(_)
        | Kind::RollbackTo(_)
        | Kind::PrepareTransaction
        | Kind::CommitPrepared
        | Kind::RollbackPrepared => "transaction control",
        Kind::SetTransaction { .. } | Kind::Set { .. } | Kind::Reset(_) | Kind::SetConstraints | Kind::Discard(_) => {
            "session state"
        }
        Kind::Prepare { .. } | Kind::Execute(_) | Kind::Deallocate(_) => "prepared statement",
        Kind::Explain { .. } => "explain",
        Kind::Declare { .. } | Kind::Fetch(_) | Kind::Close(_) => "cursor",
        Kind::Listen | Kind::Unlisten | Kind::Notify => "notification",
        Kind::Lock { .. } => "table lock",
        Kind::Call | Kind::Do => "procedure",
        Kind::Load | Kind::Checkpoint | Kind::Vacuum => "maintenance",
        Kind::CreateTable { .. } | Kind::Drop | Kind::DropDatabase(_) | Kind::Ddl => "definition",
        Kind::Pgpool(_) => "pgpool command",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::tests::Facts;
    use crate::config::{BackendClusteringMode, Settings};
    use crate::route::decide;
    use crate::sql::{Lexing, analyse};
    use crate::state::Node;
    use std::time::Duration;

    fn cluster() -> Cluster {
        let node = |port, name: &str| Node {
            hostname: "db".to_owned(),
            port,
            application_name: name.to_owned(),
            ..Node::default()
        };
        let nodes = vec![node(5432, "server0"), node(5433, ""), node(5434, "server2")];
        Cluster { nodes, primary: Some(0), main: Some(0), ..Cluster::default() }
    }

    fn row_of(
        text: &str,
        settings: &Settings,
        balance: &[usize],
        change: impl FnOnce(&mut SessionView<'_>),
    ) -> Vec<String> {
        let statement = analyse(text.as_bytes(), Lexing::default());
        let mut session = SessionView { has_balance_node: balance != [0], ..SessionView::new(settings) };
        change(&mut session);
        let route = decide(&statement, text.as_bytes(), session, &Facts);
        let (text, cluster) = (text.as_bytes(), cluster());
        let (statement, route, catalog, cluster) = (&statement, Some(&route), &Facts, &cluster);
        let mut table = explain(&Explained { statement, text, route, session, catalog, cluster, home: 0, balance });
        assert_eq!((table.rows.len(), table.columns.len()), (1, table.rows[0].len()));
        table.rows.remove(0)
    }

    fn row(text: &str, balance: &[usize]) -> Vec<String> {
        row_of(text, &Settings::default(), balance, |_| {})
    }

    #[test]
    fn a_row_says_all_of_it() {
        assert_eq!(COLUMNS.join("|"), "node|role|class|reason|decided_by|cacheable|state");
        assert_eq!(
            row("select count(*) from t1", &[1]).join("|"),
            "1|standby|read|it is a read that the load balance node can answer||yes|\
             no transaction; load balance node 1 (db:5433), delay not measured"
        );
        assert_eq!(
            row("select random()", &[2]).join("|"),
            "0|primary|read|it calls random(), which is VOLATILE and may write; declare it STABLE if it only reads|\
             function random (volatile)|no: random() is VOLATILE|\
             no transaction; load balance node 2 (server2), delay not measured"
        );
    }

    #[test]
    fn nodes_and_roles() {
        let place = |text, balance: &[usize]| row(text, balance)[..2].join("|");
        assert_eq!(place("select 1", &[1, 2]), "1 or 2|standby");
        assert_eq!(place("select 1", &[0, 2]), "0 or 2|primary or standby");
        assert_eq!(place("select 1", &[0]), "0|primary");
        assert_eq!(place("begin", &[1]), "0,1|primary,standby");
        assert_eq!(place("begin", &[0, 1, 2]), "0,1 or 2|primary,standby");
        assert_eq!(place("begin", &[0]), "0|primary");
        assert_eq!(place("insert into t values (1)", &[1]), "0|primary");
        let tied = row_of("set a.b = 1", &Settings::default(), &[1], |session| session.tied = true);
        assert_eq!(tied[0], "0");
        let raw = Settings { backend_clustering_mode: BackendClusteringMode::Raw, ..Settings::default() };
        assert_eq!(row_of("select 1", &raw, &[0], |_| {})[..2], ["0", "main"]);
    }

    #[test]
    fn what_pgpool_answers_itself_goes_nowhere() {
        let statement = analyse(b"show pool_nodes", Lexing::default());
        let (settings, cluster) = (Settings::default(), cluster());
        let explained = Explained {
            statement: &statement,
            text: b"show pool_nodes",
            route: None,
            session: SessionView::new(&settings),
            catalog: &Facts,
            cluster: &cluster,
            home: 0,
            balance: &[1],
        };
        assert_eq!(values(&explained)[..5], ["", "", "pgpool command", "it is a command for pgpool itself", ""]);
    }

    #[test]
    fn states_in_words() {
        let state = |change: &dyn Fn(&mut SessionView<'_>)| {
            row_of("select 1", &Settings::default(), &[2], change).pop().expect("state")
        };
        let open = Transaction::Open { isolation: None, on_primary_only: false };
        let node = "; load balance node 2 (server2), delay not measured";
        assert_eq!(state(&|_| {}), format!("no transaction{node}"));
        assert_eq!(state(&|session| session.transaction = open), format!("in a transaction{node}"));
        let written = |session: &mut SessionView<'_>| (session.transaction, session.writing) = (open, true);
        assert_eq!(state(&written), format!("the transaction has written{node}"));
        assert_eq!(state(&|session| session.transaction = Transaction::Failed), format!("failed transaction{node}"));
        assert!(state(&|session| session.delay = Delay::Bytes(512)).ends_with("(server2), 512 bytes behind"));
        let late = |session: &mut SessionView<'_>| session.delay = Delay::Time(Duration::from_millis(2500));
        assert!(state(&late).ends_with("(server2), 2.500000 seconds behind"));
        assert!(state(&|session| session.tied = true).ends_with("; reads stay on the primary until DISCARD ALL"));
        assert_eq!(row("select 1", &[0])[6], "no transaction");
    }

    #[test]
    fn classes_in_words() {
        for (text, expected) in [
            ("", "empty"),
            ("selct", "not understood"),
            ("select 1; select 2", "several statements"),
            ("values (1)", "read"),
            ("show port", "read"),
            ("copy t to stdout", "read"),
            ("copy (delete from t returning 1) to stdout", "write"),
            ("copy t to '/tmp/x'", "copy to the server"),
            ("select 1 into x", "write"),
            ("select 1 from t for update", "locking read"),
            ("merge into t using s on true when matched then delete", "write"),
            ("rollback to a", "transaction control"),
            ("set local a.b = 1", "session state"),
            ("prepare a as select 1", "prepared statement"),
            ("explain analyze select 1", "explain"),
            ("fetch c", "cursor"),
            ("listen a", "notification"),
            ("lock table t", "table lock"),
            ("do $$ begin end $$", "procedure"),
            ("vacuum", "maintenance"),
            ("create index on t (a)", "definition"),
            ("PGPOOL SHOW all", "pgpool command"),
        ] {
            assert_eq!(class(&analyse(text.as_bytes(), Lexing::default())), expected, "{text}");
        }
    }
}
