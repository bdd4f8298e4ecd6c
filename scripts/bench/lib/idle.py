"""A pgpool with many workers and nothing to do: how long it takes to start, what it keeps in memory, how still it is."""

import dataclasses
import pathlib
import re
import statistics
import time

from lib import proc, syscalls
from lib.security import Open
from lib.security import Open


@dataclasses.dataclass
class Figures:
    workers: int
    start_seconds: float  # from its exec to its line "successfully started"
    pss_kb: float  # median over the workers of the proportional set size
    seconds: int  # how long it was watched
    syscalls: int
    wakeups: int  # voluntary context switches of all its processes


def measure(contestant, cluster, folder, seconds):
    """Starts `contestant`, a Pgpool that has not served anyone, and watches it doing nothing."""
    begin = time.monotonic()
    log = contestant.launch(cluster, folder, Open())
    process = contestant.process
    started = lambda: b"successfully started" in log.read_bytes() or process.poll() is not None
    proc.wait_for(started, 60, f"'successfully started' of {contestant.name}")
    took = time.monotonic() - begin
    if process.poll() is not None:
        raise proc.BenchError(f"{contestant.name} ended with {process.returncode}: {log.read_text()[-800:]}")

    proc.wait_for(lambda: len(proc.tree(process.pid)) > contestant.workers, 30, f"{contestant.workers} workers")
    proc.settled_cpu_ns(process.pid)
    workers = find_workers(process.pid, contestant.workers)
    memory = statistics.median(map(pss_kb, workers))
    wakeups = count_wakeups(process.pid)
    time.sleep(seconds)
    wakeups = count_wakeups(process.pid) - wakeups
    calls = syscalls.while_idle(process.pid, folder, seconds)
    return Figures(len(workers), took, memory, seconds, sum(calls.values()), wakeups), calls


def find_workers(root, expected):
    """The processes whose title says that they wait for a client."""
    titled = [pid for pid in proc.tree(root) if b"pgpool: wait for connection request" in read(pid, "cmdline")]
    if len(titled) < expected:
        raise proc.BenchError(f"{len(titled)} processes say 'wait for connection request', {expected} expected")
    return titled


def pss_kb(pid):
    return int(re.search(rb"^Pss:\s+(\d+) kB", read(pid, "smaps_rollup"), re.MULTILINE)[1])


def count_wakeups(root):
    switches = (re.search(rb"^voluntary_ctxt_switches:\s+(\d+)", read(pid, "status"), re.MULTILINE)
                for pid in proc.tree(root))
    return sum(int(found[1]) for found in switches if found)


def read(pid, file):
    try:
        return pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
    except OSError:
        return b""
