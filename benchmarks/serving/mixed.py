"""Mixed load during promotions, rollbacks and outages: `python -m benchmarks.serving.mixed --seconds 600`.

Two workers and a Redis serve events, recommendations by user and by history, and requests that their clients abandon. At the same
time, champions are promoted and rolled back, broken versions are promoted, and Redis is killed and restarted without its data.
Every answer is checked. No request may fail, and each answer must be exactly that of the version that it names. At the end, every
acknowledged event must be stored exactly once among its user's events.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import shutil
import tempfile
import threading
import time
import traceback
import urllib.request
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from benchmarks.report import hardware, skip_without, write_result
from benchmarks.serving.world import NAME, free_port, histories, publish_drawn, redis_server, running
from configs.serving import ServingSettings, StateSettings
from infra.registry import Lineage, ModelRegistry, machine_facts
from infra.storage.local import LocalStore
from serving.engine import Answer, Engine, HistoryEvent, Models, RecommendJob, RequestTime, ServedModel
from serving.experiments import Assignment
from serving.reranking import Rules
from serving.state import LocalStates

__all__ = ["Found", "mixed_load"]

ITEMS, PROBES, USERS, CLIENTS = 2000, 20, 200, 6
LAST_S, LAST_REQUESTS, PATIENCE_S = 3.0, 1000, 120.0
ASKED_AT = 1_900_000_000


@dataclass
class Found:
    """The observations of the clients."""

    requests: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    mixed: list[str] = field(default_factory=list)  # answers that differ from those of the version they name
    degraded: int = 0  # answers for a stored user whose events were temporarily missing
    cancelled: int = 0
    lost: int = 0  # acknowledged events that are missing
    doubled: int = 0
    acts: Counter[str] = field(default_factory=Counter)
    slowest_ms: float = 0.0


class _World:
    """A store with two working and two broken versions, and the expected answers of the working ones."""

    def __init__(self, root: Path) -> None:
        self.store = LocalStore(root / "store")
        self.people = histories(PROBES, ITEMS, 3)
        self.good = [publish_drawn(self.store, root / f"v{seed}", ITEMS, seed) for seed in (1, 2)]
        self.broken = [self._broken(root, "nan"), self._broken(root, "swapped")]
        self.expected: dict[tuple[str, int], list[int]] = {}
        for number, version in enumerate(self.good, start=1):
            engine = Engine(LocalStates(StateSettings()), ServingSettings().batch, _plain())
            engine.models = Models(ServedModel.load(root / f"v{number}", version, 1, StateSettings().events), {})
            for probe in range(PROBES):
                job = RecommendJob(Assignment("champion"), 10, RequestTime.of(ASKED_AT, ASKED_AT), history=self.history(probe))
                answer = engine.process([job])[0]
                assert isinstance(answer, Answer)
                self.expected[version, probe] = [int(item.item_id) for item in answer.items]

    def history(self, probe: int) -> tuple[HistoryEvent, ...]:
        person = self.people[probe]
        return tuple(HistoryEvent(int(i), int(t)) for i, t in zip(person.items, person.times, strict=True))

    def promote(self, version: str, kind: Any = "promote") -> None:
        current = ModelRegistry(self.store).newest(NAME)
        now = datetime.now(UTC)
        ModelRegistry(self.store).promote(
            NAME, version, expected=current.number if current else 0, kind=kind, reason="mixed load", now=now
        )

    def _broken(self, root: Path, how: str) -> str:
        folder = root / how
        shutil.copytree(root / "v1", folder)
        if how == "swapped":
            shutil.copy(root / "v2" / "model.safetensors", folder)
        else:
            weights = load_file(folder / "model.safetensors")
            save_file({name: np.full_like(weight, np.nan) for name, weight in weights.items()}, folder / "model.safetensors")
        lineage = Lineage(
            kind="ss4rec",
            dataset="drawn/none",
            protocol="none",
            seed=0,
            settings={},
            metrics={},
            duration_s=0,
            cost=None,
            **machine_facts(),
        )
        now = datetime.now(UTC)
        return (
            ModelRegistry(self.store)
            .seal(ModelRegistry(self.store).stage(NAME, folder, now), {"outcome": "forced", "reasons": []}, lineage, now)
            .version
        )


def mixed_load(seconds: float, workers: int, seed: int = 1, pause_s: float = 2.0) -> Found:
    """Run the mixed load and return the observations."""
    found, stop, lock = Found(), threading.Event(), threading.Lock()
    with tempfile.TemporaryDirectory(prefix="recsys-mixed-") as name, ExitStack() as stack:
        root = Path(name)
        world = _World(root)
        redis_port, port = free_port(), free_port()
        redis = ExitStack()
        stack.callback(redis.close)
        address = redis.enter_context(redis_server(redis_port))
        settings = ServingSettings.model_validate(
            {
                "model_name": NAME,
                "store": {"url": f"file:{root}/store"},
                "work_dir": str(root / "served"),
                "port": port,
                "workers": workers,
                "poll_s": 0.3,
                "redis": {"url": address, "timeout_s": 1, "retry_s": 0.5},
            }
        )
        stack.enter_context(running(settings, log=root / "server.log"))
        acknowledged: dict[int, list[tuple[int, int]]] = {}
        _feed_probes(world, port)
        clients = [
            threading.Thread(target=_client, args=(world, port, seed * 100 + number, stop, found, lock, acknowledged))
            for number in range(CLIENTS)
        ]
        for client in clients:
            client.start()
        draw, end = random.Random(seed), time.monotonic() + seconds
        acts = ["other version", "rollback", "broken", "redis down", "other version", "broken", "rollback"]
        while time.monotonic() < end:
            for act in acts:
                _act(act, world, redis, redis_port, draw, pause_s)
                found.acts[act] += 1
                stop.wait(min(pause_s, max(end - time.monotonic(), 0)))
        _ask_on(found, lock)
        stop.set()
        for client in clients:
            client.join()
        _wait_for_redis(port)
        _check_events(port, acknowledged, found)
    return found


def _act(act: str, world: _World, redis: ExitStack, redis_port: int, draw: random.Random, pause_s: float) -> None:
    if act == "redis down":
        redis.close()
        time.sleep(pause_s)
        redis.enter_context(redis_server(redis_port))
        return
    if act == "broken":
        world.promote(draw.choice(world.broken), "force")
        return
    current = ModelRegistry(world.store).champion(NAME)
    other = world.good[0] if current is not None and current.version == world.good[1] else world.good[1]
    world.promote(other, "rollback" if act == "rollback" else "promote")


def _ask_on(found: Found, lock: threading.Lock) -> None:
    """Keep the clients running until each worker has reconnected to Redis. A worker only notices Redis when it gets a request."""

    def answered() -> int:
        with lock:
            return found.requests.total()

    before, end = answered(), time.monotonic() + PATIENCE_S
    time.sleep(LAST_S)
    while answered() - before < LAST_REQUESTS and time.monotonic() < end:
        time.sleep(0.1)


def _wait_for_redis(port: int) -> None:
    """Wait until all workers have sent their events to Redis, for at most `PATIENCE_S`.

    Any worker reports the total of all workers, and each worker updates its own count every second. Several reads of zero in a
    row are needed to be sure that none is out of date.
    """
    end, quiet = time.monotonic() + PATIENCE_S, 0
    while quiet < 6 and time.monotonic() < end:
        time.sleep(0.5)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            told = answer.read().decode()
        quiet = quiet + 1 if "\nrecsys_unsent_users 0.0\n" in told else 0


def _feed_probes(world: _World, port: int) -> None:
    for probe in range(PROBES):
        events = [{"user_id": probe, "item_id": e.item, "time": e.time} for e in world.history(probe)]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for begin in range(0, len(events), 1000):
            connection.request("POST", "/v1/events", json.dumps({"events": events[begin : begin + 1000]}), _headers())
            response = connection.getresponse()
            assert response.status == 200, response.read()
            response.read()
        connection.close()


def _client(
    world: _World,
    port: int,
    seed: int,
    stop: threading.Event,
    found: Found,
    lock: threading.Lock,
    acknowledged: dict[int, list[tuple[int, int]]],
) -> None:
    """Send one request after another on a persistent connection."""
    draw = random.Random(seed)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    made = 0
    while not stop.is_set():
        made += 1
        kind = draw.choices(("probe", "history", "user", "event", "cancelled"), (4, 2, 3, 5, 1))[0]
        probe, user = draw.randrange(PROBES), 1000 + draw.randrange(USERS)
        # The times of one client do not repeat. Several clients write to the same user, so some of their events arrive late.
        event = (user, draw.randrange(1, ITEMS), 1_700_000_000 + made * CLIENTS + seed % 100)
        path, body = "/v1/recommendations", {"k": 10, "user_id": probe, "time": ASKED_AT}
        if kind == "history":
            body = {"k": 10, "time": ASKED_AT, "history": [{"item_id": e.item, "time": e.time} for e in world.history(probe)]}  # type: ignore[dict-item]
        elif kind == "user":
            body = {"k": 10, "user_id": user}
        elif kind == "event":
            path = "/v1/events"
            body = {"events": [{"user_id": event[0], "item_id": event[1], "time": event[2]}]}  # type: ignore[dict-item]
        began = time.perf_counter()
        try:
            connection.request("POST", path, json.dumps(body), _headers())
            if kind == "cancelled":
                connection.close()
                with lock:
                    found.cancelled += 1
                continue
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            with lock:
                found.failed.append(f"{kind}: {traceback.format_exc(limit=1)}")
            connection.close()
            continue
        with lock:
            found.slowest_ms = max(found.slowest_ms, (time.perf_counter() - began) * 1000)
            found.requests[kind] += 1
            if response.status != 200:
                found.failed.append(f"{kind}: {response.status} {content[:300].decode()}")
                continue
            _judge(world, kind, probe, event, json.loads(content), found, acknowledged)
    connection.close()


def _judge(
    world: _World,
    kind: str,
    probe: int,
    event: tuple[int, int, int],
    answer: Any,
    found: Found,
    acknowledged: dict[int, list[tuple[int, int]]],
) -> None:
    if kind == "event":
        assert answer["results"][0]["outcome"] in ("applied", "late"), answer
        acknowledged.setdefault(event[0], []).append((event[1], event[2]))
        return
    found.versions[answer["version"]] += 1
    if answer["version"] not in world.good:
        found.mixed.append(f"a broken version answered: {answer['version']}")
    if kind in ("probe", "history"):
        if kind == "probe" and answer["events"] != len(world.people[probe].items):
            found.degraded += 1
        elif [item["item_id"] for item in answer["items"]] != world.expected[answer["version"], probe]:
            found.mixed.append(f"{kind} {probe} by {answer['version']}: not that version's answer")


def _check_events(port: int, acknowledged: dict[int, list[tuple[int, int]]], found: Found) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for user, events in acknowledged.items():
        connection.request("GET", f"/v1/users/{user}/events")
        kept = json.loads(connection.getresponse().read())
        times = Counter((event["item_id"], event["time"]) for event in kept["events"])
        assert [event["time"] for event in kept["events"]] == sorted(event["time"] for event in kept["events"])
        begin = kept["events"][0]["time"] if len(kept["events"]) >= StateSettings().events else 0  # older events were dropped
        found.lost += sum(times[event] == 0 for event in events if event[1] > begin)
        found.doubled += sum(count - 1 for count in times.values())
    connection.close()


def _headers() -> dict[str, str]:
    return {"Content-Type": "application/json"}


def _plain() -> Any:
    rules = Rules()
    return lambda: rules


def main() -> None:
    """Run the load, write the result and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/serving_mixed.json"))
    given = parser.parse_args()
    skip_without("redis-server")
    load = os.getloadavg()[0]
    found = mixed_load(given.seconds, given.workers, given.seed)
    result = {
        "seconds": given.seconds,
        "workers": given.workers,
        "clients": CLIENTS,
        "items": ITEMS,
        "seeds": [given.seed],
        "hardware": hardware() | {"load_1_min": round(load, 1)},
        "requests": dict(found.requests),
        "answers_by_version": len(found.versions),
        "acts": dict(found.acts),
        "failed": len(found.failed),
        "cancelled": found.cancelled,
        "mixed": len(found.mixed),
        "degraded": found.degraded,
        "events_lost": found.lost,
        "events_doubled": found.doubled,
        "slowest_ms": round(found.slowest_ms, 1),
    }
    write_result(given.out, result)
    print(json.dumps(result, indent=2))
    for line in (found.failed + found.mixed)[:10]:
        print(line)


if __name__ == "__main__":
    main()
