"""Turn boto3's errors into the store's, which name the cause and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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

__all__ = ["BROKEN_OFF", "CONFLICT", "GONE", "MISSING", "TAKEN", "UNREACHABLE", "S3Errors", "code_of", "without_password"]

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
BUSY = {"SlowDown", "RequestTimeout", "503", "500"}
BROKEN_OFF = (botocore.exceptions.HTTPClientError, botocore.exceptions.IncompleteReadError)
UNREACHABLE = (botocore.exceptions.ConnectionError, *BROKEN_OFF)


def code_of(error: botocore.exceptions.ClientError) -> str:
    """Return S3's code of the error, or the HTTP status if the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


class S3Errors:
    """The errors of one bucket. No message shows a password."""

    def __init__(self, client: Any, bucket: str, settings: StoreSettings) -> None:
        self._client, self._bucket, self._settings = client, bucket, settings
        self._bucket_seen = False

    @property
    def server(self) -> str:
        """The server, for people."""
        return shown_address(self._settings.endpoint_url) if self._settings.endpoint_url else "AWS"

    @contextmanager
    def translated(self, uri: str) -> Iterator[None]:
        """Raise what the block raises about the object at `uri` as StoreError, one of its subclasses, or SettingsError."""
        try:
            yield
        except botocore.exceptions.ClientError as error:
            with self.translated(uri):  # a request may be needed to find out whether the bucket or the object is missing
                raise self._store_error(error, uri) from error
        except botocore.exceptions.ParamValidationError as error:
            raise SettingsError(f"The store {self._settings.url} is not an S3 address: {error} Correct store.url.") from error
        except (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError) as error:
            raise StoreDeniedError(
                f"No S3 credentials were found for the bucket {self._bucket}. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or an AWS profile or role."
            ) from error
        except (*UNREACHABLE, botocore.exceptions.NoRegionError) as error:
            raise StoreUnavailableError(
                f"The S3 server at {self.server} does not answer (bucket {self._bucket}): {without_password(error, self._settings)}. Check "
                "store.endpoint_url, store.region and the network, and run again."
            ) from error

    def _store_error(self, error: botocore.exceptions.ClientError, uri: str) -> StoreError:
        code = code_of(error)
        message = error.response.get("Error", {}).get("Message", "")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code == "NoSuchBucket" or (code == "404" and self._bucket_is_missing()):
            return StoreDeniedError(
                f"The bucket {self._bucket} does not exist at {self.server}. Create it, or correct store.url."
            )
        if code in MISSING:
            return NotFoundError(f"{uri} is not in the store.")
        if code in TAKEN:
            return AlreadyExistsError(f"{uri} was replaced while it was being read.")
        if code in EXPIRED:
            return StoreDeniedError(
                f"The credentials for {uri} have expired ({code} {message}). Renew {self._credentials()}, with AWS_SESSION_TOKEN "
                "if they are temporary. A role renews them automatically."
            )
        if code in ELSEWHERE:
            return StoreDeniedError(
                f"The bucket {self._bucket} is not in the region {self._client.meta.region_name} ({code} {message}). Set "
                "store.region to the bucket's region."
            )
        if code == "RequestTimeTooSkewed":
            return StoreDeniedError(
                f"The S3 server at {self.server} refuses the time of this machine ({message}). Set the clock, and run again."
            )
        if code in DENIED:
            return StoreDeniedError(
                f"The S3 server at {self.server} refuses these credentials for {uri} ({code} {message}). Check "
                f"{self._credentials()} and the bucket's policy."
            )
        if code in FULL:
            return StoreFullError(
                f"The S3 server at {self.server} is full or its quota is used up ({code}); free space and run again."
            )
        if status >= 500 or code in BUSY:
            return StoreUnavailableError(f"The S3 server at {self.server} failed on {uri} ({code} {message}); run again later.")
        return StoreError(f"S3 refused {uri}: {code} {message}.")

    def _bucket_is_missing(self) -> bool:
        """Return whether a 404 was about the bucket, not the object. The answer to a HEAD has no body that would show it."""
        if self._bucket_seen:
            return False
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except botocore.exceptions.ClientError as error:
            return code_of(error) in MISSING
        self._bucket_seen = True
        return False

    def _credentials(self) -> str:
        if self._settings.access_key_id:
            return "store.access_key_id and store.secret_access_key"
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or the profile or role in use)"


def without_password(error: Exception, settings: StoreSettings) -> str:
    """Return the error's text without the password that the server's address may contain."""
    return masked(str(error), secrets_of({"url": settings.endpoint_url or ""}))
