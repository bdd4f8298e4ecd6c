"""What the soak runs: a primary, two standbys, and a pgpool in front with everything switched on."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import urllib.request

from lib import proc
from lib.cluster import Cluster, can_log_in, program
from lib.contestants import own

SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 300
shared_buffers = 64MB
max_wal_size = 256MB
wal_keep_size = 256MB
fsync = off
"""
DATABASE = "bench"
NODES = 3


class Servers(Cluster):
    """Nodes that can be stopped and started again."""

    def __init__(self, folder):
        super().__init__(folder, scale=1, standbys=NODES - 1, settings=SETTINGS)

    def start(self):
        super().start()
        for node in range(1, NODES):
            # Known to the primary by a name of its own, so that auto_failback knows the node.
            with open(self.data(node) / "postgresql.auto.conf", "a") as conf:
                conf.write(f"primary_conninfo = 'host=127.0.0.1 port={self.ports[0]} user=postgres application_name=node{node}'\n")
            self.stop_node(node, signal.SIGINT)
            self.start_node(node)

    def data(self, node):
        return self.folder / f"node{node}"

    def stop_node(self, node, how):
        process = self.processes[node]
        process.send_signal(how)
        process.wait(60)

    def start_node(self, node):
        log = self.folder / f"node{node}.log"
        command = [program("postgres"), "-D", self.data(node), "-p", self.ports[node]]
        self.processes[node] = proc.spawn(command, log)
        ready = lambda: can_log_in(self.ports[node], DATABASE) or self.processes[node].poll() is not None
        proc.wait_for(ready, 120, f"start of node {node}")
        if self.processes[node].poll() is not None:
            raise proc.BenchError(f"node {node} did not start; see {log}")

    def client_backends(self, node):
        """The server processes of the loads on a node."""
        statement = "SELECT pid FROM pg_stat_activity WHERE usename LIKE 'soak%' AND usename <> 'soak_watch'"
        address = ["-h", "127.0.0.1", "-p", self.ports[node], "-U", "postgres"]
        return proc.run([program("psql"), *address, "-XAtqc", statement, DATABASE]).split()


