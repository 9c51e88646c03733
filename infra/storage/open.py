"""Open the store that the settings name."""

from __future__ import annotations

from pathlib import Path

from configs.errors import SettingsError
from configs.settings import StoreSettings
from infra.storage.base import Store
from infra.storage.local import LocalStore

__all__ = ["open_store"]


def open_store(settings: StoreSettings) -> Store:
    """Open the store at `settings.url`. Raises SettingsError if the address is of an unknown kind, or names a file."""
    try:
        place = settings.place
    except ValueError as error:
        raise SettingsError(f"store.url is {settings.url!r}: {error}.") from error
    if isinstance(place, Path):
        if place.is_file():
            raise SettingsError(f"store.url is {settings.url}, but that is a file. Name a folder, which need not exist yet.")
        return LocalStore(place)
    from infra.storage.s3 import S3Store  # boto3 takes a second to import; a local run never needs it

    return S3Store(*place, settings)
