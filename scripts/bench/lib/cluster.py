"""The PostgreSQL servers behind all contestants: one primary, on demand standbys, in a scratch folder."""

import glob
import os
import pathlib
import signal
import socket
import struct

from lib import proc

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 500
shared_buffers = 256MB
max_wal_size = 4GB
checkpoint_timeout = 1h
# The relay is measured, not the disk; and nothing may run in the background of one round and not of another.
fsync = off
full_page_writes = off
autovacuum = off
"""


def program(name):
    """A program of the newest PostgreSQL server installed, or of the one PGBIN names."""
    if chosen := os.environ.get("PGBIN"):
        return pathlib.Path(chosen) / name
    folders = glob.glob("/usr/lib/postgresql/*/bin") + ["/usr/local/pgsql/bin"]
    folders.sort(key=lambda folder: int("0" + "".join(filter(str.isdigit, folder))), reverse=True)
    for folder in folders:
        if (pathlib.Path(folder) / "postgres").exists() and (pathlib.Path(folder) / "pgbench").exists():
            return pathlib.Path(folder) / name
    raise proc.BenchError("no PostgreSQL server with pgbench found; run `make setup` or set PGBIN to its bin folder")


def can_log_in(port, database="bench"):
    """Whether a session can be opened on `port` right now, by the protocol's own first messages."""
    words = b"user\0postgres\0database\0" + database.encode() + b"\0\0"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
            connection.sendall(struct.pack("!II", 8 + len(words), 196608) + words)
            reply = b""
            while not (reply[-6:-1] == b"Z\0\0\0\5"):
                if not (part := connection.recv(8192)):
                    return False
                reply += part
                if reply[:1] == b"R" and reply[5:9] != b"\0\0\0\0":
                    return True  # It asks for a password.
            connection.sendall(b"X\0\0\0\4")
            return True
    except OSError:
        return False


class Cluster:
    """Server 0 is the primary. Ports in `ports`, in node order."""

    def __init__(self, folder, scale, standbys=0, settings=SETTINGS):
        self.folder, self.ports, self.processes = folder, [], []
        self.scale, self.standbys, self.settings = scale, standbys, settings

    def start(self):
        data = self.folder / "node0"
        proc.run([program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--no-locale"])
        with open(data / "postgresql.conf", "a") as conf:
            conf.write(self.settings)
        self._start_node(data, "postgres")
        self.sql("CREATE DATABASE bench", database="postgres")
        proc.run([program("pgbench"), *self.address(), "-i", "-q", "-s", str(self.scale), "bench"])
        self.sql("VACUUM (FREEZE, ANALYZE)")
        self.sql("CHECKPOINT")
        for number in range(1, self.standbys + 1):
            data = self.folder / f"node{number}"
            proc.run([program("pg_basebackup"), *self.address(), "-D", data, "-R", "-c", "fast"])
            self._start_node(data, "bench")

    def _start_node(self, data, database):
        port = proc.free_port()
        log = self.folder / f"{data.name}.log"
        process = proc.spawn([program("postgres"), "-D", data, "-p", port], log)
        self.processes.append(process)
        self.ports.append(port)
        proc.wait_for(lambda: can_log_in(port, database) or process.poll() is not None, 60, f"start of {data.name}")
        if process.poll() is not None:
            raise proc.BenchError(f"PostgreSQL did not start:\n{log.read_text()[-800:]}")

    def address(self):
        return ["-h", "127.0.0.1", "-p", self.ports[0], "-U", "postgres"]

    def sql(self, *statements, database="bench"):
        """Runs statements on the primary, past all contestants."""
        each = [part for statement in statements for part in ("-c", statement)]
        proc.run([program("psql"), *self.address(), "-XAtq", *each, database])

    def ask(self, statement, database="bench"):
        """The value that a statement returns on the primary."""
        return proc.run([program("psql"), *self.address(), "-XAtq", "-c", statement, database]).strip()

    def stop(self):
        for process in reversed(self.processes):
            proc.end(process, signal.SIGINT, seconds=20)
