"""Behind compose's proxy, updates of the replicas lose no request, and neither a killed replica nor a new proxy loses an event."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path

import pytest

from tests.full.serving.fleet import CLIENTS, Load, fleet
from tests.volume import volume

pytestmark = pytest.mark.full
REQUESTS = volume(300, 100_000)


def test_updates_lose_no_request_and_a_killed_replica_and_a_new_proxy_lose_no_event(tmp_path: Path) -> None:
    with fleet(tmp_path) as found:
        load = Load(found.ports["proxy"])
        with load.running():
            replicas = itertools.cycle(("api-1", "api-2"))
            load.wait_for(REQUESTS // 3)
            rolled = 0
            while rolled < volume(1, 4) or load.sent.total() < REQUESTS:
                found.roll(next(replicas))
                rolled += 1
            load.wait_for(REQUESTS)
            assert load.failed == [] and not load.repeated, f"{rolled} updates"
            for victim in ("api-2", "api-1")[: volume(1, 2)]:
                # An event may have arrived, so the proxy leaves it to the client. It repeats the other requests itself, except for an
                # answer that the kill cut in the middle. Each client waits for one.
                before = load.repeated["recommendation"] + load.repeated["items"]
                with load.repeating("event", "recommendation", "items"):
                    found.end(victim, signal.SIGKILL)
                    load.wait_for(load.sent.total() + REQUESTS // 3)
                    found.start(victim)
                assert load.repeated["recommendation"] + load.repeated["items"] - before <= CLIENTS
            with load.repeating("event", "recommendation", "items"):  # there is no proxy for a moment
                found.end("proxy", signal.SIGQUIT)
                found.start("proxy")
                load.wait_for(load.sent.total() + REQUESTS // 3)
            assert load.failed == []
            found.processes["proxy"].send_signal(signal.SIGHUP)  # new settings
            with load.repeating("event", "recommendation", "items"):
                load.wait_for(load.sent.total() + REQUESTS // 3)
        assert load.failed == [] and min(load.sent.values()) > REQUESTS // 5
        assert sum(len(events) for events in load.events.values()) == load.sent["event"]
        assert load.lost_and_doubled() == (0, 0)
