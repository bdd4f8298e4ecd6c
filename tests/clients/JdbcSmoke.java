import java.io.StringReader;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import org.postgresql.PGConnection;

/** JDBC: batches, server-prepared statements, fetch size (portal suspension), errors, COPY. */
public class JdbcSmoke {
    static void check(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
            + System.getenv("PGDATABASE") + "?user=" + System.getenv("PGUSER")
            + "&password=" + System.getenv().getOrDefault("PGPASSWORD", "")
            + "&sslmode=" + System.getenv().getOrDefault("PGSSLMODE", "disable");
        for (String mode : new String[] {"extended", "simple", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection conn = DriverManager.getConnection(url + "&preferQueryMode=" + mode)) {
                run(conn, mode);
            }
        }
        System.out.println("ok");
    }

    static void run(Connection conn, String mode) throws Exception {
        try (Statement s = conn.createStatement()) {
            s.execute("DROP TABLE IF EXISTS smoke_jdbc");
            s.execute("CREATE TABLE smoke_jdbc (id int PRIMARY KEY, name text)");
        }
        conn.setAutoCommit(false);
        try (PreparedStatement insert = conn.prepareStatement("INSERT INTO smoke_jdbc VALUES (?, ?)")) {
            for (int i = 0; i < 1000; i++) {
                insert.setInt(1, i);
                insert.setString(2, "name " + i);
                insert.addBatch();
            }
            check(insert.executeBatch().length == 1000, "batch");
        }
        conn.commit();

        // From the fifth execution on the driver uses a named server-side statement.
        try (PreparedStatement select = conn.prepareStatement("SELECT name FROM smoke_jdbc WHERE id = ?")) {
            for (int i = 0; i < 20; i++) {
                select.setInt(1, i);
                try (ResultSet row = select.executeQuery()) {
                    check(row.next() && row.getString(1).equals("name " + i), mode + ": prepared select");
                }
            }
        }
        try (Statement s = conn.createStatement()) {
            s.setFetchSize(30);
            int count = 0;
            try (ResultSet rows = s.executeQuery("SELECT * FROM smoke_jdbc")) {
                while (rows.next()) count++;
            }
            check(count == 1000, mode + ": fetch size");
        }
        conn.commit();

        try (Statement s = conn.createStatement()) {
            s.execute("INSERT INTO smoke_jdbc VALUES (1, 'twice')");
            throw new AssertionError("a duplicate key was accepted");
        } catch (SQLException e) {
            check(e.getSQLState().equals("23505"), "SQLSTATE " + e.getSQLState());
            conn.rollback();
        }
        long copied = conn.unwrap(PGConnection.class).getCopyAPI()
            .copyIn("COPY smoke_jdbc FROM STDIN", new StringReader("5000\tcopied\n5001\tcopied\n"));
        check(copied == 2, "copy");
        conn.commit();
        conn.setAutoCommit(true);
        try (Statement s = conn.createStatement()) {
            s.execute("DROP TABLE smoke_jdbc");
        }
    }
}
