//! One client's session in every protocol mode, message by message (protocol 7-9, routing 13).

use std::time::Duration;

use crate::harness::frontend::{
    bind, close_portal, close_statement, copy_data, copy_done, copy_fail, describe_portal, describe_statement, execute,
    flush, function_call, parse, query, startup, sync,
};
use crate::harness::{Pgpool, Wire, server_version, shared, wait_for};
use crate::{needs_pgpool, needs_server, only_ours};

/// A pgpool in front of the shared cluster, all reads on a standby: what must hold must hold across two servers.
fn pool() -> Pgpool {
    Pgpool::on(shared()).weights(&[0.0, 0.0, 1.0]).start()
}

#[test]
fn login_tells_what_the_primary_tells() {
    only_ours!("parameters come from the lowest node, and pgpool's own keys differ");
    let pool = pool();
    let through = pool.connect();
    let direct = shared().primary().connect();
    assert_eq!(through.parameters, direct.parameters);
    assert_ne!(through.pid, 0);
    assert_eq!(through.key.len(), 4, "protocol 3.0 has keys of four bytes");
}

#[test]
fn simple_statements_answer_as_the_server_does() {
    let pool = pool();
    let mut session = pool.connect();
    for (sql, kinds) in [
        ("SELECT 1", "TDCZ"),
        ("", "IZ"),
        ("SELECT n FROM ten WHERE n > 8", "TDDCZ"),
        ("BEGIN", "CZ"),
        ("SELECT 1; SELECT 2", "TDCTDCZ"),
        ("ROLLBACK", "CZ"),
        ("CREATE TEMP TABLE t (a int); INSERT INTO t VALUES (1); SELECT * FROM t", "CCTDCZ"),
        ("SELECT 1 / 0", "EZ"),
        ("SELECT 1; SELECT 1 / 0; SELECT 2", "TDCEZ"),
        ("SELEC 1", "EZ"),
        (" ; ", "IZ"),
        ("SHOW work_mem", "TDCZ"),
        ("EXPLAIN (COSTS OFF) SELECT 1", "TDCZ"),
    ] {
        let reply = session.query(sql);
        assert_eq!(reply.kinds(), kinds, "{sql}: {reply:?}");
    }
}

#[test]
fn transactions_report_their_state() {
    let pool = pool();
    let mut session = pool.connect();
    assert_eq!(session.query("BEGIN").state(), 'T');
    assert_eq!(session.query("SELECT n FROM ten LIMIT 1").state(), 'T');
    assert_eq!(session.query("SAVEPOINT s").state(), 'T');
    assert_eq!(session.query("SELECT 1 / 0").state(), 'E');
    assert_eq!(session.query("SELECT 1").sqlstate(), "25P02");
    assert_eq!(session.query("ROLLBACK TO s").state(), 'T');
    assert_eq!(session.query("SELECT n FROM ten LIMIT 1").succeeded().state(), 'T');
    assert_eq!(session.query("COMMIT").state(), 'I');
    session.query("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY").succeeded();
    session.query("SELECT n FROM ten LIMIT 1").succeeded();
    assert_eq!(session.query("END").state(), 'I');
}

#[test]
fn a_failed_read_fails_its_transaction_on_every_server() {
    only_ours!("the primary commits when only the standby's read failed");
    let pool = pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE session_failed (id int)").succeeded();
    session.query("BEGIN").succeeded();
    assert_eq!(session.query("SELECT 1 / 0 FROM ten").sqlstate(), "22012");
    assert_eq!(session.query("INSERT INTO session_failed VALUES (1)").sqlstate(), "25P02");
    let reply = session.query("COMMIT");
    assert_eq!((reply.tags(), reply.state()), (vec!["ROLLBACK".to_owned()], 'I'), "{reply:?}");

    session.query("BEGIN").succeeded();
    session.query("INSERT INTO session_failed VALUES (2)").succeeded();
    session.query("SELECT 1 / 0 FROM ten");
    assert_eq!(session.query("COMMIT").tags(), ["ROLLBACK"]);
    assert_eq!(session.query("DELETE FROM session_failed").tags(), ["DELETE 0"]);
    session.query("DROP TABLE session_failed").succeeded();
}

