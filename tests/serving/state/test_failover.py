"""What happens to users' events when Redis is killed, comes back empty, or silently loses data."""

from __future__ import annotations

import numpy as np
import pytest
import redis as redis_client

from configs.errors import OverloadedError
from configs.serving import RedisSettings, StateSettings
from serving.state import FailoverStates, LocalStates, Outcome, UserLog, entry
from serving.state.redis_store import RedisStates
from serving.state.user_log import HEAD
from tests.doubles.redis_server import RedisServer, redis_server
from tests.serving.state.events import Clock, one


def states(server: RedisServer, told: list[bool], clock: Clock) -> FailoverStates:
    settings = RedisSettings(url=server.url, timeout_s=30)
    return FailoverStates(
        settings, StateSettings(), on_outage=lambda down, why: told.append(down), clock=clock, start=lambda probe: probe()
    )


def items(store: FailoverStates | RedisStates | LocalStates, user: int) -> list[int]:
    return UserLog.read(store.read([user], "v")[0].log).items.tolist()


def test_an_outage_and_an_empty_redis_lose_no_event_and_count_none_twice() -> None:
    told: list[bool] = []
    clock = Clock()
    with redis_server() as server:
        store = states(server, told, clock)
        for item in range(5):
            store.append([one(1, item), one(2, item)], "v")
        server.kill()
        done = store.append([one(1, 5), one(3, 1)], "v")
        assert [added.outcomes for added in done] == [[Outcome.APPLIED]] * 2 and store.down and told == [True]
        assert items(store, 1) == list(range(6)) and store.unsent == 2
        server.start()  # empty
        assert store.append([one(1, 6)], "v")[0].outcomes == [Outcome.APPLIED] and store.down  # not asked yet
        clock.now += 5
        assert items(store, 1) == list(range(7)) and not store.down and told == [True, False]
        assert store.append([one(1, 3)], "v")[0].outcomes == [Outcome.DUPLICATE]
        store.recover()
        assert store.unsent == 0 and store.lost == 0
        fresh = RedisStates(RedisSettings(url=server.url, timeout_s=30), StateSettings())  # another worker
        assert (items(fresh, 1), items(fresh, 2), items(fresh, 3)) == (list(range(7)), list(range(5)), [1])
        fresh.close()
        store.close()


def test_data_lost_without_an_outage_is_noticed_by_the_count_and_restored() -> None:
    told: list[bool] = []
    with redis_server() as server:
        store = states(server, told, Clock())
        for item in range(4):
            store.append([one(user, item) for user in range(40)], "v")
        client = redis_client.Redis(port=server.port)
        client.flushall()
        added = store.append([one(7, 4)], "v")[0]
        assert added.outcomes == [Outcome.APPLIED] and sorted(UserLog.read(added.log).items.tolist()) == [0, 1, 2, 3, 4]
        assert items(store, 8) == [0, 1, 2, 3] and told == []
        while store.unsent:
            store.recover()
        fresh = RedisStates(RedisSettings(url=server.url, timeout_s=30), StateSettings())
        assert all(items(fresh, user)[:4] == [0, 1, 2, 3] for user in range(40))
        fresh.close()
        client.close()
        store.close()


def test_two_workers_that_took_events_separately_agree_after_the_outage() -> None:
    clock = Clock()
    with redis_server() as server:
        first, second = states(server, [], clock), states(server, [], clock)
        first.append([one(1, 0)], "v")
        assert items(second, 1) == [0]
        server.kill()
        first.append([one(1, 2)], "v")
        second.append([one(1, 1)], "v")
        server.start()
        clock.now += 5
        first.recover()
        second.recover()
        while first.unsent or second.unsent:
            first.recover()
            second.recover()
        assert items(first, 1) == items(second, 1) == [0, 1, 2]
        first.close()
        second.close()


def test_a_state_computed_from_one_workers_log_is_not_stored_for_the_shared_log() -> None:
    clock = Clock()
    with redis_server() as server:
        late = Clock()
        first, second = states(server, [], clock), states(server, [], late)
        first.append([one(1, 10)], "v")
        assert items(second, 1) == [10]
        server.kill()
        second.append([one(2, 1)], "v")  # this worker notices the outage
        server.start()
        clock.now += 5
        first.append([one(1, 11)], "v")  # the first worker is back already
        apart = second.append([one(1, 12)], "v")[0].log  # and the second one not yet
        assert UserLog.read(apart).items.tolist() == [10, 12]
        late.now += 5
        second.write([(1, apart[: HEAD.size] + b"of 10 and 12")], "v")  # the call that finds Redis again
        shared = RedisStates(RedisSettings(url=server.url, timeout_s=30), StateSettings())
        assert items(shared, 1) == [10, 11, 12] and shared.read([1], "v")[0].state is None
        for store in (first, second, shared):
            store.close()


