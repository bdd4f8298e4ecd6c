//! `pgpool route`: where a statement would go, and why, without a running pgpool.
//!
//! It makes the row of PGPOOL EXPLAIN for a session that begins now, after one look at the nodes, and adds what a session
//! knows by itself: which nodes may be drawn, and where the facts come from. Takes twice [`LIMIT`] at most.

use super::EXIT_USAGE;
use super::options::RouteOptions;
use crate::admin::{self, Explained};
use crate::auth::passwords::Passwords;
use crate::backend;
use crate::catalog::{self, Facts};
use crate::cluster;
use crate::config::{LoadResult, Settings};
use crate::net::{Address, Deadline};
use crate::report::{self, LogSettings, Report, Severity};
use crate::route::{self, Candidate, Client, SessionView};
use crate::sql::{Kind, Lexing, Statement, analyse};
use crate::state::{Cluster, Delay, Limits, Shared};
use crate::supervisor;
use crate::wire::write;
use std::time::Duration;

/// How long the nodes may take to say what they are, and then the primary to tell what it knows of the statement.
const LIMIT: Duration = Duration::from_secs(3);

/// Prints the answer on stdout. Returns 0, or 1 if the configuration or the statement is none.
pub(super) fn run(options: &RouteOptions, loaded: LoadResult) -> i32 {
    let settings = match loaded {
        Ok(loaded) => loaded.settings,
        Err(problems) => {
            problems.log(Severity::Fatal);
            return EXIT_USAGE;
        }
    };
    // What a running pgpool would log is of no interest here.
    report::configure(LogSettings { min_messages: Severity::Fatal, ..LogSettings::default() });
    let statement = analyse(&options.statement, Lexing::default());
    if statement.kind == Kind::Empty {
        eprintln!("pgpool: route needs a statement");
        return EXIT_USAGE;
    }
    let mut cluster = supervisor::at_start(&settings);
    // Without it no server is asked at all.
    let tls = backend::configure_tls(&settings).err();
    let asked = !options.offline && cluster::look(&settings, &mut cluster, LIMIT);
    if !asked {
        cluster::assume(&settings, &mut cluster);
    }
    let Some(home) = cluster.write_node() else {
        eprintln!("pgpool: no node is attached");
        return EXIT_USAGE;
    };
    // Facts live in memory that processes share; here there is only one.
    let shared = match Shared::create(Limits { workers: 1, pool_slots: 1, ..Limits::default() }) {
        Ok(shared) => shared,
        Err(error) => {
            eprintln!("pgpool: {error}");
            return EXIT_USAGE;
        }
    };
    let question =
        Question { options, settings: &settings, statement: &statement, cluster: &cluster, home, shared: &shared, tls };
    print!("{}", question.answer(asked));
    0
}

/// A statement, and the nodes as they are now.
struct Question<'a> {
    options: &'a RouteOptions,
    settings: &'a Settings,
    statement: &'a Statement,
    cluster: &'a Cluster,
    home: usize,
    shared: &'a Shared,
    /// Why servers cannot be connected to as securely as is wanted.
    tls: Option<Report>,
}

