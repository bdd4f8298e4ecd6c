#!/bin/sh
# reaper.sh SCRATCH: waits until the test program at the other end of stdin is gone, in whatever way, then ends every
# process it left running and removes its scratch directory. SCRATCH/pids holds one empty file per process group.
trap '' INT TERM HUP
cat >/dev/null
# Servers that scripts have started are known by their data directories.
for file in "$1"/*/*/postmaster.pid; do
    [ -e "$file" ] && read -r pid <"$file" && grep -qaF "$1" "/proc/$pid/cmdline" 2>/dev/null && : >"$1/pids/$pid"
done
for file in "$1"/pids/*; do
    [ -e "$file" ] || continue
    # PostgreSQL ends its children on QUIT; a stopped process must be woken to see it.
    kill -QUIT "${file##*/}" 2>/dev/null
    kill -CONT "${file##*/}" 2>/dev/null
done
for file in "$1"/pids/*; do
    [ -e "$file" ] || continue
    tries=0
    while kill -0 "${file##*/}" 2>/dev/null && [ "$tries" -lt 50 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    kill -KILL -- "-${file##*/}" 2>/dev/null
done
rm -rf "$1"
