//! Tests with text that nobody writes by hand.

use super::analyse;
use crate::sql::{Kind, Lexing, Unparsable};
use proptest::prelude::*;

/// Analyses on a thread with little stack; a stack overflow would end the whole test program.
fn kind_with_small_stack(text: String) -> Kind {
    let analysed = std::thread::Builder::new()
        .stack_size(256 * 1024)
        .spawn(move || analyse(text.as_bytes(), Lexing::default()).kind)
        .expect("thread starts");
    analysed.join().expect("no panic")
}

#[test]
fn deep_texts_need_no_stack() {
    let n = 60_000;
    let understood = [
        format!("select 1{}", "+1".repeat(n)),
        format!("select 1 from t where a{}", " and a".repeat(n / 2)),
        format!("select 1{}", " union select 1".repeat(n / 5)),
        format!("select 1{}", "::int".repeat(n / 2)),
        format!("select a{}", "[1]".repeat(n)),
        format!("select * from t{}", " cross join t".repeat(n / 5)),
        format!("select {}1", "- ".repeat(2_000)),
    ];
    for text in understood {
        assert_eq!(kind_with_small_stack(text.clone()), Kind::Select, "{}", &text[..40]);
    }
    let refused = [
        format!("select {}1{}", "(".repeat(n), ")".repeat(n)),
        format!("select {}1", "- ".repeat(n)),
        format!("select {}true", "not ".repeat(n)),
        "(".repeat(250_000),
        format!("select {}", "case when ".repeat(n / 4)),
        format!("select {}", "(select ".repeat(n / 4)),
        format!("with a as {}", "(with a as ".repeat(n / 5)),
    ];
    for text in refused {
        let kind = kind_with_small_stack(text.clone());
        assert!(matches!(kind, Kind::Unparsable(Unparsable::Syntax(_))), "{}: {kind:?}", &text[..40]);
    }
}

#[test]
fn comments_need_little_stack_and_time() {
    let few = [
        format!("{}select 1", "/**/".repeat(250)),
        format!("{}select 1", "--\n".repeat(250)),
        format!("{}{}select 1", "/*".repeat(125), "*/".repeat(125)),
        format!("/*{}*/select 1", "*+".repeat(60_000)),
    ];
    for text in few {
        assert_eq!(kind_with_small_stack(text), Kind::Select);
    }
    for text in ["/**/".repeat(60_000), "--\n".repeat(60_000), "/*".repeat(125_000), "-".repeat(250_000)] {
        assert_eq!(kind_with_small_stack(text), Kind::Unparsable(Unparsable::Comments));
    }
}

#[test]
fn texts_of_the_issue_are_refused_by_their_length() {
    let texts = [format!("select 1{}", "+1".repeat(200_000)), "(".repeat(1_000_000)];
    for text in texts {
        assert_eq!(kind_with_small_stack(text), Kind::Unparsable(Unparsable::TooLong));
    }
}

#[test]
fn many_names_take_no_quadratic_time() {
    let tables: Vec<_> = (0..20_000).map(|i| format!("t{i}")).collect();
    let statement = analyse(format!("select f() from {}", tables.join(",")).as_bytes(), Lexing::default());
    assert_eq!(statement.relations.len(), 20_000);
    let queries: Vec<_> = (0..5_000).map(|i| format!("a{i} as (table a{})", i / 2)).collect();
    let text = format!("with recursive {} select 1", queries.join(","));
    assert!(analyse(text.as_bytes(), Lexing::default()).relations.is_empty());
}

/// Pieces that make interesting statements when they meet.
const FRAGMENTS: &[&str] = &[
    "select",
    "insert into",
    "update",
    "delete from",
    "merge into",
    "with",
    "recursive",
    "as",
    "(",
    ")",
    ",",
    ";",
    "from",
    "where",
    "set",
    "values",
    "t",
    "s.t",
    "\"Q\"",
    "f(",
    "f()",
    "1",
    "'x'",
    "$1",
    "$$",
    "E'\\n'",
    "U&'\\00fc'",
    "--",
    "/*",
    "*/",
    "\n",
    "*",
    "+",
    "::",
    "[",
    "]",
    "into",
    "temp",
    "for update",
    "returning",
    "union",
    "all",
    "copy",
    "to",
    "stdout",
    "stdin",
    "explain",
    "analyze",
    "prepare",
    "p",
    "execute",
    "deallocate",
    "begin",
    "commit",
    "rollback",
    "savepoint",
    "show",
    "reset",
    "discard",
    "pgpool",
    "declare",
    "cursor",
    "fetch",
    "lock",
    "table",
    "create",
    "drop",
    "alter",
    "view",
    "index",
    "on",
    "using",
    "join",
    "lateral",
    "json_table(",
    "json_object(",
    "xmltable(",
    "case",
    "when",
    "then",
    "else",
    "end",
    "not",
    "null",
    "true",
    "=",
    "'",
    "\"",
    "\\",
    "\u{fc}",
    "\u{1f418}",
    "order by",
    "group by",
    "limit",
    "over",
    "partition by",
    "filter",
    "array",
    "row",
    "in",
    "between",
    "and",
    "or",
    "like",
    "is",
    "transaction",
    "isolation level",
    "serializable",
    "read only",
    "call",
    "do",
    "listen",
    "vacuum",
    "local",
    "time zone",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn any_bytes_have_facts(text in proptest::collection::vec(any::<u8>(), 0..200)) {
        let kind = analyse(&text, Lexing::default()).kind;
        prop_assert_ne!(kind, Kind::Unparsable(Unparsable::ParserFailed));
    }

    #[test]
    fn any_fragments_have_facts(pieces in proptest::collection::vec(proptest::sample::select(FRAGMENTS), 0..30)) {
        let kind = analyse(pieces.join(" ").as_bytes(), Lexing::default()).kind;
        prop_assert_ne!(kind, Kind::Unparsable(Unparsable::ParserFailed));
    }
}