def test_a_user_whom_redis_has_dropped_is_dropped_from_memory_too_and_no_other_user_is_suspected() -> None:
    with redis_server() as server:
        store = states(server, [], Clock())
        for item in range(3):
            store.append([one(user, item) for user in range(40)], "v")
        client = redis_client.Redis(port=server.port)
        client.delete(*client.keys("*{1}*"), *client.keys("*{2}*"))  # expired, evicted, or erased on request
        assert items(store, 1) == [] and store.unsent == 0
        assert store.append([one(2, 9)], "v")[0].outcomes == [Outcome.APPLIED] and items(store, 2) == [9]
        assert items(store, 3) == [0, 1, 2] and store.local.log_of(1) is None and store.unsent == store.lost == 0
        client.close()
        store.close()


def test_only_an_event_extends_the_time_for_which_a_users_events_are_kept() -> None:
    with redis_server() as server:
        store = RedisStates(RedisSettings(url=server.url, timeout_s=30), StateSettings())
        store.append([one(1, 1)], "v")
        client = redis_client.Redis(port=server.port)
        (key,) = client.keys("*{1}:events")
        client.expire(key, 50)
        assert store.append([one(1, 1)], "v")[0].outcomes == [Outcome.DUPLICATE] and client.ttl(key) <= 50
        log = store.read([1], "v")[0].log
        assert log is not None
        store.merge([(1, log, 1000), (2, log, 60)])
        assert client.ttl(key) <= 50 and client.ttl(key.replace(b"{1}", b"{2}")) <= 60
        store.append([one(1, 2)], "v")
        assert client.ttl(key) > 1000
        client.close()
        store.close()


def test_a_worker_that_ends_sends_waiting_events_although_redis_was_down_a_moment_ago() -> None:
    with redis_server() as server:
        store = states(server, [], Clock())
        server.kill()
        store.append([one(user, 1) for user in range(200)], "v")
        server.start()
        store.close()
        shared = RedisStates(RedisSettings(url=server.url, timeout_s=30), StateSettings())
        assert all(items(shared, user) == [1] for user in range(200)) and store.lost == 0
        shared.close()


def test_a_worker_that_ends_while_redis_is_down_says_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    with redis_server() as server:
        store = states(server, [], Clock())
        server.kill()
        store.append([one(user, 1) for user in range(3)], "v")
        store.close()
    assert store.lost == 3 and "waiting for Redis could not be sent" in caplog.text


def test_an_outage_in_which_nothing_was_lost_counts_nothing_as_lost() -> None:
    clock = Clock()
    with redis_server() as server:
        settings = RedisSettings(url=server.url, timeout_s=30)
        store = FailoverStates(settings, StateSettings(unsent_users=3), clock=clock, start=lambda probe: probe())
        store.append([one(user, 1) for user in range(20)], "v")
        server.kill()
        store.append([one(1, 2)], "v")
        server.start()
        clock.now += 5
        while store.down or store.unsent:
            store.recover()
        assert store.lost == 0 and items(store, 19) == [1] and items(store, 1) == [1, 2]
        store.close()


def test_memory_is_bounded_and_forgets_the_least_recently_used_users() -> None:
    store = LocalStates(StateSettings(local_mb=1))
    for user in range(2000):
        log = store.append([one(user, 1)], "v")[0].log
        store.write([(user, HEAD.pack(*HEAD.unpack_from(log)) + bytes(2000))], "v")
    assert store.bytes <= 1 << 20 and 300 < len(store) < 600 and store.forgotten == 2000 - len(store)
    assert store.read([1999], "v")[0].state is not None and store.read([0], "v")[0].log is None


def test_events_are_forgotten_when_they_expire() -> None:
    clock = Clock()
    store = LocalStates(StateSettings(events_ttl_s=10), clock)
    store.append([one(1, 1)], "v")
    clock.now += 9
    assert store.read([1], "v")[0].log is not None  # reading does not prolong the time
    clock.now += 2
    assert store.read([1], "v")[0].log is None and store.bytes == 0


def test_events_of_more_users_than_may_wait_are_refused_and_none_that_was_accepted_is_lost() -> None:
    clock = Clock()
    with redis_server() as server:
        settings = RedisSettings(url=server.url, timeout_s=30)
        store = FailoverStates(settings, StateSettings(unsent_users=3), clock=clock, start=lambda probe: probe())
        server.kill()
        store.append([one(user, 1) for user in range(2)], "v")
        with pytest.raises(OverloadedError, match=r"state\.unsent_users"):
            store.append([one(user, 1) for user in range(2, 5)], "v")
        store.append([one(2, 1)], "v")
        assert store.append([one(2, 2)], "v")[0].outcomes == [Outcome.APPLIED]  # this user is waiting already
        assert store.unsent == 3 and store.lost == 0 and items(store, 3) == []
        server.start()
        clock.now += 5
        while store.down or store.unsent:
            store.recover()
        fresh = RedisStates(settings, StateSettings())
        assert [items(fresh, user) for user in range(4)] == [[1], [1], [1, 2], []] and store.lost == 0
        fresh.close()
        store.close()


