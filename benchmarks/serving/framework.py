"""What an answer costs beside one that the framework gives without any work: `python -m benchmarks.serving.framework`.

The rival is a FastAPI application with a route that takes a small pydantic body and returns a canned answer, on the same uvicorn.
No recommender behind FastAPI can be cheaper. Ours has a catalogue and as many users as ML-100K, whose states are kept in memory:
`benchmarks.serving.load` shows what a Redis adds. The servers have one worker each. They are asked in turn, over eight connections,
several times, and each row is the median ratio of the CPU time of the server's process for a request. Other work on the machine
affects this less than it affects the latency.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.report import hardware, skip_without, write_result
from benchmarks.serving.load import Load, fill_by_events
from benchmarks.serving.plain import KIND
from benchmarks.serving.world import NAME, free_port, histories, publish_drawn, running
from configs.serving import ServingSettings
from infra.pages import markdown_table
from infra.storage.local import LocalStore

__all__ = ["BARS", "main", "render"]

BARS = {"state": 2.0, "events": 1.8, "history": 4.0, "cached": 1.3}  # times the canned answer
NAMES = {
    "canned": "FastAPI, a canned answer",
    "cold": "nobody known",
    "cached": "the same question again",
    "events": "event",
    "state": "a user with a history, state kept",
    "history": "history of 50 events given",
}
SEED = 1


def render(result: dict[str, Any]) -> str:
    """Return the table of the result as Markdown."""
    head = [
        f"{result['items']:,} items, {result['users']:,} users; one worker",
        "CPU ms a request",
        "times the canned answer",
        "",
    ]
    rows = []
    for kind, name in NAMES.items():
        row, bar = result["rows"][kind], BARS.get(kind)
        verdict = "" if bar is None else f"bar < {bar:g}: {'met' if row['ratio'] < bar else '**missed**'}"
        rows.append([name, f"{row['cpu_ms']:.3f}", f"{row['ratio']:.2f}", verdict])
    return f"{markdown_table(head, rows)}\n\nMedian of {result['rounds']} rounds of {result['seconds']} s."


def main() -> None:
    """Start both servers, ask them in turn, and write and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=1682)  # as in ML-100K
    parser.add_argument("--users", type=int, default=943)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="seconds per measurement, after 2 to warm up")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/framework.json"))
    given = parser.parse_args()
    skip_without("wrk")
    with tempfile.TemporaryDirectory(prefix="recsys-framework-") as name, ExitStack() as stack:
        root = Path(name)
        store = LocalStore(root / "store")
        publish_drawn(store, root / "model", given.items, SEED)
        base = {"model_name": NAME, "store": {"url": f"file:{root}/store"}, "work_dir": str(root / "served")}
        asked = {
            kind: ServingSettings.model_validate(base | {"port": free_port(), "batch": {"cache_s": cache}})
            for kind, cache in (("plain", 0), ("ours", 0), ("cached", 3600))
        }
        os.environ[KIND] = "canned"
        pids = {
            kind: stack.enter_context(
                running(settings, "benchmarks.serving.plain" if kind == "plain" else "flows.cli", root / kind)
            ).pid
            for kind, settings in asked.items()
        }
        people = histories(given.users, given.items, SEED)
        for kind in ("ours", "cached"):
            fill_by_events(asked[kind].port, people, given.users)
        load = Load(root, given.users, given.items, given.seconds, connections=8, seed=SEED)
        servers = {kind: {"canned": "plain", "cached": "cached"}.get(kind, "ours") for kind in NAMES}
        found: dict[str, list[float]] = {kind: [] for kind in NAMES}
        for number in range(given.rounds):
            for kind in NAMES:
                sent = "state" if kind in ("canned", "cached") else kind
                row = load.run(sent, asked[servers[kind]].port, pids[servers[kind]])
                assert row["errors"] == 0, (kind, row)
                found[kind].append(row["cpu_ms"])
            print(f"round {number + 1}: " + ", ".join(f"{kind} {times[-1]:.3f}" for kind, times in found.items()), flush=True)
    rows = {
        kind: {
            "cpu_ms": round(statistics.median(times), 3),
            "ratio": round(statistics.median(own / base for own, base in zip(times, found["canned"], strict=True)), 2),
            "rounds": times,
        }
        for kind, times in found.items()
    }
    shape = {"items": given.items, "users": given.users, "rounds": given.rounds, "seconds": given.seconds, "seeds": [SEED]}
    write_result(given.out, shape | {"hardware": hardware(), "rows": rows})
    print(render(shape | {"hardware": hardware(), "rows": rows}))


if __name__ == "__main__":
    main()
