"""The log of a user's events, in memory and by the script in Redis, and which states belong to it."""

from __future__ import annotations

from collections.abc import Iterator
from time import process_time

import numpy as np
import pytest
import redis as redis_client
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.serving import RedisSettings, StateSettings
from serving.state import LocalStates, Outcome, UserLog, entry, key_of
from serving.state.redis_store import APPEND, RedisStates
from serving.state.user_log import ENTRY, HEAD, append
from tests.doubles.redis_server import RedisServer, redis_server

EPOCH = b"epoch..1"
Calls = list[list[tuple[int, int, int]]]
EVENT = st.tuples(st.integers(0, 5), st.integers(0, 12), st.integers(0, 30))
CALLS = st.lists(st.lists(EVENT, max_size=4) | st.lists(EVENT, min_size=9, max_size=20), max_size=8)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


def packed(events: list[tuple[int, int, int]]) -> bytes:
    return b"".join(entry(item, time, b"%08d" % key) for item, time, key in events)


def one_by_one(content: bytes | None, entries: bytes, limit: int, epoch: bytes) -> tuple[bytes, list[Outcome]]:
    """What `append` must do: put one event after the other in its place, and cut the log."""
    own, count = HEAD.unpack_from(content) if content else (epoch, 0)
    events = [content[at : at + 24] for at in range(16, len(content), 24)] if content else []
    outcomes = []
    for added in (entries[at : at + 24] for at in range(0, len(entries), 24)):
        time = ENTRY.unpack(added)[0]
        place = sum(ENTRY.unpack(event)[0] <= time for event in events)
        if any(event[16:] == added[16:] for event in events):
            outcomes.append(Outcome.DUPLICATE)
        elif place == 0 and len(events) >= limit:
            outcomes.append(Outcome.TOO_OLD)
        else:
            own = epoch if place < len(events) else own
            outcomes.append(Outcome.LATE if place < len(events) else Outcome.APPLIED)
            count += 1
            events = [*events[:place], added, *events[place:]][-limit:]
    return HEAD.pack(own, count) + b"".join(events), outcomes


@given(CALLS, st.lists(st.integers(1, 40), min_size=8, max_size=8))
def test_many_events_at_once_give_the_same_log_as_one_by_one(calls: Calls, limits: list[int]) -> None:
    """The events come in any order, repeated or late, and the limit may have changed."""
    log: bytes | None = None
    for number, (call, limit) in enumerate(zip(calls, limits, strict=False)):
        epoch = b"%08d" % number
        expected = one_by_one(log, packed(call), limit, epoch)
        assert append(log, packed(call), limit, epoch) == expected
        log = expected[0]


@given(CALLS)
def test_events_are_kept_once_in_time_order_and_those_of_one_time_in_order_of_arrival(calls: Calls) -> None:
    log: bytes | None = None
    accepted: list[tuple[int, int]] = []  # time, arrival
    items, keys = [], set()
    for call in calls:
        log, outcomes = append(log, packed(call), 1000, EPOCH)
        for (item, time, key), outcome in zip(call, outcomes, strict=True):
            assert (outcome == Outcome.DUPLICATE) == (key in keys)
            if key not in keys:
                assert (outcome == Outcome.LATE) == any(time < before for before, _ in accepted)
                accepted.append((time, len(accepted)))
                items.append(item)
                keys.add(key)
    found = UserLog.read(log)
    order = sorted(accepted)
    assert found.times.tolist() == [time for time, _ in order] and found.items.tolist() == [items[place] for _, place in order]
    assert found.count == len(accepted) == len(found)


@given(CALLS, st.lists(st.integers(1, 40), min_size=8, max_size=8))
@settings(max_examples=60)
def test_redis_keeps_the_same_log_byte_for_byte(server: RedisServer, calls: Calls, limits: list[int]) -> None:
    client = redis_client.Redis(port=server.port)
    client.flushall()
    script = client.register_script(APPEND)
    log: bytes | None = None
    for number, (call, limit) in enumerate(zip(calls, limits, strict=False)):
        epoch = b"%08d" % number
        log, outcomes = append(log, packed(call), limit, epoch)
        found = script(keys=["log", "state", "aside"], args=[limit, 100, epoch, packed(call)])
        assert found == [log, None, bytes(outcomes), 100, 0]
    client.close()


def full_log(limit: int) -> bytes:
    return append(None, b"".join(entry(n, 10_000 + n, n.to_bytes(8, "big")) for n in range(limit)), limit, EPOCH)[0]


def spread(count: int, limit: int) -> list[bytes]:
    """Entries in no order, half of them late."""
    times = np.random.default_rng(1).integers(10_000, 10_000 + 2 * limit, count).tolist()
    return [entry(n, time, (1 << 40 | n).to_bytes(8, "big")) for n, time in enumerate(times)]


def test_a_thousand_events_at_once_cost_a_fraction_of_a_thousand_calls() -> None:
    """One by one, each event costs a pass over the log. Together, they share one."""
    log, entries = full_log(5000), spread(1000, 5000)
    start = process_time()
    together, _ = append(log, b"".join(entries), 5000, EPOCH)
    cost, start = process_time() - start, process_time()
    for added in entries:
        log, _ = append(log, added, 5000, EPOCH)
    assert together == log and cost < (process_time() - start) / 4


