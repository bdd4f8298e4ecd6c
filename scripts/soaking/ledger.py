"""What failed, and whether something we did explains it."""

import collections
import re
import threading
import time

LOST = re.compile(r"closed the connection|terminated abnormally|send failed|backend died|connection .*(lost|failed|refused|reset)|SSL SYSCALL|could not (receive|send)", re.I | re.S)
# What a session says that loses the server it works on.
NODE = re.compile(LOST.pattern + r"|node \d|terminating connection|shutting down|starting up|primary|backend node|recovery", re.I | re.S)


class Licence:
    """Something we did that may make statements fail: from a moment on, of one load or all, so many or any number."""

    def __init__(self, cause, pattern, load=None, most=None):
        self.cause, self.pattern, self.load, self.left = cause, pattern, load, most
        self.begin, self.end = time.monotonic() - 0.5, None

    def close(self, grace):
        """It explains what fails until `grace` seconds from now."""
        self.end = time.monotonic() + grace

    def covers(self, load, text, when):
        in_time = self.begin <= when and (self.end is None or when <= self.end)
        is_meant = self.load in (None, load) and self.left != 0
        return in_time and is_meant and bool(self.pattern.search(text))


class Ledger:
    """Thread-safe: loads report what they did, troubles what they may break."""

    def __init__(self):
        self._lock = threading.Lock()
        self._licences = []
        self.done = collections.Counter()
        self.explained = collections.Counter()
        self.unexplained = []
        self.deeds = collections.Counter()

    def allow(self, cause, pattern=LOST, load=None, most=None):
        licence = Licence(cause, pattern, load, most)
        with self._lock:
            self._licences.append(licence)
        return licence

    def did(self, deed):
        with self._lock:
            self.deeds[deed] += 1

    def worked(self, load, count):
        with self._lock:
            self.done[load] += count

    def failed(self, load, text, when):
        """A statement or connection of a load has failed. Licences for one load go first, they are scarce."""
        with self._lock:
            fitting = [licence for licence in self._licences if licence.covers(load, text, when)]
            if not fitting:
                self.unexplained.append((time.strftime("%H:%M:%S"), load, text.strip()))
                return
            licence = min(fitting, key=lambda one: (one.left is None, one.load is None))
            if licence.left is not None:
                licence.left -= 1
            self.explained[licence.cause] += 1
