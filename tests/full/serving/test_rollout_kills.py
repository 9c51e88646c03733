"""Whatever is killed at whichever step of a rollout: two replicas of two workers agree, no user goes back, and there is one log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from configs.settings import RolloutSettings
from infra.local_stack.services import ROOT
from infra.registry import ModelRegistry, begin_rollout
from infra.storage.local import LocalStore
from serving.rollout import Underway
from tests.doubles.live_prefect import wait_until
from tests.full.serving.fleet import Fleet, fleet
from tests.serving.versions import NAME, draw, publish

pytestmark = [pytest.mark.full, pytest.mark.nightly]  # each stage settles first, so it takes minutes
REPLICAS = ("api-1", "api-2")
USERS = range(120)
STAGES = (0.25, 0.5, 1.0)
SETTLE_S, PATIENCE_S = 45, 600.0  # servers read the log in the former


def version_of(found: Fleet, replica: str, user: int) -> str:
    """Return the version that answers a user. A request that a kill cut in the middle is sent again."""
    address = f"http://127.0.0.1:{found.ports[replica]}/v1/recommendations"
    asked = urllib.request.Request(address, json.dumps({"user_id": user}).encode(), {"Content-Type": "application/json"})

    def answer() -> str:
        try:
            with urllib.request.urlopen(asked, timeout=60) as response:
                return str(json.loads(response.read())["version"])
        except OSError:
            return ""

    return str(wait_until(answer, PATIENCE_S, f"an answer of {replica}"))


def entries_of(store: LocalStore) -> list[str]:
    return [entry.kind for entry in ModelRegistry(store).history(NAME)]


@contextmanager
def asking(found: Fleet, new: str) -> Iterator[list[int]]:
    """Ask all the time, of both replicas in turn, and yield the users who got the old version after the new one."""
    stop, back = threading.Event(), list[int]()

    def ask() -> None:
        had: set[int] = set()
        while not stop.is_set():
            for user in USERS:
                for replica in REPLICAS:
                    if version_of(found, replica, user) == new:
                        had.add(user)
                    elif user in had:
                        back.append(user)
                if stop.is_set():
                    return

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield back
    finally:
        stop.set()
        thread.join()


def watch_until_next(found: Fleet, store: LocalStore) -> None:
    """Let a process watch the rollout until it has written an entry, and kill it before it can clean up."""
    before = len(entries_of(store))
    command = [
        sys.executable,
        "-m",
        "flows.cli",
        "rollout",
        "watch",
        "--set",
        f"model_name={NAME}",
        "--set",
        f"store.url=file:{store.folder}",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for killed_at_once in (True, False):
        with subprocess.Popen(command, env=environment, cwd=found.folder, stdout=found.log, stderr=found.log) as process:
            if not killed_at_once:
                wait_until(lambda: len(entries_of(store)) > before, PATIENCE_S, "the next stage")
            process.kill()


def kill_a_worker(found: Fleet) -> None:
    children = Path(f"/proc/{found.processes['api-1'].pid}/task/{found.processes['api-1'].pid}/children").read_text().split()
    workers = [int(each) for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]
    os.kill(workers[0], signal.SIGKILL)


def kill_a_replica(found: Fleet) -> None:
    found.end("api-2", signal.SIGKILL)
    found.start("api-2")


def lose_redis(found: Fleet) -> None:
    found.redis.kill()
    found.redis.start()


KILLS: tuple[Callable[[Fleet], None], ...] = (kill_a_worker, kill_a_replica, lose_redis)


def test_no_kill_at_any_step_changes_who_gets_which_version(tmp_path: Path) -> None:
    draw(tmp_path / "new", 2)
    store = LocalStore(tmp_path / "store")
    settings = RolloutSettings(enabled=True, stages=STAGES, settle_s=SETTLE_S, bake_s=1)

    def begin(store: LocalStore) -> None:
        begin_rollout(
            store, publish(store, tmp_path / "new"), settings, expected=1, reason="test", now=datetime.now(UTC), decision={}
        )

    with fleet(tmp_path, workers=2, prepare=begin) as found:
        entry = ModelRegistry(store).newest(NAME)
        assert entry is not None
        new = entry.version
        with asking(found, new) as went_back:
            for number, share in enumerate(STAGES):
                entry = ModelRegistry(store).newest(NAME)
                assert entry is not None and entry.number == number + 2 and entry.rollout is not None
                underway = Underway(new, entry.rollout)
                time.sleep(max(0.0, entry.rollout.since - time.time()) + 1)
                served = [user for user in range(20_000) if underway.is_new(user, time.time())]
                assert abs(len(served) / 20_000 - share) < 0.01
                for act in KILLS:
                    act(found)
                    for replica in REPLICAS:
                        got = [version_of(found, replica, user) == new for user in USERS]
                        assert got == [underway.is_new(user, time.time()) for user in USERS], f"{act.__name__}, stage {number}"
                if share < 1:
                    watch_until_next(found, store)
            assert entries_of(store) == ["promote", "promote", "advance", "advance"]
        assert went_back == []
