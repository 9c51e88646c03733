"""Values in Redis that others have damaged: they harm one user, nothing is deleted, and Redis stays in use."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis as redis_client

from configs.serving import RedisSettings, StateSettings
from serving.state import FailoverStates, Outcome, UserLog
from serving.state.redis_store import RedisStates
from serving.state.user_log import HEAD
from tests.doubles.redis_server import RedisServer, redis_server
from tests.serving.state.events import one

KEY, ASIDE, STATE = "recsys:{7}:events", "recsys:{7}:events:damaged", "recsys:{7}:state:v"
DAMAGED = [b"no log", bytes(16) + b"half an event", HEAD.pack(b"epoch..1", 0) + bytes(24), [b"a", b"list"]]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis_client.Redis]:
    client = redis_client.Redis(port=server.port)
    client.flushall()
    yield client
    client.close()


def items(store: FailoverStates | RedisStates, users: list[int]) -> list[list[int]]:
    return [UserLog.read(stored.log).items.tolist() for stored in store.read(users, "v")]


class Worker:
    """A worker's store, with what it reported."""

    def __init__(self, server: RedisServer) -> None:
        self.outages: list[str] = []
        self.faults: list[str] = []
        self.store = FailoverStates(
            RedisSettings(url=server.url, timeout_s=30),
            StateSettings(),
            on_outage=lambda down, why: self.outages.append(why),
            on_fault=lambda key, why: self.faults.append(key),
        )


def damage(client: redis_client.Redis, key: str, value: bytes | list[bytes]) -> None:
    client.delete(key)
    if isinstance(value, list):
        client.rpush(key, *value)
    else:
        client.set(key, value, ex=1000)


def kept(client: redis_client.Redis) -> bytes | list[bytes]:
    found: bytes | list[bytes] = client.lrange(ASIDE, 0, -1) if client.type(ASIDE) == b"list" else client.get(ASIDE)
    return found


@pytest.mark.parametrize("value", DAMAGED)
@pytest.mark.parametrize("first", ["read", "append"])
def test_a_damaged_log_harms_only_its_user_and_is_set_aside(
    server: RedisServer, client: redis_client.Redis, value: bytes | list[bytes], first: str, caplog: pytest.LogCaptureFixture
) -> None:
    users = list(range(32))
    Worker(server).store.append([one(user, 1) for user in users], "v")
    damage(client, KEY, value)
    worker = Worker(server)  # it has nothing in memory
    if first == "read":
        assert items(worker.store, users) == [[] if user == 7 else [1] for user in users]
    added = worker.store.append([one(user, 2) for user in users], "v")
    assert [each.outcomes for each in added] == [[Outcome.APPLIED]] * 32
    assert items(worker.store, users) == [[2] if user == 7 else [1, 2] for user in users]
    assert items(Worker(server).store, users) == [[2] if user == 7 else [1, 2] for user in users]
    assert kept(client) == value and client.ttl(ASIDE) > 0
    assert worker.outages == [] and worker.faults == [KEY] and worker.store.unsent == 0
    assert [record.__dict__["key"] for record in caplog.records] == [KEY]


@pytest.mark.parametrize("value", DAMAGED)
@pytest.mark.parametrize("first", ["read", "append"])
def test_a_worker_restores_a_damaged_log_from_its_memory(
    server: RedisServer, client: redis_client.Redis, value: bytes | list[bytes], first: str
) -> None:
    worker = Worker(server)
    worker.store.append([one(7, 1), one(8, 1)], "v")
    damage(client, KEY, value)
    if first == "read":
        assert items(worker.store, [7, 8]) == [[1], [1]]
    assert UserLog.read(worker.store.append([one(7, 2)], "v")[0].log).items.tolist() == [1, 2]
    assert items(Worker(server).store, [7, 8]) == [[1, 2], [1]]
    assert kept(client) == value and worker.outages == [] and worker.faults == [KEY]


@pytest.mark.parametrize("value", [b"no state", [b"a", b"list"]])
def test_a_damaged_state_is_replaced(server: RedisServer, client: redis_client.Redis, value: bytes | list[bytes]) -> None:
    worker = Worker(server)
    log = worker.store.append([one(7, 1)], "v")[0].log
    state = log[: HEAD.size] + b"state"
    damage(client, STATE, value)
    assert items(worker.store, [7, 8]) == [[1], []]
    assert worker.store.append([one(7, 1)], "v")[0].outcomes == [Outcome.DUPLICATE]
    worker.store.write([(7, state)], "v")
    assert client.get(STATE) == state and worker.outages == []


def test_a_damaged_log_does_not_keep_an_outage_from_ending(server: RedisServer, client: redis_client.Redis) -> None:
    worker = Worker(server)
    client.config_set("maxmemory", 1)
    assert worker.store.append([one(7, 1), one(8, 1)], "v")[0].outcomes == [Outcome.APPLIED]
    assert (worker.store.down and "OOM" in worker.outages[0]) or "maxmemory" in worker.outages[0]
    client.config_set("maxmemory", 0)
    damage(client, KEY, b"no log")
    until = time.monotonic() + 120
    while (worker.store.down or worker.store.unsent) and time.monotonic() < until:  # it is tried again after a second
        worker.store.recover()
        time.sleep(0.02)
    assert items(Worker(server).store, [7, 8]) == [[1], [1]] and worker.faults == [KEY] and kept(client) == b"no log"


def test_the_key_that_tells_one_redis_from_another_may_be_damaged(server: RedisServer, client: redis_client.Redis) -> None:
    damage(client, "recsys:life", [b"a", b"list"])
    worker = Worker(server)
    assert worker.store.append([one(7, 1)], "v")[0].outcomes == [Outcome.APPLIED]
    assert worker.outages == [] and worker.faults == ["recsys:life"] and items(Worker(server).store, [7]) == [[1]]


def test_scripts_that_redis_has_forgotten_are_loaded_again(server: RedisServer, client: redis_client.Redis) -> None:
    worker = Worker(server)
    worker.store.append([one(7, 1)], "v")
    client.script_flush()
    client.config_resetstat()
    assert worker.store.append([one(7, 2), one(8, 1)], "v")[0].outcomes == [Outcome.APPLIED]
    for item in range(3, 20):
        worker.store.append([one(7, item)], "v")
    calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert calls["cmdstat_script|load"] == 1 and "cmdstat_script|exists" not in calls
    assert items(worker.store, [7, 8]) == [list(range(1, 20)), [1]] and worker.outages == []
