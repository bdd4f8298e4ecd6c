//! Properties of routing, with PostgreSQL's grammar as the judge: a statement that writes anywhere inside goes nowhere but
//! to the primary, no bytes make it panic, and what the cache says of a text is what an analysis says.

#[allow(dead_code, reason = "the tables are read here for their statements only")]
#[path = "routing/rows.rs"]
mod rows;

use pgpool::config::{BackendClusteringMode, DisableLoadBalanceOnWrite, Settings};
use pgpool::route::{Catalog, Known, RelationKind, SessionView, Target, Transaction, Volatility, decide};
use pgpool::sql::{Encoding, FactsCache, Isolation, Kind, Lexing, Name, Statement, Unparsable, analyse};
use proptest::prelude::*;
use proptest::sample::select;

/// A catalog in which nothing stands in the way of a read but functions called `write_it`.
struct Harmless;

impl Catalog for Harmless {
    fn function(&self, name: &Name) -> Known<Volatility> {
        Known::Yes(if &*name.name == "write_it" { Volatility::Volatile } else { Volatility::Reads })
    }

    fn relation(&self, _: &Name) -> Known<RelationKind> {
        Known::Yes(RelationKind::Ordinary)
    }
}

/// Settings and a session that keep no read from going elsewhere, whatever its text looks like.
fn permissive(mode: BackendClusteringMode) -> Settings {
    Settings {
        backend_clustering_mode: mode,
        allow_sql_comments: true,
        disable_load_balance_on_write: DisableLoadBalanceOnWrite::Off,
        ..Settings::default()
    }
}

fn target(facts: &Statement, text: &str, settings: &Settings, transaction: Transaction) -> Target {
    let session =
        SessionView { transaction, balance_in_transaction: true, follows_prepared: true, ..SessionView::new(settings) };
    decide(facts, text.as_bytes(), session, &Harmless).target
}

fn analysed(text: &str) -> Statement {
    analyse(text.as_bytes(), Lexing::default())
}

/// Queries that write, or lock, by themselves.
const WRITING: &[&str] = &[
    "with x as (insert into t values (1) returning 1) select * from x",
    "with x as (insert into t select * from s on conflict do nothing) select 1",
    "with x as (update t set a = 1 returning a) table x",
    "with x as (delete from t using s where t.a = s.a) select 1",
    "with x as (merge into t using s on true when matched then delete returning 1) select * from x",
    "with x as (with y as (select 1) insert into t select * from y returning 1) select * from x",
    "with x as (insert into t values ((select 1)) returning 1) values (1)",
    "select 1 into t9",
    "select * into temp t9 from t",
    "select * from t for update",
    "select * from t, s for no key update of s skip locked",
    "select a from t for share",
    "table t for key share nowait",
    "select write_it()",
    "select * from write_it()",
    "select a from t where write_it(a) order by 1",
    "select sum(a) over (order by write_it()) from t",
    "select * from json_table(write_it(), '$' columns (a int path '$')) j",
    "values (write_it())",
];

/// Queries that may go anywhere. `~` is a blank that stays one.
const READING: &[&str] = &[
    "select 1",
    "select * from t where read_it(a) = 1",
    "values (1)",
    "table t",
    "with x as (select 1) select * from x",
    "select 'insert~into~t;~for~update' from \"write_it\"",
];

