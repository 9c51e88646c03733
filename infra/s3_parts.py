"""An upload to S3 in parts: each is tried again by itself, and the object appears when they are put together, or not at all."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, BinaryIO

import botocore.exceptions

__all__ = ["Upload"]

MOST_PARTS = 10_000


class Upload:
    """One object's way into a bucket. Raises what boto3 raises; an upload that failed is given up on the server too.

    A process that is killed leaves its parts, which no reader sees: infra/iam/lifecycle.json has the server remove them.
    """

    def __init__(self, client: Any, bucket: str, name: str, part_bytes: int) -> None:
        self._client, self._place, self._part_bytes = client, {"Bucket": bucket, "Key": name}, part_bytes

    def send(self, body: BinaryIO, metadata: dict[str, str] | None = None, *, new: bool = False) -> None:
        """Send `body` from where it stands; `new`: only if there is no object of that name when its parts are put together."""
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
                self._client.abort_multipart_upload(**upload)  # gone already where the answer of the last step was lost
            raise

    def _begin(self, metadata: dict[str, str]) -> str:
        found: str = self._client.create_multipart_upload(**self._place, Metadata=metadata)["UploadId"]
        return found

    def _part_bytes_of(self, body: BinaryIO) -> int:
        """Larger than asked for where that would make more parts than S3 takes."""
        here = body.tell()
        size = body.seek(0, 2) - here
        body.seek(here)
        return max(self._part_bytes, -(-size // MOST_PARTS))
