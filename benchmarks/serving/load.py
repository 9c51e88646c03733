"""Requests per second and their latency: `python -m benchmarks.serving.load`.

The catalogue has 62,000 items, and Redis holds the events and states of 100,000 users. The server runs with one and with two
workers. The load generator runs on the same machine. The answer cache is off. There are three loads:

- `closed`: wrk with 8 connections, each of which asks again as soon as it is answered. Measures the maximum throughput.
- `steady`: 1,000 requests per second, which arrive by a Poisson process. The latency counts from the arrival.
- `alone`: one connection. Measures the server's own time.

Three other servers get the closed load on the same users for comparison: the product's server when it re-reads each user's full
history, a plain FastAPI server over the torch model, and one over RecBole's SASRec.

Every row has the CPU milliseconds of the server's processes per request, which other work on the machine affects less than the
latency, and the load at the start. The result also records how long the machine itself pauses programs (`benchmarks.pauses`).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import subprocess
import tempfile
import urllib.request
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.pauses import measure_pauses
from benchmarks.report import hardware, skip_without, write_result
from benchmarks.serving.open_load import http_request, send_at_rate
from benchmarks.serving.plain import KIND
from benchmarks.serving.world import NAME, fill_redis, free_port, histories, publish_drawn, redis_server, running
from configs.serving import ServingSettings, StateSettings
from infra.storage.local import LocalStore
from serving.engine import ServedModel

STEADY_RATE, STEADY_CONNECTIONS = 1000, 64
RUNS = [
    *((kind, "closed") for kind in ("state", "history", "cold", "events")),
    *((kind, way) for way in ("steady", "alone") for kind in ("state", "events")),
]
FIRST = 1_700_000_000  # UTC seconds; later than all events of the users
SCRIPT = """
local users, items, kind, now = %(users)d, %(items)d, "%(kind)s", %(now)d
local n = 0
math.randomseed(%(seed)d)
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
function request()
  n = n + 1
  local user = math.random(0, users - 1)
  if kind == "events" then
    return wrk.format(nil, "/v1/events", nil, string.format('{"events":[{"user_id":%%d,"item_id":%%d,"time":%%d}]}',
      user, math.random(1, items), now + math.floor(n / 50)))
  elseif kind == "cold" then
    return wrk.format(nil, "/v1/recommendations", nil, '{"k":10}')
  elseif kind == "history" then
    local events = {}
    for i = 1, 50 do
      events[i] = string.format('{"item_id":%%d,"time":%%d}', math.random(1, items), now - 100000 + 60 * i)
    end
    return wrk.format(nil, "/v1/recommendations", nil, '{"k":10,"history":[' .. table.concat(events, ",") .. ']}')
  end
  return wrk.format(nil, "/v1/recommendations", nil, string.format('{"user_id":%%d,"k":10}', user))
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%%d,"us":%%d,"p50":%%d,"p90":%%d,"p99":%%d,"max":%%d,"errors":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99), latency.max,
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def main() -> None:
    """Fill the store and Redis, start the servers, run the loads, and write and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=62_000)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--distinct", type=int, default=3000, help="users whose states are computed; the other users get copies")
    parser.add_argument("--seconds", type=int, default=8, help="seconds per measurement, after 2 to warm up")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving.json"))
    given = parser.parse_args()
    skip_without("wrk", "redis-server")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="recsys-serving-") as name, ExitStack() as stack:
        root = Path(name)
        store = LocalStore(root / "store")
        version = publish_drawn(store, root / "model", given.items, given.seed)
        model = ServedModel.load(root / "model", version, 1, StateSettings().events)
        address = stack.enter_context(redis_server(free_port()))
        people = histories(given.distinct, given.items, given.seed)
        used = fill_redis(address, version, model, given.users, people)
        pauses = measure_pauses()
        print(f"{given.users:,} users in Redis: {used:,.0f} MB; load {os.getloadavg()[0]:.1f}; {pauses}", flush=True)
        base: dict[str, Any] = {
            "model_name": NAME,
            "store": {"url": f"file:{root}/store"},
            "work_dir": str(root / "served"),
            "batch": {"cache_s": 0},
        }
        load = Load(root, given.users, given.items, given.seconds, given.connections, given.seed)
        for workers in (1, 2):
            settings = _settings(base, workers=workers, redis={"url": address})
            with running(settings, log=root / "server.log") as process:
                for kind, way in RUNS:
                    if way != "alone" or workers == 1:
                        found = load.run(kind, settings.port, process.pid, way)
                        rows.append(found | {"server": "ours", "redis": True, "workers": workers})
                        _say(rows[-1])
        settings = _settings(base, state={"local_mb": 4000})
        with running(settings, log=root / "server.log") as process:
            few = min(given.users, 20_000)
            fill_by_events(settings.port, people, few)
            load.users = few
            for kind in ("state", "events"):
                rows.append(
                    load.run(kind, settings.port, process.pid) | {"server": "ours", "redis": False, "workers": 1, "users": few}
                )
                _say(rows[-1])
            load.users = given.users
        for server, workers in product(("reencode", "torch", "sasrec"), (1, 2)):
            os.environ |= {
                KIND: server,
                "RECSYS_PLAIN_FOLDER": str(root / "model"),
                "RECSYS_PLAIN_USERS": str(given.distinct),
            }
            settings = _settings(base, workers=workers, redis={"url": address})
            with running(settings, "benchmarks.serving.plain", root / "server.log") as process:
                rows.append(
                    load.run("state", settings.port, process.pid)
                    | {"server": server, "redis": server == "reencode", "workers": workers}
                )
                _say(rows[-1])
    result = {
        "items": given.items,
        "users": given.users,
        "state_bytes": 4 * model.model.state_size,
        "redis_mb": round(used),
        "mean_events": round(sum(len(person.items) for person in people) / len(people), 1),
        "connections": given.connections,
        "steady_rate": STEADY_RATE,
        "seconds": given.seconds,
        "pauses": pauses.to_dict(),
        "seeds": [given.seed],
        "hardware": hardware(),
        "rows": rows,
    }
    write_result(given.out, result)


class Load:
    """Runs one kind of request under one kind of load."""

    def __init__(self, root: Path, users: int, items: int, seconds: int, connections: int, seed: int) -> None:
        self.root, self.users, self.items = root, users, items
        self.seconds, self.connections, self.seed = seconds, connections, seed
        self._runs = 0

    def run(self, kind: str, port: int, pid: int, way: str = "closed") -> dict[str, Any]:
        """Run a load. Return latency in ms, requests per second, CPU ms of the server per request, and the server's own time."""
        send = self._steady if way == "steady" else self._wrk
        connections = {"closed": self.connections, "steady": STEADY_CONNECTIONS, "alone": 1}[way]
        send(kind, port, 2, connections)
        before, cpu, load = _server_seconds(port), cpu_seconds(pid), os.getloadavg()[0]
        found = send(kind, port, self.seconds, connections)
        cpu, after = cpu_seconds(pid) - cpu, _server_seconds(port)
        row: dict[str, Any] = {
            "kind": kind,
            "way": way,
            "rate": round(found["requests"] / found["us"] * 1e6),
            **{name: round(found[name] / 1000, 2) for name in ("p50", "p90", "p99", "max")},
            "errors": found["errors"],
            "cpu_ms": round(cpu * 1000 / found["requests"], 3),
            "load_1_min": round(load, 1),
        }
        if after["count"] > before["count"]:
            row["server_ms"] = round((after["sum"] - before["sum"]) * 1000 / (after["count"] - before["count"]), 3)
        return row

    def _steady(self, kind: str, port: int, seconds: int, connections: int) -> dict[str, Any]:
        now, rng = self._next(), random.Random(self.seed + self._runs)

        def request() -> bytes:
            nonlocal now
            user = rng.randrange(self.users)
            if kind == "events":
                now += 1
                event = b'{"events":[{"user_id":%d,"item_id":%d,"time":%d}]}' % (user, rng.randint(1, self.items), now)
                return http_request("/v1/events", event)
            return http_request("/v1/recommendations", b'{"user_id":%d,"k":10}' % user)

        sent = send_at_rate(
            port, request, rate=STEADY_RATE, seconds=seconds, connections=connections, seed=self.seed + self._runs
        )
        latency = {f"p{percent}": 1000 * sent.ms(percent) for percent in (50, 90, 99)} | {"max": 1000 * sent.ms(100)}
        return {"requests": len(sent.latencies), "us": sent.seconds * 1e6, "errors": sent.failed, **latency}

    def _next(self) -> int:
        """Return a start time for this run's events that is later than all earlier events."""
        self._runs += 1
        return FIRST + 1_000_000 * self._runs

    def _wrk(self, kind: str, port: int, seconds: int, connections: int) -> dict[str, Any]:
        path = self.root / "load.lua"
        values = {"users": self.users, "items": self.items, "kind": kind, "now": self._next()}
        path.write_text(SCRIPT % (values | {"seed": self.seed + self._runs}))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(path)]
        done = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True)
        said = re.search(r"RESULT (.*)", done.stdout)
        assert said is not None, done.stdout
        found: dict[str, Any] = json.loads(said[1])
        return found


