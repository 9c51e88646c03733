"""Two replicas and their Redis go through rounds of faults, and no erased user comes back."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from starlette.testclient import TestClient

from infra.storage.local import LocalStore
from serving.api.app import create_app
from tests.doubles.redis_server import RedisServer, redis_server
from tests.serving.versions import draw, promote_version, publish, settings_of
from tests.volume import volume

pytestmark = pytest.mark.full
ERASED, ROUNDS, SEEN = volume(12, 1000), volume(6, 200), volume(12, 50)  # users, rounds, and users who are looked at in a round
OTHERS = (900_001, 900_002)  # they stay
Act = Callable[["Town"], None]


class Town:
    """The replicas, their Redis, its backup, and who was erased."""

    def __init__(self, root: Path, server: RedisServer, stack: ExitStack) -> None:
        self._root, self.server = root, server
        self._stacks = [stack.enter_context(ExitStack()) for _ in range(2)]
        self.replicas = [self._start(place) for place in range(2)]
        self.draw, self.erased = random.Random(7), list[int]()
        self.backup: dict[bytes, bytes] = {}

    def _start(self, place: int) -> TestClient:
        options: dict[str, Any] = {
            "redis": {"url": self.server.url, "retry_s": 0.1},
            "work_dir": str(self._root / f"work-{place}"),
        }
        return self._stacks[place].enter_context(TestClient(create_app(settings_of(self._root, **options))))

    def restart_a_replica(self) -> None:
        place = self.draw.randrange(2)
        self._stacks[place].close()
        self.replicas[place] = self._start(place)

    def tell(self, user: int) -> str:
        """Report an event of a user to one of the replicas, and return what became of it."""
        event = {"user_id": user, "item_id": self.draw.randrange(100, 140), "time": 1_700_000_000 + self.draw.randrange(10**6)}
        answer = self.draw.choice(self.replicas).post("/v1/events", json={"events": [event]})
        assert answer.status_code == 200, answer.text
        found: str = answer.json()["results"][0]["outcome"]
        return found

    def client(self) -> Any:
        return redis.Redis.from_url(self.server.url)

    def back_up(self) -> None:
        with self.client() as client:
            self.backup |= {key: value for key in client.scan_iter() if (value := client.get(key)) is not None}

    def erase(self, user: int) -> None:
        answer = self.draw.choice(self.replicas).delete(f"/v1/users/{user}")
        assert answer.status_code == 200, answer.text
        self.erased.append(user)

    def wait(self) -> None:
        """Let each replica look at the store, as it does every ten seconds."""
        for replica in self.replicas:
            assert replica.app.state.worker.erasures.look()  # type: ignore[attr-defined]

    def came_back(self, users: list[int]) -> list[int]:
        """Return those of some erased users of whom a replica knows anything."""
        found = []
        for replica in self.replicas:
            for user in users:
                known = replica.get(f"/v1/users/{user}/events").json()["count"]
                source = replica.post("/v1/recommendations", json={"user_id": user, "k": 3}).json()["source"]
                found += [user] if known or source != "cold" else []
        return found

    def keys_left(self) -> list[bytes]:
        """Return the keys of erased users in Redis."""
        gone = {b"{%d}" % user for user in self.erased}
        with self.client() as client:
            return [key for key in client.scan_iter() if any(part in gone for part in key.split(b":"))]


def restart_empty(town: Town) -> None:
    town.server.kill()
    late(town)
    town.server.start()


def pause(town: Town) -> None:
    town.server.signal(signal.SIGSTOP)
    late(town)
    assert town.tell(OTHERS[0]) in ("applied", "late")
    town.server.signal(signal.SIGCONT)


def flush(town: Town) -> None:
    with town.client() as client:
        client.flushall()


def restore(town: Town) -> None:
    """Bring everything back that Redis ever held."""
    with town.client() as client:
        for key, value in town.backup.items():
            client.set(key, value)


def late(town: Town) -> None:
    for user in town.draw.sample(town.erased, min(5, len(town.erased))):
        assert town.tell(user) == "erased"


def restart_a_replica(town: Town) -> None:
    town.restart_a_replica()


ACTS: tuple[Act, ...] = (pause, restore, flush, restart_empty, late, restart_a_replica)


def test_no_erased_user_comes_back_in_rounds_of_faults(tmp_path: Path) -> None:
    draw(tmp_path / "v1", 1)
    store = LocalStore(tmp_path / "store")
    promote_version(store, publish(store, tmp_path / "v1").version)
    with redis_server() as server, ExitStack() as stack:
        town = Town(tmp_path, server, stack)
        for number in range(ROUNDS):
            users = range(1 + number * ERASED // ROUNDS, 1 + (number + 1) * ERASED // ROUNDS)
            for user in (*users, *OTHERS):
                assert town.tell(user) in ("applied", "late")
            town.back_up()
            for user in users:
                town.erase(user)
            town.wait()
            ACTS[number % len(ACTS)](town)
            late(town)
            looked_at = town.draw.sample(town.erased, min(SEEN, len(town.erased)))
            assert town.came_back(looked_at) == [], f"round {number}, {ACTS[number % len(ACTS)].__name__}"
        assert len(town.erased) == ERASED and town.came_back(town.erased) == []
        restore(town)
        for replica in town.replicas:
            replica.app.state.worker.erasures.sweep()  # type: ignore[attr-defined]
        end = time.monotonic() + 300
        while (left := town.keys_left()) and time.monotonic() < end:
            town.came_back(town.erased[:1])  # a replica deletes between two requests
            time.sleep(0.05)
        assert left == []
        assert all(each.get(f"/v1/users/{user}/events").json()["count"] for each in town.replicas for user in OTHERS)
