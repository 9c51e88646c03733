"""Addresses that a machine elsewhere can or cannot use."""

from __future__ import annotations

import pytest

from prefect_runpod.texts.addresses import is_loopback, why_unreachable

ITSELF = ["http://127.0.0.1:4200/api", "https://127.9.9.9", "https://[::1]/api", "https://localhost", "https://a.localhost./api"]
ITSELF += ["https://0.0.0.0:4200", "https://[::]/api", "https://[::ffff:127.0.0.1]/api", "HTTPS://LOCALHOST/api"]
PRIVATE = [
    "https://10.1.2.3",
    "https://192.168.0.9/api",
    "https://172.16.0.1",
    "https://169.254.169.254",
    "https://100.64.0.7/api",
]
PRIVATE += ["https://[fd00::1]/api", "https://[fe80::1%25eth0]/api", "https://[::ffff:10.0.0.1]/api", "https://240.0.0.1"]
PRIVATE += ["http://prefect:4200/api", "https://prefect/api", "https://prefect.local/api", "https://prefect.svc.cluster.local"]
PRIVATE += ["https://prefect.internal./api", "https://prefect.home.arpa", "http://prefect.corp:80"]
NONE = ["", "prefect.example.org/api", "ftp://prefect.example.org", "https:///api", "https://[::1", "https://127.1/api"]
NONE += ["https://2130706433/api", "https://0x7f.1/api"]
PUBLIC = ["https://prefect.example.org/api", "https://u:p@prefect.example.org:4200/api", "https://8.8.8.8/api"]
PUBLIC += ["https://[2606:4700::1111]/api", "https://internal.example.org", "https://127.0.0.1.example.org/api"]


@pytest.mark.parametrize("url", [*ITSELF, *PRIVATE, *NONE])
def test_an_address_that_others_cannot_reach_gets_a_reason(url: str) -> None:
    assert why_unreachable(url)


@pytest.mark.parametrize("url", PUBLIC)
def test_a_public_address_needs_encryption_and_nothing_else(url: str) -> None:
    assert why_unreachable(url) is None
    assert "unencrypted" in str(why_unreachable(url.replace("https://", "http://")))
    assert "unencrypted" in str(why_unreachable(url.replace("https://", "http://"), allow_private=True))


@pytest.mark.parametrize("url", PRIVATE)
def test_private_addresses_pass_if_they_are_allowed(url: str) -> None:
    assert why_unreachable(url, allow_private=True) is None


@pytest.mark.parametrize("url", [*ITSELF, *NONE])
def test_the_machine_itself_can_never_be_reached_from_elsewhere(url: str) -> None:
    assert why_unreachable(url, allow_private=True)


def test_a_name_that_begins_like_the_loopback_address_is_not_loopback() -> None:
    assert is_loopback("http://127.0.0.1:9") and is_loopback("http://[::1]:9") and is_loopback("http://localhost:9/v2")
    assert not any(
        map(is_loopback, ["http://127.0.0.1.example.org", "http://127.example.org", "http://10.0.0.1", "", "http://[::1"])
    )
