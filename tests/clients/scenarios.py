"""What the Python programs of the driver matrix share.

A program declares scenarios and calls `main`. Every scenario runs at every port of $PORTS; a failure is printed with
its port, its name and where it happened, and the others still run. A scenario that hangs ends the program with a
traceback of where it waits.
"""

import faulthandler
import os
import sys
import time
import traceback

SECONDS_EACH = 60

PORTS = [int(port) for port in os.environ["PORTS"].split()]
# At the others every statement may be read elsewhere. A statement prepared on a node only after a table has changed
# tells more there than the driver has been told before.
READS_AT_ONE_NODE = PORTS[:2]
SCENARIOS = []


def scenario(function):
    """Registers a function of one argument, the port."""
    SCENARIOS.append(function)
    return function


def expect(actual, expected, what):
    if actual != expected:
        raise AssertionError(f"{what}: expected {expected!r}, got {actual!r}")


def main(run=lambda function, port: function(port)):
    failures = 0
    for port in PORTS:
        for function in SCENARIOS:
            faulthandler.dump_traceback_later(SECONDS_EACH, exit=True)
            started = time.monotonic()
            try:
                run(function, port)
            except Exception:
                failures += 1
                print(f"FAILED at port {port}: {function.__name__}", file=sys.stderr)
                traceback.print_exc()
            print(f"{time.monotonic() - started:6.2f} s  {port}  {function.__name__}", file=sys.stderr)
    faulthandler.cancel_dump_traceback_later()
    if failures:
        sys.exit(f"{failures} failed")
    print("ok")
