"""A Redis that answers slowly, byte by byte or not at all: requests do not wait for it, and it is used again when it is fast."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
from redis.connection import AbstractConnection

from configs.serving import RedisSettings, StateSettings
from serving.state import FailoverStates, Outcome, UserLog, entry
from serving.state.redis_link import RedisLink
from serving.state.redis_store import RedisStates
from tests.doubles.faulty_proxy import faulty_proxy
from tests.doubles.redis_server import redis_server
from tests.serving.state.events import Clock, one


def items(store: FailoverStates | RedisStates, user: int) -> list[int]:
    return UserLog.read(store.read([user], "v")[0].log).items.tolist()


class SlowAnswers:
    """Advances the clock by `seconds` with each answer, and counts the answers.

    Only this clock can end a call: on a slow machine, the call waits for Redis.
    """

    def __init__(self, patch: pytest.MonkeyPatch, clock: Clock) -> None:
        self.seconds, self.answers = 0.0, 0
        read, left = AbstractConnection.read_response, RedisLink.left_s
        patch.setattr(RedisLink, "left_s", lambda link: 60.0 if left(link) > 0 else 0.0)

        def slow(connection: AbstractConnection, **kwargs: Any) -> Any:
            clock.now += self.seconds
            self.answers += 1
            return read(connection, **kwargs)

        patch.setattr(AbstractConnection, "read_response", slow)


def test_a_redis_that_is_slow_several_times_is_down_until_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told, why = Clock(), [], []

    def tell(down: bool, reason: str) -> None:
        told.append(down)
        why.append(reason)

    with redis_server() as server:
        slow = SlowAnswers(monkeypatch, clock)
        settings = RedisSettings(url=server.url, timeout_s=0.25)
        store = FailoverStates(settings, StateSettings(), tell, clock=clock, start=lambda probe: probe())
        assert store.append([one(1, 1)], "v")[0].outcomes == [Outcome.APPLIED]
        slow.seconds = 0.2  # within the timeout
        for call in range(2, 6):
            assert told == []
            store.append([one(1, call)], "v")
        assert told == [True] and "slow" in why[0]
        before = slow.answers
        assert store.append([one(1, 6), one(2, 1)], "v")[0].outcomes == [Outcome.APPLIED] and items(store, 1) == [
            1,
            2,
            3,
            4,
            5,
            6,
        ]
        assert slow.answers == before and store.unsent == 2  # nobody asked Redis
        clock.now += 2
        store.recover()
        assert store.down and slow.answers > before and told == [True]  # it was tried, and is still slow
        slow.seconds = 0.001
        clock.now += 2
        store.recover()
        assert told == [True, False] and not store.unsent
        fresh = RedisStates(settings, StateSettings())
        assert items(fresh, 1) == [1, 2, 3, 4, 5, 6] and items(fresh, 2) == [1]
        fresh.close()
        store.close()


def test_one_slow_answer_is_not_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(), []
    with redis_server() as server:
        slow = SlowAnswers(monkeypatch, clock)
        settings = RedisSettings(url=server.url, timeout_s=0.25)
        store = FailoverStates(settings, StateSettings(), lambda down, why: told.append(down), clock=clock)
        for call in range(40):
            slow.seconds = 0.24 if call % 10 == 9 else 0.002
            store.append([one(1, call)], "v")
        assert told == []
        store.close()


def test_a_redis_that_is_down_again_soon_is_tried_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, told = Clock(), []
    with redis_server() as server:
        slow = SlowAnswers(monkeypatch, clock)
        settings = RedisSettings(url=server.url, timeout_s=0.25, retry_s=1)
        store = FailoverStates(
            settings, StateSettings(), lambda down, why: told.append(down), clock=clock, start=lambda probe: probe()
        )
        waited = []
        for outage in range(8):
            slow.seconds = 0.2
            while not store.down:
                store.append([one(1, outage)], "v")
            slow.seconds, start = 0.0, clock.now
            while store.down:
                clock.now += 0.5
                store.recover()
            waited.append(clock.now - start)
        assert waited == [1, 2, 4, 8, 16, 30, 30, 30]
        store.close()


def test_an_answer_that_drips_ends_with_the_timeout_of_the_call() -> None:
    """Each byte comes in time, and all of them would take four minutes."""
    told: list[str] = []
    with redis_server() as server, faulty_proxy(f"http://127.0.0.1:{server.port}") as proxy:
        settings = RedisSettings(url=f"redis://127.0.0.1:{proxy.port}/0", timeout_s=5)
        store = FailoverStates(settings, StateSettings(), lambda down, why: told.append(why))
        store.append([(1, b"".join(entry(item, item, b"%08d" % item) for item in range(100)))], "v")
        assert not store.down
        proxy.drip_s = 0.1
        assert items(store, 1) == list(range(100)) and store.down and "Timeout" in told[0]
        store.close()


def test_requests_never_wait_for_a_redis_that_hangs_and_waiting_events_are_sent_when_it_resumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    senders: set[str] = set()
    send = RedisLink.send

    def watched(link: RedisLink, commands: Sequence[Any]) -> list[Any]:
        senders.add(threading.current_thread().name)
        return send(link, commands)

    monkeypatch.setattr(RedisLink, "send", watched)
    with redis_server() as server:
        store = FailoverStates(RedisSettings(url=server.url, timeout_s=0.3, retry_s=0.05), StateSettings())
        while items(store, 1) != [1] or store.down:  # a busy machine may be slow to begin with
            store.append([one(1, 1)], "v")
            time.sleep(0.01)
        server.signal(signal.SIGSTOP)
        store.append([one(1, 2)], "v")
        assert store.down
        senders.clear()
        while not senders:
            assert store.append([one(1, 2)], "v")[0].outcomes == [Outcome.DUPLICATE] and items(store, 1) == [1, 2]
        assert senders == {"redis-probe"}
        server.signal(signal.SIGCONT)
        while store.down or store.unsent:
            store.recover()
            time.sleep(0.01)
        fresh = RedisStates(RedisSettings(url=server.url, timeout_s=30), StateSettings())
        assert items(fresh, 1) == [1, 2]
        fresh.close()
        store.close()


def test_a_name_that_does_not_resolve_delays_no_call_beyond_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = threading.Event()

    def hang(*arguments: Any, **kwargs: Any) -> Any:
        resolved.wait()
        raise OSError("no such name")

    monkeypatch.setattr("redis.connection.socket.getaddrinfo", hang)
    store = FailoverStates(RedisSettings(url="redis://nowhere:6379/0", timeout_s=0.1), StateSettings())
    assert store.append([one(1, 1)], "v")[0].outcomes == [Outcome.APPLIED] and store.down
    resolved.set()
    store.close()
    assert store.lost == 1


def test_an_idle_connection_that_redis_has_closed_is_not_an_outage() -> None:
    told: list[bool] = []
    with redis_server() as server:
        settings = RedisSettings(url=server.url, timeout_s=30)
        store = FailoverStates(settings, StateSettings(), lambda down, why: told.append(down))
        store.append([one(1, 1)], "v")
        other = RedisStates(settings, StateSettings())
        other.link.send([("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")])
        assert store.append([one(1, 2)], "v")[0].outcomes == [Outcome.APPLIED] and items(other, 1) == [1, 2] and told == []
        other.close()
        store.close()
