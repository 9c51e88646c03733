"""The store on S3, or on a server that speaks its protocol.

Create-only writes are `PutObject` with `If-None-Match: *`. A server that ignores the condition would silently lose
promotions. Therefore the first write of each store proves that the server refuses a second create of the same key. Objects
larger than `store.part_mb` are uploaded in parts, if the server proves to honour the condition for multipart uploads too.
"""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import boto3
import botocore.config
import botocore.exceptions
from boto3.s3.transfer import TransferConfig

from configs.errors import AlreadyExistsError, NotFoundError, SettingsError, StoreError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.storage.base import TEMPORARY, Store, arriving, check_key, source_of, too_large
from infra.storage.s3_errors import BROKEN_OFF, CONFLICT, GONE, MISSING, TAKEN, UNREACHABLE, S3Errors, code_of, without_password
from infra.storage.s3_multipart import MultipartCreate

__all__ = ["S3Store"]

WRITER = "writer"  # metadata key; its random value identifies our own object, even among objects with the same content
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
            self._client = _connect(settings)
        except (ValueError, botocore.exceptions.BotoCoreError) as error:
            raise SettingsError(
                f"The store {settings.url} cannot be opened: {without_password(error, settings)}. Check store.endpoint_url "
                "(http://host:port), store.region, store.access_key_id with store.secret_access_key (both or neither), and AWS_PROFILE."
            ) from error
        self._errors = S3Errors(self._client, bucket, settings)
        self.part_bytes = settings.part_mb << 20
        self._probe_lock = threading.Lock()
        self._conditional = False
        self._conditional_parts: bool | None = None

    def put_new(self, key: str, data: bytes | Path) -> None:
        check_key(key)
        with source_of(data) as body:
            self._prove_conditional_writes()
            if self._in_parts(data):
                self._create(key, body, parts=True)
            else:
                _refuse_too_large(data)
                self._create(key, body)

    def put(self, key: str, data: bytes | Path) -> None:
        check_key(key)
        with source_of(data) as body, self._failing(key):
            if _size(data) > self.part_bytes:
                self._client.upload_fileobj(body, self.bucket, self._name(key), Config=_in_parts_of(self.part_bytes))
            else:
                self._client.put_object(Bucket=self.bucket, Key=self._name(key), Body=body)

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
            with self._failing(key):
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
        with self._failing(prefix or "/"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=root + prefix)
            for page in pages:
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(root)
                    # Consoles mark an empty folder with an object that ends in a slash.
                    if not key.startswith(f"{TEMPORARY}/") and key[-1:] not in ("", "/"):
                        yield key, entry

    def delete(self, key: str) -> None:
        check_key(key)
        with self._failing(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._name(key)}"

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

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
                with self._failing(key):
                    found = self._client.get_object(Bucket=self.bucket, Key=self._name(key), **rest)
                    if limit is not None and not rest and found["ContentLength"] > limit:
                        found["Body"].close()
                        raise too_large(self.uri(key), limit)
                    tag = found.get("ETag")
                    if rest and found["ResponseMetadata"]["HTTPStatusCode"] != 206:  # the complete object came
                        received = before = sink.seek(0)
                        sink.truncate()
                    for chunk in found["Body"].iter_chunks(1 << 20):
                        sink.write(chunk)
                        received += len(chunk)
                return
            except StoreUnavailableError as error:
                if not isinstance(error.__cause__, BROKEN_OFF):
                    raise
                failures = 0 if tag and received > before else failures + 1
                if failures >= self._settings.attempts:
                    raise
            except AlreadyExistsError:  # the object was replaced in between
                received, tag = 0, None

    def _in_parts(self, data: bytes | Path) -> bool:
        if _size(data) <= self.part_bytes:
            return False
        with self._probe_lock:
            if self._conditional_parts is None:
                self._conditional_parts = self._heeds_condition(parts=True)
        return self._conditional_parts

    def _create(self, key: str, body: BinaryIO, *, parts: bool = False) -> None:
        """Do one conditional write, at once or in parts. If the answer is lost, look in the store whether the write succeeded."""
        writer = secrets.token_hex(16)
        for attempt in range(self._settings.attempts):
            body.seek(0)
            with self._failing(key):
                try:
                    if parts:
                        MultipartCreate(self._client, self.bucket, self._name(key), self.part_bytes).send(body, {WRITER: writer})
                    else:
                        self._client.put_object(
                            Bucket=self.bucket, Key=self._name(key), Body=body, IfNoneMatch="*", Metadata={WRITER: writer}
                        )
                    return
                except botocore.exceptions.ClientError as error:
                    code, answer = code_of(error), error.response.get("ResponseMetadata", {})
                    retried = answer.get("RetryAttempts", 0) or attempt
                    # The answer to an earlier attempt may have been lost, or a failure may have been reported after the write.
                    unsure = (code in TAKEN | GONE and retried) or answer.get("HTTPStatusCode", 0) >= 500
                    if unsure and self._stored_writer(key) == writer:
                        return
                    if code in TAKEN:
                        raise AlreadyExistsError(
                            f"{self.uri(key)} exists already and is never overwritten; another run has written it."
                        ) from error
                    if code not in CONFLICT:
                        raise
                except UNREACHABLE:
                    if self._stored_writer(key) == writer:
                        return
                    raise
            time.sleep(0.05 * 2**attempt)  # another write of the key is in progress
        raise StoreUnavailableError(
            f"{self.uri(key)} stayed contested in {self._settings.attempts} attempts; run again in a moment."
        )

    def _stored_writer(self, key: str) -> str | None:
        try:
            head = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
        except botocore.exceptions.ClientError as error:
            if code_of(error) in MISSING:
                return None
            raise
        writer: str | None = head["Metadata"].get(WRITER)
        return writer

    def _prove_conditional_writes(self) -> None:
        with self._probe_lock:
            if not self._conditional and not self._heeds_condition():
                raise StoreError(
                    f"The S3 server at {self._errors.server} accepted a second create of one key: it ignores If-None-Match, so two "
                    "runs could overwrite each other's versions and promotions. Use a server that supports conditional writes."
                )
            self._conditional = True

    def _heeds_condition(self, *, parts: bool = False) -> bool:
        """Return whether the server refuses a second create of the same key."""
        key = f"{TEMPORARY}/probe-{secrets.token_hex(8)}"
        try:
            self._create(key, io.BytesIO(b"first"), parts=parts)
            self._create(key, io.BytesIO(b"second"), parts=parts)
        except AlreadyExistsError:
            return True
        finally:
            with self._failing(key):
                self._client.delete_object(Bucket=self.bucket, Key=self._name(key))
        return False

    def _failing(self, key: str) -> AbstractContextManager[None]:
        return self._errors.translated(self.uri(key))


def _connect(settings: StoreSettings) -> Any:
    secret = settings.secret_access_key
    # Servers other than AWS may not support the checksums that boto3 adds by default since 1.36.
    checksums = "when_required" if settings.endpoint_url else "when_supported"
    # Use a separate session: boto3.client keeps the first credentials that the process found.
    return boto3.session.Session().client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region or ("us-east-1" if settings.endpoint_url else None),
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=botocore.config.Config(
            connect_timeout=settings.timeout_s,
            read_timeout=settings.timeout_s,
            retries={"mode": "standard", "total_max_attempts": settings.attempts},
            request_checksum_calculation=checksums,
            response_checksum_validation=checksums,
            s3={"addressing_style": "path"} if settings.endpoint_url else {},
        ),
    )


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
