#!/usr/bin/env bash
# Makes a node the standby of a new primary. In pgpool.conf:
#
#   follow_primary_command = '/etc/pgpool-II/follow_primary.sh %d %h %p %D %m %H %M %P %r %R'
#
# A standby that runs is told where its primary is. If it is ahead of the new primary, or was the primary itself, its data
# directory is rewound (pg_rewind) or, where that fails, made anew (pg_basebackup); it keeps its own *.conf files. When the
# node streams it is attached to pgpool. One that was down is left alone, unless failover.sh has stopped it. Done twice it
# only attaches. Settings are in nodes.sh beside it. Exit status: 0 = the node streams and is attached, or nothing had to
# be done; 1 = failed, see the log.
set -uo pipefail
# shellcheck source=scripts/samples/nodes.sh
. "$(dirname "$0")/nodes.sh" || exit 1

[ $# -eq 10 ] || die "10 arguments are needed, got $#; follow_primary_command = '$0 %d %h %p %D %m %H %M %P %r %R'"
node=$1 host=$2 port=$3 data=$4
primary=$5 primary_host=$6 primary_port=$9

# --- what runs beside the node's data directory ------------------------------------------------------------------------

# May the node be touched? 3: it was down.
may_rebuild() {
    local data=$1 also_stopped=$2
    is_data_directory "$data" || return
    is_running "$data" || [ -e "$data.stopped_by_failover" ] || [ "$also_stopped" = yes ] || return 3
}

# rebuild DATA SERVER REPLICATION_SERVER SECONDS CONNINFO SLOT: makes the data directory that of a standby, and starts it.
rebuild() {
    local data=$1 server=$2 replication_server=$3 seconds=$4 conninfo=$5 slot=$6 kept=$1.conf is_made=yes
    touch "$data.stopped_by_failover"
    stop_server "$data"
    wait_until "$STOP_SECONDS" has_no_processes "$data" || log "there are still processes in $data"
    # Both ways bring the primary's configuration along. What an interrupted try has put aside is the node's own.
    if [ ! -d "$kept" ]; then
        rm -rf "$kept.new"
        mkdir "$kept.new"
        cp -p "$data"/*.conf "$kept.new"
        mv -T "$kept.new" "$kept"
    fi
    log "pg_rewind of $data"
    if ! "$(pg_bin "$data")/pg_rewind" -D "$data" --source-server="$server" 2>&1; then
        log "pg_rewind has failed, making a base backup"
        base_backup "$data" "$replication_server" "$seconds" || is_made=no
    fi
    cp -p "$kept"/*.conf "$data"
    rm -rf "$kept"
    [ "$is_made" = yes ] || return
    # Slots of the time as a primary would keep WAL for ever.
    rm -rf "$data"/pg_replslot/*
    follow "$data" "$conninfo" "$slot"
    start_server "$data"
    rm -f "$data.stopped_by_failover"
}

# A base backup in place of the data directory, which is removed only when the backup is there.
base_backup() {
    local data=$1 server=$2 seconds=$3
    rm -rf "$data.new"
    if ! timeout --foreground -k 5 "$seconds" "$(pg_bin "$data")/pg_basebackup" -D "$data.new" -d "$server" -w -X stream \
        -c fast 2>&1; then
        log "pg_basebackup has failed, the node stays stopped"
        rm -rf "$data.new"
        return 1
    fi
    mv -T "$data" "$data.old" && mv -T "$data.new" "$data" && rm -rf "$data.old"
}

# The settings of a standby, in the one file that wins over all others.
follow() {
    local data=$1 conninfo=$2 slot=$3 auto=$1/postgresql.auto.conf
    {
        grep -vE '^[[:space:]]*(primary_conninfo|primary_slot_name|recovery_target_timeline)\>' "$auto" || true
        printf "primary_conninfo = '%s'\n" "${conninfo//\'/\'\'}"
        printf "primary_slot_name = '%s'\nrecovery_target_timeline = 'latest'\n" "$slot"
    } >"$auto.new"
    mv "$auto.new" "$auto"
    rm -f "$data/recovery.signal"
    touch "$data/standby.signal"
}

# --- what runs here ----------------------------------------------------------------------------------------------------

# A value of a connection string.
value() {
    local text=${1//\\/\\\\}
    printf "'%s'" "${text//\'/\\\'}"
}

# Does the node stream from the new primary?
streams() {
    [ "$(sql "$primary_host" "$primary_port" "SELECT count(*) > 0 FROM pg_stat_replication
        WHERE state = 'streaming' AND application_name = $(sql_text "$application")" 2>/dev/null)" = t ]
}

# The new primary's timeline, and where it begins: the end of the last line of its history.
fork_point() {
    sql "$primary_host" "$primary_port" "SELECT timeline_id, substring(pg_read_file(
        'pg_wal/' || lpad(upper(to_hex(timeline_id)), 8, '0') || '.history') FROM '([0-9A-F]+/[0-9A-F]+)[^\n]*\n*$')
        FROM pg_control_checkpoint()"
}

# Is the node a running standby that has nothing the new primary has not? It may have got the new timeline already, from
# a node that has been rebuilt.
can_follow() {
    local timeline fork
    IFS='|' read -r timeline fork < <(fork_point) || return
    [ "$(sql "$host" "$port" "SELECT greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) <= $(sql_text "$fork")
        OR EXISTS (SELECT FROM pg_stat_wal_receiver WHERE received_tli = $timeline)
        WHERE pg_is_in_recovery()" 2>/dev/null)" = t ]
}

# Such a standby only needs to know where its primary is.
point_there() {
    log "telling standby $node that its primary is $primary_host:$primary_port"
    sql "$host" "$port" "ALTER SYSTEM SET primary_conninfo = $(sql_text "$conninfo")" \
        "ALTER SYSTEM SET primary_slot_name = $(sql_text "$slot")" "SELECT pg_reload_conf()" >/dev/null &&
        wait_until "$START_SECONDS" streams
}

# pcp_attach_node ends with 0 also when pgpool has refused: what it says counts.
attach() {
    [ -n "$PCP_PORT" ] || return 0
    local said
    said=$(timeout -k 5 30 pcp_attach_node -w -h "$PCP_HOST" -p "$PCP_PORT" -U "$PCP_USER" -n "$node" </dev/null) || return
    case $said in *"Command Successful"*) ;; *) return 1 ;; esac
}

# fail MESSAGE: leaves no slot behind that would keep WAL.
fail() {
    [ -z "$slot" ] || drop_slot "$primary_host" "$primary_port" "$slot" || true
    die "$1"
}

[ "$node" -ne "$primary" ] || { log "node $node is the primary"; exit 0; }
application=$(application_name "$node" "$host")
slot=
[ "$USE_SLOTS" != yes ] || slot=$(slot_of "$application")
server="host=$(value "$primary_host") port=$primary_port connect_timeout=5"
conninfo="$server user=$(value "$REPLICATION_USER") application_name=$(value "$application")"

if streams; then
    log "standby $node streams from $primary_host:$primary_port already"
else
    [ -n "$data" ] || die "backend_data_directory$node is not set, so node $node cannot follow"
    status=0
    on_host "$host" 15 may_rebuild "$data" "$REBUILD_STOPPED_NODES" || status=$?
    case $status in
    0) ;;
    3) log "node $node does not run and is left alone"; exit 0 ;;
    255) log "the host of node $node cannot be reached, it is left alone"; exit 0 ;;
    *) die "node $node cannot be looked after (status $status)" ;;
    esac
    # pg_rewind reads the new timeline from the control file, which a checkpoint writes.
    sql "$primary_host" "$primary_port" CHECKPOINT || die "the new primary $primary_host:$primary_port does not answer"
    [ -z "$slot" ] || sql "$primary_host" "$primary_port" "SELECT pg_create_physical_replication_slot($(sql_text "$slot"))
        WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $(sql_text "$slot"))" >/dev/null ||
        die "the replication slot $slot cannot be made"
    if ! { can_follow && point_there; }; then
        log "making node $node a standby of $primary_host:$primary_port"
        on_host "$host" "$((2 * STOP_SECONDS + BACKUP_SECONDS + START_SECONDS + 60))" \
            rebuild "$data" "$server user=$(value "$PG_USER") dbname=postgres" \
            "$server user=$(value "$REPLICATION_USER")" "$BACKUP_SECONDS" "$conninfo" "$slot" ||
            fail "node $node could not be rebuilt"
        wait_until "$START_SECONDS" streams || fail "node $node does not stream from the new primary"
    fi
    log "standby $node streams from $primary_host:$primary_port"
fi
attach || die "pcp_attach_node has failed (status $?); node $node streams but is not attached"