def test_many_events_at_once_cost_redis_a_fraction_of_as_many_calls(server: RedisServer) -> None:
    client = redis_client.Redis(port=server.port)
    script = client.register_script(APPEND)
    entries = spread(200, 5000)

    def cost(calls: list[bytes]) -> float:
        client.set("log", full_log(5000))
        before = processor_s()
        for call in calls:
            script(keys=["log", "state", "aside"], args=[5000, 100, EPOCH, call])
        return processor_s() - before

    def processor_s() -> float:
        """Return the time for which Redis has run. It does not grow while Redis waits for the processor."""
        used = client.info("cpu")
        return float(used["used_cpu_user"] + used["used_cpu_sys"])

    script(keys=["none", "state", "aside"], args=[5, 100, EPOCH, entries[0]])
    assert cost([b"".join(entries)]) < cost(entries) / 4
    client.close()


def test_redis_accepts_more_events_at_once_than_lua_can_return_values(server: RedisServer) -> None:
    store = RedisStates(RedisSettings(url=server.url, prefix="many", timeout_s=30), StateSettings())
    entries = b"".join(entry(n, n, n.to_bytes(8, "big")) for n in range(9000))
    added = store.append([(1, entries)], "v")[0]
    assert added.outcomes == [Outcome.APPLIED] * 9000 and UserLog.read(added.log).items.tolist() == list(range(8000, 9000))
    store.close()


def test_an_event_older_than_all_that_are_kept_changes_nothing() -> None:
    log, _ = append(None, packed([(1, 10, 1), (2, 20, 2), (3, 30, 3)]), 2, EPOCH)
    again, outcomes = append(log, packed([(9, 5, 9)]), 2, b"epoch..2")
    assert again == log and outcomes == [Outcome.TOO_OLD]
    assert UserLog.read(log).count == 3 and UserLog.read(log).items.tolist() == [2, 3]


def test_only_a_late_event_begins_a_new_epoch() -> None:
    log, _ = append(None, packed([(1, 10, 1)]), 5, EPOCH)
    log, _ = append(log, packed([(2, 10, 2), (3, 11, 3), (1, 10, 1)]), 5, b"epoch..2")
    assert HEAD.unpack_from(log) == (EPOCH, 3)
    log, outcomes = append(log, packed([(4, 10, 4)]), 5, b"epoch..3")
    assert outcomes == [Outcome.LATE] and HEAD.unpack_from(log) == (b"epoch..3", 4)
    assert UserLog.read(log).items.tolist() == [1, 2, 4, 3]


def test_bytes_of_an_item_and_a_time_are_not_taken_for_a_key() -> None:
    """The bytes of one event's key may occur in another's item and time."""
    key = b"\0" * 8
    log, _ = append(None, packed([(0, 0, 12345678)]), 5, EPOCH)
    log, outcomes = append(log, entry(7, 1, key), 5, EPOCH)
    assert outcomes == [Outcome.APPLIED] and len(UserLog.read(log)) == 2


def test_without_an_id_an_event_is_known_by_its_item_and_time_or_not_at_all() -> None:
    assert key_of(None, 3, 50) == key_of(None, 3, 50) != key_of(None, 3, 51)
    assert key_of("a", 3, 50) == key_of("a", 4, None) != key_of("b", 3, 50)
    assert key_of(None, 3, None) != key_of(None, 3, None)
    assert len(key_of("\ud800 é", 1, 1)) == 8


@pytest.mark.parametrize("place", ["memory", "redis"])
def test_a_state_is_kept_only_if_it_belongs_to_the_log_and_is_later(server: RedisServer, place: str) -> None:
    stores = {
        "memory": LocalStates(StateSettings()),
        "redis": RedisStates(RedisSettings(url=server.url, prefix="kept", timeout_s=30), StateSettings()),
    }
    store = stores[place]
    appended = store.append([(1, packed([(1, 10, 1), (2, 20, 2), (3, 30, 3)]))], "v")[0]
    epoch = appended.log[:8]

    def kept() -> bytes | None:
        return store.read([1], "v")[0].state

    def state(epoch: bytes, count: int, rest: bytes = b"numbers") -> bytes:
        return HEAD.pack(epoch, count) + rest

    store.write([(1, state(b"anothere", 3))], "v")
    assert kept() is None
    store.write([(1, state(epoch, 2))], "v")
    store.write([(1, state(epoch, 1)), (1, state(epoch, 2, b"differs"))], "v")
    assert kept() == state(epoch, 2)
    store.write([(1, state(epoch, 3))], "v")
    assert kept() == state(epoch, 3) and store.read([1], "other version")[0].state is None
    late = store.append([(1, packed([(4, 15, 4)]))], "v")[0].log
    store.write([(1, state(late[:8], 1))], "v")  # less, but of the new order
    assert kept() == state(late[:8], 1)
    store.write([(2, state(epoch, 1))], "v")  # nobody
    assert store.read([2], "v")[0].state is None
    store.close()
