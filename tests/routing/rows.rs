//! Reads the tables of `tests/data/routing`: statements, the circumstances they meet, and where they go.
//!
//! A file is a list of sections. `== title` begins one, `given ...` lines say in which circumstances its statements are
//! sent, and every other line is a row of three columns, two blanks or more apart:
//!
//! ```text
//! == Reads beside a write
//! given in transaction
//! given disable_load_balance_on_write = off
//! balance  Read                    select * from orders
//! primary  SystemCatalog pg_class  select * from pg_class
//! ```
//!
//! The reason is the name of the variant, with a word that its sentence must contain. In statements `\n`, `\t`, `\r`, `\s`
//! (blank), `\xHH` and `\\` are escapes, `<empty>` is no text at all. `#` begins a comment line. `primary|balance` is a
//! statement that Pgpool-II (4.3, Debian's) sends elsewhere, perhaps `nowhere`; a comment in front of it says why.
//!
//! A circumstance is one of those in [`Circumstances::add`], or else a line of pgpool.conf. Names say what the catalog
//! knows of them; see [`NamesTell`].

use pgpool::config::{Settings, load_text};
use pgpool::route::{
    Catalog, Known, Reason, RecentWrites, RelationKind, Route, SessionView, Target, Transaction, Volatility, decide,
};
use pgpool::sql::{Encoding, Isolation, Lexing, Name, Statement, analyse};
use pgpool::state::{Delay, WriteAge};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A statement and what is expected of it.
pub struct Row {
    /// File and line, for messages.
    pub place: String,
    /// `balance`, `primary`, `both` or `main`.
    pub target: String,
    /// Where Pgpool-II sends it, if elsewhere.
    #[allow(dead_code, reason = "only the run against real servers compares with it")]
    pub original: Option<String>,
    /// Name of the reason, perhaps with a word of its sentence.
    pub reason: String,
    /// The statement.
    pub text: Vec<u8>,
}

/// Rows in the same circumstances.
pub struct Section {
    /// What they are about.
    pub title: String,
    /// In which circumstances.
    pub given: Circumstances,
    /// The rows.
    pub rows: Vec<Row>,
}

/// All sections of all files.
pub fn sections() -> Vec<Section> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/routing");
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("folder").map(|entry| entry.expect("entry").path()).collect();
    files.sort();
    files.iter().flat_map(|file| read(file)).collect()
}

fn read(file: &Path) -> Vec<Section> {
    let text = fs::read_to_string(file).expect("text");
    let name = file.file_name().expect("a file").to_string_lossy();
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let place = format!("{name}:{number}");
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix("== ") {
            sections.push(Section { title: title.to_owned(), given: Circumstances::default(), rows: Vec::new() });
            continue;
        }
        let section = sections.last_mut().unwrap_or_else(|| panic!("{place}: no section yet"));
        match line.strip_prefix("given ") {
            Some(given) => section.given.add(given, &place),
            None => section.rows.push(row(line, place)),
        }
    }
    sections.iter_mut().for_each(|section| section.given.finish(&name));
    sections
}

fn row(line: &str, place: String) -> Row {
    let split = |text: &'static str| panic!("{place}: a row needs {text}: {line}");
    let (target, rest) = line.split_once("  ").unwrap_or_else(|| split("a reason"));
    let (reason, text) = rest.trim_start().split_once("  ").unwrap_or_else(|| split("a statement"));
    let text = unescape(text.trim_start());
    let (target, original) = match target.split_once('|') {
        Some((target, original)) => (target, Some(original.to_owned())),
        None => (target, None),
    };
    Row { target: target.to_owned(), original, reason: reason.to_owned(), text, place }
}

