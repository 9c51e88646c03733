"""Clients are told apart by what they cannot choose, and their requests and guesses of keys are limited."""

from __future__ import annotations

from typing import Any

import pytest

from configs.serving import ServingSettings
from serving.access import Clients, clients
from serving.access.clients import WRONG_KEYS_AT_ONCE

KEYS = ["first-key-of-16-chars", "other-key-of-16-chars"]


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(clients, "time", clock)
    return clock


def known(**limits: Any) -> Clients:
    return Clients(ServingSettings.model_validate({"limits": limits}))


def status(of: Clients, address: str, key: str = "") -> int:
    """Return the status of a request."""
    scope = {"type": "http", "client": (address, 5000), "state": {}}
    found = of.refusal(scope, key.encode(), "read")
    return 200 if found is None else found.status


def test_key_guesses_from_one_address_are_limited_by_default(clock: Clock) -> None:
    of = known(api_keys=KEYS)
    assert status(of, "10.0.0.9", KEYS[1]) == 200 and status(of, "10.0.0.9", KEYS[0][:-1]) == 401
    guesses = [status(of, "10.0.0.1", f"guess {n}") for n in range(200)]
    assert guesses == [401] * WRONG_KEYS_AT_ONCE + [429] * (200 - WRONG_KEYS_AT_ONCE)
    assert status(of, "10.0.0.2") == 401
    clock.now += 3
    assert [status(of, "10.0.0.1") for _ in range(5)] == [401] * 3 + [429] * 2
    assert status(of, "10.0.0.1", KEYS[0]) == 200  # guesses do not count against those who have a key


def test_a_client_is_identified_by_its_key_or_if_there_are_no_keys_by_its_address(clock: Clock) -> None:
    by_key = known(api_keys=KEYS, rate_per_s=1, burst=2)
    for key in KEYS:
        assert [status(by_key, f"10.0.0.{n}", key) for n in range(3)] == [200, 200, 429]
    by_address = known(rate_per_s=1, burst=2)
    for address in ("10.0.0.1", "10.0.0.2"):
        assert [status(by_address, address, f"{n}") for n in range(3)] == [200, 200, 429]


def test_an_address_has_a_limit_of_its_own_whatever_its_keys(clock: Clock) -> None:
    of = known(api_keys=KEYS, address_rate_per_s=1, burst=2)
    assert [status(of, "10.0.0.1", key) for key in (*KEYS, *KEYS)] == [200, 200, 429, 429]
    assert status(of, "10.0.0.2", KEYS[0]) == 200


def test_a_network_of_ipv6_addresses_is_one_client(clock: Clock) -> None:
    of = known(rate_per_s=1, burst=2)
    assert [status(of, f"2001:db8:0:1::{n:x}") for n in range(1, 5)] == [200, 200, 429, 429]
    assert status(of, "2001:db8:0:2::1") == 200


def test_only_the_beginning_of_a_long_address_is_kept(clock: Clock) -> None:
    of = known(rate_per_s=1)
    for n in range(3):
        status(of, f"{n}" + "x" * 10_000)
        status(of, f"{n}:" + "x" * 10_000)
    assert of._requests is not None and max(map(len, of._requests._buckets)) == clients.ADDRESS_LENGTH
