import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.sql.Types;

/** JDBC: what pgpool answers itself, in every query mode, without autocommit, and in portions. */
public class JdbcAdmin {
    static void check(boolean condition, String what) {
        if (!condition) throw new AssertionError(what);
    }

    public static void main(String[] args) throws Exception {
        String url = "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/"
            + System.getenv("PGDATABASE") + "?user=" + System.getenv("PGUSER") + "&sslmode=disable";
        for (String mode : new String[] {"extended", "simple", "extendedForPrepared", "extendedCacheEverything"}) {
            try (Connection conn = DriverManager.getConnection(url + "&preferQueryMode=" + mode)) {
                run(conn, mode);
            }
        }
        System.out.println("ok");
    }

    static int count(Statement s, String sql) throws SQLException {
        int count = 0;
        try (ResultSet rows = s.executeQuery(sql)) {
            check(rows.getMetaData().getColumnType(1) == Types.VARCHAR, sql + ": type");
            while (rows.next()) count++;
        }
        return count;
    }

    static void run(Connection conn, String mode) throws Exception {
        try (Statement s = conn.createStatement()) {
            check(count(s, "SHOW POOL_NODES") == 3, mode + ": nodes");
            check(count(s, "PGPOOL SHOW ALL") > 150, mode + ": parameters");
            check(count(s, "SHOW POOL_BACKEND_STATS") == 3, mode + ": counters");
            s.execute("PGPOOL SET client_idle_limit TO 60");
        }
        // From the fifth execution on the driver uses a named server-side statement, with binary results.
        try (PreparedStatement p = conn.prepareStatement("PGPOOL SHOW client_idle_limit")) {
            for (int i = 0; i < 12; i++) {
                try (ResultSet row = p.executeQuery()) {
                    check(row.next() && row.getString(1).equals("1min"), mode + ": value");
                }
            }
        }
        conn.setAutoCommit(false);
        try (Statement s = conn.createStatement()) {
            s.execute("CREATE TABLE admin_jdbc (id int)");
            s.setFetchSize(10);
            check(count(s, "SHOW POOL_STATUS") > 150, mode + ": portions");
            s.setFetchSize(0);
            check(count(s, "SHOW POOL_PROCESSES") >= 1, mode + ": processes");
            conn.rollback();
            try {
                s.execute("SELECT * FROM admin_jdbc");
                throw new AssertionError(mode + ": the transaction was not rolled back");
            } catch (SQLException e) {
                check(e.getSQLState().equals("42P01"), "SQLSTATE " + e.getSQLState());
            }
            try {
                s.execute("SHOW POOL_NODES");
                throw new AssertionError(mode + ": accepted in a failed transaction");
            } catch (SQLException e) {
                check(e.getSQLState().equals("25P02"), "SQLSTATE " + e.getSQLState());
            }
            conn.rollback();
            check(count(s, "SHOW POOL_NODES") == 3, mode + ": behind the rollback");
            conn.commit();
        }
        conn.setAutoCommit(true);
    }
}
