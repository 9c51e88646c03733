"""Settings without credentials, for whatever is stored or sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

__all__ = ["safe_settings"]

CREDENTIALS = {"access_key_id", "secret_access_key"}


def safe_settings(settings: BaseModel) -> dict[str, Any]:
    """Settings as JSON-able values without credentials: secret fields, and the user, password and query of an address."""

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
            parts = urlsplit(value)
            return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
        return str(value) if isinstance(value, Path) else value

    found: dict[str, Any] = safe(settings)
    return found
