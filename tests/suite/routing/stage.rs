//! Where the tables are played: a primary (node 0) and a standby (node 1) that log every statement, with the objects that
//! the tables name, and a pgpool whose reads go to the standby.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use pgpool::sql::Name;

use super::rows::Section;
use crate::harness::{Cluster, Entry, Listener, Pgpool, Reply, Wire, frontend};

/// The database; some rows name it.
pub const DATABASE: &str = "db";

/// A role that owns nothing, so that statements arrive and nevertheless break nothing.
pub const ROLE: &str = "clerk";

/// The servers, with all objects on both; made on first use and ended with the test program.
pub fn cluster(tables: &[Section]) -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let cluster = Cluster::streaming(2).set("log_statement", "all").start();
        cluster.primary().sql(&format!("CREATE DATABASE {DATABASE}"));
        let login = [("user", "postgres"), ("database", DATABASE)];
        let mut session = Wire::login_with(cluster.primary().port, &login).expect("login");
        session.query(&objects(tables)).succeeded();
        cluster.wait_replayed();
        cluster
    })
}

/// What the names in the tables stand for; see `NamesTell` in rows.rs.
fn objects(tables: &[Section]) -> String {
    let mut relations = BTreeSet::from(["t1", "t2", "filler", "unlogged1"].map(|name| Name::qualified("public", name)));
    let mut functions = BTreeSet::new();
    for section in tables {
        for row in &section.rows {
            let facts = section.given.facts(&row.text);
            relations.extend(facts.reads().map(in_schema));
            functions.extend(facts.functions.iter().map(in_schema));
        }
    }
    relations.retain(is_made);
    functions.retain(|name| name.name.starts_with("read_") || name.name.starts_with("write_"));

    let schemas: BTreeSet<&str> =
        relations.iter().chain(&functions).filter_map(|name| name.schema.as_deref()).collect();
    let mut sql = format!(
        "CREATE ROLE {ROLE} LOGIN; CREATE ROLE joe; CREATE ROLE \"My Role\"; GRANT joe, \"My Role\" TO {ROLE};
         REVOKE CREATE ON SCHEMA public FROM public;
         CREATE SEQUENCE s; CREATE PROCEDURE p1() LANGUAGE sql AS 'SELECT 1';\n"
    );
    for schema in &schemas {
        sql += &format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\"; GRANT USAGE ON SCHEMA \"{schema}\" TO {ROLE};\n");
    }
    let (views, tables): (Vec<_>, Vec<_>) = relations.iter().partition(|name| name.name.starts_with("view"));
    for name in tables {
        let unlogged = if name.name.starts_with("unlogged") { "UNLOGGED" } else { "" };
        let name_in_sql = name.quoted();
        sql += &format!("CREATE {unlogged} TABLE {name_in_sql} (a int, b int, c int);\n");
        if name.name.starts_with("secured") {
            sql += &format!("ALTER TABLE {name_in_sql} ENABLE ROW LEVEL SECURITY;\n");
            sql += &format!("CREATE POLICY every_row ON {name_in_sql} USING (true);\n");
        }
    }
    for name in views {
        let of = if name.name.ends_with("unlogged") { "unlogged1" } else { "t1" };
        sql += &format!("CREATE VIEW {} AS SELECT * FROM {of};\n", name.quoted());
    }
    for name in &functions {
        let volatility = if name.name.starts_with("read_") { "STABLE" } else { "VOLATILE" };
        let name = name.quoted();
        sql += &format!(
            "CREATE FUNCTION {name}(VARIADIC a int[] DEFAULT '{{}}') RETURNS int {volatility} LANGUAGE sql AS 'SELECT 1';\n"
        );
    }
    for schema in &schemas {
        sql += &format!("GRANT ALL ON ALL TABLES IN SCHEMA \"{schema}\" TO {ROLE};\n");
        sql += &format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA \"{schema}\" TO {ROLE};\n");
    }
    sql
}

/// The name with a schema.
fn in_schema(name: &Name) -> Name {
    let of_system = name.name.starts_with("pg_");
    let schema = name.schema.as_deref().unwrap_or(if of_system { "pg_catalog" } else { "public" });
    Name::qualified(schema, &name.name)
}

/// Whether a relation of this name is to be made. One named `temp...` lies below the temporary table of each session.
fn is_made(name: &Name) -> bool {
    let of_system = ["pg_catalog", "pg_temp", "information_schema"];
    let is_there = name.schema.as_deref().is_some_and(|schema| of_system.contains(&schema));
    !is_there && !["nosuch", "later"].iter().any(|begin| name.name.starts_with(begin))
}

/// A pgpool in front of the cluster, for one test, and what its servers hear of it.
pub struct Stage {
    pub pool: Pgpool,
    application: String,
    ears: [Listener; 2],
}

/// What each node has heard.
pub type Heard = [Vec<Entry>; 2];

impl Stage {
    /// `application` tells the test's sessions from those of others. One worker: a new session begins when the servers have
    /// forgotten the last one.
    pub fn start(cluster: &Cluster, application: &str, settings: &[(String, String)]) -> Stage {
        let config = Pgpool::on(cluster).weights(&[0.0, 1.0]).set("num_init_children", 1);
        let pool = settings.iter().fold(config, |config, (name, value)| config.set(name, value)).start();
        let ears = [0, 1].map(|id| Listener::new(cluster.node(id), application));
        Stage { pool, application: application.to_owned(), ears }
    }

    /// A new session with these startup parameters beside the usual ones.
    pub fn session(&self, parameters: &[(&str, &str)]) -> Wire {
        let usual = [("user", ROLE), ("database", DATABASE), ("application_name", &self.application)];
        self.pool.connect_with(&[&usual, parameters].concat())
    }

    /// What the nodes have heard since this was asked last.
    pub fn hear(&mut self) -> Heard {
        self.ears.each_mut().map(Listener::hear)
    }
}

/// Runs a simple query of any bytes to its end; COPY FROM STDIN gets no data.
pub fn ask(session: &mut Wire, text: &[u8]) -> Result<Reply, String> {
    session.send(frontend::message('Q', &[text, b"\0"].concat()));
    let mut messages = Vec::new();
    loop {
        let message = session.try_read().map_err(|error| error.to_string())?.ok_or("the connection was closed")?;
        let kind = message.kind;
        messages.push(message);
        match kind {
            b'G' => session.send(frontend::copy_fail("no data")),
            b'Z' => return Ok(Reply(messages)),
            _ => {}
        }
    }
}