#[test]
fn a_multi_statement_string_is_one_transaction() {
    let pool = pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE session_multi (id int)").succeeded();
    let reply =
        session.query("INSERT INTO session_multi VALUES (1); SELECT 1 / 0; INSERT INTO session_multi VALUES (2)");
    assert_eq!(reply.kinds(), "CEZ");
    session.query("BEGIN").succeeded();
    session.query("LOCK TABLE session_multi").succeeded();
    assert_eq!(
        session.value("/*NO LOAD BALANCE*/ SELECT count(*) FROM session_multi"),
        "0",
        "the first was undone too"
    );
    session.query("COMMIT").succeeded();
    let reply =
        session.query("SELECT n FROM ten WHERE n = 1; INSERT INTO session_multi VALUES (3) RETURNING id").succeeded();
    assert_eq!(reply.column(), ["1", "3"]);
    session.query("DROP TABLE session_multi").succeeded();
}

#[test]
fn notifications_arrive_also_while_idle() {
    let pool = pool();
    let mut listener = pool.connect();
    listener.query("LISTEN session_channel").succeeded();
    pool.connect().query("NOTIFY session_channel, 'one'").succeeded();
    let message = listener.read();
    assert_eq!((message.kind, message.body[4..].to_vec()), (b'A', b"session_channel\0one\0".to_vec()));
    let reply = listener.query("NOTIFY session_channel, 'self'").succeeded();
    assert_eq!(reply.all('A').count(), 1, "{reply:?}");
}

#[test]
fn notices_are_relayed() {
    let pool = pool();
    let mut session = pool.connect();
    let reply = session.query("DO $$ BEGIN RAISE NOTICE 'a word'; RAISE WARNING 'another'; END $$").succeeded();
    assert_eq!(reply.kinds(), "NNCZ");
    assert_eq!(reply.all('N').next().and_then(|notice| notice.field('M')).as_deref(), Some("a word"));
    session.query("SET client_min_messages = error").succeeded();
    assert_eq!(session.query("DO $$ BEGIN RAISE NOTICE 'a word'; END $$").succeeded().kinds(), "CZ");
}

#[test]
fn errors_carry_every_field_of_the_server() {
    let pool = pool();
    let mut session = pool.connect();
    let sql = "DO $$ BEGIN RAISE EXCEPTION 'm' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'P0042', TABLE = 't'; END $$";
    let reply = session.query(sql);
    let error = reply.error().expect("an error");
    let fields: Vec<_> = "SVCMDHt".chars().map(|code| error.field(code).unwrap_or_default()).collect();
    assert_eq!(fields, ["ERROR", "ERROR", "P0042", "m", "d", "h", "t"]);
}

#[test]
fn settings_are_reported_once() {
    only_ours!("every server's report is relayed");
    let pool = pool();
    let mut session = pool.connect();
    let reply = session.query("SET application_name = 'renamed'").succeeded();
    let told = if server_version() < 14 { "SCZ" } else { "CSZ" };
    assert_eq!(reply.kinds(), told);
    assert_eq!(session.parameters["application_name"], "renamed");
    assert_eq!(session.query("SET DateStyle = 'German'").succeeded().kinds(), told);
    // The setting reaches the other server with the next read, which is not the client's business.
    let reply = session.query("SELECT date '2024-02-29' FROM ten LIMIT 1").succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("TDCZ", vec!["29.02.2024".to_owned()]));
}

