"""Open the store that the settings name."""

from __future__ import annotations

from pathlib import Path

from configs.errors import SettingsError
from configs.settings import StoreSettings
from infra.storage.base import Store
from infra.storage.local import LocalStore

__all__ = ["open_store"]


def open_store(settings: StoreSettings) -> Store:
    """Open the store at `settings.url`. Raises SettingsError if the address is of an unknown kind."""
    url = settings.url
    if url.startswith("file:"):
        folder = url.removeprefix("file:")
        folder = folder.removeprefix("//") if folder.startswith("///") else folder
        if not folder or folder.startswith("//"):
            raise SettingsError(f"store.url is {url!r}: write file:<folder>, for example file:.recsys/store.")
        return LocalStore(Path(folder))
    if url.startswith("s3://"):
        from infra.storage.s3 import S3Store  # boto3 takes a second to import; a local run never needs it

        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise SettingsError(f"store.url is {url!r}: write s3://<bucket> or s3://<bucket>/<prefix>.")
        return S3Store(bucket, prefix.strip("/"), settings)
    raise SettingsError(f"store.url is {url!r}: write file:<folder> for a folder or s3://<bucket>/<prefix> for S3.")
