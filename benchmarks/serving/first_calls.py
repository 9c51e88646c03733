"""What the first call of a user of the dataset costs: `python -m benchmarks.serving.first_calls`.

Histories of many users, with the lengths of ML-25M, are stored for a model of ML-25M's catalogue, and a worker is started with an empty
Redis. Clients then ask, one request at a time, for users that the worker has not met: users of the dataset, whose events are read from
the mapped file and whose state is computed, and unknown users, who get what is popular. Last, the first of them ask again, after one
event each, so that their state is kept in Redis.

The file was just written, so it is in the page cache of the machine. A worker on another machine reads it from its disk, or from its
copy of the store's file.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import hardware, skip_without, write_result
from benchmarks.serving.world import LEAST, MEDIAN, MOST, NAME, SPREAD, START, free_port, publish_drawn, redis_server, running
from configs.serving import ServingSettings, StateSettings
from infra.digests import sha256_of
from infra.pages import markdown_table
from infra.storage.local import LocalStore
from models.histories import Histories, write_histories

__all__ = ["main", "render"]

DATASET = "drawn"  # as in `publish_drawn`
SEED = 1


def write_drawn(path: Path, users: int, items: int) -> int:
    """Write histories of so many users, and return the number of their events."""
    rng = np.random.default_rng(SEED)
    lengths = np.clip(rng.lognormal(np.log(MEDIAN), SPREAD, users), LEAST, MOST).astype(np.int64)
    total = int(lengths.sum())
    owners = np.repeat(np.arange(users, dtype=np.int64) * 7 + 1, lengths)
    drawn = (rng.zipf(1.2, total) % items + 1).astype(np.int64)
    times = START + rng.integers(0, 5 * 365 * 86_400, total)
    write_histories(path, owners, drawn, times, most=StateSettings().events)
    return total


class Client:
    """One connection to the server."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, path: str, body: Any) -> tuple[Any, float]:
        """Return the answer, and the milliseconds that it took."""
        content = json.dumps(body).encode()
        began = time.perf_counter()
        self._connection.request("POST", path, content, {"Content-Type": "application/json"})
        answer = self._connection.getresponse().read()
        return json.loads(answer), (time.perf_counter() - began) * 1000


def asked(client: Client, users: Sequence[int], source: str) -> dict[str, Any]:
    """Ask for each user once. Every answer must come from `source`."""
    times = []
    for user in users:
        answer, ms = client.post("/v1/recommendations", {"user_id": int(user), "k": 10})
        if answer["source"] != source or len(answer["items"]) != 10:
            raise SystemExit(f"User {user} was answered from {answer['source']} instead of {source}.")
        times.append(ms)
    return {"calls": len(times)} | {f"p{share}_ms": round(float(np.percentile(times, share)), 2) for share in (50, 90, 99)}


def render(result: dict[str, Any]) -> str:
    """Return the table of the result as Markdown."""
    head = [
        f"{result['users']:,} users, {result['events']:,} events; {result['items']:,} items",
        "calls",
        "p50 / p90 / p99, ms",
    ]
    rows = [
        [name, f"{row['calls']:,}", f"{row['p50_ms']:.1f} / {row['p90_ms']:.1f} / {row['p99_ms']:.1f}"]
        for name, row in result["rows"].items()
    ]
    return (
        f"{markdown_table(head, rows)}\n\nThe file has {result['file_mb']:,} MB. Mapping it takes {result['map_ms']:.1f} ms. A worker is "
        f"ready {result['ready_s']:.1f} s after its start with the file, and {result['ready_without_s']:.1f} s without it. Load "
        f"{result['hardware']['load_1_min']}."
    )


def main() -> None:
    """Store histories, start a worker, ask, and write and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=162_541)  # as in ML-25M
    parser.add_argument("--items", type=int, default=62_000)
    parser.add_argument("--calls", type=int, default=5000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/first_calls.json"))
    given = parser.parse_args()
    skip_without("redis-server")
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="recsys-first-calls-") as name, ExitStack() as stack:
        root, port = Path(name), free_port()
        store = LocalStore(root / "store")
        publish_drawn(store, root / "model", given.items, SEED)
        url = stack.enter_context(redis_server(port))
        settings = ServingSettings.model_validate(
            {
                "model_name": NAME,
                "store": {"url": f"file:{root}/store"},
                "work_dir": str(root / "served"),
                "redis": {"url": url},
                "log_requests": False,
                "poll_s": 3600,
                "batch": {"cache_s": 0},
            }
        )
        began = time.perf_counter()
        with running(settings.model_copy(update={"port": free_port()})):
            ready_without = time.perf_counter() - began
        path = root / "histories"
        events = write_drawn(path, given.users, given.items)
        size = path.stat().st_size
        key = f"histories/{DATASET}/00000001-none-{sha256_of(path)}"
        store.put_new(key, path)
        began = time.perf_counter()
        Histories.open(path, "histories")
        mapped = time.perf_counter() - began
        path.unlink()
        settings = settings.model_copy(update={"port": free_port()})
        began = time.perf_counter()
        stack.enter_context(running(settings))
        ready = time.perf_counter() - began
        client, rng = Client(settings.port), np.random.default_rng(SEED)
        known = (rng.choice(given.users, given.calls + 100, replace=False) * 7 + 1).tolist()
        asked(client, known[given.calls :], "rebuilt")  # once for everything that a process does only once
        rows = {
            "users of the dataset, first call": asked(client, known[: given.calls], "rebuilt"),
            "unknown users": asked(client, [user + 1 for user in known[: given.calls]], "cold"),
        }
        for user in known[: given.calls]:
            client.post("/v1/events", {"events": [{"user_id": user, "item_id": 1}]})
        rows["users of the dataset, after an event"] = asked(client, known[: given.calls], "state")
    result = {
        "users": given.users,
        "events": events,
        "items": given.items,
        "file_mb": size // 10**6,
        "map_ms": round(mapped * 1000, 2),
        "ready_s": round(ready, 2),
        "ready_without_s": round(ready_without, 2),
        "rows": rows,
        "seeds": [SEED],
        "hardware": hardware() | {"load_1_min": round(load, 1)},
    }
    write_result(given.out, result)
    print(render(result))


if __name__ == "__main__":
    main()
