import java.io.StringReader;
import java.io.StringWriter;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.postgresql.PGConnection;
import org.postgresql.copy.CopyManager;

/**
 * JDBC: prepareThreshold, autosave, query mode and fetch size in all combinations that differ, in autocommit and in
 * transactions, with errors in the middle of statements, batches and cursors.
 *
 * Every scenario runs at every port of $PORTS with every combination; what failed is printed, the rest still runs.
 */
public class JdbcMatrix {
    static final String TABLE = "matrix_jdbc";
    static final String PUT = "INSERT INTO " + TABLE + " (id, note) VALUES (?, ?)";
    static final String GET = "SELECT note FROM " + TABLE + " WHERE id = ?";
    static final String COUNT = "SELECT count(*) FROM " + TABLE;
    static final String HALF = "SELECT 100 / ?::int";

    interface Scenario {
        void run(Connection conn) throws Exception;
    }

    interface Call {
        void run() throws Exception;
    }

    // What of the combination a scenario must know.
    static String autosave;
    static boolean simple;
    static boolean alwaysReadOnly;
    /**
     * At the last of several ports every statement may be read elsewhere. A statement prepared on a node only after a
     * table has changed tells more there than the driver has been told before.
     */
    static boolean readsAtOneNode;

    public static void main(String[] args) throws Exception {
        watchForHangs();
        int failed = 0;
        String[] ports = System.getenv("PORTS").split(" ");
        for (int i = 0; i < ports.length; i++) {
            String port = ports[i];
            readsAtOneNode = i < 2;
            for (String mode : combinations()) {
                failed += run(port, mode, "autocommit", JdbcMatrix::autocommit);
                failed += run(port, mode, "prepared", JdbcMatrix::prepared);
                failed += run(port, mode, "transactions", JdbcMatrix::transactions);
                failed += run(port, mode, "failedTransactions", JdbcMatrix::failedTransactions);
                failed += run(port, mode, "savepoints", JdbcMatrix::savepoints);
                failed += run(port, mode, "batches", JdbcMatrix::batches);
                failed += run(port, mode, "fetchSize", JdbcMatrix::fetchSize);
                failed += run(port, mode, "readOnly", JdbcMatrix::readOnly);
                failed += run(port, mode, "copies", JdbcMatrix::copies);
                failed += run(port, mode, "schemaChanges", JdbcMatrix::schemaChanges);
                failed += run(port, mode, "timeoutAndCancel", JdbcMatrix::timeoutAndCancel);
                failed += run(port, mode, "settings", JdbcMatrix::settings);
            }
        }
        if (failed > 0) {
            System.err.println(failed + " failed");
            System.exit(1);
        }
        System.out.println("ok");
        System.exit(0);
    }

    /** Parameters of the URL. Simple mode knows no prepared statements. */
    static List<String> combinations() {
        List<String> found = new ArrayList<>();
        for (String save : new String[] {"never", "always", "conservative"}) {
            for (int threshold : new int[] {0, 1, 5}) {
                found.add("prepareThreshold=" + threshold + "&autosave=" + save);
            }
            found.add("preferQueryMode=simple&autosave=" + save);
        }
        found.add("preferQueryMode=extendedForPrepared");
        found.add("preferQueryMode=extendedCacheEverything");
        found.add("prepareThreshold=1&preparedStatementCacheQueries=2");
        found.add("prepareThreshold=1&binaryTransfer=false&reWriteBatchedInserts=true");
        found.add("prepareThreshold=-1&readOnlyMode=always");
        return found;
    }

    static volatile long begun = System.nanoTime();
    static volatile String running = "nothing";

    /** Ends the program with the stacks of all threads when a scenario takes more than a minute. */
    static void watchForHangs() {
        Thread watch = new Thread(() -> {
            while (System.nanoTime() - begun < 60_000_000_000L) {
                try {
                    Thread.sleep(200);
                } catch (InterruptedException e) {
                    return;
                }
            }
            System.err.println("HANGS: " + running);
            Thread.getAllStackTraces().forEach((thread, stack) -> {
                System.err.println(thread);
                for (StackTraceElement line : stack) System.err.println("    " + line);
            });
            Runtime.getRuntime().halt(1);
        });
        watch.setDaemon(true);
        watch.start();
    }

