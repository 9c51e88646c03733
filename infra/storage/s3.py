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
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

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
from configs.redaction import masked, secrets_of, shown_address
from configs.settings import StoreSettings
from infra.storage.base import TEMPORARY, Store, arriving, check_key, source_of, too_large
from infra.storage.s3_multipart import Upload

__all__ = ["S3Store"]

DENIED = {
    "403",
    "AccessDenied",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "UserSuspended",
    "AllAccessDisabled",
    "NoSuchBucket",
}
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
ELSEWHERE = {"301", "PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
FULL = {"507", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}
CONFLICT = {"409", "ConditionalRequestConflict", "OperationAborted"}
TAKEN = {"412", "PreconditionFailed"}
MISSING = {"404", "NoSuchKey", "NotFound"}
GONE = {"NoSuchUpload"}  # the upload was completed or aborted
BROKEN_OFF = (botocore.exceptions.HTTPClientError, botocore.exceptions.IncompleteReadError)
UNREACHABLE = (botocore.exceptions.ConnectionError, *BROKEN_OFF)
WRITER = "writer"  # metadata key; its random value identifies our own object, even among objects with the same content
MAX_OBJECT = 5 * 2**30  # maximum bytes of a single write


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
                f"The store {settings.url} cannot be opened: {self._shown(error)}. Check store.endpoint_url "
                "(http://host:port), store.region, store.access_key_id with store.secret_access_key (both or neither), and AWS_PROFILE."
            ) from error
        self.part_bytes = settings.part_mb << 20
        self._probe_lock = threading.Lock()
        self._conditional = False
        self._conditional_parts: bool | None = None
        self._bucket_seen = False

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
                Upload(self._client, self.bucket, self._name(key), self.part_bytes).send(body)
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
                        Upload(self._client, self.bucket, self._name(key), self.part_bytes).send(body, {WRITER: writer}, new=True)
                    else:
                        self._client.put_object(
                            Bucket=self.bucket, Key=self._name(key), Body=body, IfNoneMatch="*", Metadata={WRITER: writer}
                        )
                    return
                except botocore.exceptions.ClientError as error:
                    code, answer = _code(error), error.response.get("ResponseMetadata", {})
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
            if _code(error) in MISSING:
                return None
            raise
        writer: str | None = head["Metadata"].get(WRITER)
        return writer

    def _prove_conditional_writes(self) -> None:
        with self._probe_lock:
            if not self._conditional and not self._heeds_condition():
                raise StoreError(
                    f"The S3 server at {self._where()} accepted a second create of one key: it ignores If-None-Match, so two "
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

    def _bucket_is_missing(self) -> bool:
        """Return whether a 404 was about the bucket, not the object. The answer to a HEAD has no body that would show it."""
        if self._bucket_seen:
            return False
        try:
            self._client.head_bucket(Bucket=self.bucket)
        except botocore.exceptions.ClientError as error:
            return _code(error) in MISSING
        self._bucket_seen = True
        return False

    def _where(self) -> str:
        return shown_address(self._settings.endpoint_url) if self._settings.endpoint_url else "AWS"

    def _shown(self, error: Exception) -> str:
        """Return the error text without the password that the server's address may contain."""
        return masked(str(error), secrets_of({"url": self._settings.endpoint_url or ""}))

    def _credentials(self) -> str:
        if self._settings.access_key_id:
            return "store.access_key_id and store.secret_access_key"
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile or role in use)"

    @contextmanager
    def _failing(self, key: str) -> Iterator[None]:
        try:
            yield
        except botocore.exceptions.ClientError as error:
            with self._failing(key):  # a request may be needed to find out whether the bucket or the object is missing
                raise self._store_error(error, key) from error
        except botocore.exceptions.ParamValidationError as error:
            raise SettingsError(f"The store {self._settings.url} is not an S3 address: {error} Correct store.url.") from error
        except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError) as error:
            raise StoreDeniedError(
                f"No S3 credentials were found for the bucket {self.bucket}. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or an AWS profile or role."
            ) from error
        except (*UNREACHABLE, botocore.exceptions.NoRegionError) as error:
            raise StoreUnavailableError(
                f"The S3 server at {self._where()} does not answer (bucket {self.bucket}): {self._shown(error)}. Check "
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
        if code in TAKEN:
            return AlreadyExistsError(f"{self.uri(key)} was replaced while it was being read.")
        if code in EXPIRED:
            return StoreDeniedError(
                f"The credentials for {self.uri(key)} have expired ({code} {message}). Renew {self._credentials()}, with AWS_SESSION_TOKEN "
                "if they are temporary. A role renews them automatically."
            )
        if code in ELSEWHERE:
            return StoreDeniedError(
                f"The bucket {self.bucket} is not in the region {self._client.meta.region_name} ({code} {message}). Set store.region to the "
                "bucket's region."
            )
        if code == "RequestTimeTooSkewed":
            return StoreDeniedError(
                f"The S3 server at {self._where()} refuses the time of this machine ({message}). Set the clock, and run again."
            )
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


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _size(data: bytes | Path) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _refuse_too_large(data: bytes | Path) -> None:
    if _size(data) > MAX_OBJECT:
        raise StoreError(
            f"{data if isinstance(data, Path) else 'The object'} is larger than the 5 GiB that one create-only S3 write can hold, and this "
            "server ignores If-None-Match for multipart uploads; split it."
        )
