"""The store."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from configs.addresses import PublicAddress, WebAddress
from configs.base import Settings

__all__ = ["StoreSettings"]


class StoreSettings(Settings):
    """The store of datasets, models and promotions."""

    url: str = "file:.recsys/store"
    """Address of the store: `file:<folder>` or `s3://<bucket>/<prefix>`."""
    endpoint_url: PublicAddress | None = None
    """URL of an S3-compatible server. If empty, boto3's own settings (AWS_ENDPOINT_URL_S3, a profile) decide, or AWS is used."""
    addressing: Literal["auto", "path", "virtual"] = "auto"
    """Where the name of an S3 bucket is in an address: `path` (host/bucket) or `virtual` (bucket.host). `auto` leaves it to
    boto3 on AWS and is `path` elsewhere."""
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
    slow_down_s: float = Field(default=120.0, ge=0, le=3600)
    """Seconds for which a request is repeated while an S3 server asks for fewer requests (SlowDown). S3 needs a minute or two to
    spread a busy prefix over more machines."""
    part_mb: int = Field(default=32, ge=5, le=4096)
    """Size in megabytes of one part of an upload to S3. A larger file is sent in parts, so that a broken connection costs one
    part only."""
    encryption: Literal["AES256", "aws:kms", "aws:kms:dsse"] | None = None
    """Server-side encryption that each write to S3 asks for. If empty, the bucket's default applies."""
    kms_key_id: str | None = None
    """Id or ARN of the KMS key for `aws:kms` and `aws:kms:dsse`. If empty, S3 uses AWS's own key."""
    kms_bucket_key: bool | None = None
    """Whether objects under `aws:kms` use an S3 bucket key, which asks KMS less often. If empty, the bucket's default applies."""

    pages_url: WebAddress | None = None
    """Address at which people open the pages of this store: that of `recsys serve` or `recsys demo`, with `/pages` at its end, such as
    http://127.0.0.1:8000/pages. The Prefect UI and messages then link to each page. If empty, they show the command that opens it."""

    @property
    def place(self) -> Path | tuple[str, str]:
        """The folder of the store, or its S3 bucket and prefix. Raises ValueError if `url` names neither."""
        return _place(self.url)

    @field_validator("url")
    @classmethod
    def _names_a_store(cls, url: str) -> str:
        _place(url)
        return url

    @model_validator(mode="after")
    def _encryption_settings_fit(self) -> Self:
        if self.kms_key_id is not None and self.encryption not in ("aws:kms", "aws:kms:dsse"):
            raise ValueError("kms_key_id needs encryption: aws:kms or aws:kms:dsse")
        if self.kms_bucket_key is not None and self.encryption != "aws:kms":
            raise ValueError("kms_bucket_key needs encryption: aws:kms")
        return self


def _place(url: str) -> Path | tuple[str, str]:
    scheme, _, rest = url.partition(":")
    if scheme == "file":
        folder = rest.removeprefix("//") if rest.startswith("///") else rest
        if folder and not folder.startswith("//"):
            return Path(folder)
    elif scheme == "s3" and rest.startswith("//"):
        bucket, _, prefix = rest.removeprefix("//").partition("/")
        if bucket:
            return bucket, prefix.strip("/")
    raise ValueError("write file:<folder> for a folder, such as file:.recsys/store, or s3://<bucket>/<prefix> for S3")
