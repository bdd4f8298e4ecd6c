//! The circumstances of a section, made with real statements and settings.

use super::rows::{Row, Section};
use crate::harness::server_version;

/// What must be done before a row's statement is sent.
pub struct Preparation {
    /// Settings of pgpool.conf.
    pub settings: Vec<(String, String)>,
    /// Startup parameters of the session.
    pub parameters: Vec<(&'static str, String)>,
    /// Statements of the session.
    pub statements: Vec<String>,
    /// Reads go to the primary for the rest of the session.
    pub stays: bool,
}

/// What makes the circumstances of a row, or why that cannot be done.
pub fn prepare(section: &Section, row: &Row) -> Result<Preparation, &'static str> {
    let given = &section.given.lines;
    let has = |line: &str| given.iter().any(|given| given == line);
    let after = |word: &str| given.iter().find_map(|given| given.strip_prefix(word));
    possible(section, row)?;

    let mut statements = Vec::new();
    let text = String::from_utf8_lossy(&row.text).into_owned();
    let name = text.replace("/* comment */", "").split_whitespace().nth(1).unwrap_or("a").to_owned();
    match after("prepared on ") {
        Some("balance") if after("runs ").is_none() => statements.push(format!("PREPARE {name} AS SELECT 1")),
        Some("primary") => statements.push(format!("PREPARE {name} AS SELECT nextval('s')")),
        Some("both") => {
            let prepare = format!("PREPARE {name} AS SELECT 1");
            let everywhere = ["BEGIN", "INSERT INTO filler DEFAULT VALUES", &format!("EXECUTE {name}"), "COMMIT"];
            statements.push(prepare);
            statements.extend(everywhere.map(str::to_owned));
        }
        _ => {}
    }
    statements.extend(after("runs ").map(str::to_owned));
    // Behind PREPARE: what is prepared reads the permanent table below.
    if reads_temporary(section, row) {
        statements.push("CREATE TEMP TABLE temp1 (a int, b int, c int)".to_owned());
    }
    if text.contains("pg_sleep") {
        statements.push("SET statement_timeout = '50ms'".to_owned());
    }
    if has("tied") {
        statements.push("SELECT set_config('a.tied', 'yes', false)".to_owned());
    }
    if has("standard_conforming_strings off") {
        statements.push("SET standard_conforming_strings = off".to_owned());
    }

    let (begin, in_block) = match after("in ") {
        None => ("BEGIN".to_owned(), false),
        Some("transaction on the primary only") => ("BEGIN; SELECT 1".to_owned(), true),
        Some("transaction" | "failed transaction") => ("BEGIN".to_owned(), true),
        Some(level) => (format!("BEGIN ISOLATION LEVEL {}", level.trim_end_matches(" transaction")), true),
    };
    // `dml_adaptive` knows what an INSERT writes; what DO writes it cannot know.
    let is_adaptive = has("disable_load_balance_on_write = dml_adaptive");
    let write = if is_adaptive { "DO $$ BEGIN END $$" } else { "INSERT INTO filler DEFAULT VALUES" };
    let mut inside: Vec<String> = has("has written").then(|| write.to_owned()).into_iter().collect();
    for table in after("wrote ").iter().flat_map(|names| names.split(", ")) {
        inside.push(format!("INSERT INTO {table} DEFAULT VALUES"));
    }
    if has("in failed transaction") {
        inside.push("selct".to_owned());
    }
    if in_block || !inside.is_empty() {
        statements.push(begin);
        statements.append(&mut inside);
        if !in_block {
            statements.push("COMMIT".to_owned());
        }
    }

    let mut settings: Vec<(String, String)> = given.iter().filter_map(|line| setting(line)).collect();
    if has("no other node") {
        settings
            .extend([("backend_weight0", "1"), ("backend_weight1", "0")].map(|(n, v)| (n.to_owned(), v.to_owned())));
    }
    let parameters = after("encoding ").map(|name| ("client_encoding", name.to_owned())).into_iter().collect();
    let for_ever = has("disable_load_balance_on_write = always") && has("has written");
    let stays = has("tied") || has("no other node") || for_ever;
    Ok(Preparation { settings, parameters, statements, stays })
}

/// Refuses what no client can do, or the servers cannot show.
fn possible(section: &Section, row: &Row) -> Result<(), &'static str> {
    for line in &section.given.lines {
        let begins = |words: &[&str]| words.iter().any(|word| line.starts_with(word));
        if begins(&["behind", "others", "disable_load_balance_on_write = dml_adaptive_global"]) {
            return Err("the delay of a node and the writes of others are set by hand in shared memory");
        }
        if begins(&[
            "no transactions elsewhere",
            "no statements prepared elsewhere",
            "in transaction of unknown isolation",
        ]) {
            return Err("the session has this ability always");
        }
        if begins(&["backend_clustering_mode = native_replication", "backend_clustering_mode = snapshot_isolation"]) {
            return Err("the mode is refused at start");
        }
        if begins(&["encoding SJIS"]) && !row.text.is_ascii() {
            return Err("the log would show the text in another encoding");
        }
    }
    // No function extract, and a timezone that is volatile.
    let of_14 = |name: &pgpool::sql::Name| ["extract", "timezone"].contains(&&*name.name);
    if server_version() < 14 && section.given.facts(&row.text).functions.iter().any(of_14) {
        return Err("the catalog of such an old server knows the function otherwise");
    }
    match row.reason.as_str() {
        "FactsMissing" => Err("facts are never missing where a server can be asked"),
        "OurOwn" => Err("pgpool answers by itself"),
        _ if row.text.contains(&0) => Err("a message cannot hold the text"),
        _ => Ok(()),
    }
}

fn reads_temporary(section: &Section, row: &Row) -> bool {
    let runs = section.given.lines.iter().find_map(|line| line.strip_prefix("runs "));
    let texts = [row.text.as_slice(), runs.unwrap_or_default().as_bytes()];
    texts.iter().any(|text| section.given.facts(text).reads().any(|name| &*name.name == "temp1"))
}

/// Name and value of a line of pgpool.conf.
pub fn setting(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(" = ")?;
    let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    let value = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')).unwrap_or(value);
    is_name.then(|| (name.to_owned(), value.to_owned()))
}
