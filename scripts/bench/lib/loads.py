"""The loads, and one run of pgbench under one of them."""

import dataclasses
import os
import re

from lib import proc
from lib.cluster import program

ONE_ROW = "\\set aid random(1, 100000 * :scale)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n"
SCRIPTS = {
    "rows.sql": "SELECT aid, bid, abalance, filler FROM pgbench_accounts LIMIT 20000;\n",
    "block.sql": "BEGIN;\n" + 3 * ONE_ROW + "COMMIT;\n",
    "hits.sql": "\\set aid random(1, 100)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n",
    "misses.sql": "\\set aid random(1, 100000 * :scale)\n\\set unique random(1, 2000000000)\n"
    "SELECT abalance FROM pgbench_accounts WHERE aid = :aid AND :unique > 0;\n",
    "hits-1k.sql": "SELECT aid, filler FROM pgbench_accounts WHERE aid <= 10;\n",
    "hits-100k.sql": "SELECT aid, filler FROM pgbench_accounts WHERE aid <= 1000;\n",
    "pipeline.sql": "\\startpipeline\n" + 10 * ONE_ROW + "\\endpipeline\n",
}


@dataclasses.dataclass(frozen=True)
class Load:
    title: str
    options: tuple
    writes: bool = False


LOADS = {
    "simple": Load("SELECT of one row (-S), simple protocol", ("-S", "-M", "simple")),
    "extended": Load("SELECT of one row (-S), extended protocol", ("-S", "-M", "extended")),
    "prepared": Load("SELECT of one row (-S), prepared statements", ("-S", "-M", "prepared")),
    "tpcb": Load("TPC-B like, simple protocol", ("-M", "simple"), writes=True),
    "tpcb-prepared": Load("TPC-B like, prepared statements", ("-M", "prepared"), writes=True),
    "connect": Load("A new connection for each SELECT (-C -S), simple protocol", ("-C", "-S", "-M", "simple")),
    "rows": Load("20,000 rows per query, simple protocol", ("-M", "simple", "-f", "rows.sql")),
    "mix": Load(
        "4 reads to 1 writing transaction, simple protocol",
        ("-M", "simple", "-b", "select-only@8", "-b", "simple-update@2"),
        writes=True,
    ),
    "block": Load("BEGIN, 3 SELECTs of one row, COMMIT, simple protocol", ("-M", "simple", "-f", "block.sql")),
    "hits": Load("SELECT of one of 100 rows, simple protocol", ("-M", "simple", "-f", "hits.sql")),
    "hits-prepared": Load("SELECT of one of 100 rows, prepared statements", ("-M", "prepared", "-f", "hits.sql")),
    "hits-1k": Load("10 rows, 1 KB, simple protocol", ("-M", "simple", "-f", "hits-1k.sql")),
    "hits-100k": Load("1,000 rows, 100 KB, simple protocol", ("-M", "simple", "-f", "hits-100k.sql")),
    "misses": Load("SELECT of one row, never the same text, simple protocol", ("-M", "simple", "-f", "misses.sql")),
    "misses-prepared": Load(
        "SELECT of one row, never the same values, prepared statements", ("-M", "prepared", "-f", "misses.sql")
    ),
    "pipeline": Load("10 SELECTs of one row in a pipeline, extended protocol", ("-M", "extended", "-f", "pipeline.sql")),
}


@dataclasses.dataclass
class Run:
    """What pgbench reported, and what the relay used for it."""

    transactions: int
    tps: float
    latency_ms: float
    cpu_us: float = 0.0


class Pgbench:
    """Sends loads; `folder` holds its scripts."""

    def __init__(self, folder, security):
        self.security = security
        self.scripts = {name: folder / name for name in SCRIPTS}
        for name, path in self.scripts.items():
            path.write_text(SCRIPTS[name])

    def send(self, port, load, clients, seconds=None, transactions=None):
        """Runs `load` for a time, or for a number of transactions per client; any failed transaction is an error."""
        options = [self.scripts.get(option, option) for option in LOADS[load].options]
        length = ["-T", str(seconds)] if seconds else ["-t", str(transactions)]
        output = proc.run(
            [program("pgbench"), "-n", "-h", "127.0.0.1", "-p", port, "-U", "postgres"]
            + ["-c", clients, "-j", min(clients, 2), *length, *options, "bench"],
            env={**os.environ, "PGGSSENCMODE": "disable", **self.security.environment()},
            timeout=(seconds or 0) + 60 + (transactions or 0) * clients / 1000,
        )
        done = int(number(output, r"actually processed: (\d+)"))
        failed = number(output, r"failed transactions: (\d+)", default=0)
        if done == 0 or failed:
            raise proc.BenchError(f"pgbench: {done} transactions done, {failed:.0f} failed")
        return Run(done, number(output, r"tps = ([\d.]+)"), number(output, r"latency average = ([\d.]+)"))

    def measure(self, contestant, load, clients, seconds):
        before = contestant.cpu_ns()
        run = self.send(contestant.port, load, clients, seconds)
        run.cpu_us = (contestant.cpu_ns() - before) / 1000 / run.transactions
        return run


def number(text, pattern, default=None):
    if found := re.search(pattern, text):
        return float(found[1])
    if default is None:
        raise proc.BenchError(f"pgbench said nothing like `{pattern}`:\n{text}")
    return default
