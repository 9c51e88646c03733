"""The store on S3 or a server that speaks its protocol.

Create-only writes are `PutObject` with `If-None-Match: *`. A server that ignores the condition would silently lose
promotions, so the first write of each store proves that a second create of one key is refused.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import botocore.exceptions

from configs.errors import (
    AlreadyExistsError,
    NotFoundError,
    StoreDeniedError,
    StoreError,
    StoreFullError,
    StoreUnavailableError,
)
from configs.settings import StoreSettings
from infra.stores import Store, check_key

__all__ = ["S3Store"]

DENIED = {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "NoSuchBucket"}
FULL = {"507", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}
CONFLICT = {"409", "ConditionalRequestConflict"}
TAKEN = {"412", "PreconditionFailed"}
UNREACHABLE = (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError)
DIGEST = "sha256"  # metadata key that tells one's own object from another's after a lost answer
MAX_OBJECT = 5 * 2**30


class S3Store(Store):
    """Objects of one bucket under one prefix."""

    def __init__(self, bucket: str, prefix: str, settings: StoreSettings) -> None:
        self.bucket, self.prefix = bucket, prefix
        self._settings = settings
        secret = settings.secret_access_key
        # Servers other than AWS may not know the checksums that boto3 adds by default since 1.36.
        checksums = "when_required" if settings.endpoint_url else "when_supported"
        # A session of its own: boto3.client keeps the credentials that the process found first.
        self._client = boto3.session.Session().client(
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
        self._probe_lock = threading.Lock()
        self._conditional = False

    def put_new(self, key: str, data: bytes | Path) -> None:
        self._prove_conditional_writes()
        self._create(key, data)

    def put(self, key: str, data: bytes | Path) -> None:
        with self._failing(key), _body(data) as (body, digest):
            self._client.put_object(Bucket=self.bucket, Key=self._key(key), Body=body, Metadata={DIGEST: digest})

    def get(self, key: str) -> bytes:
        with self._failing(key):
            content: bytes = self._client.get_object(Bucket=self.bucket, Key=self._key(key))["Body"].read()
            return content

    def fetch(self, key: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with self._failing(key):
                self._client.download_file(self.bucket, self._key(key), str(temporary))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def exists(self, key: str) -> bool:
        try:
            with self._failing(key):
                self._client.head_object(Bucket=self.bucket, Key=self._key(key))
        except NotFoundError:
            return False
        return True

    def list(self, prefix: str = "") -> Iterator[str]:
        root = f"{self.prefix}/" if self.prefix else ""
        with self._failing(prefix or "/"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=root + prefix)
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield entry["Key"].removeprefix(root)

    def delete(self, key: str) -> None:
        with self._failing(key):
            self._client.delete_object(Bucket=self.bucket, Key=self._key(key))

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self._raw_key(key)}"

    def _raw_key(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _key(self, key: str) -> str:
        return self._raw_key(check_key(key))

    def _create(self, key: str, data: bytes | Path) -> None:
        """A single PutObject whatever the size: servers exist that ignore the condition on multipart uploads."""
        for attempt in range(self._settings.attempts):
            with self._failing(key), _body(data) as (body, digest):
                try:
                    self._client.put_object(
                        Bucket=self.bucket, Key=self._key(key), Body=body, IfNoneMatch="*", Metadata={DIGEST: digest}
                    )
                    return
                except botocore.exceptions.ClientError as error:
                    code = _code(error)
                    retried = error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) or attempt
                    # The answer to an earlier attempt may have been lost on its way: then the object is ours.
                    if code in TAKEN and retried and self._stored_digest(key) == digest:
                        return
                    if code in TAKEN:
                        raise AlreadyExistsError(
                            f"{self.uri(key)} exists already and is never overwritten; another run has written it."
                        ) from error
                    if code not in CONFLICT:
                        raise
                except UNREACHABLE:
                    if self._stored_digest(key) == digest:
                        return
                    raise
            time.sleep(0.05 * 2**attempt)  # another writer of the key is under way
        raise StoreUnavailableError(
            f"{self.uri(key)} stayed contested in {self._settings.attempts} attempts; run again in a moment."
        )

    def _stored_digest(self, key: str) -> str | None:
        try:
            head = self._client.head_object(Bucket=self.bucket, Key=self._key(key))
        except botocore.exceptions.ClientError:
            return None
        digest: str | None = head["Metadata"].get(DIGEST)
        return digest

    def _prove_conditional_writes(self) -> None:
        with self._probe_lock:
            if self._conditional:
                return
            key = f".probe/{secrets.token_hex(8)}"
            self._create(key, b"first")
            try:
                self._create(key, b"second")
            except AlreadyExistsError:
                self._conditional = True
                return
            finally:
                self.delete(key)
            raise StoreError(
                f"The S3 server at {self._where()} accepted a second create of one key: it ignores If-None-Match, so two "
                "runs could overwrite each other's versions and promotions. Use a server that supports conditional writes."
            )

    def _where(self) -> str:
        return self._settings.endpoint_url or "AWS"

    @contextmanager
    def _failing(self, key: str) -> Iterator[None]:
        try:
            yield
        except botocore.exceptions.ClientError as error:
            raise self._store_error(error, key) from error
        except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError) as error:
            raise StoreDeniedError(
                f"No S3 credentials were found for the bucket {self.bucket}. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or an AWS profile or role."
            ) from error
        except (*UNREACHABLE, botocore.exceptions.NoRegionError) as error:
            raise StoreUnavailableError(
                f"The S3 server at {self._where()} does not answer (bucket {self.bucket}): {error}. Check "
                "store.endpoint_url, store.region and the network; nothing was changed, so the run can be repeated."
            ) from error

    def _store_error(self, error: botocore.exceptions.ClientError, key: str) -> StoreError:
        code = _code(error)
        message = error.response.get("Error", {}).get("Message", "")
        if code == "NoSuchBucket":
            return StoreDeniedError(
                f"The bucket {self.bucket} does not exist at {self._where()}. Create it, or correct store.url."
            )
        if code in ("404", "NoSuchKey", "NotFound"):
            return NotFoundError(f"{self.uri(key)} is not in the store.")
        if code in DENIED:
            return StoreDeniedError(
                f"The S3 server at {self._where()} refuses these credentials for {self.uri(key)} ({code} {message}). Check "
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile or role in use) and the bucket's policy."
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


def _code(error: botocore.exceptions.ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


@contextmanager
def _body(data: bytes | Path) -> Iterator[tuple[Any, str]]:
    """The body of an upload and its sha256; files are streamed."""
    if isinstance(data, bytes):
        yield data, hashlib.sha256(data).hexdigest()
        return
    if data.stat().st_size > MAX_OBJECT:
        raise StoreError(f"{data} is larger than the 5 GiB that one create-only S3 write can hold; split it.")
    with data.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        yield file, digest