impl Question<'_> {
    /// The whole text; `asked`: the nodes have said what they are.
    fn answer(&self, asked: bool) -> String {
        let shares = self.shares();
        let balance: Vec<_> = shares.iter().map(|(node, _)| *node).collect();
        let (facts, source) = self.facts(asked);
        let has_balance_node = balance.iter().any(|node| *node != self.home);
        let session = SessionView { has_balance_node, ..SessionView::new(self.settings) };
        let route = route::decide(self.statement, &self.options.statement, session, &facts);
        let table = admin::explain(&Explained {
            statement: self.statement,
            text: &self.options.statement,
            route: (!self.is_for_pgpool()).then_some(&route),
            session,
            catalog: &facts,
            cluster: self.cluster,
            home: self.home,
            balance: &balance,
        });
        let share = |(node, share): &(usize, f64)| format!("{} with {:.0} %", self.name(*node), share * 100.0);
        let mut lines: Vec<(&str, String)> = Vec::new();
        for row in table.rows {
            lines.extend(table.columns.iter().map(String::as_str).zip(row));
        }
        lines.push(("client", format!("user {}, database {}", self.user(), self.database())));
        lines.push(("reads", shares.iter().map(share).collect::<Vec<_>>().join(", ")));
        lines.push(("nodes", self.nodes(asked)));
        lines.push(("catalog", source));
        lines.iter().map(|(name, value)| format!("{name:10}  {value}").trim_end().to_owned() + "\n").collect()
    }

    /// Who may become the load balance node, and how likely.
    fn shares(&self) -> Vec<(usize, f64)> {
        let candidate = |id: usize| {
            let node = &self.cluster.nodes[id];
            Candidate { id, weight: node.weight, delay: Delay::Unmeasured }
        };
        let candidates: Vec<_> = self.cluster.attached().iter().map(candidate).collect();
        let application_name = self.options.application_name.as_deref().unwrap_or_default();
        let client = Client { user: self.user(), database: self.database(), application_name };
        route::shares(self.settings, client, self.home, &candidates)
    }

    /// What the primary, or the server named, knows of the statement's tables and functions; and how we know.
    fn facts(&self, asked: bool) -> (Facts, String) {
        let mut facts = Facts::new(self.shared, self.shared.relcache().fingerprint(&()), self.settings, 0);
        let (relations, functions) = route::missing(self.statement, self.settings, &facts);
        if relations.is_empty() && functions.is_empty() {
            return (facts, "nothing to be looked up".to_owned());
        }
        let not = |why: &str| format!("tables and functions not looked up: {why}");
        if self.options.offline {
            return (facts, not("--offline"));
        }
        if !asked && self.options.host.is_none() && self.options.port.is_none() {
            return (facts, not("no node answers; -h and -p name a server that does"));
        }
        let node = &self.cluster.nodes[self.home];
        let address = Address {
            host: self.options.host.clone().unwrap_or_else(|| node.hostname.clone()),
            port: self.options.port.unwrap_or(node.port),
        };
        let mut startup = Vec::new();
        let account = [("user", self.user()), ("database", self.database()), ("application_name", "pgpool route")];
        write::startup(&mut startup, &account);
        let deadline = Deadline::after(LIMIT);
        if let Some(report) = &self.tls {
            return (facts, not(&report.to_string()));
        }
        let is_own = self.user() == or_postgres(&self.settings.sr_check_user);
        let password = if is_own { self.settings.sr_check_password.as_str() } else { "" };
        let credential = Passwords::new(self.settings).own_user(self.user(), password);
        let looked_up = backend::open(self.home, &address, &startup, &credential, deadline)
            .map_err(|error| error.into_report(self.home))
            .and_then(|mut server| {
                catalog::look_up_until(deadline, &mut facts, self.statement, self.settings, &mut server, true)?;
                server.close();
                Ok(())
            });
        match looked_up {
            Ok(()) => (facts, format!("looked up on {address}")),
            Err(report) => (facts, not(&report.to_string())),
        }
    }

    fn is_for_pgpool(&self) -> bool {
        let shows = || self.statement.show_pool().and_then(admin::Command::from_name).is_some();
        matches!(self.statement.kind, Kind::Pgpool(_)) || (!self.statement.is_multi() && shows())
    }

    fn user(&self) -> &str {
        self.options.user.as_deref().unwrap_or(or_postgres(&self.settings.sr_check_user))
    }

    fn database(&self) -> &str {
        self.options.database.as_deref().unwrap_or(or_postgres(&self.settings.sr_check_database))
    }

    /// What is known of the nodes, and which of them get nothing.
    fn nodes(&self, asked: bool) -> String {
        let role = if self.cluster.primary.is_some() { "primary" } else { "main node" };
        let mut text = match (asked, self.options.offline) {
            (true, _) => "asked what they are".to_owned(),
            (false, true) => format!("not asked: {} is taken for the {role}", self.name(self.home)),
            (false, false) => format!("none answers: {} is taken for the {role}", self.name(self.home)),
        };
        for (id, node) in self.cluster.nodes.iter().enumerate() {
            if node.port != 0 && !node.status.is_attached() {
                text.push_str(&format!("; {} is not used: {}", self.name(id), node.reason));
            }
        }
        text
    }

    fn name(&self, node: usize) -> String {
        let server = &self.cluster.nodes[node];
        format!("node {node} ({}:{})", server.hostname, server.port)
    }
}

fn or_postgres(name: &str) -> &str {
    if name.is_empty() { "postgres" } else { name }
}
