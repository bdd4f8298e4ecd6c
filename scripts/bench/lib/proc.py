"""Processes: start them unprivileged, find their children, read the CPU time they used, end them.

CPU time comes from the scheduler's own nanosecond counters, so that rounds of one second can be compared.
"""

import os
import pathlib
import signal
import socket
import subprocess
import time

# PostgreSQL, pgbouncer and their like refuse root: as root everything runs as user postgres.
UNPRIVILEGED = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Something the user should read; shown without a traceback."""


def run(command, **options):
    """Runs a program unprivileged and returns its standard output; its failure is an error with what it said."""
    done = subprocess.run(
        [str(part) for part in command], cwd="/", text=True, capture_output=True, **UNPRIVILEGED, **options
    )
    if done.returncode != 0:
        raise BenchError(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


def spawn(command, log, env=None):
    """Starts a server in its own process group, its output in the file `log`."""
    with open(log, "ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            cwd="/",
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **UNPRIVILEGED,
        )


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(condition, seconds, what):
    """Polls until `condition` is true; returns its value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise BenchError(f"{what} did not happen within {seconds} s")
        time.sleep(0.005)
    return value


def stat_fields(pid):
    """Fields of /proc/PID/stat from the state on, or None when the process is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None


def children(parent):
    """The children of a process, zombies among them."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [pid for pid in pids if (fields := stat_fields(pid)) and int(fields[1]) == parent]


def tree(root):
    """The process `root` and all its living descendants."""
    children = {}
    for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
        if fields := stat_fields(pid):
            children.setdefault(int(fields[1]), []).append(pid)
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        todo += children.get(pid, [])
    return found


def cpu_ns(root):
    """Nanoseconds of CPU used so far by `root`, its descendants and the children they have waited for."""
    total = 0
    for pid in tree(root):
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                total += int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
        except OSError:
            continue  # ended between the two looks; its parent's figure has it now
        if fields := stat_fields(pid):
            total += (int(fields[13]) + int(fields[14])) * TICK_NS
    return total


def prefer(roots):
    """From now on these processes, this one, and all that they start go before everything else on the machine."""
    for pid in [os.getpid(), *(pid for root in roots for pid in tree(root))]:
        try:
            os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
        except PermissionError:
            raise BenchError("--realtime needs root") from None
        except OSError:
            continue  # ended


def settled_cpu_ns(root):
    """As cpu_ns, after what the last clients left behind (resets, closes) has been worked off."""
    last = cpu_ns(root)
    for _ in range(50):
        time.sleep(0.01)
        now = cpu_ns(root)
        if now - last < 100_000:
            return now
        last = now
    return last


def end(process, how=signal.SIGTERM, seconds=5):
    """Ends a server started by spawn() and whatever of its children is left."""
    family = tree(process.pid)
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
    for pid in family:
        # Only what still belongs to the session we started: the number may be someone else's by now.
        if (fields := stat_fields(pid)) and int(fields[3]) == process.pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    process.wait()
