"""The store."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator

from configs.addresses import PublicAddress
from configs.base import Settings

__all__ = ["StoreSettings"]


class StoreSettings(Settings):
    """The store of datasets, models and promotions."""

    url: str = "file:.recsys/store"
    """Address of the store: `file:<folder>` or `s3://<bucket>/<prefix>`."""
    endpoint_url: PublicAddress | None = None
    """URL of an S3-compatible server. If empty, AWS is used."""
    region: str | None = None
    """Region of the bucket. If empty, boto3's default region is used."""
    access_key_id: str | None = None
    """Access key id. If empty, boto3's credential chain (environment, profile, instance role) is used."""
    secret_access_key: SecretStr | None = None
    """Secret access key, for runs on this machine only. It cannot be passed to a deployment, because everyone who can see the
    server can read a deployment's parameters."""
    timeout_s: float = Field(default=20.0, gt=0)
    """Seconds without a response after which a request fails."""
    attempts: int = Field(default=4, ge=1)
    """Maximum number of attempts for a request that fails with a transient error."""
    part_mb: int = Field(default=32, ge=5, le=4096)
    """Size in megabytes of one part of an upload to S3. A larger file is sent in parts, so that a broken connection costs one
    part only."""

    @field_validator("url")
    @classmethod
    def _names_a_store(cls, url: str) -> str:
        scheme, colon, rest = url.partition(":")
        folder = rest.removeprefix("//") if rest.startswith("///") else rest
        bucket = rest.removeprefix("//").partition("/")[0] if rest.startswith("//") else ""
        if not colon or not ((scheme == "file" and folder and not folder.startswith("//")) or (scheme == "s3" and bucket)):
            raise ValueError("write file:<folder> for a folder, such as file:.recsys/store, or s3://<bucket>/<prefix> for S3")
        return url