    static int run(String port, String mode, String name, Scenario scenario) {
        begun = System.nanoTime();
        running = name + " with " + mode + " at port " + port;
        autosave = mode.contains("autosave=") ? mode.replaceAll(".*autosave=", "") : "never";
        simple = mode.contains("preferQueryMode=simple");
        alwaysReadOnly = mode.contains("readOnlyMode=always");
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + port + "/" + System.getenv("PGDATABASE")
            + "?user=" + System.getenv("PGUSER") + "&sslmode=disable&socketTimeout=40&" + mode;
        try (Connection conn = DriverManager.getConnection(url)) {
            update(conn, "DELETE FROM " + TABLE);
            scenario.run(conn);
            long took = (System.nanoTime() - begun) / 1_000_000;
            if (took > 500) System.err.println(took + " ms: " + running);
            return 0;
        } catch (Throwable e) {
            System.err.println("FAILED: " + running);
            System.err.println(e);
            for (StackTraceElement line : e.getStackTrace()) {
                if (line.getClassName().equals("JdbcMatrix")) System.err.println("    at line " + line.getLineNumber());
            }
            return 1;
        }
    }

    static void expect(Object actual, Object expected, String what) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError(what + ": expected " + expected + ", got " + actual);
        }
    }

    static void fails(String state, String what, Call call) throws Exception {
        try {
            call.run();
        } catch (SQLException e) {
            expect(e.getSQLState(), state, what + ": SQLSTATE of " + e.getMessage());
            return;
        }
        throw new AssertionError(what + ": no error " + state);
    }

    /** The first column of the first row, as text; null if there is no row. */
    static String value(Connection conn, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
            try (ResultSet rows = statement.executeQuery()) {
                return rows.next() ? rows.getString(1) : null;
            }
        }
    }

    static int update(Connection conn, String sql, Object... values) throws SQLException {
        try (PreparedStatement statement = conn.prepareStatement(sql)) {
            for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
            return statement.executeUpdate();
        }
    }

    static void autocommit(Connection conn) throws Exception {
        for (int i = 0; i < 7; i++) {
            update(conn, PUT, i, "note " + i);
            expect(value(conn, GET, i), "note " + i, "a read after an insert");
            fails("23505", "a write", () -> update(conn, PUT, 0, "twice"));
            fails("22012", "a read", () -> value(conn, HALF, 0));
            fails("42601", "no statement", () -> update(conn, "SELEC 1"));
            expect(value(conn, HALF, 50), "2", "a read after errors");
            expect(value(conn, COUNT), "" + (i + 1), "the count");
        }
        try (Statement both = conn.createStatement()) {
            // Two statements in one text are one transaction.
            expect(both.execute("UPDATE " + TABLE + " SET note = 'x' WHERE id = 0; " + COUNT), false, "the first result");
            expect(both.getUpdateCount(), 1, "the first count");
            expect(both.getMoreResults(), true, "a second result");
            fails("22012", "two statements", () -> both.execute("DELETE FROM " + TABLE + "; SELECT 1 / 0"));
        }
        expect(value(conn, COUNT), "7", "the count in the end");
    }

    /** Statements kept for long pass the prepare threshold, on each node they are used on. */
    static void prepared(Connection conn) throws Exception {
        try (PreparedStatement put = conn.prepareStatement(PUT); PreparedStatement get = conn.prepareStatement(GET);
             PreparedStatement half = conn.prepareStatement(HALF)) {
            if (!simple) {
                expect(put.getParameterMetaData().getParameterCount(), 2, "parameters");
                expect(get.getMetaData().getColumnName(1), "note", "columns");
            }
            for (int i = 0; i < 12; i++) {
                conn.setAutoCommit(i % 3 != 2);
                put.setInt(1, i);
                put.setString(2, "note " + i);
                expect(put.executeUpdate(), 1, "inserted");
                get.setInt(1, i);
                try (ResultSet rows = get.executeQuery()) {
                    expect(rows.next() ? rows.getString(1) : null, "note " + i, "prepared read " + i);
                }
                if (conn.getAutoCommit()) {
                    half.setInt(1, 0);
                    fails("22012", "a prepared read", half::executeQuery);
                    fails("23505", "a prepared write", put::executeUpdate);
                }
                half.setInt(1, 10);
                try (ResultSet rows = half.executeQuery()) {
                    expect(rows.next() ? rows.getInt(1) : null, 10, "after errors");
                }
                if (!conn.getAutoCommit()) conn.commit();
            }
        }
        conn.setAutoCommit(true);
        expect(value(conn, COUNT), "12", "the count");
    }

    static void transactions(Connection conn) throws Exception {
        int[] levels = {Connection.TRANSACTION_READ_COMMITTED, Connection.TRANSACTION_REPEATABLE_READ,
            Connection.TRANSACTION_SERIALIZABLE};
        for (int level : levels) {
            update(conn, "DELETE FROM " + TABLE);
            conn.setTransactionIsolation(level);
            conn.setAutoCommit(false);
            for (int i = 0; i < 6; i++) {
                expect(value(conn, GET, i), null, "nothing there yet");
                update(conn, PUT, i, "mine");
                expect(value(conn, GET, i), "mine", "own row");
                conn.commit();
                update(conn, PUT, 100, "lost");
                expect(value(conn, COUNT), "" + (i + 2), "own count");
                conn.rollback();
                expect(value(conn, COUNT), "" + (i + 1), "rolled back");
                conn.rollback();
            }
            conn.setAutoCommit(true);
        }
    }

    static void failedTransactions(Connection conn) throws Exception {
        conn.setAutoCommit(false);
        for (int i = 0; i < 6; i++) {
            update(conn, PUT, 1, "first");
            fails("22012", "a read", () -> value(conn, HALF, 0));
            if (autosave.equals("always")) {
                expect(value(conn, GET, 1), "first", "autosave: the transaction goes on");
                fails("23505", "a write", () -> update(conn, PUT, 1, "twice"));
                update(conn, PUT, 2, "second");
                expect(value(conn, COUNT), "2", "autosave: both rows");
            } else {
                fails("25P02", "a read in a failed transaction", () -> value(conn, COUNT));
                fails("25P02", "a write in a failed transaction", () -> update(conn, PUT, 2, "lost"));
            }
            conn.rollback();
            expect(value(conn, COUNT), "0", "rolled back");
            conn.rollback();
        }
        conn.setAutoCommit(true);
        expect(value(conn, HALF, 50), "2", "the session goes on");
    }

    static void savepoints(Connection conn) throws Exception {
        conn.setAutoCommit(false);
        for (int i = 0; i < 3; i++) {
            update(conn, PUT, 10 * i, "kept");
            Savepoint point = conn.setSavepoint();
            update(conn, PUT, 10 * i + 1, "lost");
            fails("23505", "a write", () -> update(conn, PUT, 0, "twice"));
            conn.rollback(point);
            expect(value(conn, COUNT), "" + (2 * i + 1), "after ROLLBACK TO");
            Savepoint named = conn.setSavepoint("a name");
            update(conn, PUT, 10 * i + 2, "kept");
            conn.releaseSavepoint(named);
            expect(value(conn, GET, 10 * i + 1), null, "the lost row");
            conn.commit();
        }
        conn.setAutoCommit(true);
        expect(value(conn, COUNT), "6", "after COMMIT");
    }

    static int batch(Connection conn, int from, int to) throws SQLException {
        try (PreparedStatement put = conn.prepareStatement(PUT)) {
            for (int i = from; i < to; i++) {
                put.setInt(1, i);
                put.setString(2, "batch");
                put.addBatch();
            }
            return put.executeBatch().length;
        }
    }

    static void batches(Connection conn) throws Exception {
        expect(batch(conn, 0, 500), 500, "a batch in autocommit");
        expect(value(conn, COUNT), "500", "after the batch");
        try {
            batch(conn, 400, 600);
            throw new AssertionError("a batch with a duplicate succeeded");
        } catch (BatchUpdateException e) {
            expect(e.getNextException() == null ? e.getSQLState() : e.getNextException().getSQLState(), "23505", "a batch");
        }
        expect(value(conn, GET, 0), "batch", "a read after a failed batch");
        update(conn, "DELETE FROM " + TABLE + " WHERE id >= 500");
        conn.setAutoCommit(false);
        expect(batch(conn, 500, 700), 200, "a batch in a transaction");
        expect(value(conn, COUNT), "700", "own rows");
        fails("23505", "a batch", () -> batch(conn, 650, 900));
        conn.rollback();
        conn.setAutoCommit(true);
        expect(value(conn, COUNT), "500", "rolled back");
        try (Statement mixed = conn.createStatement()) {
            for (int i = 0; i < 20; i++) {
                mixed.addBatch("UPDATE " + TABLE + " SET note = 'mixed' WHERE id = " + i);
                mixed.addBatch("DELETE FROM " + TABLE + " WHERE id = " + (499 - i));
            }
            expect(mixed.executeBatch().length, 40, "a batch of texts");
        }
        expect(value(conn, COUNT), "480", "after a batch of texts");
        try (PreparedStatement keys = conn.prepareStatement(PUT, Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 1000; i < 1300; i++) {
                keys.setInt(1, i);
                keys.setString(2, "keys");
                keys.addBatch();
            }
            keys.executeBatch();
            int count = 0;
            try (ResultSet rows = keys.getGeneratedKeys()) {
                while (rows.next()) expect(rows.getInt("id"), 1000 + count++, "a generated key");
            }
            expect(count, 300, "generated keys");
        }
    }

    static void fetchSize(Connection conn) throws Exception {
        batch(conn, 0, 500);
        String all = "SELECT id FROM " + TABLE + " WHERE id >= ? ORDER BY id";
        for (boolean auto : new boolean[] {true, false}) {
            conn.setAutoCommit(auto);
            for (int round = 0; round < 7; round++) {
                try (PreparedStatement one = conn.prepareStatement(all); PreparedStatement two = conn.prepareStatement(all)) {
                    one.setFetchSize(37);
                    two.setFetchSize(10);
                    one.setInt(1, 0);
                    two.setInt(1, 100);
                    int count = 0;
                    try (ResultSet first = one.executeQuery(); ResultSet second = two.executeQuery()) {
                        while (first.next()) {
                            expect(first.getInt(1), count, "the first cursor");
                            if (count < 400) expect(second.next() ? second.getInt(1) : null, 100 + count, "the second");
                            if (count == 50) expect(update(conn, PUT, 1000, "in between"), 1, "a write in between");
                            if (count++ == 60) expect(value(conn, COUNT), "501", "a read in between");
                            if (count == 501) break;
                            if (count == 500) expect(first.next() && first.getInt(1) != 1000, false, "only old rows");
                        }
                    }
                    expect(count >= 500, true, "all rows, got " + count);
                }
                update(conn, "DELETE FROM " + TABLE + " WHERE id = 1000");
                if (!auto) conn.commit();
            }
        }
        // The error comes with a later part.
        try (Statement bad = conn.createStatement()) {
            bad.setFetchSize(4);
            fails("22012", "a cursor", () -> {
                try (ResultSet rows = bad.executeQuery("SELECT 10 / (300 - n) FROM generate_series(1, 400) n")) {
                    while (rows.next()) rows.getInt(1);
                }
            });
        }
        conn.rollback();
        // A cursor closed early, and a limit of rows.
        try (PreparedStatement early = conn.prepareStatement(all)) {
            early.setInt(1, 0);
            early.setFetchSize(5);
            ResultSet rows = early.executeQuery();
            rows.next();
            rows.close();
            early.setMaxRows(12);
            int count = 0;
            try (ResultSet limited = early.executeQuery()) {
                while (limited.next()) count++;
            }
            expect(count, simple ? 500 : 12, "rows with a limit");
        }
        expect(value(conn, COUNT), "500", "at last");
        conn.commit();
        conn.setAutoCommit(true);
    }

    static void readOnly(Connection conn) throws Exception {
        update(conn, PUT, 1, "one");
        conn.setReadOnly(true);
        for (int i = 0; i < 6; i++) {
            expect(value(conn, GET, 1), "one", "read only in autocommit");
            conn.setAutoCommit(false);
            expect(value(conn, COUNT), "1", "a read only transaction");
            fails("25006", "a write", () -> update(conn, PUT, 2, "refused"));
            conn.rollback();
            conn.setAutoCommit(true);
        }
        // Otherwise the driver says READ ONLY in BEGIN only.
        if (alwaysReadOnly) fails("25006", "a write in autocommit", () -> update(conn, PUT, 2, "refused"));
        conn.setReadOnly(false);
        update(conn, PUT, 2, "two");
        expect(value(conn, COUNT), "2", "writable again");
    }

    static void copies(Connection conn) throws Exception {
        CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
        StringBuilder lines = new StringBuilder();
        for (int i = 0; i < 3000; i++) lines.append(i).append("\tcopied ").append(i).append('\n');
        String in = "COPY " + TABLE + " (id, note) FROM STDIN";
        expect(copy.copyIn(in, new StringReader(lines.toString())), 3000L, "COPY in autocommit");
        StringWriter out = new StringWriter();
        copy.copyOut("COPY (SELECT id, note FROM " + TABLE + " ORDER BY id) TO STDOUT", out);
        expect(out.toString().equals(lines.toString()), true, "what comes out is what went in");
        fails("23505", "COPY", () -> copy.copyIn(in, new StringReader("9000\tlost\n0\ttwice\n")));
        fails("22012", "COPY out", () -> copy.copyOut("COPY (SELECT 10 / (5 - n) FROM generate_series(1, 10) n) TO STDOUT",
            new StringWriter()));
        expect(value(conn, COUNT), "3000", "after failed COPYs");
        conn.setAutoCommit(false);
        copy.copyIn(in, new StringReader("5000\tin a transaction\n"));
        expect(value(conn, GET, 5000), "in a transaction", "own row");
        conn.rollback();
        conn.setAutoCommit(true);
        expect(value(conn, COUNT), "3000", "rolled back");
        var broken = copy.copyIn(in);
        byte[] line = "9000\tlost\n".getBytes();
        broken.writeToCopy(line, 0, line.length);
        broken.cancelCopy();
        expect(value(conn, COUNT), "3000", "after CopyFail");
    }

    static void schemaChanges(Connection conn) throws Exception {
        if (!readsAtOneNode) return;
        try (Statement s = conn.createStatement()) {
            s.execute("DROP TABLE IF EXISTS matrix_jdbc_ddl; CREATE TABLE matrix_jdbc_ddl (id int)");
            s.execute("INSERT INTO matrix_jdbc_ddl VALUES (1)");
        }
        String read = "SELECT * FROM matrix_jdbc_ddl WHERE id = ?";
        for (int columns = 1; columns <= 3; columns++) {
            for (int i = 0; i < 7; i++) {
                // "cached plan must not change result type": the driver prepares again by itself in autocommit.
                try (PreparedStatement statement = conn.prepareStatement(read)) {
                    statement.setInt(1, 1);
                    try (ResultSet rows = statement.executeQuery()) {
                        expect(rows.getMetaData().getColumnCount(), columns, "columns");
                    }
                }
            }
            update(conn, "ALTER TABLE matrix_jdbc_ddl ADD other" + columns + " int");
        }
        update(conn, "DROP TABLE matrix_jdbc_ddl");
    }

    static void timeoutAndCancel(Connection conn) throws Exception {
        update(conn, PUT, 1, "one");
        try (Statement slow = conn.createStatement()) {
            Thread canceller = new Thread(() -> {
                try {
                    Thread.sleep(100);
                    slow.cancel();
                } catch (Exception e) {
                    throw new AssertionError(e);
                }
            });
            canceller.start();
            fails("57014", "a cancel", () -> slow.execute("SELECT pg_sleep(30)"));
            canceller.join();
        }
        expect(value(conn, GET, 1), "one", "after a cancel");
        update(conn, "SET statement_timeout = 50");
        fails("57014", "a timeout", () -> value(conn, "SELECT pg_sleep(30)"));
        update(conn, "SET statement_timeout = 0");
        expect(value(conn, COUNT), "1", "after a timeout");
    }

    static void settings(Connection conn) throws Exception {
        String show = "SELECT current_setting('application_name') FROM " + TABLE + " LIMIT 1";
        update(conn, PUT, 1, "one");
        for (int i = 0; i < 6; i++) {
            conn.setClientInfo("ApplicationName", "client " + i);
            expect(value(conn, show), "client " + i, "set by the driver");
            update(conn, "SET application_name = 'by SET " + i + "'");
            expect(value(conn, show), "by SET " + i, "set by SET");
            conn.setAutoCommit(false);
            update(conn, "SET application_name = 'lost'");
            conn.rollback();
            conn.setAutoCommit(true);
            expect(value(conn, show), "by SET " + i, "rolled back");
        }
        conn.setSchema("pg_catalog");
        fails("42P01", "a table out of the path", () -> value(conn, COUNT));
        conn.setSchema("public");
        expect(value(conn, COUNT), "1", "back in the path");
    }
}