#[test]
fn sql_cursors_and_large_objects_work_in_a_transaction() {
    let pool = pool();
    let mut session = pool.connect();
    session.query("BEGIN").succeeded();
    session.query("DECLARE c CURSOR FOR SELECT n FROM ten ORDER BY n").succeeded();
    assert_eq!(session.query("FETCH 3 FROM c").succeeded().column(), ["1", "2", "3"]);
    assert_eq!(session.query("MOVE 2 IN c").succeeded().tags(), ["MOVE 2"]);
    assert_eq!(session.query("FETCH c").succeeded().column(), ["6"]);
    session.query("CLOSE c").succeeded();
    let oid = session.value("SELECT lo_create(0)");
    let descriptor = session.value(&format!("SELECT lo_open({oid}, 131072)"));
    assert_eq!(session.value(&format!("SELECT lowrite({descriptor}, 'abcdef')")), "6");
    session.query(&format!("SELECT lo_close({descriptor})")).succeeded();
    assert_eq!(session.value(&format!("SELECT lo_get({oid})")), "\\x616263646566");
    session.query(&format!("SELECT lo_unlink({oid})")).succeeded();
    session.query("COMMIT").succeeded();
}

#[test]
fn sql_prepare_and_execute() {
    let pool = pool();
    let mut session = pool.connect();
    session.query("PREPARE p (int) AS SELECT n FROM ten WHERE n = $1").succeeded();
    assert_eq!(session.value("EXECUTE p (4)"), "4");
    session.query("DEALLOCATE p").succeeded();
    assert_eq!(session.query("EXECUTE p (4)").sqlstate(), "26000");
    session.query("PREPARE p AS SELECT 5").succeeded();
    assert_eq!(session.value("EXECUTE p"), "5");
    session.query("DISCARD ALL").succeeded();
    assert_eq!(session.query("EXECUTE p").sqlstate(), "26000");
}

#[test]
fn unnamed_and_named_statements() {
    let pool = pool();
    let mut session = pool.connect();
    let unnamed = [parse("", "SELECT n FROM ten WHERE n = $1", &[]), bind("", "", &[Some("3")])].concat();
    let reply = session.ask([unnamed, describe_portal(""), execute("", 0), sync()].concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("12TDCZ", vec!["3".to_owned()]));

    let reply = session.ask([parse("s", "SELECT $1::int + 1", &[]), describe_statement("s"), sync()].concat());
    assert_eq!(reply.succeeded().kinds(), "1tTZ");
    for value in ["1", "20"] {
        let reply = session.ask([bind("p", "s", &[Some(value)]), execute("p", 0), close_portal("p"), sync()].concat());
        assert_eq!(reply.succeeded().kinds(), "2DC3Z");
    }
    assert_eq!(session.ask([parse("s", "SELECT 1", &[]), sync()].concat()).sqlstate(), "42P05", "the name is in use");
    assert_eq!(session.ask([close_statement("s"), sync()].concat()).succeeded().kinds(), "3Z");
    assert_eq!(session.ask([close_statement("never was"), sync()].concat()).succeeded().kinds(), "3Z");
    assert_eq!(
        session
            .ask([parse("s", "INSERT INTO ten SELECT 1 WHERE false", &[]), describe_statement("s"), sync()].concat())
            .kinds(),
        "1tnZ"
    );
    let reply = session.ask([bind("", "s", &[]), execute("", 0), sync()].concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.tags()), ("2CZ", vec!["INSERT 0 0".to_owned()]));
}

#[test]
fn parameters_may_be_null_or_empty() {
    let pool = pool();
    let mut session = pool.connect();
    let batch = [parse("", "SELECT $1::text IS NULL, $2::text = ''", &[]), bind("", "", &[None, Some("")])].concat();
    let reply = session.ask([batch, execute("", 0), sync()].concat()).succeeded();
    assert_eq!(reply.rows(), [[Some("t".to_owned()), Some("t".to_owned())]]);
}

