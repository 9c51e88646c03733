"""What the serving benchmarks share: a store with a model of ML-25M's size, synthetic users, a Redis and servers.

The weights are SS4Rec's initial ones, because speed does not depend on training. The lengths of the histories follow ML-25M
(lognormal with its median of 71 events, at least 20), and the popularity of the items follows Zipf's law.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from configs.serving import RedisSettings, ServingSettings, StateSettings
from configs.settings import SS4RecSettings
from infra.registry import Lineage, ModelRegistry, machine_facts
from infra.storage.local import LocalStore
from models.recommender import IntArray, Recommender, Requests, Sequences
from models.ss4rec import SS4Rec
from serving.engine import ServedModel
from serving.state import UserLog, UserState, entry
from serving.state.user_log import append, new_epoch
from tasks.evaluation.catalogue import write_catalogue
from tasks.evaluation.load_check import SAMPLE_FILE, sample_requests

__all__ = [
    "NAME",
    "History",
    "drawn_events",
    "histories",
    "publish_drawn",
    "publish_model",
    "redis_server",
    "running",
    "state_bytes",
    "user_bytes",
]

NAME = "movie-ranker"
START = 1_600_000_000
MEDIAN, SPREAD, LEAST, MOST = 71, 1.0, 20, 1000


@dataclass(frozen=True, eq=False)
class History:
    """The events of a synthetic user."""

    items: IntArray
    times: IntArray


def histories(count: int, n_items: int, seed: int) -> list[History]:
    rng = np.random.default_rng(seed)
    found = []
    for length in np.clip(rng.lognormal(np.log(MEDIAN), SPREAD, count), LEAST, MOST).astype(int):
        items = np.unique(rng.zipf(1.2, 2 * length) % n_items)[:length]
        rng.shuffle(items)
        gaps = rng.choice([0, 5, 30, 3600, 86_400], len(items), p=[0.2, 0.3, 0.3, 0.1, 0.1])
        found.append(History(items.astype(np.int64) + 1, START + np.cumsum(gaps)))
    return found


def drawn_events(n_items: int, seed: int) -> tuple[IntArray, Sequences]:
    """Return a catalogue of `n_items` items, and train events whose popularity follows Zipf's law."""
    drawn = (np.random.default_rng(seed).zipf(1.2, 20 * n_items) % n_items + 1).astype(np.int64)
    train = Sequences(np.array([1]), np.array([0, len(drawn)]), drawn, np.arange(len(drawn), dtype=np.int64))
    return np.arange(1, n_items + 1, dtype=np.int64), train


def publish_drawn(store: LocalStore, folder: Path, n_items: int, seed: int, settings: SS4RecSettings | None = None) -> str:
    """Register and promote an SS4Rec version of `n_items` items with initial weights."""
    catalogue, train = drawn_events(n_items, seed)
    model = SS4Rec(settings or SS4RecSettings(device="cpu"))
    model._take_vocabulary(catalogue, train)
    torch.manual_seed(seed)
    model._network = model._untrained().eval()
    return publish_model(store, folder, model, n_items, seed)


def publish_model(store: LocalStore, folder: Path, model: Recommender, n_items: int, seed: int) -> str:
    """Register and promote a model of the items and events of `drawn_events`."""
    registry = ModelRegistry(store)
    catalogue, train = drawn_events(n_items, seed)
    model.save(folder)
    people = histories(8, n_items, seed)
    offsets = np.concatenate([[0], np.cumsum([len(person.items) for person in people])]).astype(np.int64)
    last = np.array([int(person.times[-1]) for person in people])
    requests = Requests(
        user_ids=np.arange(8),
        offsets=offsets,
        item_ids=np.concatenate([person.items for person in people]),
        timestamps=np.concatenate([person.times for person in people]),
        request_times=last + 60,
        targets=np.ones(8, np.int64),
    )
    (folder / SAMPLE_FILE).write_text(json.dumps(sample_requests(model, requests, count=8, seed=seed)))
    genres = np.array(["Action|Comedy", "Drama", "Comedy", "Thriller|Drama", "Documentary"])
    items = pd.DataFrame(
        {
            "item_id": catalogue,
            "title": [f"Film {item}" for item in catalogue],
            "year": pd.array(1930 + catalogue % 90, dtype="Int64"),
            "genres": genres[catalogue % 5],
        }
    )
    write_catalogue(folder, catalogue, items, train)
    lineage = Lineage(
        kind=model.name,
        dataset="drawn/none",
        protocol="none",
        seed=seed,
        settings={},
        metrics={},
        duration_s=0,
        cost=None,
        **machine_facts(),
    )
    now = datetime.now(UTC)
    ref = registry.seal(registry.stage(NAME, folder, now), {"outcome": "promoted", "reasons": []}, lineage, now)
    current = registry.champion(NAME)
    registry.promote(NAME, ref.version, expected=current.number if current else 0, reason="benchmark", now=now)
    return ref.version


def user_bytes(history: History, limit: int) -> bytes:
    """Return the log of a user as bytes."""
    entries = b"".join(
        entry(int(i), int(t), b"%08d" % place) for place, (i, t) in enumerate(zip(history.items, history.times, strict=True))
    )
    return append(None, entries, limit, new_epoch())[0]


def state_bytes(model: ServedModel, log: bytes) -> bytes:
    """Return the state after this log as bytes."""
    read = UserLog.read(log)
    plan = model.plan(read, None)
    numbers = model.states([plan], [None])[0]
    return UserState(read.epoch, read.count, int(plan.items[-1]), int(plan.times[-1]), numbers).to_bytes()


def fill_redis(url: str, version: str, model: ServedModel, users: int, distinct: list[History]) -> float:
    """Give `users` users the events and states of the `distinct` ones in turn. Return the MB used in Redis.

    A model without a state has none in Redis.
    """
    import redis

    client: Any = redis.Redis.from_url(url)
    logs = [user_bytes(history, StateSettings().events) for history in distinct]
    states = [state_bytes(model, log) for log in logs] if model.model.state_size else []
    prefix = RedisSettings().prefix
    for begin in range(0, users, 500):
        pipe = client.pipeline(transaction=False)
        for user in range(begin, min(begin + 500, users)):
            pipe.set(f"{prefix}:{{{user}}}:events", logs[user % len(logs)])
            if states:
                pipe.set(f"{prefix}:{{{user}}}:state:{version}", states[user % len(logs)])
        pipe.execute()
    used = float(client.info("memory")["used_memory"]) / 1e6
    client.close()
    return used


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def redis_server(port: int) -> Iterator[str]:
    """Run a Redis without persistence and yield its address."""
    command = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/")
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port), 1).close())
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


@contextmanager
def running(settings: ServingSettings, module: str = "flows.cli", log: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run `recsys serve`, or another module with the same command line, until the block ends. Waits until it is ready."""
    values = settings.model_dump(mode="json", exclude_defaults=True)
    given = [f"{key}={json.dumps(value)}" for key, value in _flat(values)]
    command = [sys.executable, "-m", module, "serve", *[part for each in given for part in ("--set", each)]]
    here = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, here))}
    with (log or Path(os.devnull)).open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{settings.port}/readyz", timeout=2).read(), process)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_for(attempt: Any, process: subprocess.Popen[bytes] | None = None, seconds: float = 120) -> None:
    """Wait until `attempt` no longer raises OSError. Re-raises it after `seconds`, or when `process` has ended."""
    end = time.monotonic() + seconds
    while True:
        try:
            attempt()
            return
        except OSError:
            if time.monotonic() > end or (process is not None and process.poll() is not None):
                raise
            time.sleep(0.1)


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
