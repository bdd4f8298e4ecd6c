"""Syscalls: how many a relay needs per query, and whether an idle one is silent. Both by strace on a living tree."""

import collections
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from lib import proc
from lib.contestants import DEBIAN, unpacked_libraries

WRITES = ("write", "writev", "sendto", "sendmsg", "sendmmsg")


def strace():
    unpacked = DEBIAN / "usr/bin/strace"
    return str(unpacked) if unpacked.exists() else shutil.which("strace")


@contextlib.contextmanager
def traced(pids, output, *options):
    """Traces the processes `pids` into the file `output` for as long as the block lasts."""
    command = [strace(), "-f", *options, "-o", str(output), "-p", ",".join(map(str, pids))]
    tracer = subprocess.Popen(command, env={**os.environ, **unpacked_libraries()}, stderr=subprocess.PIPE, text=True)
    try:
        attached = lambda: all(is_traced(pid) for pid in pids) or tracer.poll() is not None
        proc.wait_for(attached, 60, "attaching strace")
        if tracer.poll() is not None:
            raise proc.BenchError(f"strace: {tracer.stderr.read().strip()[-400:]}")
        yield
    finally:
        if tracer.poll() is None:
            tracer.send_signal(signal.SIGINT)
        tracer.communicate()


def is_traced(pid):
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True  # it has ended; nothing to wait for
    return "TracerPid:\t0\n" not in status


def per_query(contestant, pgbench, load, folder, queries=2000):
    """Syscalls per query by name, with one client. The difference of a short and a long run, so that what happens
    once per connection cancels out."""
    counts = []
    for transactions in (50, 50 + queries):
        output = folder / "strace.out"
        with traced(proc.tree(contestant.process.pid), output, "-c", "-U", "calls,name"):
            pgbench.send(contestant.port, load, clients=1, transactions=transactions)
            proc.settled_cpu_ns(contestant.process.pid)
        counts.append(read_counts(output))
    calls = {name: (counts[1][name] - counts[0][name]) / queries for name in counts[1]}
    return {name: count for name, count in calls.items() if abs(count) >= 0.01}


def lock_waits(contestant, pgbench, load, folder, clients=50, queries=400):
    """How often per query processes waited for each other, or woke one that waited: calls of futex, with many clients."""
    output = folder / "strace-futex.out"
    with traced(proc.tree(contestant.process.pid), output, "-c", "-U", "calls,name", "-e", "trace=futex"):
        run = pgbench.send(contestant.port, load, clients=clients, transactions=queries)
    return read_counts(output)["futex"] / run.transactions


def read_counts(output):
    counts = collections.Counter()
    for line in output.read_text().splitlines():
        if (found := re.fullmatch(r"\s*(\d+)\s+(\w+)", line)) and found[2] != "total":
            counts[found[2]] += int(found[1])
    return counts


def while_idle(root, folder, seconds):
    """Syscalls begun by the process tree in some seconds of peace, by name. Attaching interrupts what a process waits
    in, and it begins to wait again: what happens in the first second after attaching is strace's own doing."""
    output = folder / "strace-idle.out"
    with traced(proc.tree(root), output, "-ttt"):
        time.sleep(1)
        begin = time.time()
        time.sleep(seconds)
        end = time.time()
    counts = collections.Counter()
    for line in output.read_text(errors="replace").splitlines():
        if (found := re.match(r"\d+\s+(\d+\.\d+) (\w+)\(", line)) and begin <= float(found[1]) <= end:
            counts[found[2]] += 1
    return counts