fn unescape(text: &str) -> Vec<u8> {
    if text == "<empty>" {
        return Vec::new();
    }
    let mut bytes = text.bytes();
    let mut unescaped = Vec::new();
    while let Some(byte) = bytes.next() {
        unescaped.push(match byte {
            b'\\' => match bytes.next().expect("something behind a backslash") {
                b'n' => b'\n',
                b't' => b'\t',
                b'r' => b'\r',
                b's' => b' ',
                b'x' => {
                    let digits = [bytes.next().expect("digit"), bytes.next().expect("digit")];
                    u8::from_str_radix(&String::from_utf8_lossy(&digits), 16).expect("hexadecimal")
                }
                other => other,
            },
            byte => byte,
        });
    }
    unescaped
}

/// What a session has gone through, and how pgpool is configured.
pub struct Circumstances {
    /// As the file says, for messages.
    pub lines: Vec<String>,
    configuration: String,
    settings: Settings,
    lexing: Lexing,
    transaction: Transaction,
    writing: bool,
    written: Vec<Box<str>>,
    has_balance_node: bool,
    tied: bool,
    balance_in_transaction: bool,
    follows_prepared: bool,
    prepared: Option<Target>,
    runs: Option<Statement>,
    delay: Delay,
    recent: Option<OthersWrote>,
}

impl Default for Circumstances {
    /// A new session with all abilities, and the default configuration.
    fn default() -> Self {
        Self {
            lines: Vec::new(),
            configuration: String::new(),
            settings: Settings::default(),
            lexing: Lexing::default(),
            transaction: Transaction::Idle,
            writing: false,
            written: Vec::new(),
            has_balance_node: true,
            tied: false,
            balance_in_transaction: true,
            follows_prepared: true,
            prepared: None,
            runs: None,
            delay: Delay::default(),
            recent: None,
        }
    }
}

impl Circumstances {
    fn add(&mut self, given: &str, place: &str) {
        self.lines.push(given.to_owned());
        let open = |isolation| Transaction::Open { isolation, on_primary_only: false };
        let (first, rest) = given.split_once(' ').unwrap_or((given, ""));
        match (first, rest) {
            (_, "transaction") if first == "in" => self.transaction = open(Some(Isolation::ReadCommitted)),
            ("in", "transaction of unknown isolation") => self.transaction = open(None),
            ("in", "transaction on the primary only") => {
                self.transaction =
                    Transaction::Open { isolation: Some(Isolation::ReadCommitted), on_primary_only: true };
            }
            ("in", "failed transaction") => self.transaction = Transaction::Failed,
            ("in", level) => {
                let level = level.strip_suffix(" transaction").and_then(Isolation::from_name);
                self.transaction = open(Some(level.unwrap_or_else(|| panic!("{place}: no isolation level"))));
            }
            ("has", "written") => self.writing = true,
            ("wrote", names) => self.written.extend(names.split(", ").map(Box::from)),
            ("tied", _) => self.tied = true,
            ("no", "other node") => self.has_balance_node = false,
            ("no", "transactions elsewhere") => self.balance_in_transaction = false,
            ("no", "statements prepared elsewhere") => self.follows_prepared = false,
            ("prepared", "on balance") => self.prepared = Some(Target::Balance),
            ("prepared", "on primary") => self.prepared = Some(Target::Primary),
            ("prepared", "on both") => self.prepared = Some(Target::Both),
            ("runs", text) => self.runs = Some(analyse(text.as_bytes(), Lexing::default())),
            ("behind", amount) => {
                let number = |unit| amount.strip_suffix(unit).and_then(|number| number.parse().ok());
                self.delay = match (number(" bytes"), number(" ms")) {
                    (Some(bytes), _) => Delay::Bytes(bytes),
                    (_, Some(ms)) => Delay::Time(Duration::from_millis(ms)),
                    _ => panic!("{place}: no delay"),
                };
            }
            ("others", what) => self.recent.get_or_insert_default().add(what, place),
            ("encoding", name) => self.lexing.encoding = Encoding::from_name(name),
            ("standard_conforming_strings", value) => self.lexing.standard_conforming_strings = value == "on",
            _ => self.configuration += &format!("{given}\n"),
        }
    }

