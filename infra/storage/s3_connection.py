"""The client of an S3 server: its address, credentials, checksums, encryption and retries."""

from __future__ import annotations

import os
import random
import time
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.config
import botocore.session

from configs.settings import StoreSettings
from infra.storage.s3_credentials import FollowedCredentials, follow_credentials

__all__ = ["ASKS_FOR_FEWER", "connect", "is_aws"]

ASKS_FOR_FEWER = {"429", "RequestLimitExceeded", "RequestThrottled", "Throttling", "ThrottlingException", "TooManyRequests"}
SINCE = "recsys_slow_down_since"  # in the context of a request (monotonic seconds)
LONGEST_PAUSE_S = 20.0
CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")


def connect(settings: StoreSettings) -> Any:
    """Return a boto3 client for the server that the settings, boto3's variables or its configuration file name."""
    found = botocore.session.get_session()
    own_keys = settings.access_key_id or settings.secret_access_key
    credentials = None if own_keys else follow_credentials(found)
    # Use a separate session: boto3.client keeps the first credentials that the process found.
    session, profile = boto3.session.Session(botocore_session=found), found.get_scoped_config()
    elsewhere = settings.endpoint_url is not None and not is_aws(settings.endpoint_url)
    client = _client(session, profile, settings, elsewhere=elsewhere)
    if not elsewhere and not is_aws(client.meta.endpoint_url):  # a variable or the configuration file names the server
        client = _client(session, profile, settings, elsewhere=True)
    client.meta.events.register_first("needs-retry.s3", _Retries(credentials, settings.slow_down_s))
    for operation in ("PutObject", "CreateMultipartUpload", "CopyObject"):
        client.meta.events.register(f"provide-client-params.s3.{operation}", _Encryption(settings))
    return client


def is_aws(endpoint_url: str) -> bool:
    """Return whether the address is one of AWS's."""
    host = urlsplit(endpoint_url).hostname or ""
    return host.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws"))


def _client(session: boto3.session.Session, profile: dict[str, Any], settings: StoreSettings, *, elsewhere: bool) -> Any:
    """Return a client.

    Args:
        session: The session.
        profile: boto3's configuration file, as far as it applies.
        settings: The store.
        elsewhere: Whether the server is not AWS's.
    """
    secret = settings.secret_access_key
    return session.client(
        "s3",
        endpoint_url=settings.endpoint_url,
        region_name=settings.region or _region(session.region_name, settings, elsewhere=elsewhere),
        aws_access_key_id=settings.access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=botocore.config.Config(
            connect_timeout=settings.timeout_s,
            read_timeout=settings.timeout_s,
            retries={"mode": "standard", "total_max_attempts": settings.attempts},
            s3=_addressing(profile, settings, elsewhere=elsewhere),
            **_checksums(profile, elsewhere=elsewhere),
        ),
    )


def _region(found: str | None, settings: StoreSettings, *, elsewhere: bool) -> str | None:
    """Return the region to sign for where the settings name none. Most servers other than AWS's take us-east-1."""
    if elsewhere and settings.endpoint_url:  # the environment's region belongs to AWS
        return "us-east-1"
    return found or ("us-east-1" if elsewhere else None)


def _addressing(profile: dict[str, Any], settings: StoreSettings, *, elsewhere: bool) -> dict[str, str]:
    if settings.addressing != "auto":
        return {"addressing_style": settings.addressing}
    own = profile.get("s3")
    if isinstance(own, dict) and "addressing_style" in own:
        return {}
    # Servers other than AWS seldom have a host name for each bucket.
    return {"addressing_style": "path"} if elsewhere else {}


def _checksums(profile: dict[str, Any], *, elsewhere: bool) -> dict[str, str]:
    """Return the checksum settings that boto3's own variables and configuration file leave open.

    Servers other than AWS may not know the checksums that boto3 adds by default since 1.36.
    """
    left_open = [name for name in CHECKSUMS if f"AWS_{name.upper()}" not in os.environ and name not in profile]
    return dict.fromkeys(left_open, "when_required" if elsewhere else "when_supported")


class _Encryption:
    """Lets each request that makes an object ask for the encryption that the settings name."""

    def __init__(self, settings: StoreSettings) -> None:
        asked = {
            "ServerSideEncryption": settings.encryption,
            "SSEKMSKeyId": settings.kms_key_id,
            "BucketKeyEnabled": settings.kms_bucket_key,
        }
        self._asked = {name: value for name, value in asked.items() if value is not None}

    def __call__(self, params: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {**self._asked, **params}


class _Retries:
    """Decides on retries before botocore's own rules do: with new credentials, and while the server asks for fewer requests."""

    def __init__(self, credentials: FollowedCredentials | None, slow_down_s: float) -> None:
        self._credentials, self._slow_down_s = credentials, slow_down_s

    def __call__(
        self, response: tuple[Any, dict[str, Any]] | None, attempts: int, request_dict: dict[str, Any], **_: Any
    ) -> float | None:
        """Return the seconds after which the request is sent again, or None to leave it to botocore."""
        if response is None:
            return None
        code = str(response[1].get("Error", {}).get("Code", ""))
        context = request_dict["context"]
        if self._credentials and self._credentials.renewed_after(code, request_dict["method"], context):
            return 0.0
        if code in ASKS_FOR_FEWER or code.startswith("SlowDown"):
            since = context.setdefault(SINCE, time.monotonic())
            pause = min(LONGEST_PAUSE_S, 0.5 * 2.0 ** min(attempts, 10)) * random.uniform(0.5, 1.0)
            if time.monotonic() + pause - since <= self._slow_down_s:
                return pause
        return None