#[test]
fn an_unknown_statement_or_portal_is_the_servers_error() {
    only_ours!("an unknown statement ends the session with XX000");
    let pool = pool();
    let mut session = pool.connect();
    let cases = [
        (bind("", "unknown", &[]), "26000"),
        (describe_statement("unknown"), "26000"),
        (describe_portal("unknown"), "34000"),
        (execute("unknown", 0), "34000"),
    ];
    for (message, sqlstate) in cases {
        let reply = session.ask([message, sync()].concat());
        assert_eq!((reply.kinds().as_str(), reply.sqlstate().as_str()), ("EZ", sqlstate));
    }
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn a_pipeline_of_many_batches_is_answered_in_order() {
    let pool = pool();
    let mut session = pool.connect();
    let mut bytes = parse("s", "SELECT $1::int FROM ten LIMIT 1", &[]);
    for i in 0..300 {
        bytes.extend([bind("", "s", &[Some(&i.to_string())]), execute("", 0), sync()].concat());
    }
    session.send(bytes);
    for i in 0..300 {
        let reply = session.read_until('Z').succeeded();
        assert_eq!(reply.kinds(), if i == 0 { "12DCZ" } else { "2DCZ" });
        assert_eq!(reply.first_value(), Some(i.to_string()));
    }
}

#[test]
fn a_pipeline_may_mix_reads_and_writes() {
    let pool = pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE session_mixed (id int)").succeeded();
    let port = |expected: &str| format!("SELECT current_setting('port') /* {expected} */ FROM ten LIMIT 1");
    let one = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    session.send([one("INSERT INTO session_mixed VALUES (1) RETURNING id"), one(&port("read"))].concat());
    session.send([one("UPDATE session_mixed SET id = 2 RETURNING id"), one("SELECT 7 FROM ten LIMIT 1")].concat());
    let values: Vec<_> = (0..4).map(|_| session.read_until('Z').succeeded().column().concat()).collect();
    assert_eq!((&*values[0], &*values[2], &*values[3]), ("1", "2", "7"));
    session.query("DROP TABLE session_mixed").succeeded();
}

#[test]
fn simple_queries_sent_ahead_are_answered_in_order() {
    let pool = pool();
    let mut session = pool.connect();
    let queries: Vec<u8> = (0..50).flat_map(|i| query(&format!("SELECT {i} FROM ten LIMIT 1"))).collect();
    session.send(queries);
    for i in 0..50 {
        assert_eq!(session.read_until('Z').first_value(), Some(i.to_string()));
    }
}

#[test]
fn a_read_sees_the_write_before_it_in_the_same_batch() {
    let pool = pool();
    let mut session = pool.connect();
    session.query("CREATE TABLE session_batch (id int)").succeeded();
    shared().wait_replayed();
    let one = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
    let batch = [
        one("BEGIN"),
        one("INSERT INTO session_batch VALUES (5)"),
        one("SELECT id FROM session_batch"),
        one("COMMIT"),
        sync(),
    ];
    let reply = session.ask(batch.concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.column()), ("12C12C12DC12CZ", vec!["5".to_owned()]));
    session.query("DROP TABLE session_batch").succeeded();
}