/// What may stand around a query, itself a query.
const AROUND: &[&str] = &[
    "(QUERY)",
    "select (QUERY)",
    "select * from (QUERY) s",
    "select * from t, lateral (QUERY) s",
    "select 1 from a left join (b cross join (QUERY) s) on true",
    "select 1 from a join b on exists (QUERY)",
    "select 1 where a in (QUERY) or not exists (QUERY)",
    "select 1 from t where (a, b) = (QUERY)",
    "select 1 from t where a > all (QUERY)",
    "select read_it((QUERY)), array(QUERY), array[(QUERY)]",
    "select read_it(a => (QUERY), variadic array[1])",
    "select (QUERY) union all select 1",
    "select 1 union all (QUERY)",
    "(QUERY) intersect select 1",
    "(QUERY) except all (QUERY) order by 1 limit 1",
    "values (1, (QUERY)), (2, 3)",
    "with z as (QUERY) select 1",
    "with z as materialized (select 1), y as (QUERY) select * from z",
    "with recursive z as (select 1 union all (QUERY)) select * from z",
    "with z as (with y as (QUERY) table y) select * from z",
    "with z as (select 1) select * from z, (QUERY) q",
    "select case (QUERY) when (QUERY) then (QUERY) else (QUERY) end",
    "select coalesce(1, (QUERY)), nullif((QUERY), 1), greatest((QUERY), 2)",
    "select ((QUERY))::int, cast((QUERY) as text) collate \"C\"",
    "select row(1, (QUERY)), ((QUERY)).a, ((QUERY))[1], a[(QUERY)] from t",
    "select (QUERY) is null, (QUERY) is true, (QUERY) between 1 and (QUERY)",
    "select 1 group by (QUERY) having 1 = any (QUERY) order by (QUERY)",
    "select count(*) from t group by grouping sets ((QUERY), rollup ((QUERY)), ())",
    "select distinct on ((QUERY)) a from t limit (QUERY) offset (QUERY)",
    "select sum(a) filter (where (QUERY)) over (partition by (QUERY)) from a",
    "select sum(a) over w from t window w as (order by (QUERY))",
    "select read_it(1) within group (order by (QUERY))",
    "select string_agg(a, b order by (QUERY)) from t",
    "select * from rows from (read_it((QUERY)), read_it(1)) x",
    "select * from t tablesample system ((QUERY)) repeatable ((QUERY))",
    "select json_object('k': (QUERY)), json_array((QUERY)), json_arrayagg((QUERY)) from t",
    "select json_array(QUERY)",
    "select json_value(a, '$' passing (QUERY) as x default (QUERY) on empty) from t",
    "select json_exists((QUERY), '$'), (QUERY) is json",
    "select * from json_table((QUERY), '$' passing (QUERY) as p columns (a int path '$')) j",
    "select xmlelement(name a, xmlattributes((QUERY) as b), (QUERY)), xmlforest((QUERY) as c)",
    "select * from xmltable('/a' passing (QUERY) columns b int path 'c' default (QUERY)) x",
    "select a at time zone (QUERY), extract(year from (QUERY)) from t",
];

/// Statements around a query that may go where the query may.
const CARRYING: &[&str] =
    &["QUERY", "prepare p as QUERY", "prepare p (int) as QUERY", "copy (QUERY) to stdout", ";QUERY;"];

/// Statements that stay on the primary with any query inside.
const STAYING: &[&str] = &[
    "explain QUERY",
    "explain analyze QUERY",
    "explain (analyze, verbose, format json) QUERY",
    "declare c cursor for QUERY",
    "declare c scroll cursor with hold for QUERY",
    "create table t9 as QUERY",
    "create materialized view v9 as QUERY",
    "create view v9 as QUERY",
    "insert into t QUERY",
    "insert into t values ((QUERY)) on conflict (a) do update set a = (QUERY) returning (QUERY)",
    "update t set (a, b) = (QUERY) from (QUERY) s where (QUERY)",
    "delete from t using (QUERY) s where (QUERY) returning (QUERY)",
    "merge into t using (QUERY) s on (QUERY) when matched and (QUERY) then update set a = (QUERY)",
    "copy (QUERY) to '/tmp/x'",
    "copy (insert into t QUERY returning 1) to stdout",
    "prepare p as insert into t QUERY",
    "create rule r as on insert to t do instead QUERY",
    "QUERY; select 1",
    "select 1; QUERY",
    "begin; QUERY; commit",
];

/// A statement of `outer` around up to five nested queries around one of `cores`, in some style of writing.
fn statement(outer: &'static [&'static str], cores: &'static [&'static str]) -> impl Strategy<Value = String> {
    let nested = select(cores).prop_map(str::to_owned).prop_recursive(5, 16, 1, |inner| {
        (inner, select(AROUND)).prop_map(|(query, around)| replace_one(around, &query))
    });
    let style = (any::<bool>(), proptest::collection::vec(select(BLANKS), 1..8));
    (select(outer), nested, style).prop_map(|(outer, query, (upper, blanks))| {
        let text = replace_one(outer, &query);
        let mut blanks = blanks.into_iter().cycle();
        let words: Vec<&str> = text.split(' ').collect();
        let first = words[0].to_owned();
        let text = words[1..].iter().fold(first, |text, word| text + blanks.next().unwrap_or(" ") + word);
        let text = text.replace('~', " ");
        if upper { text.to_uppercase().replace("WRITE_IT", "write_it") } else { text }
    })
}

/// Ways to write a blank.
const BLANKS: &[&str] = &[" ", " ", " ", "\n", "\t", "  ", "/**/", " /* ; ' \" $$ */ ", " -- '\n", "\r\n"];

/// Puts the query in one of the places and a harmless one in all others, so that every place gets its turn alone.
fn replace_one(around: &str, query: &str) -> String {
    let places = around.matches("QUERY").count();
    // The choice depends on the query, so that it is the same when a failing case is run again.
    let chosen = query.len() % places.max(1);
    let parts: Vec<&str> = around.split("QUERY").collect();
    let fill = |at: usize| if at == chosen { query } else { "select 1" };
    let filled = parts[1..].iter().enumerate().map(|(at, part)| format!("{}{part}", fill(at)));
    parts[0].to_owned() + &filled.collect::<String>()
}