class Pgpool:
    """The pgpool under test. `programs`: the folder with pgpool, pcp and pg_md5."""

    def __init__(self, servers, folder, programs, workers):
        self.servers, self.workers = servers, workers
        self.home = folder / "pgpool"
        self.home.mkdir()
        own(self.home)
        # Copies: a build during the run must not change what runs.
        for name in ("pgpool", "pcp", "pg_md5"):
            shutil.copy(pathlib.Path(programs) / name, self.home)
        self.port, self.pcp_port, self.metrics_port = (proc.free_port() for _ in range(3))
        # The process that was started, the one that is the parent now, and parents that have been replaced.
        self.process, self.pid, self.former = None, None, set()
        self.settings = {}

    def start(self):
        hashed = proc.run([self.home / "pg_md5", "soak"]).strip()
        for name, text in (
            ("pcp.conf", f"soak:{hashed}\n"),
            ("pcppass", "*:*:soak:soak\n"),
            ("pool_hba.conf", "local all all trust\nhost all all all trust\n"),
        ):
            file = self.home / name
            file.write_text(text)
            file.chmod(0o600)
            own(file)
        self.configure()
        self.process = proc.spawn([*self.command(), "-n", "-D"], self.home / "stderr")
        ready = lambda: can_log_in(self.port) or self.process.poll() is not None
        proc.wait_for(ready, 60, "the first login through pgpool")
        if self.process.poll() is not None:
            raise proc.BenchError("pgpool did not start:\n" + (self.home / "stderr").read_text()[-2000:])
        self.pid = self.process.pid

    def is_alive(self):
        self.process.poll()
        return (fields := proc.stat_fields(self.pid)) and fields[0] != "Z"

    def upgrade(self):
        """Has it replaced by itself; true if that succeeded."""
        done = subprocess.run(
            [str(word) for word in [*self.command(), "upgrade"]], cwd="/", capture_output=True, timeout=120, **proc.UNPRIVILEGED
        )
        if done.returncode == 0:
            self.former.add(self.pid)
            self.pid = int((self.home / "pgpool.pid").read_text())
        return done.returncode == 0

    def family(self):
        """The parent, those that it has replaced and that still live, and all their descendants."""
        return {pid for parent in {self.pid, *self.former} if proc.stat_fields(parent) for pid in proc.tree(parent)}

    def command(self):
        files = (("-f", "pgpool.conf"), ("-F", "pcp.conf"), ("-a", "pool_hba.conf"))
        return [self.home / "pgpool"] + [word for option, file in files for word in (option, self.home / file)]

    def configure(self, **changes):
        """Writes pgpool.conf with these changes to what it was."""
        self.settings.update(changes)
        home = self.home
        settings = {
            "backend_clustering_mode": "streaming_replication",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": home,
            "pcp_listen_addresses": "127.0.0.1",
            "pcp_port": self.pcp_port,
            "pcp_socket_dir": home,
            "metrics_listen_addresses": "127.0.0.1",
            "metrics_port": self.metrics_port,
            "pid_file_name": home / "pgpool.pid",
            "work_dir": home,
            "num_init_children": self.workers,
            "max_pool": 4,
            # Processes live as long as nobody kills them: what they leak adds up.
            "child_life_time": 0,
            "connection_life_time": 120,
            "enable_pool_hba": "on",
            "sr_check_period": 2,
            "sr_check_user": "postgres",
            "health_check_period": 2,
            "health_check_timeout": 10,
            "health_check_max_retries": 2,
            "health_check_user": "postgres",
            "auto_failback": "on",
            "auto_failback_interval": 5,
            "memory_cache_enabled": "on",
            "memqcache_oiddir": home / "oiddir",
            "logging_collector": "on",
            "log_directory": home / "log",
            "log_filename": "pgpool-%d-%H%M%S.log",
            "log_rotation_size": "8MB",
            "log_connections": "on",
            "log_disconnections": "on",
        }
        for node, port in enumerate(self.servers.ports):
            settings |= {
                f"backend_hostname{node}": "127.0.0.1",
                f"backend_port{node}": port,
                f"backend_weight{node}": 1,
                f"backend_application_name{node}": f"node{node}",
            }
        settings |= self.settings
        text = "".join(f"{name} = '{value}'\n" for name, value in settings.items())
        (self.home / "pgpool.conf").write_text(text)

    def pcp(self, request, *arguments):
        """Runs a pcp program; true if it succeeded."""
        command = [self.home / "pcp", request, "-h", "127.0.0.1", "-p", self.pcp_port, "-U", "soak", "-w", *arguments]
        environment = {"PCPPASSFILE": str(self.home / "pcppass"), "PATH": "/usr/bin:/bin"}
        try:
            done = subprocess.run(
                [str(word) for word in command], cwd="/", env=environment, capture_output=True, timeout=60, **proc.UNPRIVILEGED
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0

    def show(self, what):
        """The rows of a SHOW command."""
        address = ["-h", "127.0.0.1", "-p", self.port, "-U", "soak_watch"]
        text = proc.run([program("psql"), *address, "-XAtq", "-F", "|", "-c", what, DATABASE], timeout=60)
        return [line.split("|") for line in text.splitlines()]

    def children(self):
        """Pid to title of every child of the parent, the dead among them."""
        found = {}
        for pid in proc.children(self.pid):
            try:
                title = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            found[pid] = title.removeprefix("pgpool: ").rstrip()
        return found

    def log(self):
        """All log lines."""
        for file in sorted(self.home.glob("log/pgpool-*.log")) + [self.home / "stderr"]:
            with open(file, errors="replace") as lines:
                yield from lines

    def scrape(self, path):
        """What the metrics process answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}{path}", timeout=20) as answer:
            return answer.read().decode()

    def stop(self):
        """Stops it; the exit status, or None if it had to be killed."""
        if not self.pid:
            return None
        try:
            if self.is_alive():
                os.kill(self.pid, signal.SIGINT)
                proc.wait_for(lambda: not self.is_alive(), 30, "the end of pgpool")
            # How another's child has ended only its parent knows.
            return self.process.poll() if self.pid == self.process.pid else 0
        except proc.BenchError:
            return None
        finally:
            for pid in self.family():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            proc.end(self.process, signal.SIGKILL)