#[test]
fn flush_brings_answers_before_sync() {
    let pool = pool();
    let mut session = pool.connect();
    session.send([parse("f", "SELECT n FROM ten WHERE n = $1", &[]), describe_statement("f"), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "1tT");
    session.send([bind("", "f", &[Some("9")]), execute("", 0), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "2DC");
    session.send(sync());
    assert_eq!(session.read().kind, b'Z');
}

#[test]
fn a_portal_is_suspended_at_its_row_limit() {
    only_ours!("PortalSuspended waits in its buffer until Sync");
    let pool = pool();
    let mut session = pool.connect();
    let open = [parse("", "SELECT n FROM ten ORDER BY n", &[]), bind("c", "", &[]), execute("c", 4), flush()].concat();
    session.send(open);
    assert_eq!(session.read_some(7).kinds(), "12DDDDs");
    session.send([execute("c", 4), flush()].concat());
    let reply = session.read_some(5);
    assert_eq!((reply.kinds().as_str(), reply.column()), ("DDDDs", ["5", "6", "7", "8"].map(str::to_owned).to_vec()));
    let reply = session.ask([execute("c", 4), sync()].concat());
    assert_eq!(reply.kinds(), "DDCZ");
    // Without a transaction block the portal ends at Sync; inside one it lives on.
    session.query("BEGIN").succeeded();
    let reply = session
        .ask([parse("", "SELECT n FROM ten ORDER BY n", &[]), bind("d", "", &[]), execute("d", 2), sync()].concat());
    assert_eq!(reply.kinds(), "12DDsZ");
    let reply = session.ask([execute("d", 3), sync()].concat());
    assert_eq!((reply.kinds().as_str(), reply.column()), ("DDDsZ", ["3", "4", "5"].map(str::to_owned).to_vec()));
    session.query("COMMIT").succeeded();
}

#[test]
fn an_error_in_a_pipeline_skips_to_sync() {
    let pool = pool();
    let mut session = pool.connect();
    let one = |sql: &str| [parse("", sql, &[]), bind("", "", &[]), execute("", 0)].concat();
    session.send([one("SELECT 1"), one("SELECT 1 / 0"), one("SELECT 2"), sync(), one("SELECT 3"), sync()].concat());
    let reply = session.read_until('Z');
    assert!(["12DC12EZ", "12DC1EZ", "12DCEZ"].contains(&&*reply.kinds()), "{reply:?}");
    assert_eq!(session.read_until('Z').succeeded().column(), ["3"]);

    session.send([parse("broken", "SELEC", &[]), bind("", "broken", &[]), execute("", 0), flush(), sync()].concat());
    let reply = session.read_until('Z');
    assert_eq!((reply.kinds().as_str(), reply.sqlstate().as_str()), ("EZ", "42601"));
    assert_eq!(session.value("SELECT 4"), "4");
}

#[test]
fn copy_in_and_out_in_the_simple_protocol() {
    let pool = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).start();
    let mut session = pool.connect();
    session.query("CREATE TEMP TABLE c (id int, name text)").succeeded();
    session.send(query("COPY c FROM STDIN"));
    assert_eq!(session.read().kind, b'G');
    let reply = session.ask([copy_data(b"1\tone\n2\ttw"), copy_data(b"o\n"), copy_done()].concat()).succeeded();
    assert_eq!((reply.kinds().as_str(), reply.tags()), ("CZ", vec!["COPY 2".to_owned()]));
    let reply = session.query("COPY c TO STDOUT").succeeded();
    assert_eq!(reply.kinds(), "HddcCZ");

    session.send(query("COPY c FROM STDIN"));
    assert_eq!(session.read().kind, b'G');
    assert_eq!(session.ask(copy_fail("changed my mind")).sqlstate(), "57014");
    session.send(query("COPY c FROM STDIN"));
    assert_eq!(session.read().kind, b'G');
    assert_eq!(session.ask([copy_data(b"not a number\n"), copy_done()].concat()).sqlstate(), "22P02");
    assert_eq!(session.value("SELECT count(*) FROM c"), "2");
    // Two of them and a SELECT in one string.
    session.send(query("COPY c FROM STDIN; SELECT 1; COPY c TO STDOUT"));
    assert_eq!(session.read().kind, b'G');
    let reply = session.ask([copy_data(b"3\tthree\n"), copy_done()].concat()).succeeded();
    assert_eq!(reply.kinds(), "CTDCHdddcCZ");
}

#[test]
fn copy_in_and_out_in_the_extended_protocol() {
    only_ours!("CopyInResponse waits in its buffer until Sync");
    let pool = Pgpool::on(shared()).weights(&[1.0, 0.0, 0.0]).start();
    let mut session = pool.connect();
    session.query("CREATE TEMP TABLE c (id int)").succeeded();
    // The Sync ahead of the data is ignored by a server in copy mode, so a second one follows.
    session.send([parse("", "COPY c FROM STDIN", &[]), bind("", "", &[]), execute("", 0), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "12G");
    let reply = session.ask([copy_data(b"1\n"), copy_done(), sync()].concat()).succeeded();
    assert_eq!(reply.kinds(), "CZ");
    let batch = [parse("", "COPY c TO STDOUT", &[]), bind("", "", &[]), execute("", 0), sync()].concat();
    assert_eq!(session.ask(batch).succeeded().kinds(), "12HdcCZ");
    session.send([parse("", "COPY c FROM STDIN", &[]), bind("", "", &[]), execute("", 0), flush()].concat());
    assert_eq!(session.read_some(3).kinds(), "12G");
    let reply = session.ask([copy_fail("no"), sync()].concat());
    assert_eq!((reply.kinds().as_str(), reply.sqlstate().as_str()), ("EZ", "57014"));
}

#[test]
fn function_calls() {
    let pool = pool();
    let mut session = pool.connect();
    let oid = session.value("SELECT 'pg_catalog.int4pl'::regproc::oid").parse().expect("an oid");
    let reply = session.ask(function_call(oid, &["40", "2"])).succeeded();
    assert_eq!((reply.kinds().as_str(), &reply.0[0].body[4..]), ("VZ", &b"42"[..]));
    let reply = session.ask(function_call(1, &[]));
    assert_eq!(reply.kinds(), "EZ");
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn a_value_of_100_megabytes_in_both_directions() {
    let pool = pool();
    let mut session = pool.connect();
    let value = "x".repeat(100 << 20);
    let batch =
        [parse("", "SELECT length($1::text), $1::text", &[]), bind("", "", &[Some(&value)]), execute("", 0), sync()];
    let reply = session.ask(batch.concat()).succeeded();
    assert_eq!(reply.kinds(), "12DCZ");
    let row = reply.all('D').next().expect("a row");
    assert_eq!(row.body.len(), 2 + 4 + 9 + 4 + value.len());
    let reply = session.query("SELECT repeat('y', 100 << 20)").succeeded();
    assert_eq!(reply.all('D').next().expect("a row").body.len(), 2 + 4 + value.len());
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn a_batch_much_larger_than_the_socket_buffers_does_not_block() {
    let pool = pool();
    let mut session = pool.connect();
    // 20,000 statements of 1 kB with answers of 1 kB, none read before all are sent.
    let value = "z".repeat(1000);
    let mut writer = Vec::new();
    writer.extend(parse("s", "SELECT $1::text", &[]));
    for _ in 0..20_000 {
        writer.extend([bind("", "s", &[Some(&value)]), execute("", 0)].concat());
    }
    writer.extend(sync());
    let kinds = std::thread::scope(|scope| {
        let (reading, mut sending) = session.split();
        scope.spawn(move || sending.send(writer));
        reading.read_until('Z').succeeded().kinds()
    });
    assert_eq!(kinds.len(), 1 + 20_000 * 3 + 1);
}

#[test]
fn errors_at_login_are_the_servers_own() {
    only_ours!("servers' errors at login are replaced by the original's own");
    let pool = pool();
    let login = |parameters: &[(&str, &str)]| {
        let mut wire = pool.open();
        wire.send(startup(0, parameters));
        let reply = wire.read_until('E');
        assert!(wire.is_closed_within(Duration::from_secs(10)));
        reply.sqlstate()
    };
    assert_eq!(login(&[("user", "postgres"), ("database", "missing")]), "3D000");
    assert_eq!(login(&[("user", "nobody at all"), ("database", "test")]), "28000");
    assert_eq!(login(&[("user", "postgres"), ("database", "test"), ("work_mem", "nonsense")]), "22023");
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn protocol_3_2_is_spoken_where_the_server_does() {
    needs_server!(18, "older servers negotiate 3.0");
    only_ours!("release 4.3 does not know protocol 3.2");
    let pool = pool();
    let mut session = pool.open();
    session.send(startup(2, &[("user", "postgres"), ("database", "test")]));
    let reply = session.read_until('Z').succeeded();
    assert_eq!(reply.all('v').count(), 0, "nothing to negotiate: {reply:?}");
    assert!(session.key.len() > 4, "keys of 3.2 are long");
    assert_eq!(session.value("SELECT 1"), "1");
}

#[test]
fn unknown_protocol_options_are_negotiated() {
    only_ours!("release 4.3 does not negotiate");
    let pool = pool();
    for _ in 0..2 {
        let mut session = pool.open();
        session.send(startup(0, &[("user", "postgres"), ("database", "test"), ("_pq_.unknown", "1")]));
        let reply = session.read_until('Z').succeeded();
        let negotiation = reply.all('v').next().expect("NegotiateProtocolVersion");
        assert!(negotiation.body.ends_with(b"_pq_.unknown\0"), "{negotiation:?}");
        assert_eq!(session.value("SELECT 1"), "1");
        session.close();
    }
}

#[test]
fn tls_and_gss_are_declined() {
    needs_pgpool!();
    let pool = pool();
    for code in [80_877_103, 80_877_104] {
        let mut session = pool.open();
        session.send(crate::harness::frontend::packet(code, b""));
        assert_eq!(session.read_byte().expect("an answer"), Some(b'N'));
        session.start(crate::harness::LOGIN).expect("a plain login");
        assert_eq!(session.value("SELECT 1"), "1");
    }
}

#[test]
fn protocol_2_and_replication_are_refused_clearly() {
    needs_pgpool!();
    only_ours!("replication connections are passed on and hang");
    let pool = pool();
    let mut old = pool.open();
    old.send(crate::harness::frontend::packet(2 << 16, &[0; 288]));
    assert!(old.is_closed_within(Duration::from_secs(10)));
    let mut replica = pool.open();
    replica.send(startup(0, &[("user", "postgres"), ("database", "test"), ("replication", "database")]));
    assert_eq!(replica.read().field('C').as_deref(), Some("0A000"));
    assert!(replica.is_closed_within(Duration::from_secs(10)));
}

#[test]
fn a_session_over_the_unix_socket() {
    needs_pgpool!();
    let pool = pool();
    let mut session = Wire::open_unix(&pool.socket()).expect("the socket");
    session.start(crate::harness::LOGIN).expect("login");
    assert_eq!(session.value("SELECT 42 FROM ten LIMIT 1"), "42");
}

#[test]
fn temporary_tables_are_read_where_they_are() {
    let pool = pool();
    let mut session = pool.connect();
    session.query("CREATE TEMP TABLE mine (id int)").succeeded();
    session.query("INSERT INTO mine VALUES (1)").succeeded();
    assert_eq!(session.value("SELECT id FROM mine"), "1");
    only_ours!("COPY of a temporary table may go to a standby");
    assert_eq!(session.query("COPY mine TO STDOUT").succeeded().kinds(), "HdcCZ");
}

#[test]
fn a_terminated_server_process_ends_the_session_with_its_reason() {
    let pool = pool();
    let mut session = pool.connect();
    let pid = session.value("/*NO LOAD BALANCE*/ SELECT pg_backend_pid()");
    session.query("BEGIN").succeeded();
    session.send(query("CREATE TEMP TABLE t AS SELECT 1 FROM pg_sleep(100)"));
    let active = format!("SELECT state FROM pg_stat_activity WHERE pid = {pid}");
    wait_for("the statement to run", || shared().primary().sql(&active) == "active");
    shared().primary().sql(&format!("SELECT pg_terminate_backend({pid})"));
    assert_eq!(session.read_until('E').sqlstate(), "57P01");
    assert!(session.is_closed_within(Duration::from_secs(10)));
    assert_eq!(pool.connect().value("SELECT 1"), "1");
}

#[test]
fn a_batch_left_without_sync_is_rolled_back() {
    let pool = pool();
    let mut session = pool.connect();
    session.query("DROP TABLE IF EXISTS left_open; CREATE TABLE left_open (a int)").succeeded();
    let insert = [parse("", "INSERT INTO left_open VALUES (1)", &[]), bind("", "", &[]), execute("", 0), flush()];
    session.send(insert.concat());
    assert_eq!(session.read_some(3).kinds(), "12C");
    session.close();
    wait_for("the session to end", || pool.children("idle").is_empty() && pool.children("INSERT").is_empty());
    assert_eq!(pool.connect().value("SELECT count(*) FROM left_open"), "0");
}
