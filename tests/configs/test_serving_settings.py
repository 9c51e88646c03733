"""Limits of the API that would protect nothing are refused in one sentence."""

from __future__ import annotations

import json

import pytest

from configs.errors import SettingsError
from configs.loading import load_settings
from configs.serving import ServingSettings

GOOD = "a-key-of-16-chars"


@pytest.mark.parametrize("key", ["", " ", "brief", f"{GOOD} ", f"{GOOD}\n", "ключ" * 8, " " * 20], ids=repr)
def test_keys_that_are_empty_short_or_blank_are_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError, match=r"limits\.api_keys: key 2 of 2 is empty, shorter than 16 characters") as refused:
        load_settings(ServingSettings, None, [f"limits.api_keys={json.dumps([GOOD, key])}"])
    assert "\n" not in str(refused.value) and GOOD not in str(refused.value) and (len(key) < 5 or key not in str(refused.value))


def test_good_keys_are_accepted() -> None:
    found = load_settings(ServingSettings, None, [f"limits.api_keys=[{GOOD}]"]).limits.api_keys
    assert [key.get_secret_value() for key in found] == [GOOD]


@pytest.mark.parametrize("given", ["proxy", "10.0.0.7/24", "*", ""])
def test_a_trusted_proxy_is_an_address_or_a_network(given: str) -> None:
    with pytest.raises(SettingsError, match=r"limits\.trusted_proxies.*write an address such as"):
        load_settings(ServingSettings, None, [f"limits.trusted_proxies=['{given}']"])


def test_a_worker_can_hold_at_least_one_body() -> None:
    with pytest.raises(SettingsError, match=r"held_mb .* is smaller than one body"):
        load_settings(ServingSettings, None, ["limits.body_bytes=3000000", "limits.held_mb=1"])
