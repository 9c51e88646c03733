"""Workers and servers that follow one log agree on who gets which version, whatever happens to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client
from starlette.testclient import TestClient

from configs.settings import RolloutSettings
from infra.measurements import measured_keys, read_measured
from infra.registry import ModelRegistry, abort_rollout, advance_rollout, begin_rollout
from infra.storage.local import LocalStore
from serving.api.app import create_app
from tests.doubles.redis_server import redis_server
from tests.serving.versions import NAME, START, draw, promote_version, publish, settings_of

USERS = range(200)


class World:
    """A store in which the second of two versions is rolled out, at once, to a quarter of the users."""

    def __init__(self, root: Path) -> None:
        self.root, self.store = root, LocalStore(root / "store")
        for seed in (1, 2):
            draw(root / f"v{seed}", seed)
        self.old, self.new = (publish(self.store, root / f"v{seed}") for seed in (1, 2))
        promote_version(self.store, self.old.version)
        settings = RolloutSettings(enabled=True, stages=(0.25, 0.5, 1.0), settle_s=0)
        begin_rollout(self.store, self.new, settings, expected=1, reason="test", now=datetime.now(UTC), decision={})

    def step(self, act: Any) -> None:
        entry = ModelRegistry(self.store).newest(NAME)
        assert entry is not None
        act(self.store, entry, reason="test", now=datetime.now(UTC))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def redis() -> Iterator[Any]:
    with redis_server() as server:
        yield server


def serving(client: TestClient) -> Any:
    return client.get("/v1/models").json()


def until(client: TestClient, promotion: int) -> None:
    wait_for(lambda: serving(client)["promotion"] == promotion)


def wait_for(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 600
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def versions(client: TestClient) -> list[str]:
    answers = [client.post("/v1/recommendations", json={"user_id": user}) for user in USERS]
    assert {answer.status_code for answer in answers} == {200}
    return [answer.json()["version"] for answer in answers]


@pytest.mark.full
def test_two_servers_agree_through_a_restart_and_a_flushed_redis_and_no_user_goes_back(world: World, redis: Any) -> None:
    def server() -> TestClient:
        return TestClient(create_app(settings_of(world.root, redis={"url": redis.url, "timeout_s": 30})))

    with server() as one, server() as two:
        first = versions(one)
        assert first == versions(two) and 0.15 < first.count(world.new.version) / len(first) < 0.35
        assert {(m["version"], m["role"]) for m in serving(one)["served"]} == {
            (world.old.version, "champion"),
            (world.new.version, "canary"),
        }
        assert serving(one)["rollout"]["share"] == 0.25
        event = {"user_id": first.index(world.new.version), "item_id": 105, "time": START}
        assert one.post("/v1/events", json={"events": [event]}).json()["results"][0]["version"] == world.new.version
        with redis_client.Redis(port=redis.port) as data:
            data.flushall()
        assert versions(one) == first == versions(two), "nobody changes the version"
        world.step(advance_rollout)
        until(one, 3)
        until(two, 3)
        second = versions(one)
        assert second == versions(two)
        assert all(b == world.new.version for a, b in zip(first, second, strict=True) if a == world.new.version)
    with server() as restarted:
        assert versions(restarted) == second
        world.step(abort_rollout)
        until(restarted, 4)
        assert {*versions(restarted)} == {world.old.version} and serving(restarted)["rollout"] is None
    found = list(read_measured(world.store, measured_keys(world.store, NAME, 2)))
    assert {each.worker for each in found} and sum(each.requests[1] for each in found) > 0
    assert {row.new for each in found for row in each.answers} == {True, False}
    assert sum(len(each.agreements) for each in found) > 0, "the old version answers, too"


def test_the_new_version_is_champion_of_every_server_once_its_rollout_is_complete(world: World) -> None:
    with TestClient(create_app(settings_of(world.root))) as client:
        world.step(advance_rollout)
        world.step(advance_rollout)
        until(client, 4)
        assert {*versions(client)} == {world.new.version}
        wait_for(lambda: serving(client)["rollout"] is None)
        roles = {m["version"]: m["role"] for m in serving(client)["served"]}
        assert roles == {world.new.version: "champion", world.old.version: "beside"}, "the old one is at hand for a rollback"


def test_a_new_version_that_does_not_load_leaves_all_users_with_the_old_one_and_says_why(world: World) -> None:
    weights = f"{world.new.prefix}/model.safetensors"
    world.store.put(weights, b"nothing")
    with TestClient(create_app(settings_of(world.root))) as client:
        assert {*versions(client)} == {world.old.version}
        assert [each["version"] for each in serving(client)["refused"]] == [world.new.version]
    reasons = [each.refused for each in read_measured(world.store, measured_keys(world.store, NAME, 2))]
    assert reasons and all("differs from its manifest" in reason for reason in reasons)
