"""The scratch folder, the servers and everything started in them, gone at the end however the run ends."""

import contextlib
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

from lib import proc
from lib.cluster import Cluster
from lib.contestants import BENCH, own


@contextlib.contextmanager
def scratch_folder():
    """A folder user postgres can work in: under target/bench, or under /tmp when that is closed to it."""
    BENCH.mkdir(parents=True, exist_ok=True)
    parent = BENCH
    if subprocess.run(["test", "-x", BENCH], **proc.UNPRIVILEGED).returncode != 0:
        parent = None
    folder = pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=parent))
    own(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def servers(folder, scale, standbys):
    cluster = Cluster(folder, scale, standbys)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@contextlib.contextmanager
def stopping(contestant):
    try:
        yield contestant
    finally:
        contestant.stop()


def main(work):
    """Runs `work`; signals become an orderly end, an error the user can act on is one line."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    try:
        sys.exit(work())
    except proc.BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def note(text):
    """Progress; the tables alone go to standard output."""
    print(text, file=sys.stderr, flush=True)
