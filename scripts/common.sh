# What the scripts share; to be sourced, not run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# pg_bin: the directory with initdb and postgres. PG=18 asks for the one `scripts/setup --pg 18` unpacked; without PG it
# is the newest server of the distribution.
pg_bin() {
    if [ -n "${PG:-}" ]; then
        [ -x "$TARGET/pg/$PG/bin/postgres" ] || die "PostgreSQL $PG is not unpacked yet: run scripts/setup --pg $PG"
        printf '%s\n' "$TARGET/pg/$PG/bin"
        return
    fi
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1)
    if [ -x "$newest" ]; then
        dirname "$newest"
    elif command -v postgres >/dev/null; then
        dirname "$(command -v postgres)"
    else
        die "no PostgreSQL server found: run scripts/setup"
    fi
}

# as_postgres COMMAND...: PostgreSQL refuses to run as root, so root lends the command the user postgres, who may not be
# allowed where we are.
as_postgres() {
    if [ "$(id -u)" = 0 ]; then
        runuser -u postgres -- env -C / "$@"
    else
        "$@"
    fi
}

# free_port FIRST: the first port from FIRST on that nobody listens on.
free_port() {
    local port=$1
    while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
        port=$((port + 1))
    done
    printf '%s\n' "$port"
}

# client_bin: the directory with psql and pgbench.
client_bin() {
    local newest
    newest=$(printf '%s\n' /usr/lib/postgresql/*/bin/psql | sort -V | tail -n 1)
    if [ -x "$newest" ]; then dirname "$newest"; else dirname "$(command -v psql)"; fi
}

# demo_place: sets DEMO, where the demo lives. That is target/demo, unless root's user postgres cannot get there (a
# clone in /root) or the path is too long for a socket.
demo_place() {
    DEMO=$TARGET/demo
    if [ ${#DEMO} -gt 80 ] || ! as_postgres test -x "$ROOT"; then
        DEMO=/tmp/pgpool-demo
    fi
}

# demo_directory: makes it, for the user postgres when we are root.
demo_directory() {
    demo_place
    mkdir -p "$DEMO"
    if [ "$(id -u)" = 0 ]; then chown postgres: "$DEMO"; fi
}