    fn finish(&mut self, file: &str) {
        self.settings = settings(&self.configuration).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// The same with another line of configuration.
    pub fn with_setting(&self, line: &str) -> Settings {
        settings(&format!("{}{line}\n", self.configuration)).expect("valid")
    }

    /// What routing sees of it.
    pub fn view(&self) -> SessionView<'_> {
        SessionView {
            has_balance_node: self.has_balance_node,
            tied: self.tied,
            transaction: self.transaction,
            balance_in_transaction: self.balance_in_transaction,
            writing: self.writing,
            written: &self.written,
            recent: self.recent.as_ref().map(|recent| recent as &dyn RecentWrites),
            follows_prepared: self.follows_prepared,
            prepared: self.prepared,
            runs: self.runs.as_ref(),
            delay: self.delay,
            ..SessionView::new(&self.settings)
        }
    }

    /// The facts of a text in the session's encoding.
    pub fn facts(&self, text: &[u8]) -> Statement {
        analyse(text, self.lexing)
    }

    /// Where the text goes.
    pub fn route(&self, text: &[u8]) -> Route {
        decide(&self.facts(text), text, self.view(), &NamesTell)
    }
}

fn settings(lines: &str) -> Result<Settings, String> {
    if lines.is_empty() {
        return Ok(Settings::default());
    }
    let nodes = "backend_hostname0 = 'a'\nbackend_port0 = 5432\n";
    // Modes have their rules before a start accepts them, so the mode is not read but assigned.
    let mode = |line: &&str| line.starts_with("backend_clustering_mode");
    let (modes, rest): (Vec<_>, Vec<_>) = lines.lines().partition(mode);
    match load_text(Path::new("/pgpool.conf"), format!("{nodes}{}", rest.join("\n")).as_bytes()) {
        Ok(mut loaded) => {
            for (name, value) in modes.iter().filter_map(|line| line.split_once(" = ")) {
                loaded.settings.assign(name, value).map_err(|report| report.to_string())?;
            }
            Ok(loaded.settings)
        }
        Err(problems) => Err(problems.iter().map(|problem| problem.to_string()).collect::<Vec<_>>().join("\n")),
    }
}

/// What other sessions have written: `wrote NAME LAST ms ago[, first FIRST ms ago]`, `wrote nothing`, `are unknown` (a cold
/// start), `count for TTL ms`.
#[derive(Debug, Default)]
struct OthersWrote {
    cold: bool,
    ttl: Option<Duration>,
    tables: Vec<(String, WriteAge)>,
}

impl OthersWrote {
    fn add(&mut self, what: &str, place: &str) {
        let words: Vec<&str> = what.split(' ').collect();
        let ms = |word: &str| {
            Duration::from_millis(word.parse().unwrap_or_else(|_| panic!("{place}: no number of milliseconds")))
        };
        match words[..] {
            ["wrote", "nothing"] => {}
            ["are", "unknown"] => self.cold = true,
            ["count", "for", ttl, "ms"] => self.ttl = Some(ms(ttl)),
            ["wrote", name, last, "ms", "ago"] => {
                self.tables.push((name.to_owned(), WriteAge { last: ms(last), first: ms(last) }));
            }
            ["wrote", name, last, "ms", "ago,", "first", first, "ms", "ago"] => {
                self.tables.push((name.to_owned(), WriteAge { last: ms(last), first: ms(first) }));
            }
            _ => panic!("{place}: not understood"),
        }
    }
}

impl RecentWrites for OthersWrote {
    fn is_cold(&self) -> bool {
        self.cold
    }

    fn ttl(&self) -> Duration {
        self.ttl.unwrap_or(Duration::from_millis(100))
    }

    fn age(&self, relation: &Name) -> Option<WriteAge> {
        self.tables.iter().find(|(name, _)| **name == *relation.name).map(|(_, age)| *age)
    }
}

