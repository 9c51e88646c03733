"""Multipart uploads to S3. Each part is retried on its own. The object appears once all parts are assembled, or not at all."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, BinaryIO

import botocore.exceptions

__all__ = ["Upload"]

MOST_PARTS = 10_000


class Upload:
    """A multipart upload of one object. Raises boto3's errors. A failed upload is also aborted on the server.

    A killed process leaves its parts behind, where no reader sees them. The lifecycle rule of infra/iam/lifecycle.json makes
    the server remove them.
    """

    def __init__(self, client: Any, bucket: str, name: str, part_bytes: int) -> None:
        self._client, self._place, self._part_bytes = client, {"Bucket": bucket, "Key": name}, part_bytes

    def send(self, body: BinaryIO, metadata: dict[str, str] | None = None, *, new: bool = False) -> None:
        """Upload `body` from its current position.

        Args:
            body: The file to upload.
            metadata: Metadata of the object.
            new: Fail if an object of that name exists when the parts are assembled.
        """
        size = self._part_bytes_of(body)
        upload = {**self._place, "UploadId": self._begin(metadata or {})}
        try:
            parts: list[dict[str, Any]] = []
            while (part := body.read(size)) or not parts:
                number = len(parts) + 1
                sent = self._client.upload_part(**upload, PartNumber=number, Body=part)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            condition = {"IfNoneMatch": "*"} if new else {}
            self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            with suppress(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError):
                self._client.abort_multipart_upload(**upload)  # fails if the upload completed and only its answer was lost
            raise

    def _begin(self, metadata: dict[str, str]) -> str:
        found: str = self._client.create_multipart_upload(**self._place, Metadata=metadata)["UploadId"]
        return found

    def _part_bytes_of(self, body: BinaryIO) -> int:
        """Return the size of a part. It is larger than configured if the upload would need more parts than S3 allows."""
        here = body.tell()
        size = body.seek(0, 2) - here
        body.seek(here)
        return max(self._part_bytes, -(-size // MOST_PARTS))
