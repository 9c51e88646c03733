"""Multipart uploads to S3 that create an object. boto3's own uploads cannot: they do not pass on If-None-Match."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, BinaryIO

import botocore.exceptions

__all__ = ["MultipartCreate"]

MOST_PARTS = 10_000


class MultipartCreate:
    """A multipart upload that can be made to fail if an object of that name exists when the parts are assembled.

    Each part is retried on its own. The object appears once all parts are assembled, or not at all. Raises boto3's errors. A
    failed upload is also aborted on the server. A killed process leaves its parts behind, where no reader sees them. The
    lifecycle rule of infra/iam/lifecycle.json makes the server remove them.
    """

    def __init__(self, client: Any, bucket: str, name: str, part_bytes: int) -> None:
        self._client, self._place, self._part_bytes = client, {"Bucket": bucket, "Key": name}, part_bytes

    def send(self, body: BinaryIO, metadata: dict[str, str], condition: dict[str, str]) -> None:
        """Upload an object.

        Args:
            body: Its content, from the current position.
            metadata: The metadata of the object.
            condition: Arguments of the request that assembles the parts: `IfNoneMatch`.
        """
        size = self._part_bytes_of(body)
        begun = self._client.create_multipart_upload(**self._place, Metadata=metadata)
        upload = {**self._place, "UploadId": begun["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            while (part := body.read(size)) or not parts:
                number = len(parts) + 1
                sent = self._client.upload_part(**upload, PartNumber=number, Body=part)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            with suppress(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                self._client.abort_multipart_upload(**upload)  # fails if the upload completed and only its answer was lost
            raise

    def _part_bytes_of(self, body: BinaryIO) -> int:
        """Return the size of a part. It is larger than configured if the upload would need more parts than S3 allows."""
        here = body.tell()
        size = body.seek(0, 2) - here
        body.seek(here)
        return max(self._part_bytes, -(-size // MOST_PARTS))
