"""Remove credentials from settings, addresses and texts before they are stored, logged or sent."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

__all__ = ["masked", "safe_settings", "secrets_of", "shown_address"]

CREDENTIALS = {"access_key_id", "secret_access_key"}
SECRET = ("KEY", "TOKEN", "SECRET", "PASS", "PWD", "AUTH", "CREDENTIAL", "WEBHOOK", "DSN", "COOKIE")
LEAST = 4  # minimum length of a secret: shorter ones would mask large parts of any text
GIVEN = re.compile(r"\brpa_[A-Za-z0-9_-]{8,}")  # keys that RunPod itself puts into a pod


def shown_address(url: str) -> str:
    """Return the address without user, password and query, for messages, logs and records."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Return the secrets of an environment: values of variables with a telling name, line by line, and passwords in addresses."""
    found = {line.strip() for name, value in environment.items() if _is_secret(name) for line in value.splitlines()}
    found |= {password for value in environment.values() if (password := _password(value))}
    return [secret for secret in found if len(secret) >= LEAST]


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return the text with the secrets masked, and so are keys that are recognised by their format."""
    for secret in sorted(secrets, key=len, reverse=True):  # longest first: one secret may be part of another
        text = text.replace(secret, "********")
    return GIVEN.sub("********", text)


def _is_secret(name: str) -> bool:
    return any(word in name.upper() for word in SECRET)


def _password(value: str) -> str | None:
    try:
        return urlsplit(value).password if "://" in value else None
    except ValueError:
        return None


def safe_settings(settings: BaseModel) -> dict[str, Any]:
    """Return the settings as JSON-compatible values without credentials.

    Removes secret fields, and the user, password and query of addresses.
    """

    def safe(value: Any) -> Any:
        if isinstance(value, BaseModel):
            fields = type(value).model_fields
            kept = {name: getattr(value, name) for name in fields if name not in CREDENTIALS}
            return {name: safe(inner) for name, inner in kept.items() if not isinstance(inner, SecretStr)}
        if isinstance(value, dict):
            return {str(name): safe(inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [safe(inner) for inner in value]
        if isinstance(value, str) and "://" in value:
            return shown_address(value)
        return str(value) if isinstance(value, Path) else value

    found: dict[str, Any] = safe(settings)
    return found
