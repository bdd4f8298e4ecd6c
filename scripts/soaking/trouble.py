"""What is done to pgpool and its servers while they work. Each deed says what it may break."""

import os
import random
import signal
import threading
import time

from lib import proc
from soaking.ledger import LOST, NODE

WAITING = ("wait for connection request", "wait for accept lock")
# How long after a deed clients may notice: they may be blocked on a busy machine.
GRACE = 20


def is_worker(title):
    """Whether a child with this title serves clients: PCP waits in the same words."""
    return title.startswith((*WAITING, "accept connection", "soak", "postgres"))


class Troubles(threading.Thread):
    """Does one thing every few seconds, until told to stop. `spared`: workers that are left alone, to see what leaks."""

    def __init__(self, pool, servers, ledger, seed, pause, upgrades):
        super().__init__(name="troubles", daemon=True)
        self.pool, self.servers, self.ledger, self.pause = pool, servers, ledger, pause
        self.random = random.Random(seed)
        self.stop, self.calm = threading.Event(), threading.Lock()
        self.error = None
        self.upgrades = upgrades
        self.spare()

    def spare(self):
        workers = sorted(pid for pid, title in self.pool.children().items() if is_worker(title))
        self.spared = set(workers[: max(1, len(workers) // 4)])

    def run(self):
        deeds = [
            (self.kill_worker, 8),
            (self.kill_helper, 6),
            (self.reload, 4),
            (self.rotate_log, 1),
            (self.detach_standby, 2),
            (self.stop_standby, 2),
            (self.restart_primary, 1),
            (self.upgrade, 3 if self.upgrades else 0),
        ]
        try:
            while not self.stop.wait(self.random.uniform(0.5, 1.5) * self.pause):
                with self.calm:
                    self.random.choices(*zip(*deeds))[0]()
        except (OSError, proc.BenchError) as error:
            self.error = f"{type(error).__name__}: {error}"

    def kill_worker(self):
        """One client loses its session: that of the title, or anybody who was just accepted."""
        workers = [pid for pid, title in self.pool.children().items() if is_worker(title) and pid not in self.spared]
        if not workers:
            return
        pid = self.random.choice(workers)
        try:
            os.kill(pid, signal.SIGSTOP)
            title = self.pool.children().get(pid, "")
            user = title.split(" ")[0]
            load = user if user.startswith("soak") else None
            licence = self.ledger.allow("a killed worker", LOST, load, most=1)
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        licence.close(GRACE)
        self.ledger.did("worker killed" if load else "waiting worker killed")

    def kill_helper(self):
        """Nobody may notice."""
        helpers = [(pid, title) for pid, title in self.pool.children().items() if not is_worker(title)]
        if not helpers:
            return
        pid, title = self.random.choice(helpers)
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.ledger.did(f"{title.split('(')[0] or 'a new process'} killed")

    def reload(self):
        """Nobody may notice."""
        weight = self.random.choice([0, 1, 2])
        level = self.random.choice(["warning", "info", "log"])
        statements = self.random.choice(["on", "off"])
        self.pool.configure(backend_weight1=weight, log_statement=statements, log_min_messages=level)
        if self.random.random() < 0.5:
            os.kill(self.pool.pid, signal.SIGHUP)
        else:
            self.pcp("reload_config")
        self.ledger.did("reload")

    def rotate_log(self):
        self.pcp("log_rotate")
        self.ledger.did("log rotated")

    def detach_standby(self):
        node = self.random.choice([1, 2])
        licence = self.ledger.allow("a detached standby", NODE)
        self.pcp("detach_node", "-n", str(node))
        self.stop.wait(self.random.uniform(1, 5))
        self.pcp("attach_node", "-n", str(node))
        licence.close(GRACE)
        self.wait_attached(node)
        self.ledger.did("standby detached and attached")

    def stop_standby(self):
        node = self.random.choice([1, 2])
        how = self.random.choice([signal.SIGINT, signal.SIGQUIT])
        licence = self.ledger.allow("a stopped standby", NODE)
        self.servers.stop_node(node, how)
        self.stop.wait(self.random.uniform(0, 8))
        self.servers.start_node(node)
        self.pcp("attach_node", "-n", str(node))
        licence.close(GRACE)
        self.wait_attached(node)
        self.ledger.did("standby stopped and started")

    def restart_primary(self):
        how = self.random.choice([signal.SIGINT, signal.SIGQUIT])
        licence = self.ledger.allow("a restarted primary", NODE)
        self.servers.stop_node(0, how)
        self.stop.wait(self.random.uniform(0, 4))
        self.servers.start_node(0)
        # Else it is searched among the others for as long as search_primary_node_timeout.
        self.pcp("attach_node", "-n", "0")
        self.wait_attached(0)
        licence.close(GRACE)
        self.ledger.did("primary restarted")

    def upgrade(self):
        """Nobody may notice. While a failover is under way it is refused, and tried again."""
        proc.wait_for(self.pool.upgrade, 120, "the upgrade")
        self.spare()
        self.ledger.did("upgrade")

    def pcp(self, request, *arguments):
        """The PCP process may just have been killed."""
        proc.wait_for(lambda: self.pool.pcp(request, *arguments), 60, f"pcp_{request}")

    def wait_attached(self, node):
        """Attaching is asked for again, as an administrator would whose request came while the node was being detached."""
        def attached():
            rows = {row[0]: row for row in self.nodes()}
            if rows.get(str(node), [""] * 4)[3] in ("up", "waiting"):
                return True
            self.pool.pcp("attach_node", "-n", str(node))
            time.sleep(1)
            return False

        proc.wait_for(attached, 120, f"attaching node {node}")

    def nodes(self):
        try:
            return self.pool.show("SHOW POOL_NODES")
        except proc.BenchError:
            return []