/// A catalog in which names say what they are. Functions: `read_...` and the built-in ones below only read, `write_...` and
/// the volatile ones below may write, `nosuch...` do not exist, `later...` have not been asked for yet; any other name is a
/// mistake in the table. Relations: `temp...`, `unlogged...`, `view...`, `secured...`, `nosuch...`, `later...`, and `pg_...`
/// of the search path or `pg_catalog`; all others are ordinary.
pub struct NamesTell;

const READING: &str = "abs age avg array_agg btrim cardinality coalesce concat count cume_dist current_database \
    current_schema current_setting date_trunc dense_rank extract first_value format format_type generate_series has_table_privilege \
    is_normalized json_agg json_array_elements jsonb_agg jsonb_path_query lag last_value lead left length like_escape lower max \
    min mode normalize now ntile nth_value obj_description overlaps overlay percentile_cont pg_backend_pid \
    pg_collation_for pg_get_viewdef pg_my_temp_schema pg_size_pretty pg_table_size pg_typeof position rank regexp_match \
    regexp_replace repeat round row_number row_to_json statement_timestamp string_agg string_to_array substring sum \
    similar_to_escape system_user timezone to_char to_date to_jsonb to_regclass to_tsvector transaction_timestamp txid_current \
    pg_current_xact_id pg_walfile_name trim unnest upper version xmlagg xpath xmlexists bernoulli system bool_or every";

const WRITING: &str = "clock_timestamp currval dblink dblink_exec gen_random_uuid lastval lo_creat lo_create lo_export \
    lo_from_bytea lo_get lo_import lo_open lo_put lo_unlink loread lowrite nextval pg_advisory_lock pg_advisory_unlock \
    pg_advisory_xact_lock pg_cancel_backend pg_create_restore_point pg_export_snapshot pg_is_in_recovery \
    pg_logical_emit_message pg_notify pg_promote pg_reload_conf pg_sleep pg_stat_reset pg_switch_wal \
    pg_terminate_backend pg_try_advisory_lock query_to_xml random set_config setseed setval timeofday uuid_generate_v4";

impl Catalog for NamesTell {
    fn function(&self, name: &Name) -> Known<Volatility> {
        let is_in = |list: &str| list.split_whitespace().any(|known| known == &*name.name);
        let begins = |with| name.name.starts_with(with);
        Known::Yes(match () {
            _ if begins("later") => return Known::NotYet,
            _ if begins("nosuch") => Volatility::None,
            _ if begins("write_") || is_in(WRITING) => Volatility::Volatile,
            _ if begins("read_") || is_in(READING) => Volatility::Reads,
            _ => panic!("what is the function {name}?"),
        })
    }

    fn relation(&self, name: &Name) -> Known<RelationKind> {
        let begins = |with| name.name.starts_with(with);
        let is_of_system = name.schema.as_deref().is_none_or(|schema| schema == "pg_catalog");
        Known::Yes(match () {
            _ if begins("later") => return Known::NotYet,
            _ if begins("nosuch") => RelationKind::None,
            _ if begins("temp") => RelationKind::Temporary,
            _ if begins("unlogged") => RelationKind::Unlogged,
            _ if begins("view") => RelationKind::View,
            _ if begins("secured") => RelationKind::RowSecurity,
            _ if begins("pg_") && is_of_system => RelationKind::System,
            _ => RelationKind::Ordinary,
        })
    }
}

/// The name of a target as the tables write it.
pub fn target_name(target: Target) -> String {
    format!("{target:?}").to_lowercase()
}

/// The name of a reason, without what it holds.
pub fn reason_name(reason: &Reason) -> String {
    let debug = format!("{reason:?}");
    debug.split('(').next().unwrap_or_default().to_owned()
}

/// Whether a reason is the one that a row writes.
pub fn is_reason(written: &str, reason: &Reason) -> bool {
    let (name, word) = written.split_once(' ').unwrap_or((written, ""));
    name == reason_name(reason) && reason.to_string().contains(word)
}
