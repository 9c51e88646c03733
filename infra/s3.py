"""The store on S3 or a server that speaks its protocol.

Create-only writes are `PutObject` with `If-None-Match: *`. A server that ignores the condition would silently lose
promotions, so the first write of each store proves that a second create of one key is refused.
"""

from __future__ import annotations

import io
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import boto3
import botocore.config
import botocore.exceptions

from configs.errors import (
    AlreadyExistsError,
    NotFoundError,
    SettingsError,
    StoreDeniedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from configs.settings import StoreSettings
from infra.stores import TEMPORARY, Store, arriving, check_key, source_of, too_large

__all__ = ["S3Store"]

DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "NoSuchBucket"}
FULL = {"507", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}
CONFLICT = {"409", "ConditionalRequestConflict", "OperationAborted"}
TAKEN = {"412", "PreconditionFailed"}
MISSING = {"404", "NoSuchKey", "NotFound"}
BROKEN_OFF = (botocore.exceptions.HTTPClientError, botocore.exceptions.IncompleteReadError)
UNREACHABLE = (botocore.exceptions.ConnectionError, *BROKEN_OFF)
WRITER = "writer"  # metadata key whose random value tells one's own object from another's, even one of the same content
MAX_OBJECT = 5 * 2**30


class S3Store(Store):
    """Objects of one bucket under one prefix."""

    def __init__(self, bucket: str, prefix: str, settings: StoreSettings) -> None:
        self.bucket, self.prefix = bucket, prefix
        self._settings = settings
        try:
            self._client = _connect(settings)
        except (ValueError, botocore.exceptions.BotoCoreError) as error:
            raise SettingsError(
                f"The store {settings.url} cannot be opened: {error}. Check store.endpoint_url (http://host:port), "
                "store.region, store.access_key_id with store.secret_access_key (both or neither), and AWS_PROFILE."
            ) from error
        self._probe_lock = threading.Lock()
        self._conditional = False
        self._bucket_seen = False

    def put_new(self, key: str, data: bytes | Path) -> None:
        check_key(key)
        with _body(data) as body:
            self._prove_conditional_writes()
            self._create(key, body)

    def put(self, key: str, data: bytes | Path) -> None:
        check_key(key)
        with _body(data) as body, self._failing(key):
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
        root = f"{self.prefix}/" if self.prefix else ""
        with self._failing(prefix or "/"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=root + prefix)
            for page in pages:
                for entry in page.get("Contents", ()):
                    key = entry["Key"].removeprefix(root)
                    # Consoles mark an empty folder with an object that ends in a slash.
                    if not key.startswith(f"{TEMPORARY}/") and key[-1:] not in ("", "/"):
                        yield key

    def delete(self, key: str) -> None:
        check_key(key)
        with self._failing(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._name(key))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._name(key)}"

    def _name(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _read(self, key: str, sink: BinaryIO, limit: int | None = None) -> None:
        """Copy the object to `sink`: one GET, so always one object's bytes; begun anew when the body breaks off."""
        for attempt in range(self._settings.attempts):
            with self._failing(key):
                found = self._client.get_object(Bucket=self.bucket, Key=self._name(key))
                body = found["Body"]
                if limit is not None and found["ContentLength"] > limit:
                    body.close()
                    raise too_large(self.uri(key), limit)
                try:
                    for chunk in body.iter_chunks(1 << 20):
                        sink.write(chunk)
                    return
                except BROKEN_OFF:
                    if attempt + 1 == self._settings.attempts:
                        raise
                    sink.seek(0)
                    sink.truncate()

    def _create(self, key: str, body: BinaryIO) -> None:
        """A single PutObject whatever the size: servers exist that ignore the condition on multipart uploads."""
        writer = secrets.token_hex(16)
        for attempt in range(self._settings.attempts):
            body.seek(0)
            with self._failing(key):
                try:
                    self._client.put_object(
                        Bucket=self.bucket, Key=self._name(key), Body=body, IfNoneMatch="*", Metadata={WRITER: writer}
                    )
                    return
                except botocore.exceptions.ClientError as error:
                    code, answer = _code(error), error.response.get("ResponseMetadata", {})
                    retried = answer.get("RetryAttempts", 0) or attempt
                    # An earlier answer may have been lost on its way, or a failure reported after the write.
                    unsure = (code in TAKEN and retried) or answer.get("HTTPStatusCode", 0) >= 500
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
            time.sleep(0.05 * 2**attempt)  # another writer of the key is under way
        raise StoreUnavailableError(
            f"{self.uri(key)} stayed contested in {self._settings.attempts} attempts; run again in a moment."
        )

    def _stored_writer(self, key: str) -> str | None:
        try:
            head = self._client.head_object(Bucket=self.bucket, Key=self._name(key))
        except botocore.exceptions.ClientError as error:
            if _code(error) in MISSING:
                return None
            raise
        writer: str | None = head["Metadata"].get(WRITER)
        return writer

    def _prove_conditional_writes(self) -> None:
        with self._probe_lock:
            if self._conditional:
                return
            key = f"{TEMPORARY}/probe-{secrets.token_hex(8)}"
            self._create(key, io.BytesIO(b"first"))
            try:
                self._create(key, io.BytesIO(b"second"))
            except AlreadyExistsError:
                self._conditional = True
                return
            finally:
                with self._failing(key):
                    self._client.delete_object(Bucket=self.bucket, Key=self._name(key))
            raise StoreError(
                f"The S3 server at {self._where()} accepted a second create of one key: it ignores If-None-Match, so two "
                "runs could overwrite each other's versions and promotions. Use a server that supports conditional writes."
            )

    def _bucket_is_missing(self) -> bool:
        """Whether a 404 to HEAD, which has no body that would tell, was about the bucket and not the object."""
        if self._bucket_seen:
            return False
        try:
            self._client.head_bucket(Bucket=self.bucket)
        except botocore.exceptions.ClientError as error:
            return _code(error) in MISSING
        self._bucket_seen = True
        return False

    def _where(self) -> str:
        return self._settings.endpoint_url or "AWS"

    def _credentials(self) -> str:
        if self._settings.access_key_id:
            return "store.access_key_id and store.secret_access_key"
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile or role in use)"

    @contextmanager
    def _failing(self, key: str) -> Iterator[None]:
        try:
            yield
        except botocore.exceptions.ClientError as error:
            with self._failing(key):  # telling a bucket from an object may ask the server again
                raise self._store_error(error, key) from error
        except botocore.exceptions.ParamValidationError as error:
            raise SettingsError(f"The store {self._settings.url} is no S3 address: {error} Correct store.url.") from error
        except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError) as error:
            raise StoreDeniedError(
                f"No S3 credentials were found for the bucket {self.bucket}. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or an AWS profile or role."
            ) from error
        except (*UNREACHABLE, botocore.exceptions.NoRegionError) as error:
            raise StoreUnavailableError(
                f"The S3 server at {self._where()} does not answer (bucket {self.bucket}): {error}. Check "
                "store.endpoint_url, store.region and the network, and run again."
            ) from error

    def _store_error(self, error: botocore.exceptions.ClientError, key: str) -> StoreError:
        code = _code(error)
        message = error.response.get("Error", {}).get("Message", "")
        if code == "NoSuchBucket" or (code == "404" and self._bucket_is_missing()):
            return StoreDeniedError(
                f"The bucket {self.bucket} does not exist at {self._where()}. Create it, or correct store.url."
            )
        if code in MISSING:
            return NotFoundError(f"{self.uri(key)} is not in the store.")
        if code in DENIED:
            return StoreDeniedError(
                f"The S3 server at {self._where()} refuses these credentials for {self.uri(key)} ({code} {message}). Check "
                f"{self._credentials()} and the bucket's policy."
            )
        if code in FULL:
            return StoreFullError(
                f"The S3 server at {self._where()} is full or its quota is used up ({code}); free space and run again."
            )
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if status >= 500 or code in ("SlowDown", "RequestTimeout", "503", "500"):
            return StoreUnavailableError(
                f"The S3 server at {self._where()} failed on {self.uri(key)} ({code} {message}); run again later."
            )
        return StoreError(f"S3 refused {self.uri(key)}: {code} {message}.")


def _connect(settings: StoreSettings) -> Any:
    secret = settings.secret_access_key
    # Servers other than AWS may not know the checksums that boto3 adds by default since 1.36.
    checksums = "when_required" if settings.endpoint_url else "when_supported"
    # A session of its own: boto3.client keeps the credentials that the process found first.
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


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _body(data: bytes | Path) -> Iterator[BinaryIO]:
    """The body of an upload; files are streamed."""
    if isinstance(data, Path) and data.stat().st_size > MAX_OBJECT:
        raise StoreError(f"{data} is larger than the 5 GiB that one create-only S3 write can hold; split it.")
    with source_of(data) as source:
        yield source
