"""Clients are told apart by what they cannot choose, and key guesses are limited."""

from __future__ import annotations

from typing import Any

import pytest

from configs.serving import LimitSettings
from serving.api import clients
from serving.api.clients import WRONG_KEYS_AT_ONCE, Clients

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


def at(address: str) -> dict[str, Any]:
    return {"type": "http", "client": (address, 5000)}


def test_key_guesses_from_one_address_are_limited_by_default(clock: Clock) -> None:
    known = Clients(LimitSettings(api_keys=tuple(KEYS)))  # type: ignore[arg-type]
    assert not known.knows(b"") and not known.knows(KEYS[0][:-1].encode()) and known.knows(KEYS[1].encode())
    waits = [known.wait_after_wrong_key(at("10.0.0.1")) for _ in range(200)]
    assert waits.count(0.0) == WRONG_KEYS_AT_ONCE and waits[:WRONG_KEYS_AT_ONCE] == [0.0] * WRONG_KEYS_AT_ONCE
    assert known.wait_after_wrong_key(at("10.0.0.2")) == 0
    clock.now += 3
    assert [known.wait_after_wrong_key(at("10.0.0.1")) == 0 for _ in range(5)] == [True] * 3 + [False] * 2


def test_a_client_is_identified_by_its_key_or_if_there_are_no_keys_by_its_address(clock: Clock) -> None:
    by_key = Clients(LimitSettings(api_keys=tuple(KEYS), rate_per_s=1, burst=2))  # type: ignore[arg-type]
    for key in KEYS:
        assert [by_key.wait(at(f"10.0.0.{n}"), key.encode()) == 0 for n in range(3)] == [True, True, False]
    by_address = Clients(LimitSettings(rate_per_s=1, burst=2))
    for address in ("10.0.0.1", "10.0.0.2"):
        assert [by_address.wait(at(address), b"%d" % n) == 0 for n in range(3)] == [True, True, False]


def test_a_network_of_ipv6_addresses_is_one_client(clock: Clock) -> None:
    known = Clients(LimitSettings(rate_per_s=1, burst=2))
    assert [known.wait(at(f"2001:db8:0:1::{n:x}"), b"") == 0 for n in range(1, 5)] == [True, True, False, False]
    assert known.wait(at("2001:db8:0:2::1"), b"") == 0


def test_only_the_beginning_of_a_long_address_is_kept(clock: Clock) -> None:
    known = Clients(LimitSettings(rate_per_s=1))
    for n in range(3):
        known.wait(at(f"{n}" + "x" * 10_000), b"")
        known.wait(at(f"{n}:" + "x" * 10_000), b"")
    assert known._requests is not None and max(map(len, known._requests._buckets)) == clients.ADDRESS_LENGTH
