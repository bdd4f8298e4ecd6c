"""The loads: each is a thread that runs one kind of client again and again, as a user of its own, and tells the ledger."""

import random
import re
import socket
import struct
import subprocess
import threading
import time

from lib import proc
from lib.cluster import program
from soaking.stage import DATABASE

# How long one run of pgbench takes: a client that lost its session stays away until the next one.
CHUNK = 15
TRANSACTIONS = re.compile(r"number of transactions actually processed: (\d+)")
# One line for each client that is lost; others beside it tell why.
ABORTED = re.compile(r"client \d+ .*aborted", re.I)

CURSOR = """\\set n random(1, 100000)
BEGIN;
DECLARE c CURSOR FOR SELECT * FROM pgbench_accounts WHERE aid > :n ORDER BY aid LIMIT 200;
FETCH 50 FROM c;
FETCH 50 FROM c;
SAVEPOINT a;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :n;
ROLLBACK TO a;
COMMIT;
"""
# What people do in psql; an error in the middle belongs to it.
PSQL = """
SET application_name = 'soak';
CREATE TEMP TABLE mine AS SELECT g AS a, repeat('x', 100) AS b FROM generate_series(1, 500) g;
SELECT count(*) FROM mine;
PREPARE p(int) AS SELECT abalance FROM pgbench_accounts WHERE aid = $1;
EXECUTE p(7);
EXECUTE p(8);
BEGIN;
SAVEPOINT s;
SELECT 1/0;
ROLLBACK TO s;
SELECT sum(abalance) FROM pgbench_accounts WHERE aid < 1000;
COMMIT;
SHOW POOL_NODES;
SHOW POOL_POOLS;
PGPOOL SHOW ALL;
SELECT repeat('y', 2000000) IS NOT NULL;
"""
COPY = """
BEGIN;
CREATE TEMP TABLE t (LIKE pgbench_accounts) ON COMMIT DROP;
\\copy t FROM PROGRAM 'seq 1 20000 | sed "s/$/\\t1\\t0\\tfiller/"'
\\copy (SELECT * FROM t) TO '/dev/null'
COMMIT;
"""


