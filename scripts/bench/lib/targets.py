"""What our pgpool has to reach, and whether it did. All by ratios within one run, so that they hold on any machine."""

import operator

from lib.results import show, table
from lib.syscalls import WRITES

SHORT = ("simple", "extended", "prepared")
HITS = ("hits", "hits-prepared")
MISSES = ("misses", "misses-prepared")


def check(results, secure):
    """Rows of (target, measured, wanted, verdict)."""
    return [judge(*target) for target in (secure_targets(results) if secure else all_targets(results))]


def all_targets(results):
    """(what, measured or None, comparison, bound)"""
    at_most, at_least, below = operator.le, operator.ge, operator.lt
    cpu = lambda load, base: results.ratio("cpu_us", load, 8, "ours", base)
    tps = lambda load, clients: results.ratio("tps", load, clients, "ours", "pgbouncer")

    for load in SHORT:
        yield f"syscalls per query, {load}", calls(results, load), at_most, 5
    for load in SHORT:
        yield f"writes per query (one per direction), {load}", calls(results, load, WRITES), at_most, 2
    if (simple := calls(results, "simple")) is not None:
        yield "syscalls per query, extended, against simple", calls(results, "extended"), at_most, simple
    for load in (*SHORT, "tpcb", "tpcb-prepared"):
        yield f"CPU per transaction / floor, 8 clients, {load}", cpu(load, "floor"), at_most, 1.15
    yield "CPU per transaction / floor, 8 clients, rows", cpu("rows", "floor"), at_most, 1.2
    for load, bound in (("simple", 0.5), ("extended", 0.3), ("prepared", 0.3)):
        yield f"CPU per transaction / pgpool2, 8 clients, {load}", cpu(load, "pgpool2"), at_most, bound
    yield "CPU per transaction / pgpool2, 8 clients, mix", cpu("mix", "pgpool2"), at_most, 0.35
    for load in ("block", "pipeline"):
        yield f"CPU per transaction / floor, 8 clients, {load}", cpu(load, "floor"), at_most, 1.15
    for load in (*SHORT, "tpcb", "tpcb-prepared", "rows"):
        for clients, bound in ((1, 1.0), (8, 0.9), (50, 0.9)):
            yield f"tps / pgbouncer, {count(clients)}, {load}", tps(load, clients), at_least, bound
    for clients in (1, 8, 50):
        yield f"tps / pgbouncer, {count(clients)}, connect", tps("connect", clients), at_least, 0.9
    yield from cache_targets(results)
    if idle := results.idle.get("ours"):
        yield f"start of {idle.workers:,} workers, seconds", idle.start_seconds, below, 3
        yield "proportional memory per idle worker, kB", idle.pss_kb, below, 300
        yield f"syscalls while idle for {idle.seconds} s", idle.syscalls, at_most, 0
        yield f"wake-ups while idle for {idle.seconds} s", idle.wakeups, at_most, 0


def cache_targets(results):
    """Of the query cache: hits against the bare server, misses against us without it."""
    ratio = lambda metric, load, clients, base: results.ratio(metric, load, clients, "ours-cache", base)
    for load, bound in (("hits", 1.5), ("hits-1k", 1.5), ("hits-100k", 1.5), ("hits-prepared", 1.1)):
        for clients in (1, 8, 50):
            yield f"tps / direct, {count(clients)}, {load}", ratio("tps", load, clients, "direct"), operator.ge, bound
    for load in HITS:
        yield f"CPU us per hit, 8 clients, {load}", results.median("cpu_us", load, 8, "ours-cache"), operator.le, 9
    for load in HITS:
        yield f"syscalls per hit, {load}", calls(results, load, contestant="ours-cache"), operator.le, 2
    for load in (*HITS, *MISSES):
        waits = results.lock_waits.get((load, "ours-cache"))
        yield f"waits for locks per query, 50 clients, {load}", waits, operator.le, 0.01
    for load in MISSES:
        for clients in (1, 8, 50):
            cpu, tps = (ratio(metric, load, clients, "ours") for metric in ("cpu_us", "tps"))
            yield f"CPU per transaction / without the cache, {count(clients)}, {load}", cpu, operator.le, 1.05
            yield f"tps / without the cache, {count(clients)}, {load}", tps, operator.ge, 0.95


def secure_targets(results):
    """With SCRAM, or with SCRAM through TLS: as good as PgBouncer."""
    for clients in (1, 8, 50):
        tps = results.ratio("tps", "connect", clients, "ours", "pgbouncer")
        yield f"tps / pgbouncer, {count(clients)}, connect", tps, operator.ge, 1.0
    for clients in (1, 8, 50):
        cpu = results.ratio("cpu_us", "rows", clients, "ours", "pgbouncer")
        yield f"CPU per transaction / pgbouncer, {count(clients)}, rows", cpu, operator.le, 1.0


def count(clients):
    return "1 client" if clients == 1 else f"{clients} clients"


def calls(results, load, only=None, contestant="ours"):
    counts = results.syscalls.get((load, contestant))
    if counts is None:
        return None
    # To a tenth: what is below comes from connecting, which is never quite the same twice.
    return round(sum(number for name, number in counts.items() if only is None or name in only), 1)


SIGNS = {operator.le: "<=", operator.ge: ">=", operator.lt: "<"}


def judge(what, measured, comparison, bound):
    if measured is None:
        verdict = "not measured"
    else:
        # Judged as printed: a third digit of a ratio is noise.
        verdict = "ok" if comparison(round(measured, 2), round(bound, 2)) else "NOT OK"
    return [what, show(measured), f"{SIGNS[comparison]} {show(bound)}", verdict]


def target_table(results, secure=None):
    """Only what this run measured; the summary counts the rest."""
    rows = check(results, secure)
    measured = [row for row in rows if row[3] != "not measured"]
    missed = sum(row[3] == "NOT OK" for row in measured)
    summary = f"{len(measured) - missed} ok, {missed} not ok, {len(rows) - len(measured)} not measured in this run"
    return table(["target", "measured", "wanted", "verdict"], measured) + f"\n\n{summary}"
