#!/usr/bin/env bash
# Promotes a standby when the primary is lost. In pgpool.conf:
#
#   failover_command = '/etc/pgpool-II/failover.sh %d %h %p %D %m %H %M %P %r %R %N %S'
#
# A standby that is lost needs nothing. Before the promotion a primary that still runs is stopped, so that there are never
# two; where that cannot be done while it takes writes, nothing is promoted. Done twice it does nothing. Settings are in
# nodes.sh beside it. Exit status: 0 = there is a primary, or nothing had to be done; 1 = failed, see the log.
set -uo pipefail
# shellcheck source=scripts/samples/nodes.sh
. "$(dirname "$0")/nodes.sh" || exit 1

[ $# -eq 12 ] || die "12 arguments are needed, got $#; failover_command = '$0 %d %h %p %D %m %H %M %P %r %R %N %S'"
lost=$1 lost_host=$2 lost_port=$3 lost_data=$4
main=$5 main_host=$6 main_port=$9 main_data=${10}
primary=$8 primary_host=${11} primary_port=${12}

# Runs on the lost primary's host. What is stopped here, follow_primary.sh may start again.
fence() {
    local data=$1
    is_data_directory "$data" || return
    is_running "$data" || return 0
    touch "$data.stopped_by_failover"
    log "the lost primary still runs, stopping it"
    stop_server "$data"
}

# Runs on the new primary's host.
promote() {
    local data=$1 seconds=$2
    is_data_directory "$data" || return
    rm -f "$data.stopped_by_failover"
    "$(pg_bin "$data")/pg_ctl" -D "$data" -w -t "$seconds" -s promote
}

fence_lost_primary() {
    local status=0
    if [ -n "$lost_data" ]; then
        on_host "$lost_host" "$((2 * STOP_SECONDS + 20))" fence "$lost_data" || status=$?
    else
        log "backend_data_directory$lost is not set, so the lost primary cannot be stopped"
        status=1
    fi
    [ "$status" -eq 0 ] && return
    if is_primary "$lost_host" "$lost_port"; then
        die "node $lost cannot be stopped and still takes writes: nothing is promoted, two primaries would be worse"
    fi
    log "node $lost could not be looked after (status $status); it does not answer"
}

# Bytes of WAL that a standby has, or nothing if it does not answer or is none.
received() {
    sql "$1" "$2" "SELECT coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0', 0)
        WHERE pg_is_in_recovery()" 2>/dev/null
}

# The standby with most WAL: the one pgpool proposes, unless another has more. Sets best_host, best_port, best_data.
choose() {
    local host port data most bytes entry
    best_host=$main_host best_port=$main_port best_data=$main_data
    most=$(received "$main_host" "$main_port")
    for entry in "${CANDIDATES[@]}"; do
        read -r host port data <<<"$entry"
        [ "$host:$port" != "$lost_host:$lost_port" ] || continue
        bytes=$(received "$host" "$port")
        if [ "${bytes:--1}" -gt "${most:--1}" ]; then
            log "$host:$port has received $bytes bytes of WAL, $best_host:$best_port ${most:-none}"
            best_host=$host best_port=$port best_data=$data most=$bytes
        fi
    done
}

if [ "$main" -lt 0 ]; then
    log "no node is left"
    exit 0
fi
if [ "$primary" -ge 0 ] && [ "$lost" -ne "$primary" ]; then
    log "standby $lost is lost, the primary is not"
    if [ "$DROP_SLOT_OF_LOST_STANDBY" = yes ]; then
        drop_slot "$primary_host" "$primary_port" "$(slot_of "$(application_name "$lost" "$lost_host")")" ||
            log "its replication slot could not be dropped"
    fi
    exit 0
fi
for entry in "$main_host $main_port" "${CANDIDATES[@]}"; do
    read -r host port _ <<<"$entry"
    if [ "$host:$port" != "$lost_host:$lost_port" ] && is_primary "$host" "$port"; then
        log "$host:$port is the primary already"
        exit 0
    fi
done
streams="SELECT 1 FROM pg_stat_wal_receiver WHERE status = 'streaming'"
if [ "$primary" -lt 0 ] && [ "$(sql "$main_host" "$main_port" "$streams" 2>/dev/null)" = 1 ]; then
    log "node $main streams from a primary that pgpool does not know: nothing is promoted"
    exit 0
fi

fence_lost_primary
choose
[ -n "$best_data" ] || die "backend_data_directory$main is not set, so node $main cannot be promoted"
log "promoting $best_host:$best_port"
on_host "$best_host" "$((PROMOTE_SECONDS + 10))" promote "$best_data" "$PROMOTE_SECONDS" ||
    log "pg_ctl promote has failed (status $?)"
wait_until 5 is_primary "$best_host" "$best_port" || die "$best_host:$best_port has not become the primary"
log "$best_host:$best_port is the primary"