fn transactions() -> impl Strategy<Value = Transaction> {
    select(&[
        Transaction::Idle,
        Transaction::Failed,
        Transaction::Open { isolation: Some(Isolation::RepeatableRead), on_primary_only: false },
        Transaction::Open { isolation: Some(Isolation::ReadCommitted), on_primary_only: true },
    ])
}

fn is_understood(facts: &Statement) -> bool {
    !facts.kinds().any(|kind| matches!(kind, Kind::Unparsable(_)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3_000))]

    /// Nothing but the query itself stands in the way here.
    #[test]
    fn what_writes_goes_to_the_primary(text in statement(CARRYING, WRITING), transaction in transactions()) {
        let facts = analysed(&text);
        prop_assert!(is_understood(&facts), "{text}: {:?}", facts.kind);
        let settings = permissive(BackendClusteringMode::StreamingReplication);
        prop_assert_eq!(target(&facts, &text, &settings, transaction), Target::Primary, "{}", text);
        let settings = permissive(BackendClusteringMode::LogicalReplication);
        prop_assert_eq!(target(&facts, &text, &settings, transaction), Target::Primary, "{}", text);
        let settings = permissive(BackendClusteringMode::Raw);
        prop_assert_eq!(target(&facts, &text, &settings, transaction), Target::Main, "{}", text);
    }

    /// The same statements around a read may go elsewhere, so it was not their shape that kept them.
    #[test]
    fn what_reads_goes_to_the_load_balance_node(text in statement(CARRYING, READING)) {
        let facts = analysed(&text);
        prop_assert!(is_understood(&facts), "{text}: {:?}", facts.kind);
        let settings = permissive(BackendClusteringMode::StreamingReplication);
        prop_assert_eq!(target(&facts, &text, &settings, Transaction::Idle), Target::Balance, "{}", text);
    }

    #[test]
    fn what_is_no_read_goes_to_the_primary(
        text in prop_oneof![statement(STAYING, WRITING), statement(STAYING, READING)],
        transaction in transactions(),
    ) {
        let facts = analysed(&text);
        prop_assert!(is_understood(&facts), "{text}: {:?}", facts.kind);
        let settings = permissive(BackendClusteringMode::StreamingReplication);
        prop_assert_eq!(target(&facts, &text, &settings, transaction), Target::Primary, "{}", text);
    }

    #[test]
    fn any_bytes_have_a_destination(text in proptest::collection::vec(any::<u8>(), 0..300), lexing in lexings()) {
        has_destination(&text, lexing)?;
    }

    #[test]
    fn damaged_statements_have_a_destination(text in damaged(), lexing in lexings()) {
        has_destination(&text, lexing)?;
    }

    /// Texts with the same key have the same facts, whichever of them was met first.
    #[test]
    fn the_cache_says_what_an_analysis_says(
        template in prop_oneof![select(NUMBERED).prop_map(|text| text.as_bytes().to_vec()), numbered_row()],
        numbers in proptest::collection::vec(proptest::collection::vec(select(NUMBERS), 1..4), 2..5),
        lexing in lexings(),
    ) {
        let mut cache = FactsCache::new(FactsCache::DEFAULT_BYTES);
        for numbers in &numbers {
            let text = fill(&template, numbers);
            for _ in 0..2 {
                let cached = cache.get(&text, lexing);
                prop_assert_eq!(&*cached, &analyse(&text, lexing), "{}", String::from_utf8_lossy(&text));
            }
        }
    }
}

/// A recursion that the parser's own tree once hid: a WITH behind parentheses.
#[test]
fn a_modification_behind_parentheses() {
    let text = "((with x as (insert into t values (1) returning 1) select * from x) limit 1) limit 1";
    let settings = permissive(BackendClusteringMode::StreamingReplication);
    assert_eq!(target(&analysed(text), text, &settings, Transaction::Idle), Target::Primary);
}

fn has_destination(text: &[u8], lexing: Lexing) -> Result<(), TestCaseError> {
    let facts = analyse(text, lexing);
    prop_assert_ne!(&facts.kind, &Kind::Unparsable(Unparsable::ParserFailed));
    let settings = permissive(BackendClusteringMode::StreamingReplication);
    let route = decide(&facts, text, SessionView::new(&settings), &Harmless);
    prop_assert!(!route.reason.to_string().is_empty());
    let is_read = !facts.is_multi() && !facts.has.modification && !facts.has.locking && !facts.has.select_into;
    prop_assert!(route.target != Target::Balance || is_read && is_understood(&facts));
    Ok(())
}

