"""The store on S3, or on a server that speaks its protocol.

Create-only writes are `PutObject` with `If-None-Match: *`. A server that ignores the condition, or looks and writes in two steps,
would silently lose promotions. Therefore the first create of a process proves that the server lets exactly one of several
concurrent creates succeed. Objects larger than `store.part_mb` are uploaded in parts, if the server proves the same for uploads
in parts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import botocore.exceptions
from boto3.s3.transfer import TransferConfig

from configs.errors import AlreadyExistsError, NotFoundError, OverwrittenError, SettingsError, StoreError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.storage.base import TEMPORARY, Store, arriving, check_key, source_of, too_large
from infra.storage.s3_claims import Claim
from infra.storage.s3_connection import connect
from infra.storage.s3_creates import Creates
from infra.storage.s3_errors import BROKEN_OFF, S3Errors, without_password
from infra.storage.s3_exclusive import Proof, fault_of, hold_bodies

__all__ = ["S3Store"]

MAX_OBJECT = 5 * 2**30  # maximum bytes of a single write
PARTS_AT_ONCE = 4  # each is held in memory while it is sent


class ObjectEntry(NamedTuple):
    """An object in a listing."""

    key: str
    size: int  # bytes
    modified: datetime
    tag: str  # changes with the content


class S3Store(Store):
    """Objects in one bucket, under one prefix."""

    def __init__(self, bucket: str, prefix: str, settings: StoreSettings) -> None:
        self.bucket, self.prefix = bucket, prefix
        self._settings = settings
        try:
            self._client = connect(settings)
        except (ValueError, botocore.exceptions.BotoCoreError) as error:
            raise SettingsError(
                f"The store {settings.url} cannot be opened: {without_password(error, settings)}. Check store.endpoint_url "
                "(http://host:port), store.region, store.access_key_id with store.secret_access_key (both or neither), and AWS_PROFILE."
            ) from error
        self._errors = S3Errors(self._client, bucket, settings)
        hold_bodies(self._client)
        self._creates = Creates(self._client, bucket, prefix, settings, self._errors)
        self._proof = Proof.of(self._client.meta.endpoint_url, bucket)

    @property
    def part_bytes(self) -> int:
        """Size of a part. A larger object is uploaded in parts."""
        return self._creates.part_bytes

    @part_bytes.setter
    def part_bytes(self, size: int) -> None:
        self._creates.part_bytes = size

    def put_new(self, key: str, data: bytes | Path) -> None:
        self._create(check_key(key), data)

    def claim(self, key: str, data: bytes | Path) -> None:
        check_key(key)
        if not Claim(self._client, self._creates, key, self._settings.timeout_s).wins(lambda: self._create(key, data)):
            self._proof.exclusive = False
            raise OverwrittenError(
                f"{self.uri(key)} was created by this run and by another one at the same time, and holds what the other one wrote. "
                f"The S3 server at {self._errors.server} does not honour If-None-Match. Use a server that supports conditional writes."
            )

    def put(self, key: str, data: bytes | Path) -> None:
        check_key(key)
        name = self._name(key)
        with source_of(data) as body, self._creates.writing(key):
            if _size(data) > self.part_bytes:
                self._client.upload_fileobj(body, self.bucket, name, Config=_in_parts_of(self.part_bytes))
            else:
                self._client.put_object(Bucket=self.bucket, Key=name, Body=body)

    def get(self, key: str, limit: int | None = None) -> bytes:
        content = io.BytesIO()
        self._read(check_key(key), content, limit)
        return content.getvalue()

    def fetch(self, key: str, path: Path) -> None:
        with arriving(path) as file:
            self._read(check_key(key), file)

    def exists(self, key: str) -> bool:
        check_key(key)
        try:
            with self._creates.reading(key):
                self._client.head_object(Bucket=self.bucket, Key=self._name(key))
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        for key, _ in self._listed(prefix):
            yield key

    def entries(self, prefix: str = "") -> Iterator[ObjectEntry]:
        """Yield the objects whose keys start with `prefix`, in ascending order."""
        for key, entry in self._listed(prefix):
            yield ObjectEntry(key, entry["Size"], entry["LastModified"], entry.get("ETag", ""))

    def _listed(self, prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
        root = f"{self.prefix}/" if self.prefix else ""
        with self._creates.asking(prefix or "/"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=root + prefix)
            for page in pages:
                if "IsTruncated" not in page:  # a page of another kind of server must not look like an empty store
                    raise StoreError(
                        f"The server at {self._errors.server} does not answer as S3 does: a listing of {self.uri(prefix)} lacks what each "
                        "listing has. Check store.endpoint_url: it must be the address of the S3 API."
                    )
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(root)
                    # Consoles mark an empty folder with an object that ends in a slash.
                    if not key.startswith(f"{TEMPORARY}/") and key[-1:] not in ("", "/"):
                        yield key, entry

    def delete(self, key: str) -> None:
        self._creates.delete(check_key(key))

    def uri(self, key: str) -> str:
        return self._creates.uri(key)

    def _name(self, key: str) -> str:
        return self._creates.name(key)

    def _read(self, key: str, sink: BinaryIO, limit: int | None = None) -> None:
        """Copy the object to `sink`. If the body breaks off, the copy resumes, provided that the object is still the same.

        Only consecutive attempts without progress count as failures.
        """
        received, failures, tag = 0, 0, None
        while True:
            rest: dict[str, str] = {"Range": f"bytes={received}-", "IfMatch": tag} if received and tag else {}
            before = received if rest else 0
            received = before
            sink.seek(before)
            sink.truncate()
            try:
                with self._creates.reading(key):
                    found = self._client.get_object(Bucket=self.bucket, Key=self._name(key), **rest)
                    tag = found.get("ETag")
                    if rest and found["ResponseMetadata"]["HTTPStatusCode"] != 206:  # the complete object came
                        received = before = sink.seek(0)
                        sink.truncate()
                    for chunk in found["Body"].iter_chunks(1 << 20):
                        received += len(chunk)
                        if limit is not None and received > limit:
                            found["Body"].close()
                            raise too_large(self.uri(key), limit)
                        sink.write(chunk)
                return
            except StoreUnavailableError as error:
                if not isinstance(error.__cause__, BROKEN_OFF):
                    raise
                failures = 0 if tag and received > before else failures + 1
                if failures >= self._settings.attempts:
                    raise
            except AlreadyExistsError:  # the object was replaced in between
                received, tag = 0, None

    def _create(self, key: str, data: bytes | Path) -> str:
        """Do a conditional write, and return what identifies it."""
        with source_of(data) as body:
            self._prove_exclusive_creates()
            parts = self._in_parts(data)
            if not parts:
                _refuse_too_large(data)
            return self._creates.create(key, body, parts=parts)

    def _in_parts(self, data: bytes | Path) -> bool:
        if _size(data) <= self.part_bytes:
            return False
        with self._proof.lock:
            if self._proof.exclusive_parts is None:
                self._proof.exclusive_parts = fault_of(self._creates, parts=True) is None
        return self._proof.exclusive_parts

    def _prove_exclusive_creates(self) -> None:
        with self._proof.lock:
            if not self._proof.exclusive and (fault := fault_of(self._creates)):
                raise StoreError(
                    f"The S3 server at {self._errors.server} {fault}. Two runs could overwrite each other's versions and promotions. Use "
                    "a server that supports conditional writes."
                )
            self._proof.exclusive = True


def _in_parts_of(part_bytes: int) -> TransferConfig:
    """Return how boto3 uploads a large object: several parts at once, and larger parts if S3 would not allow so many."""
    config = TransferConfig(
        multipart_threshold=part_bytes,
        multipart_chunksize=part_bytes,
        max_concurrency=PARTS_AT_ONCE,
        preferred_transfer_client="classic",  # the other one has retries and errors of its own
    )
    config.max_in_memory_upload_chunks = PARTS_AT_ONCE
    return config


def _size(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _refuse_too_large(data: bytes | Path) -> None:
    if _size(data) > MAX_OBJECT:
        raise StoreError(
            f"{data if isinstance(data, Path) else 'The object'} is larger than the 5 GiB that one create-only S3 write can hold, and this "
            "server ignores If-None-Match for multipart uploads; split it."
        )
