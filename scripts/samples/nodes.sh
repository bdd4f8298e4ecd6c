# shellcheck shell=bash
# The settings are read by those who source this.
# shellcheck disable=SC2034

# What failover.sh and follow_primary.sh share: their settings and their means. To be sourced, not run; it lies beside
# them. Needs bash on every machine, and PostgreSQL 12 or newer. docs/failover-scripts.md tells how to set it up.

# --- settings ------------------------------------------------------------------------------------------------------

# local: all data directories are on this machine. ssh: each is on the host that backend_hostnameN names.
REMOTE=local
# Who owns the data directories. pgpool runs as he or, with REMOTE=local, as root.
OS_USER=postgres
# He logs in everywhere without being asked; add -i FILE for a key of its own.
SSH=(ssh -o BatchMode=yes -o ConnectTimeout=3 -o StrictHostKeyChecking=accept-new)

# A superuser for the statements below and for pg_rewind, and the role that standbys replicate with. Passwords are in
# OS_USER's ~/.pgpass, on every machine.
PG_USER=postgres
REPLICATION_USER=postgres

# The name of a standby at its primary, as backend_application_nameN has it; {id} and {host} are replaced.
APPLICATION_NAME='server{id}'
# yes: every standby has a replication slot, named like itself in lower case with _ for what is no letter or digit.
USE_SLOTS=no
# yes: the slot of a standby that is lost is dropped, so that it keeps no WAL. It cannot come back by itself then.
DROP_SLOT_OF_LOST_STANDBY=no
# yes: follow_primary.sh starts nodes, too, that somebody else has stopped or that have crashed.
REBUILD_STOPPED_NODES=no

# Where nodes are attached again, with the password in ~/.pcppass. Without a port nobody attaches them but auto_failback.
PCP_HOST=localhost
PCP_PORT=9898
PCP_USER=pgpool

# Other nodes that may be promoted instead of the one pgpool proposes, if they have received more: 'host port directory'.
CANDIDATES=()

# Where pg_ctl and the like are; empty: looked for in the usual places, by the version of the data directory.
PG_BIN=
# Seconds until a server that is to stop is ended at once, and until a promotion, a start and a base backup are given up.
STOP_SECONDS=20
PROMOTE_SECONDS=60
START_SECONDS=60
BACKUP_SECONDS=3600

# How a server is started. With systemd: sudo systemctl start postgresql
start_server() {
    "$(pg_bin "$1")/pg_ctl" -D "$1" -l "$1.log" -w -t "$START_SECONDS" -s start
}

# --- means ---------------------------------------------------------------------------------------------------------

NAME=${0##*/}

log() { printf '%s: %s\n' "$NAME" "$*" >&2; }
die() { log "$*"; exit 1; }

# What runs is ended with us. (In the foreground it would be waited for first.)
trap 'kill $(jobs -p) 2>/dev/null; exit 143' TERM INT HUP

# on_host HOST SECONDS FUNCTION ARGUMENT...: runs a function of these files as OS_USER where the data directories of the
# host are, for so long at most. 255: the host cannot be reached.
on_host() {
    local host=$1 seconds=$2 script
    shift 2
    script="set -euo pipefail
        $(declare -p NAME PG_BIN STOP_SECONDS START_SECONDS)
        $(declare -f)
        $(printf '%q ' "$@") </dev/null"
    if [ "$REMOTE" = ssh ]; then
        timeout -k 5 "$((seconds + 15))" "${SSH[@]}" "$OS_USER@$host" "timeout -k 5 $seconds bash -s" <<<"$script" &
    elif [ "$(id -un)" = "$OS_USER" ]; then
        timeout -k 5 "$seconds" bash -s <<<"$script" &
    else
        timeout -k 5 "$seconds" setpriv --reuid "$OS_USER" --regid "$(id -g "$OS_USER")" --init-groups --reset-env \
            bash -s <<<"$script" &
    fi
    wait $!
}

# sql HOST PORT STATEMENT...: their results, one value per line.
sql() {
    local host=$1 port=$2 statement commands=()
    shift 2
    for statement in "$@"; do commands+=(-c "$statement"); done
    PATH=${PG_BIN:+$PG_BIN:}$PATH PGCONNECT_TIMEOUT=3 PGOPTIONS='-c statement_timeout=10s' timeout -k 5 15 \
        psql -X -A -t -q -w -v ON_ERROR_STOP=1 -h "$host" -p "$port" -U "$PG_USER" -d postgres "${commands[@]}" </dev/null
}

# sql_text TEXT: as a constant of SQL.
sql_text() { printf "'%s'" "${1//\'/\'\'}"; }

# is_primary HOST PORT: does it answer, and take writes?
is_primary() { [ "$(sql "$1" "$2" 'SELECT pg_is_in_recovery()' 2>/dev/null)" = f ]; }

# wait_until SECONDS COMMAND...: asks four times a second.
wait_until() {
    local tries=$(($1 * 4))
    shift
    until "$@"; do
        [ "$((tries -= 1))" -gt 0 ] || return 1
        sleep 0.25
    done
}

# application_name ID HOST
application_name() {
    local name=${APPLICATION_NAME//'{id}'/$1}
    printf '%s\n' "${name//'{host}'/$2}"
}

# slot_of APPLICATION_NAME
slot_of() { tr '[:upper:]' '[:lower:]' <<<"$1" | tr -c 'a-z0-9\n' _; }

# drop_slot HOST PORT SLOT: unless somebody uses it.
drop_slot() {
    sql "$1" "$2" "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
        WHERE slot_name = $(sql_text "$3") AND NOT active" >/dev/null
}

# --- what runs beside a data directory -------------------------------------------------------------------------------

# pg_bin DATA
pg_bin() {
    local version directory
    version=$(cat "$1/PG_VERSION")
    for directory in "$PG_BIN" "/usr/lib/postgresql/$version/bin" "/usr/pgsql-$version/bin"; do
        if [ -n "$directory" ] && [ -x "$directory/pg_ctl" ]; then
            printf '%s\n' "$directory"
            return
        fi
    done
    dirname "$(command -v pg_ctl || die "pg_ctl of PostgreSQL $version is not found, set PG_BIN")"
}

# is_data_directory DATA
is_data_directory() {
    [ -f "$1/PG_VERSION" ] && [ -f "$1/global/pg_control" ] && [ -d "$1/base" ] && return
    log "$1 is no data directory of PostgreSQL"
    return 1
}

# is_running DATA
is_running() { "$(pg_bin "$1")/pg_ctl" -D "$1" status >/dev/null 2>&1; }
is_stopped() { ! is_running "$1"; }

# has_no_processes DATA: processes of a server whose postmaster was killed live on until they notice.
has_no_processes() {
    local directory
    for directory in /proc/[0-9]*/cwd; do
        [ ! "$directory" -ef "$1" ] || return 1
    done
}

# stop_server DATA: fast, then at once, then by force.
stop_server() {
    local data=$1 mode postmaster
    is_running "$data" || return 0
    for mode in fast immediate; do
        "$(pg_bin "$data")/pg_ctl" -D "$data" -w -t "$STOP_SECONDS" -m "$mode" -s stop && return
        is_stopped "$data" && return
        log "the server in $data has not stopped ($mode)"
    done
    log "killing it"
    read -r postmaster <"$data/postmaster.pid" || return
    # A list of process ids is meant to be split.
    # shellcheck disable=SC2046
    kill -KILL "$postmaster" $(ps -o pid= --ppid "$postmaster") || true
    wait_until 5 is_stopped "$data"
}
