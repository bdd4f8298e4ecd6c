"""What is measured: the server itself, the floor, ours, PgBouncer and Debian's pgpool2, set up to be comparable.

All listen on loopback TCP and reach the server by it, log quietly, trust, and have room for more clients than are sent.
"""

import os
import pathlib
import shutil
import signal
import subprocess

from lib import proc
from lib.cluster import can_log_in, program

ROOT = pathlib.Path(__file__).resolve().parents[3]
BENCH = ROOT / "target" / "bench"
DEBIAN = BENCH / "debian"
OURS = ROOT / "target" / "release" / "pgpool"
WORKERS = 64


class Contestant:
    """One way to the server. `command` writes what it needs into its own folder and returns the command to run."""

    stop_signal = signal.SIGTERM
    environment = {}
    #: It has a query cache, and that is on.
    caching = False

    def __init__(self, name):
        self.name = name
        self.port = self.process = None

    def missing(self):
        """Why it cannot take part, or None."""

    def version(self):
        return ""

    def launch(self, cluster, folder, security):
        """Starts it without waiting; returns its log file."""
        home = folder / self.name
        home.mkdir()
        own(home)
        self.port = proc.free_port()
        log = home / "log"
        self.process = proc.spawn(self.command(cluster, home, security), log, self.environment)
        return log

    def start(self, cluster, folder, security):
        """Starts it and waits until a client can log in through it."""
        log = self.launch(cluster, folder, security)
        ready = lambda: can_log_in(self.port) or self.process.poll() is not None
        try:
            proc.wait_for(ready, 20, f"first login through {self.name}")
            if self.process.poll() is not None:
                raise proc.BenchError(f"{self.name} ended with {self.process.returncode}")
        except proc.BenchError as error:
            raise proc.BenchError(f"{error}; its log ends with:\n{log.read_text(errors='replace')[-1500:]}") from None

    def cpu_ns(self):
        return proc.settled_cpu_ns(self.process.pid) if self.process else 0

    def stop(self):
        if self.process:
            proc.end(self.process, self.stop_signal)


class Direct(Contestant):
    def start(self, cluster, folder, security):
        self.port = cluster.ports[0]

    def version(self):
        return proc.run([program("postgres"), "--version"]).strip()


class Floor(Contestant):
    def __init__(self, name, *options):
        super().__init__(name)
        self.options = options

    def missing(self):
        return None if (BENCH / "floor").exists() else "not compiled; run scripts/bench/setup"

    def command(self, cluster, home, security):
        binary = shutil.copy(BENCH / "floor", home)
        return [binary, self.port, cluster.ports[0], WORKERS, *self.options]


class PgBouncer(Contestant):
    """In session mode, where a client keeps its server connection as it does with a pgpool."""

    stop_signal = signal.SIGINT

    def __init__(self, name):
        super().__init__(name)
        self.binary = shutil.which("pgbouncer", path=f"{DEBIAN}/usr/sbin:{os.environ['PATH']}:/usr/sbin")
        self.environment = unpacked_libraries()

    def missing(self):
        return None if self.binary else "not installed; run scripts/bench/setup"

    def version(self):
        return first_line(self.binary, self.environment, "--version")

    def command(self, cluster, home, security):
        conf = home / "pgbouncer.ini"
        conf.write_text(f"""[databases]
bench = host=127.0.0.1 port={cluster.ports[0]} dbname=bench
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_file = {home}/users
pool_mode = session
max_client_conn = {WORKERS * 4}
default_pool_size = {WORKERS}
log_connections = 0
log_disconnections = 0
log_stats = 0
{security.pgbouncer(home)}""")
        return [self.binary, conf]


class Pgpool(Contestant):
    """Ours or Debian's: the same file but for the one name that changed between the releases."""

    stop_signal = signal.SIGINT

    def __init__(self, name, binary, socket_parameter, workers=WORKERS, environment=None, caching=False):
        super().__init__(name)
        self.caching = caching
        self.binary, self.socket_parameter, self.workers = pathlib.Path(binary), socket_parameter, workers
        self.environment = environment or {}

    def missing(self):
        return None if self.binary.exists() else f"{self.binary} is not there"

    def version(self):
        return first_line(self.binary, self.environment, "-v")

    def command(self, cluster, home, security):
        # A copy: a build during the run must not change what runs, and the build folder may be closed to user postgres.
        binary = shutil.copy(self.binary, home)
        conf, pcp = home / "pgpool.conf", home / "pcp.conf"
        pcp.touch()
        conf.write_text(f"""backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = {self.port}
{self.socket_parameter} = '{home}'
pcp_listen_addresses = '127.0.0.1'
pcp_port = {proc.free_port()}
pcp_socket_dir = '{home}'
pid_file_name = '{home}/pgpool.pid'
logdir = '{home}'
num_init_children = {self.workers}
max_pool = 1
{security.pgpool(home)}load_balance_mode = on
sr_check_period = 0
sr_check_user = 'postgres'
health_check_period = 0
""" + "".join(f"""backend_hostname{node} = '127.0.0.1'
backend_port{node} = {port}
backend_weight{node} = 1
""" for node, port in enumerate(cluster.ports)) + (f"""memory_cache_enabled = on
memqcache_oiddir = '{home}/oiddir'
""" if self.caching else ""))
        return [binary, "-n", "-D", "-f", conf, "-F", pcp, "-a", home / "pool_hba.conf"]


def own(path):
    """Gives a file made here to the user the servers run as."""
    if proc.UNPRIVILEGED:
        shutil.chown(path, "postgres", "postgres")


def first_line(binary, environment, option):
    done = subprocess.run([binary, option], env={**os.environ, **environment}, text=True, capture_output=True)
    return (done.stdout or done.stderr).strip().split("\n")[0]


def unpacked_libraries():
    """Where the programs unpacked by scripts/bench/setup find the libraries unpacked with them."""
    folders = sorted({str(library.parent) for library in DEBIAN.glob("**/*.so*")})
    return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}


def pgpools(ours, workers=WORKERS, suffix="", **options):
    """Our pgpool from the file `ours`, and Debian's, unpacked or installed."""
    unpacked = DEBIAN / "usr/sbin/pgpool"
    theirs = unpacked if unpacked.exists() else "/usr/sbin/pgpool"
    return [
        Pgpool("ours" + suffix, ours, "unix_socket_directories", workers, **options),
        Pgpool("pgpool2" + suffix, theirs, "socket_dir", workers, unpacked_libraries(), **options),
    ]


def everyone(ours):
    own_pgpool, their_pgpool = pgpools(ours)
    return [
        Direct("direct"),
        Floor("floor"),
        Floor("floor-poll", "poll"),
        own_pgpool,
        PgBouncer("pgbouncer"),
        their_pgpool,
        *pgpools(ours, suffix="-cache", caching=True),
    ]