class Load(threading.Thread):
    def __init__(self, name, pool, ledger):
        super().__init__(name=name, daemon=True)
        self.user, self.pool, self.ledger = f"soak_{name}", pool, ledger
        self.going, self.resting, self.stop = threading.Event(), threading.Event(), threading.Event()
        self.going.set()

    def run(self):
        while not self.stop.is_set():
            if not self.going.is_set():
                self.resting.set()
                self.going.wait(1)
                continue
            self.resting.clear()
            begun = time.monotonic()
            try:
                self.once()
            except (OSError, ValueError, subprocess.SubprocessError) as error:
                self.failed(f"{type(error).__name__}: {error}", time.monotonic())
            # A client that cannot get in does not come back at once.
            self.stop.wait(max(0, 1 - (time.monotonic() - begun)))
        self.resting.set()

    def pause(self):
        self.going.clear()

    def go_on(self):
        self.resting.clear()
        self.going.set()

    def worked(self, count):
        self.ledger.worked(self.name, count)

    def failed(self, text, when):
        self.ledger.failed(self.user, text, when)

    def client(self, command, script=None, host="127.0.0.1"):
        """Runs a client program; yields (when, line) of its standard error, returns (status, output)."""
        command = [program(command[0]), "-h", host, "-p", self.pool.port, "-U", self.user, *command[1:]]
        process = subprocess.Popen(
            [str(word) for word in command], cwd="/", text=True, errors="replace", **proc.UNPRIVILEGED,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        output = []
        reader = threading.Thread(target=lambda: output.append(process.stdout.read()), daemon=True)
        reader.start()
        try:
            process.stdin.write(script or "")
            process.stdin.close()
        except BrokenPipeError:
            pass
        # Programs that hang are found by the judge, and ended here.
        alarm = threading.Timer(180, process.kill)
        alarm.start()
        errors = [(time.monotonic(), line) for line in process.stderr]
        status = process.wait()
        alarm.cancel()
        reader.join(10)
        if status == -9:
            errors.append((time.monotonic(), f"{command[0]} hung for 180 s"))
        return status, "".join(output), errors


class Pgbench(Load):
    def __init__(self, name, pool, ledger, options, rate, clients=2, script=None, local=False):
        super().__init__(name, pool, ledger)
        self.options, self.rate, self.clients = options, rate, clients
        if script:
            file = pool.home / f"{name}.sql"
            file.write_text(script)
            self.options = [*options, "-f", file]
        self.host = str(pool.home) if local else "127.0.0.1"

    def once(self):
        command = ["pgbench", "-n", "-T", CHUNK, "-R", self.rate, "-c", self.clients, *self.options]
        status, output, errors = self.client([*command, DATABASE], host=self.host)
        if count := TRANSACTIONS.search(output):
            self.worked(int(count[1]))
        found = 0
        for index, (when, line) in enumerate(errors):
            if ABORTED.search(line):
                # What the server said stands beside it.
                self.failed("".join(text for _, text in errors[max(0, index - 5) : index + 3]), when)
                found += 1
        if status != 0 and not found:
            self.failed("".join(text for _, text in errors) or f"pgbench ended with {status}", time.monotonic())


class Psql(Load):
    """`errors`: how many the script brings along."""

    def __init__(self, name, pool, ledger, script, errors, pause):
        super().__init__(name, pool, ledger)
        self.script, self.expected, self.rest = script, errors, pause

    def once(self):
        _, _, errors = self.client(["psql", "-Xq", "-o", "/dev/null", DATABASE], self.script)
        real = [(when, line) for when, line in errors if re.match(r"(psql: |.*)(ERROR|FATAL|error|connection)", line)]
        wrong = [(when, line) for when, line in real if "division by zero" not in line]
        if wrong:
            self.failed("".join(line for _, line in wrong), wrong[0][0])
        elif len(real) != self.expected:
            self.failed("".join(line for _, line in errors) or "an error is missing", time.monotonic())
        else:
            self.worked(1)
        self.stop.wait(self.rest)


class Writer(Load):
    """Remembers what was confirmed, to be looked for later."""

    def __init__(self, pool, ledger):
        super().__init__("writer", pool, ledger)
        self.confirmed = 0
        self.number = 0

    def once(self):
        self.number += 1
        statement = f"INSERT INTO soak_written VALUES ({self.number})"
        status, _, errors = self.client(["psql", "-Xqc", statement, DATABASE])
        if status == 0:
            self.confirmed += 1
            self.ledger.worked(self.name, 1)
        else:
            self.failed("".join(line for _, line in errors), time.monotonic())
        self.stop.wait(0.5)


class Rude(Load):
    """Clients that vanish at every possible moment, and cancel what they have not begun. Nothing of theirs can fail."""

    STARTUP = b"".join(word + b"\0" for word in (b"user", b"soak_rude", b"database", DATABASE.encode())) + b"\0"

    def once(self):
        packet = struct.pack("!II", 8 + len(self.STARTUP), 196608) + self.STARTUP
        query = b"SELECT pg_sleep(0.2), repeat('z', 3000000)\0"
        with socket.create_connection(("127.0.0.1", self.pool.port), timeout=30) as connection:
            connection.settimeout(1)
            bytes_sent = packet + b"Q" + struct.pack("!I", 4 + len(query)) + query
            connection.sendall(bytes_sent[: random.choice([0, 3, 20, len(packet), len(bytes_sent) - 5, len(bytes_sent)])])
            try:
                connection.recv(random.choice([1, 1000, 100_000]))
            except OSError:
                pass
            if random.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with socket.create_connection(("127.0.0.1", self.pool.port), timeout=30) as connection:
            connection.sendall(struct.pack("!IIII", 16, 80877102, random.getrandbits(31), random.getrandbits(31)))
        self.worked(1)
        self.stop.wait(0.5)

    def failed(self, text, when):
        pass


class Scrape(Load):
    """Asks for figures. The process that answers may just have been killed, but has a successor soon."""

    def once(self):
        deadline = time.monotonic() + 30
        while not self.answered() and not self.stop.is_set():
            if time.monotonic() > deadline:
                return self.failed("no metrics for 30 s", time.monotonic())
            time.sleep(0.5)
        self.worked(1)
        self.stop.wait(3)

    def answered(self):
        try:
            return "pgpool_workers" in self.pool.scrape("/metrics") and "{" in self.pool.scrape("/status.json")
        except OSError:
            return False


def everything(pool, ledger, rate):
    """All loads; `rate` is the number of transactions per second of all pgbenches together."""
    share = lambda part: max(1, round(rate * part))
    return [
        Pgbench("simple", pool, ledger, ["-S"], share(0.3)),
        Pgbench("extended", pool, ledger, ["-M", "extended", "-N"], share(0.15)),
        Pgbench("prepared", pool, ledger, ["-M", "prepared", "-N"], share(0.25), local=True),
        Pgbench("connect", pool, ledger, ["-C", "-S"], share(0.1), clients=1),
        Pgbench("cursor", pool, ledger, [], share(0.2), clients=1, script=CURSOR),
        Psql("psql", pool, ledger, PSQL, errors=1, pause=1),
        Psql("copy", pool, ledger, COPY, errors=0, pause=1),
        Writer(pool, ledger),
        Rude("rude", pool, ledger),
        Scrape("scrape", pool, ledger),
    ]
