"""Remove credentials from addresses and texts before they are logged or sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

__all__ = ["masked", "secrets_of", "shown_address"]

SECRET = ("KEY", "TOKEN", "SECRET", "PASS", "PWD", "AUTH", "CREDENTIAL", "WEBHOOK", "DSN", "COOKIE")
LEAST = 4  # minimum length of a secret: shorter ones would mask large parts of any text
GIVEN = re.compile(r"\brpa_[A-Za-z0-9_-]{8,}")  # keys that RunPod itself puts into a pod


def shown_address(url: str) -> str:
    """Return the address without user, password and query, for messages, logs and records."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Return the secrets of an environment: values of variables with a telling name, line by line, and passwords in addresses."""
    telling = {name: value for name, value in environment.items() if any(word in name.upper() for word in SECRET)}
    found = {line.strip() for value in telling.values() for line in value.splitlines()}
    found |= {password for value in environment.values() if (password := _password(value))}
    return [secret for secret in found if len(secret) >= LEAST]


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return the text with the secrets masked, and so are keys that are recognised by their format."""
    for secret in sorted(secrets, key=len, reverse=True):  # longest first: one secret may be part of another
        text = text.replace(secret, "********")
    return GIVEN.sub("********", text)


def _password(value: str) -> str | None:
    try:
        return urlsplit(value).password if "://" in value else None
    except ValueError:
        return None