def test_memory_forgets_copies_of_data_in_redis_before_data_that_redis_does_not_have() -> None:
    clock = Clock()
    with redis_server() as server:
        settings = RedisSettings(url=server.url, timeout_s=30)
        store = FailoverStates(settings, StateSettings(local_mb=1, events=1000), clock=clock, start=lambda probe: probe())
        log = b"".join(entry(item, item, b"%08d" % item) for item in range(1000))
        store.append([(user, log) for user in range(30)], "v")
        server.kill()
        for start in (100, 150):
            for user in range(start, start + 50):
                added = store.append([(user, log[: 200 * 24])], "v")[0]
                store.write([(user, added.log[: HEAD.size] + bytes(3000))], "v")
            store.read(range(30), "v")  # the copies are used later than those who wait
        assert store.local.bytes <= 1 << 20 and store.local.forgotten > 0
        server.start()
        clock.now += 5
        while store.down or store.unsent:
            store.recover()
        fresh = RedisStates(settings, StateSettings())
        assert [len(items(fresh, user)) for user in range(100, 200)] == [200] * 100 and store.lost == 0
        fresh.close()
        store.close()


def test_events_that_do_not_fit_beside_those_that_wait_are_refused() -> None:
    clock = Clock()
    with redis_server() as server:
        settings = RedisSettings(url=server.url, timeout_s=30)
        store = FailoverStates(settings, StateSettings(local_mb=1), clock=clock, start=lambda probe: probe())
        server.kill()
        log = b"".join(entry(item, item, b"%08d" % item) for item in range(900))
        accepted = []
        for user in range(100):
            try:
                store.append([(user, log)], "v")
            except OverloadedError:
                continue
            accepted.append(user)
        assert 40 < len(accepted) < 60 and store.local.bytes <= 1 << 20
        server.start()
        clock.now += 5
        while store.down or store.unsent:
            store.recover()
        fresh = RedisStates(settings, StateSettings())
        kept = [user for user in range(100) if len(items(fresh, user)) == 900]
        assert kept == accepted and store.lost == 0
        fresh.close()
        store.close()


def test_a_log_that_memory_restores_is_kept_no_longer_than_it_would_have_been() -> None:
    clock = Clock()
    with redis_server() as server:
        writer, reader = states(server, [], clock), states(server, [], clock)
        writer.append([one(1, 1)], "v")
        client = redis_client.Redis(port=server.port)
        client.expire("recsys:{1}:events", 50)
        assert items(reader, 1) == [1]
        client.flushall()
        assert items(reader, 1) == [1] and 0 < client.ttl("recsys:{1}:events") <= 50
        for store in (writer, reader, client):
            store.close()


def test_states_of_two_versions_are_kept_for_a_rollback_and_no_more() -> None:
    store = LocalStates(StateSettings())
    log = store.append([one(1, 1)], "a")[0].log
    for version in ("a", "b", "c"):
        store.write([(1, HEAD.pack(*HEAD.unpack_from(log)) + np.float32(1).tobytes())], version)
    assert [store.read([1], version)[0].state is not None for version in ("a", "b", "c")] == [False, True, True]


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="redis://"):
        RedisSettings(url="http://localhost")


def test_an_erased_user_is_deleted_in_redis_and_does_not_return_from_the_memory_of_a_worker() -> None:
    told: list[bool] = []
    clock = Clock()
    with redis_server() as server:
        store = states(server, told, clock)
        store.append([one(1, 3), one(2, 3)], "v")
        store.write([(1, UserLog.read(store.local.log_of(1)).epoch + bytes(40))], "v")
        client = redis_client.Redis(port=server.port)
        assert len(list(client.scan_iter("*{1}*"))) == 2
        assert store.erase([1], ["v"]) and not list(client.scan_iter("*{1}*")) and len(list(client.scan_iter("*{2}*"))) == 1
        server.kill()
        store.append([one(1, 4)], "v")  # by a worker that did not know yet
        assert store.down and not store.erase([1], ["v"]) and store.local.log_of(1) is None  # it is tried again
        server.start()
        clock.now += 5
        store.recover()
        assert items(store, 2) == [3] and store.erase([1], ["v"]) and not list(client.scan_iter("*{1}*"))
        client.close()
        store.close()
