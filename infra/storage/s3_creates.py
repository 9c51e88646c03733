"""Create-only writes to a bucket: `PutObject`, or an upload in parts, with `If-None-Match: *`."""

from __future__ import annotations

import secrets
import time
from contextlib import AbstractContextManager
from typing import Any, BinaryIO

import botocore.exceptions

from configs.errors import AlreadyExistsError, NotFoundError, StoreUnavailableError
from configs.settings import StoreSettings
from infra.storage.base import TEMPORARY
from infra.storage.s3_errors import CONFLICT, GONE, TAKEN, UNREACHABLE, S3Errors, code_of
from infra.storage.s3_multipart import MultipartCreate

__all__ = ["ContestedError", "Creates"]

WRITER = "writer"  # metadata key; its random value identifies our own object, even among objects with the same content


class ContestedError(StoreUnavailableError):
    """Other creates of the key were in progress at each attempt."""


class Creates:
    """The create-only writes of one store."""

    def __init__(self, client: Any, bucket: str, prefix: str, settings: StoreSettings, errors: S3Errors) -> None:
        self.bucket, self._prefix = bucket, prefix
        self._client, self._settings, self._errors = client, settings, errors
        self.part_bytes = settings.part_mb << 20

    def name(self, key: str) -> str:
        """Return the name of an object in the bucket."""
        return f"{self._prefix}/{key}" if self._prefix else key

    def uri(self, key: str) -> str:
        return f"s3://{self.bucket}/{self.name(key)}"

    def asking(self, key: str) -> AbstractContextManager[None]:
        """Translate the errors of a request that neither reads nor writes an object."""
        return self._errors.translated(self.uri(key))

    def reading(self, key: str) -> AbstractContextManager[None]:
        """Translate the errors of a read. If the object is absent, NotFoundError is raised."""
        return self._errors.translated(self.uri(key), read=self.name(key))

    def writing(self, key: str) -> AbstractContextManager[None]:
        """Translate the errors of a write."""
        return self._errors.translated(self.uri(key), self.name(f"{TEMPORARY}/probe-{secrets.token_hex(8)}"))

    def create(self, key: str, body: BinaryIO, *, parts: bool = False, conditional: bool = True) -> str:
        """Do one write. If the answer is lost, look in the store whether the write succeeded.

        Args:
            key: Key of the object.
            body: Its content, from the beginning.
            parts: Whether to upload it in parts.
            conditional: Whether an existing object is left unchanged.

        Returns:
            The value that identifies this write, as `stored_writer` returns it.

        Raises:
            AlreadyExistsError: The object exists.
            ContestedError: Other creates of the key were in progress at each attempt.
            StoreError: The server refused or failed.
        """
        writer = secrets.token_hex(16)
        for attempt in range(self._settings.attempts):
            body.seek(0)
            with self.writing(key):
                try:
                    self._send(key, body, writer, parts=parts, conditional=conditional)
                    return writer
                except botocore.exceptions.ClientError as error:
                    code, answer = code_of(error), error.response.get("ResponseMetadata", {})
                    retried = answer.get("RetryAttempts", 0) or attempt
                    # The answer to an earlier attempt may have been lost, or a failure may have been reported after the write.
                    unsure = (code in TAKEN | GONE and retried) or answer.get("HTTPStatusCode", 0) >= 500
                    if unsure and self.stored_writer(key) == writer:
                        return writer
                    if code in TAKEN:
                        raise AlreadyExistsError(
                            f"{self.uri(key)} exists already and is never overwritten; another run has written it."
                        ) from error
                    if code not in CONFLICT:
                        raise
                except UNREACHABLE:
                    if self.stored_writer(key) == writer:
                        return writer
                    raise
            time.sleep(0.05 * 2**attempt)  # another write of the key is in progress
        raise ContestedError(f"{self.uri(key)} stayed contested in {self._settings.attempts} attempts; run again in a moment.")

    def stored_writer(self, key: str) -> str | None:
        """Return what identifies the write that an object comes from, or None if there is no such object."""
        try:
            with self.reading(key):
                head = self._client.head_object(Bucket=self.bucket, Key=self.name(key))
        except NotFoundError:
            return None
        # Some servers and proxies capitalize the names of headers.
        metadata: dict[str, str] = {name.lower(): value for name, value in head["Metadata"].items()}
        return metadata.get(WRITER)

    def delete(self, key: str) -> None:
        with self.asking(key):
            self._client.delete_object(Bucket=self.bucket, Key=self.name(key))

    def _send(self, key: str, body: BinaryIO, writer: str, *, parts: bool, conditional: bool) -> None:
        condition = {"IfNoneMatch": "*"} if conditional else {}
        metadata = {WRITER: writer}
        if parts:
            MultipartCreate(self._client, self.bucket, self.name(key), self.part_bytes).send(body, metadata, condition)
        else:
            self._client.put_object(Bucket=self.bucket, Key=self.name(key), Body=body, Metadata=metadata, **condition)
