"""Addresses in settings, and whether other machines can reach them.

Settings are parameters of runs, which everyone with access to the Prefect server can read.
"""

from __future__ import annotations

import ipaddress
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

__all__ = ["PublicAddress", "WebAddress", "is_loopback"]


def _without_credentials(address: str) -> str:
    try:
        parts = urlsplit(address)
    except ValueError as error:
        raise ValueError(f"it is not an address ({error})") from None
    if "@" in parts.netloc or parts.query:
        raise ValueError(
            "it contains a user, password or query, and everyone with access to the Prefect server can read the parameters of a run. "
            "Leave these parts out. The password of a download belongs in ~/.netrc (or the file that NETRC names), the keys of a "
            "store in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that of a proxy in HTTPS_PROXY, on the machine of the run"
        )
    return address


PublicAddress = Annotated[str, AfterValidator(_without_credentials)]
"""An address without credentials."""


def _of_the_web(address: str) -> str:
    if not address.startswith(("http://", "https://")):
        raise ValueError("write an address that a browser opens, such as http://host:8000/pages")
    return address


WebAddress = Annotated[PublicAddress, AfterValidator(_of_the_web)]
"""An address without credentials that a browser opens."""


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's loopback address."""
    host = _host(url)
    address = _ip(host)
    return host == "localhost" if address is None else address.is_loopback


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
