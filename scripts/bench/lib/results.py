"""The figures of all rounds, their medians, and the tables made of them (plain text that is also Markdown).

A ratio is taken within each round, of two runs a few seconds apart, and then the median of those: what disturbs the
machine for longer than a round disturbs both sides of it.
"""

import statistics

from lib.loads import LOADS


class Results:
    def __init__(self):
        self.runs = {}  # (load, clients, contestant) -> {round: Run}
        self.syscalls = {}  # (load, contestant) -> {name: count per query}
        self.lock_waits = {}  # (load, contestant) -> count per query
        self.idle = {}  # contestant -> idle.Figures
        self.failures = []

    def add(self, load, clients, contestant, round_number, run):
        self.runs.setdefault((load, clients, contestant), {})[round_number] = run

    def median(self, metric, load, clients, contestant):
        """Median of tps, latency_ms or cpu_us; None when it was not measured."""
        values = [getattr(run, metric) for run in self.runs.get((load, clients, contestant), {}).values()]
        return statistics.median(values) if values else None

    def ratio(self, metric, load, clients, contestant, base):
        """Median over the rounds of contestant / base."""
        mine, other = (self.runs.get((load, clients, name), {}) for name in (contestant, base))
        shared = [n for n in mine if n in other and getattr(other[n], metric) > 0]
        if not shared:
            return None
        return statistics.median(getattr(mine[n], metric) / getattr(other[n], metric) for n in shared)

    def as_json(self):
        return {
            "runs": [
                {"load": load, "clients": clients, "contestant": name, "round": n, **vars(run)}
                for (load, clients, name), rounds in self.runs.items()
                for n, run in rounds.items()
            ],
            "syscalls": [{"load": l, "contestant": c, "per_query": counts} for (l, c), counts in self.syscalls.items()],
            "lock_waits": [{"load": l, "contestant": c, "per_query": count} for (l, c), count in self.lock_waits.items()],
            "idle": {name: vars(figures) for name, figures in self.idle.items()},
            "failures": self.failures,
        }


def show(value, digits=2):
    if value is None:
        return "-"
    return f"{value:,.0f}" if digits == 0 else f"{value:,.{digits}f}"


def table(header, rows):
    """Aligned columns: text to the left, figures to the right. A row of None is an empty line of the table."""
    rows = [row or [""] * len(header) for row in rows]
    columns = [[str(cell) for cell in column] for column in zip(header, *rows)]
    for at, column in enumerate(columns):
        width = max(map(len, column))
        is_text = any(cell[:1].isalpha() for cell in column[1:])
        column[:] = [cell.ljust(width) if is_text else cell.rjust(width) for cell in column]
        column.insert(1, "-" * width if is_text else "-" * (width - 1) + ":")
    return "\n".join("| " + " | ".join(line) + " |" for line in zip(*columns))


def load_table(results, load, clients, names):
    header = [LOADS[load].title, "clients", "tps", "of direct", "latency ms", "CPU us/tx", "of floor"]
    rows = []
    for count in clients:
        if rows:
            rows.append(None)
        for name in names:
            if results.median("tps", load, count, name) is None:
                continue
            value = lambda metric: results.median(metric, load, count, name)
            relays = name != "direct"
            rows.append([
                name,
                count,
                show(value("tps"), 0),
                show(results.ratio("tps", load, count, name, "direct")),
                show(value("latency_ms"), 3),
                show(value("cpu_us"), 1) if relays else "",
                show(results.ratio("cpu_us", load, count, name, "floor")) if relays else "",
            ])
    return table(header, rows)


def syscall_table(results):
    rows = [
        [f"{name}, {load}", show(sum(counts.values()), 1), ", ".join(
            f"{call} {count:.1f}" for call, count in sorted(counts.items(), key=lambda item: -item[1])
        )]
        for (load, name), counts in results.syscalls.items()
    ]
    return table(["syscalls per query, 1 client", "all", "by name"], rows)


def lock_table(results):
    rows = [[f"{name}, {load}", f"{count:.4f}"] for (load, name), count in results.lock_waits.items()]
    return table(["waits for locks, 50 clients", "per query"], rows)


def idle_table(results):
    rows = [
        [name, figures.workers, show(figures.start_seconds), show(figures.pss_kb, 0), figures.seconds,
         figures.syscalls, figures.wakeups]
        for name, figures in results.idle.items()
    ]
    return table(["idle", "workers", "start s", "PSS kB/worker", "watched s", "syscalls", "wake-ups"], rows)
