"""What processes cost, and what must be true when nobody does anything."""

import collections
import dataclasses
import os
import pathlib
import re
import signal
import socket
import time

from lib import proc
from soaking.stage import NODES
from soaking.trouble import is_worker

# A heap settles; more than this over a whole run is a leak.
PARENT_MAY_GROW_KB = 1024
WORKER_MAY_GROW_KB = 2048
# In the log, each of them is a defect.
NEVER_LOGGED = re.compile(r"panick|PANIC: |segmentation fault|signal \d+ \(SIG(ABRT|BUS|ILL|FPE)|cannot go on|expects no answer")


def pss_kb(pid, kind="Pss"):
    """Its share of memory, in kB; 0 when it is gone. Pss_Anon is without files and the memory that pgpool shares."""
    try:
        return int(re.search(rf"^{kind}:\s+(\d+)", pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
    except (OSError, TypeError):
        return 0


def rss_kb(pid):
    try:
        return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4
    except OSError:
        return 0


def descriptors(pid):
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def state(pid):
    fields = proc.stat_fields(pid)
    return fields[0] if fields else "X"


@dataclasses.dataclass
class Cost:
    """Of one process, or the mean of several."""

    own: float
    pss: float
    rss: float
    fds: float

    @staticmethod
    def of(pids):
        living = [pid for pid in pids if state(pid) not in "ZX"]
        mean = lambda measure: sum(map(measure, living)) / len(living) if living else 0
        return Cost(mean(lambda pid: pss_kb(pid, "Pss_Anon")), mean(pss_kb), mean(rss_kb), mean(descriptors))

    def __str__(self):
        shares = f"{self.own / 1024:.1f} MB own, {self.pss / 1024:.1f} MB PSS, {self.rss / 1024:.1f} MB RSS"
        return f"{shares}, {self.fds:.0f} descriptors"


class Watch:
    """Collects complaints; a soak without any has passed."""

    def __init__(self, pool, servers, troubles):
        self.pool, self.servers, self.troubles = pool, servers, troubles
        self.pid = pool.pid
        self.complaints = []
        self.zombies = set()
        self.first = self.last = None

    def complain(self, text):
        self.complaints.append(f"{time.strftime('%H:%M:%S')} {text}")
        print(f"COMPLAINT {self.complaints[-1]}", flush=True)

    def look(self):
        """A look while everything works: what each kind of process costs, and who should not be there."""
        if not self.pool.is_alive():
            raise proc.BenchError(f"pgpool has ended (process {self.pool.pid})")
        children = self.pool.children()
        zombies = {pid for pid in children if state(pid) == "Z"}
        for pid in zombies & self.zombies:
            self.complain(f"process {pid} is a zombie since the last look")
        self.zombies = zombies
        for pid in self.orphans():
            self.complain(f"process {pid} is left over: {self.command(pid)}")
        return self.costs(children)

    def costs(self, children):
        workers = {pid for pid, title in children.items() if is_worker(title)}
        helpers = collections.defaultdict(list)
        for pid, title in children.items():
            if pid not in workers and title:
                helpers[title.split("(")[0]].append(pid)
        return {
            "parent": Cost.of([self.pool.pid]),
            "spared workers": Cost.of(self.troubles.spared),
            "all workers": Cost.of(workers),
            **{title: Cost.of(pids) for title, pids in sorted(helpers.items())},
        }

    def orphans(self):
        """Processes of this pgpool that do not descend from its parent."""
        program = str(self.pool.home / "pgpool")
        ours = []
        for pid in (int(entry) for entry in os.listdir("/proc") if entry.isdigit()):
            try:
                if os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)") == program:
                    ours.append(pid)
            except OSError:
                continue
        family = self.pool.family()
        strangers = [pid for pid in ours if pid not in family]
        if not strangers:
            return []
        time.sleep(2)  # the children of a parent that has ended may be on their way out
        return [pid for pid in strangers if state(pid) not in "ZX" and pid not in self.pool.family()]

    @staticmethod
    def command(pid):
        try:
            return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return "(gone)"

    def quiet(self):
        """While no client is there: nothing may be left of the former ones. Returns the costs."""
        self.expect("every worker waits for a client", self.busy_workers)
        self.expect("SHOW POOL_PROCESSES names the living workers", self.slots_without_process)
        self.expect("the servers have the connections that the pool knows", self.lost_connections)
        self.expect("all helpers are there", self.missing_helpers)
        self.all_workers_serve()
        costs = self.look()
        if self.pid != self.pool.pid:
            # Another pgpool: what there is to compare begins anew.
            self.pid, self.first = self.pool.pid, None
        for pid in self.troubles.spared:
            if state(pid) in "ZX":
                self.complain(f"worker {pid}, which nobody killed, has ended")
        self.first = self.first or costs
        self.last = costs
        return costs

    def expect(self, what, find_wrong):
        """Complains if something is still wrong after a while."""
        deadline = time.monotonic() + 60
        while wrong := find_wrong():
            if time.monotonic() > deadline:
                return self.complain(f"it is not true that {what}: {wrong}")
            time.sleep(0.5)

    def processes(self):
        try:
            return self.pool.show("SHOW POOL_PROCESSES")
        except proc.BenchError as error:
            return [["0", f"(none can be had: {error})"] + [""] * 6]

    def busy_workers(self):
        return [row for row in self.processes() if row[-1] != "Wait for connection" and row[4] != "soak_watch"]

    def slots_without_process(self):
        shown = {int(row[0]) for row in self.processes()}
        living = {pid for pid, title in self.pool.children().items() if is_worker(title)}
        return sorted(shown ^ living) or (len(living) != self.pool.workers and f"{len(living)} workers")

    def lost_connections(self):
        """Sessions on the servers that no pool knows, and entries of pools that no server knows."""
        wrong = []
        try:
            rows = self.pool.show("SHOW POOL_POOLS")
            # Whoever asks comes and goes.
            known = {(int(row[4]), row[14]): row for row in rows if row[14] != "0" and row[6] not in ("", "soak_watch")}
            there = {(node, pid) for node in range(NODES) for pid in self.servers.client_backends(node)}
        except proc.BenchError as error:
            return str(error)
        for node, pid in there - known.keys():
            wrong.append(f"session {pid} of node {node} belongs to no pool")
        for node, pid in known.keys() - there:
            wrong.append(f"node {node} has no session {pid}: {known[node, pid]}")
        return wrong

    def missing_helpers(self):
        titles = " ".join(self.pool.children().values())
        wanted = ["PgpoolLogger", "PCP: wait", "metrics", "node finder", "worker process"]
        return [title for title in wanted + [f"health check process({node})" for node in range(NODES)] if title not in titles]

    def all_workers_serve(self):
        """As many sessions at a time as there are workers."""
        sessions = []
        try:
            words = b"user\0soak_watch\0database\0bench\0\0"
            for _ in range(self.pool.workers):
                session = socket.create_connection(("127.0.0.1", self.pool.port), timeout=30)
                sessions.append(session)
                session.sendall((8 + len(words)).to_bytes(4) + (196608).to_bytes(4) + words)
            for number, session in enumerate(sessions):
                if session.recv(1) != b"R":
                    self.complain(f"session {number} of {self.pool.workers} at a time was not let in")
        except OSError as error:
            self.complain(f"not all of {self.pool.workers} sessions at a time were served: {error}")
        finally:
            for session in sessions:
                session.close()

    def judge_costs(self):
        """Compares the last quiet moment with the first one."""
        for who, allowed in (("parent", PARENT_MAY_GROW_KB), ("spared workers", WORKER_MAY_GROW_KB)):
            before, after = self.first[who], self.last[who]
            if after.own - before.own > allowed:
                self.complain(f"{who}: memory has grown from {before.own:.0f} to {after.own:.0f} kB")
            if after.fds > before.fds + (2 if who == "parent" else NODES * 4):
                self.complain(f"{who}: descriptors have grown from {before.fds:.0f} to {after.fds:.0f}")

    def judge_log(self):
        """Counts lines from WARNING on by their shape; complains about what must never be logged."""
        shapes = collections.Counter()
        for line in self.pool.log():
            if NEVER_LOGGED.search(line):
                self.complain(f"in the log: {line.strip()[:300]}")
            if found := re.search(r"(WARNING|ERROR|FATAL|PANIC):  (.*)", line):
                shapes[f"{found[1]}: {re.sub(r'[0-9]+', 'N', found[2])[:110]}"] += 1
        return shapes

    def judge_end(self):
        """Stops pgpool: nothing may stay."""
        status = self.pool.stop()
        if status != 0:
            self.complain(f"pgpool did not end in an orderly way: {status}")
        for pid in self.orphans():
            self.complain(f"process {pid} has outlived pgpool: {self.command(pid)}")
            os.kill(pid, signal.SIGKILL)
        for path in [*self.pool.home.glob(".s.PGSQL.*"), self.pool.home / "pgpool.pid"]:
            if path.exists():
                self.complain(f"{path.name} was left behind")
