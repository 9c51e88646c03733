"""What an address says of the machines that can reach it."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

__all__ = ["is_loopback", "why_unreachable"]

LOCAL_DOMAINS = ("corp", "home", "home.arpa", "internal", "intranet", "invalid", "lan", "local", "localdomain", "private", "test")
"""Domains that the public DNS does not have (RFC 2606, 6761, 6762, 8375, and ICANN's list of names in private use)."""
NUMBER = re.compile(r"(0x[0-9a-f]*|\d+)")


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's loopback address."""
    host = _host(url)
    address = _ip(host)
    return host == "localhost" if address is None else address.is_loopback


def why_unreachable(url: str, *, allow_private: bool = False) -> str | None:
    """Return why a machine elsewhere on the internet cannot, or must not, use an address that takes credentials.

    Args:
        url: The address.
        allow_private: Whether the other machine is in the same private network, for example in a VPN. Private addresses and names
            then pass, without encryption too.

    Returns:
        The reason, as the end of a sentence, or None if there is none.
    """
    host, address = _host(url), _ip(_host(url))
    if not host or urlsplit(url).scheme not in ("http", "https"):
        return "it is not an http:// or https:// address"
    if address is not None and (address.is_loopback or address.is_unspecified):
        return f"{host} is the machine itself"
    if host == "localhost" or host.endswith(".localhost"):
        return f"{host} is the machine itself"
    if address is None and NUMBER.fullmatch(host.rpartition(".")[2]):
        return f"{host} is not a complete IP address"
    private = _why_private(host, address)
    if private is not None:
        return None if allow_private else private
    if urlsplit(url).scheme != "https":
        return "http:// sends the password and the data over the internet unencrypted"
    return None


def _why_private(host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None) -> str | None:
    if address is not None:
        return None if address.is_global and not address.is_multicast else f"{host} is an address of a private network"
    if "." not in host:
        return f"{host} is a name of a local network"
    local = next((domain for domain in LOCAL_DOMAINS if host.endswith(f".{domain}")), None)
    return None if local is None else f"names that end in .{local} belong to a local network"


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