def _settings(base: dict[str, Any], **options: Any) -> ServingSettings:
    return ServingSettings.model_validate(base | {"port": free_port()} | options)


def fill_by_events(port: int, people: list[Any], users: int) -> None:
    waiting: list[dict[str, int]] = []
    for user in range(users):
        person = people[user % len(people)]
        pairs = list(zip(person.items.tolist(), person.times.tolist(), strict=True))[-30:]
        waiting += [{"user_id": user, "item_id": item, "time": at} for item, at in pairs]
        if len(waiting) > 900 or user == users - 1:
            for begin in range(0, len(waiting), 1000):
                body = json.dumps({"events": waiting[begin : begin + 1000]}).encode()
                request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/events", body, {"Content-Type": "application/json"})
                urllib.request.urlopen(request, timeout=60).read()
            waiting = []


def _server_seconds(port: int) -> dict[str, float]:
    """Return the sum and count of the server's own request times."""
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode()
    except OSError:
        return {"sum": 0.0, "count": 0.0}
    total = {"sum": 0.0, "count": 0.0}
    for line in text.splitlines():
        said = re.match(r'recsys_request_seconds_(sum|count)\{.*route="/v1/.*\} (\S+)', line)
        if said:
            total[said[1]] += float(said[2])
    return total


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process and all its descendants."""
    total = 0.0
    tick = os.sysconf("SC_CLK_TCK")
    waiting = [pid]
    while waiting:
        each = waiting.pop()
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += (int(fields[11]) + int(fields[12])) / tick
            for task in Path(f"/proc/{each}/task").iterdir():
                waiting += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue
    return total


def _say(row: dict[str, Any]) -> None:
    where = "Redis" if row["redis"] else "memory"
    own = f", {row['server_ms']:.2f} ms in the server" if "server_ms" in row else ""
    print(
        f"{row['server']}, {row['workers']} worker(s), {where}, {row['kind']} {row['way']}: {row['rate']:,}/s, p50 {row['p50']} p90 {row['p90']} "
        f"p99 {row['p99']} max {row['max']} ms, {row['cpu_ms']} ms of CPU each{own}, {row['errors']} errors, load {row['load_1_min']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
