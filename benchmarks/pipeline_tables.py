"""Tables for everything around the models: etl, increments, rollback, serving."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.markdown import data, met
from infra.pages import markdown_table

__all__ = ["etl_movielens", "increment", "newcomer", "rollback", "serving", "serving_mixed"]

Result = dict[str, Any]
SESSION_S = 300
INCREMENT_S = 5.0  # 100 k rows on 25 M
SERVED_ITEMS, SERVED_P99_MS, EVENT_MS = 62_000, 10.0, 1.0  # p99 at a steady load, two cores; server time


def etl_movielens(result: Result) -> str:
    head = ["release, default settings", "rows", "accepted", "users", "items", "median s"]
    rows = []
    for row in result["movielens"]:
        counts = [f"{row[key]:,}" for key in ("rows", "accepted", "users", "items")]
        rows.append([data(row["data"], row["file"]), *counts, f"{row['median_s']:.1f}"])
    return markdown_table(head, rows)


def newcomer(result: Result) -> str:
    rows = [[f"`{step['command']}`", f"{step['seconds']:.0f}"] for step in result["steps"]]
    bar = f"bar < {SESSION_S}: {met(result['seconds'] < SESSION_S)}"
    rows.append([f"to the personal answer, {result['commands']} commands", f"{result['seconds']:.0f} ({bar})"])
    return markdown_table([f"README's first session, load {result['hardware']['load_1_min']}", "s"], rows)


def increment(result: Result) -> str:
    runs = ", ".join(f"{each['seconds']:.1f}" for each in result["increments"])
    reached = result["interactions"] >= 25_000_000 and result["increment_rows"] >= 100_000
    bar = f" (bar < {INCREMENT_S:.0f}: {met(result['median_s'] < INCREMENT_S)})" if reached else ""
    new = f"an increment of {result['increment_rows']:,} rows, with {result['increments'][0]['corrections']:,} corrections"
    lines: list[tuple[str, str, float, float]] = [
        (new, f"{result['median_s']:.1f} s{bar}, of {runs}", result["median_cpu_s"], result["peak_gib"])
    ]
    whole = sorted(each["process_s"] for each in result["increments"])
    bar = f" (bar < {INCREMENT_S:.0f}: {met(statistics.median(whole) < INCREMENT_S)})" if reached else ""
    ran = ", ".join(f"{seconds:.1f}" for seconds in whole)
    process = ["the same with the start of the process", f"{statistics.median(whole):.1f} s{bar}, of {ran}", "", ""]
    named = {
        "rewrite": "the same without parts, in plain pandas",
        "base": "first landing of all rows",
        "read": "reading the merged version",
        "compact": "compacting it",
        "read_compacted": "reading the compacted version",
    }
    for key, name in named.items():
        step = result[key]
        lines.append((f"{name} (one run)", f"{step['seconds']:.1f} s", step["cpu_s"], step["peak_gib"]))
    rows = [[name, wall, f"{cpu:.1f} s", f"{peak:.1f}"] for name, wall, cpu, peak in lines]
    rows.insert(1, process)
    rows.append(["plain pandas / an increment", f"{result['ratio']:.0f} times", f"{result['cpu_ratio']:.0f} times", ""])
    load = f"load {result['hardware']['load_1_min']:.1f}"
    return markdown_table(
        [f"a dataset of {result['interactions']:,} events, {load}", "median", "of the processors", "peak memory, GiB"], rows
    )


def rollback(result: Result) -> str:
    rows = []
    for name, key in (("the function", "function"), ("`recsys model rollback`", "command")):
        found = result[key]
        runs = ", ".join(f"{seconds:.1f}" for seconds in found["wall_s"])
        rows.append([name, f"{found['median_s']:.1f} s ({runs})", f"{found['median_cpu_s']:.1f} s"])
    store = f"among {result['versions']} versions of {result['version_mb']:.2f} MB, load {result['hardware']['load_1_min']:.1f}"
    return markdown_table([f"a rollback {store}", "median (every run)", "of the processors"], rows)


def serving(result: Result) -> str:
    """Return our server's rows first, with their bars if any, then the servers that re-read the history for the same requests."""
    names = {"state": "a user with a history", "history": "history of 50 events given", "cold": "nobody known", "events": "event"}
    servers = {
        "ours": ", state kept",
        "reencode": ", every history re-read",
        "torch": ", plain FastAPI over torch, the history re-read",
        "sasrec": ", plain FastAPI over RecBole's SASRec, the last 50 events re-read",
    }
    ways = {
        "closed": f"{result['connections']} connections",
        "steady": f"{result['steady_rate']:,}/s, Poisson",
        "alone": "1 connection",
    }
    rows = []
    for row in result["rows"]:
        memory = "memory" if row["server"] in ("torch", "sasrec") else f"memory, {row.get('users', 0):,} users"
        latency = " / ".join(f"{row[name]:.1f}" for name in ("p50", "p90", "p99"))
        bar = ""
        if row["way"] == "steady" and row["kind"] == "state" and result["items"] >= SERVED_ITEMS:
            bar = f" (bar p99 < {SERVED_P99_MS:.0f}: {met(row['p99'] < SERVED_P99_MS)})"
        own = f"{row['server_ms']:.2f}" if "server_ms" in row else ""
        if row["way"] == "alone" and row["kind"] == "events":
            own += f" (bar < {EVENT_MS:.0f}: {met(row['server_ms'] < EVENT_MS)})"
        rows.append(
            [
                names[row["kind"]] + (servers[row["server"]] if row["kind"] == "state" or row["server"] != "ours" else ""),
                "Redis" if row["redis"] else memory,
                str(row["workers"]),
                ways[row["way"]],
                f"{row['rate']:,}",
                latency + bar,
                f"{row['cpu_ms']:.2f}",
                own,
                f"{row['load_1_min']:.1f}",
            ]
        )
    what = f"{result['items']:,} items, {result['users']:,} users; one run of {result['seconds']} s a row"
    head = [
        what,
        "states in",
        "workers",
        "asked by",
        "answers/s",
        "p50 / p90 / p99, ms",
        "CPU ms each",
        "ms in the server",
        "load",
    ]
    pauses = result["pauses"]
    said = (
        f"The machine itself, with both cores busy before the servers started: {pauses['lost_share']:.0%} of a core's time in pauses "
        f"above a millisecond, the longest {pauses['longest_ms']:.0f} ms."
    )
    return f"{markdown_table(head, rows)}\n\n{said}"


def serving_mixed(result: Result) -> str:
    acts, asked = result["acts"], result["requests"]
    did = f"{acts['other version']} promotions, {acts['rollback']} rollbacks, {acts['broken']} broken versions, Redis killed {acts['redis down']} times"
    rows = [
        ["requests answered", f"{sum(asked.values()):,}", "", ""],
        ["requests failed", str(result["failed"]), "0", met(not result["failed"])],
        ["answers that are not wholly the named version's", str(result["mixed"]), "0", met(not result["mixed"])],
        [
            f"of {asked['event']:,} acknowledged events, lost or doubled",
            f"{result['events_lost']} / {result['events_doubled']}",
            "0 / 0",
            met(not result["events_lost"] and not result["events_doubled"]),
        ],
    ]
    return markdown_table([f"{result['seconds'] / 60:.0f} minutes, {result['workers']} workers: {did}", "found", "bar", ""], rows)