fn lexings() -> impl Strategy<Value = Lexing> {
    let encodings = select(&[Encoding::Utf8, Encoding::AsciiSuperset, Encoding::Ambiguous]);
    (encodings, any::<bool>())
        .prop_map(|(encoding, standard_conforming_strings)| Lexing { encoding, standard_conforming_strings })
}

/// The statements of the tables.
fn corpus() -> Vec<Vec<u8>> {
    rows::sections().into_iter().flat_map(|section| section.rows).map(|row| row.text).collect()
}

/// A statement of the tables with a few bytes deleted, doubled, replaced, or taken from another one.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let corpus = corpus();
    let edit = (any::<prop::sample::Index>(), 0..5usize, any::<u8>(), 1..12usize);
    (select(corpus.clone()), select(corpus), proptest::collection::vec(edit, 1..5)).prop_map(
        |(mut text, other, edits)| {
            for (place, kind, byte, length) in edits {
                let at = place.index(text.len() + 1);
                let end = (at + length).min(text.len());
                match kind {
                    0 => drop(text.drain(at..end)),
                    1 => text.insert(at, byte),
                    2 => text[at..end].fill(byte),
                    3 => {
                        let part = text[at..end].to_vec();
                        text.splice(at..at, part);
                    }
                    _ => {
                        let from = place.index(other.len() + 1);
                        text.splice(at..at, other[from..].iter().copied());
                    }
                }
            }
            text
        },
    )
}

/// A statement of the tables with a place for a number wherever it has one.
fn numbered_row() -> impl Strategy<Value = Vec<u8>> {
    select(corpus()).prop_map(|text| {
        let mut template = Vec::new();
        for byte in text {
            match byte {
                b'0'..=b'9' if template.last() == Some(&b'#') => {}
                b'0'..=b'9' => template.push(b'#'),
                byte => template.push(byte),
            }
        }
        template
    })
}

fn fill(template: &[u8], numbers: &[&str]) -> Vec<u8> {
    let mut numbers = numbers.iter().cycle();
    let mut text = Vec::new();
    for byte in template {
        match byte {
            b'#' => text.extend_from_slice(numbers.next().map_or(b"0", |number| number.as_bytes())),
            byte => text.push(*byte),
        }
    }
    text
}

const NUMBERS: &[&str] =
    &["0", "1", "7", "53", "0041", "2147483647", "2147483648", "0000000000001", "99999999999999999999"];

/// Places in which a number may be more than a value.
const NUMBERED: &[&str] = &[
    "select # + # from t# where a = #",
    "select a from t where b = # and c < # or d in (#, #) limit # offset #",
    "select a from t fetch first # rows only",
    "select * from t order by #, # desc",
    "insert into t values (#, -#), (+#, #)",
    "update t set a = a + #, b=# where c>=#;",
    "delete from t where a<#",
    "select a::float(#), b::varchar(#) from t",
    "select a::float ( # ) from t",
    "select a::timestamp( # ), b::numeric(#,#), c::bit( # ) from t",
    "select interval '1' second( # ), current_timestamp( # )",
    "select '{}'::int[ # ], '{}'::int array[ # ]",
    "select a[ # ], b[ # : # ] from t",
    "select ' # ', '#', 'a=# ' from t",
    "select U&'=# ' uescape '='",
    "select U&'!# ' UESCAPE '!'",
    "select b' # ', x' # ', b'#'",
    "select #e#, #.#, .#, #., 0x#, #_#",
    "select $#, $# , #",
    "select \"t #\", # from \"#\"",
    "select E'\\\\#', #",
    "select $# $ $#$, #",
    "select # /* # */, #",
    "select # -- #\n, #",
    "select t# , t #, # t from t",
    "select pg_terminate_backend(#)",
    "select pg_terminate_backend( # , # )",
    "select pg_terminate_backend(#), #",
    "select * from generate_series(#, #) tablesample system ( # )",
    "set x.y = #",
    "set transaction_read_only = #",
    "set local transaction_read_only to #",
    "fetch # from c",
    "move backward # in c",
    "explain (analyze # ) select #",
    "explain (costs #, analyze #) delete from t where a = #",
    "prepare p as select #",
    "execute p( # )",
    "copy (select # ) to stdout",
    "select #; select #",
    "create sequence s start # increment #",
    "select json_value(a, '$[ # ]') from t",
    "values ( # ), (#)",
    "with recursive x as (select # union all select # from x) select * from x where a = #",
    "select #limit #",
    "select 1 where a =# and b=-# and c<>#",
    "PGPOOL SET port TO #",
];
