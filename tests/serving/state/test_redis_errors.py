"""Every error that redis-py and the network raise, at every kind of call: the worker answers, says what is wrong, and recovers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis as redis_client
from redis.connection import AbstractConnection

from configs.serving import RedisSettings, StateSettings
from serving.state import FailoverStates, Outcome, UserLog
from serving.state.redis_faults import FAULTS, harms_one_user
from serving.state.redis_store import APPEND, SHA, WRITE, RedisStates
from serving.state.user_log import HEAD
from tests.doubles.fault_injector import OS_ERRORS, FaultInjector, exceptions_of
from tests.doubles.redis_server import RedisServer, redis_server
from tests.serving.state.events import Clock, one
from tests.volume import NIGHTLY

MOVED = {name: lambda kind: kind("1234 127.0.0.1:7001") for name in ("AskError", "MovedError")}
WRONG_TYPE = redis_client.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
SCRIPT_FAILED = redis_client.ResponseError("user_script:3: bad data in arguments script: abc, on @user_script:3.")
BUSY = redis_client.ResponseError("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.")
ERRORS = [*exceptions_of(redis_client.exceptions, MOVED), *OS_ERRORS, BUSY, WRONG_TYPE, SCRIPT_FAILED]
ANSWERS = [error for error in ERRORS if isinstance(error, redis_client.ResponseError)]
OTHERS = [error for error in ERRORS if error not in ANSWERS]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


class Kinds:
    """Recognises the kind of a call by the commands that a connection sends."""

    def __init__(self) -> None:
        self._sent: dict[int, str] = {}

    def of_commands(self, connection: AbstractConnection, packed: Any, **kwargs: Any) -> str:
        sent = b"".join(piece if isinstance(piece, bytes) else bytes(piece) for piece in packed)
        by_text = {b"MGET": "read", b"\r\nNX\r\n$4": "probe", b"\r\nNX\r\n": "merge", SHA[WRITE].encode(): "write"}
        by_text[SHA[APPEND].encode()] = "append"
        self._sent[id(connection)] = next((kind for text, kind in by_text.items() if text in sent), "probe")
        return self._sent[id(connection)]

    def of_reply(self, connection: AbstractConnection, **kwargs: Any) -> str | None:
        return self._sent.get(id(connection))


def injector_at(place: str, patch: pytest.MonkeyPatch) -> FaultInjector:
    injector, kinds = FaultInjector(patch), Kinds()
    injector.wrap(AbstractConnection, "send_packed_command", kinds.of_commands if place == "command" else _none(kinds))
    if place == "reply":
        injector.wrap(AbstractConnection, "read_response", kinds.of_reply, after=True)
    return injector


def _none(kinds: Kinds) -> Any:
    def note(*args: Any, **kwargs: Any) -> None:
        kinds.of_commands(*args, **kwargs)

    return note


@pytest.mark.parametrize(
    ("place", "errors"), [("reply", ERRORS if NIGHTLY else ANSWERS), ("command", ERRORS if NIGHTLY else OTHERS)]
)
@pytest.mark.parametrize("kind", ["read", "append", "write", "merge", "probe"])
def test_whatever_redis_py_raises_the_worker_answers_and_recovers(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, kind: str, place: str, errors: list[Exception]
) -> None:
    injector = injector_at(place, monkeypatch)
    settings = RedisSettings(url=server.url, timeout_s=30, prefix=f"{kind}-{place}")
    for number, error in enumerate(errors):
        told: list[bool] = []
        faults: list[str] = []
        clock = Clock()
        store = FailoverStates(
            settings,
            StateSettings(),
            on_outage=lambda down, why, told=told: told.append(down),  # type: ignore[misc]
            on_fault=lambda key, why, faults=faults: faults.append(key),  # type: ignore[misc]
            clock=clock,
            start=lambda probe: probe(),
        )
        user, other = 10 * number, 10 * number + 1
        assert store.append([one(user, 1), one(other, 1)], "v")[0].outcomes == [Outcome.APPLIED]
        before = injector.raised[kind]
        if kind in ("merge", "probe"):  # they only happen after an outage
            with injector.raising(BrokenPipeError(), "append"):
                store.append([one(user, 2)], "v")
        with injector.raising(error, kind):
            for item in (3, 4):
                clock.now += 1.5
                added = store.append([one(user, item), one(other, item)], "v")
                assert [each.outcomes for each in added] == [[Outcome.APPLIED]] * 2, repr(error)
                assert len(UserLog.read(store.read([user], "v")[0].log)) >= item - 1, repr(error)
                store.write([(user, added[0].log[: HEAD.size] + b"state")], "v")
                store.recover()
        if not isinstance(error, redis_client.exceptions.NoScriptError):  # an unknown script is loaded
            assert injector.raised[kind] > before, repr(error)
        if injector.raised[kind] > before:
            assert told[:1] == [True] or faults, repr(error)
        clock.now += 100
        for _ in range(10):
            store.recover()
        assert not store.down and not store.unsent and store.lost == 0 and told[-1:] in ([], [False]), repr(error)
        expected = [1, 2, 3, 4] if kind in ("merge", "probe") else [1, 3, 4]
        fresh = RedisStates(settings, StateSettings())
        assert UserLog.read(fresh.read([user], "v")[0].log).items.tolist() == expected, repr(error)
        assert UserLog.read(fresh.read([other], "v")[0].log).items.tolist() == [1, 3, 4], repr(error)
        fresh.close()
        store.close()


def test_each_class_of_redis_py_is_known_to_be_an_outage_or_one_users_fault() -> None:
    errors = exceptions_of(redis_client.exceptions, MOVED)
    assert all(isinstance(error, FAULTS) for error in [*errors, *OS_ERRORS])
    answers = {type(error).__name__ for error in errors if isinstance(error, redis_client.ResponseError)}
    # A class that is missing here is new in redis-py: decide what it means in `redis_faults`.
    assert answers == {
        "AskError",
        "AuthenticationWrongNumberOfArgsError",
        "ClusterCrossSlotError",
        "ClusterDownError",
        "ExecAbortError",
        "MasterDownError",
        "ModuleError",
        "MovedError",
        "NoPermissionError",
        "NoScriptError",
        "NoSuchFieldsetError",
        "OutOfMemoryError",
        "ReadOnlyError",
        "ResponseError",
        "TryAgainError",
    }
    assert not any(harms_one_user(error) for error in errors if isinstance(error, redis_client.ResponseError))


@pytest.mark.parametrize(
    ("text", "one_users"),
    [
        ("WRONGTYPE Operation against a key holding the wrong kind of value", True),
        ("WRONGTYPE Operation against a key holding the wrong kind of value script: a, on @user_script:3.", True),
        ("user_script:3: attempt to index a nil value script: a, on @user_script:3.", True),
        ("Error running script (call to f_a): @user_script:3: WRONGTYPE Operation against a key", True),
        ("Error running script (call to f_a): @user_script:3: OOM command not allowed when used memory > 'maxmemory'.", False),
        ("MISCONF Redis is configured to save RDB snapshots script: a, on @user_script:3.", False),
        ("ACL failure in script: User default has no permissions script: a, on @user_script:3.", False),
        ("BUSY Redis is busy running a script.", False),
        ("NOREPLICAS Not enough good replicas to write.", False),
        ("unknown command 'EVALSHA', with args beginning with: ", False),
        ("a text of a Redis that is yet to come", False),
    ],
)
def test_an_error_that_redis_answers_is_an_outage_or_one_users_fault(text: str, one_users: bool) -> None:
    assert harms_one_user(redis_client.ResponseError(text)) == one_users
