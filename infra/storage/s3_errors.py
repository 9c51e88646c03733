"""Turn boto3's errors into the store's, which name the cause and the remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3.exceptions
import botocore.exceptions
import botocore.parsers

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
from infra.storage.s3_connection import ASKS_FOR_FEWER, is_aws

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
REFUSED = {"403", "AccessDenied"}  # also the answer for an absent object, to a role that may not list the whole bucket
EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
ELSEWHERE = {
    "301",
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "InvalidRegionName",
}
FULL = {"507", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}
CONFLICT = {"409", "ConditionalRequestConflict", "OperationAborted"}
TAKEN = {"412", "PreconditionFailed"}
MISSING = {"404", "NoSuchKey", "NotFound"}
GONE = {"NoSuchUpload"}  # the upload was completed or aborted
BUSY = {"RequestTimeout", "503", "500"}
NEVER = (501, 505)  # statuses of a server that cannot do what was asked, now or later
BROKEN_OFF = (botocore.exceptions.HTTPClientError, botocore.exceptions.IncompleteReadError)
UNREACHABLE = (botocore.exceptions.ConnectionError, *BROKEN_OFF)
NO_CREDENTIALS = (botocore.exceptions.NoCredentialsError, botocore.exceptions.PartialCredentialsError)
NOT_RENEWED = (
    botocore.exceptions.CredentialRetrievalError,
    botocore.exceptions.ConfigNotFound,
    botocore.exceptions.ConfigParseError,
    botocore.exceptions.InfiniteLoopConfigError,
    botocore.exceptions.InvalidConfigError,
    botocore.exceptions.MetadataRetrievalError,
    botocore.exceptions.ProfileNotFound,
    botocore.exceptions.RefreshWithMFAUnsupportedError,
    botocore.exceptions.SSOError,
    botocore.exceptions.TokenRetrievalError,
    botocore.exceptions.UnknownCredentialError,
)
# Everything that boto3 and botocore raise of their own accord. Some of it derives from Exception only.
OTHERS = (
    boto3.exceptions.Boto3Error,
    botocore.exceptions.BotoCoreError,
    botocore.exceptions.UndefinedModelAttributeError,
    botocore.parsers.ResponseParserError,
)


def code_of(error: botocore.exceptions.ClientError) -> str:
    """Return S3's code of the error, or the HTTP status if the answer had no body."""
    return str(error.response.get("Error", {}).get("Code", ""))


class S3Errors:
    """The errors of one bucket. No message shows a password."""

    def __init__(self, client: Any, bucket: str, settings: StoreSettings) -> None:
        self._client, self._bucket, self._settings = client, bucket, settings
        self._bucket_seen = False
        self.server = "AWS" if is_aws(client.meta.endpoint_url) else shown_address(client.meta.endpoint_url)  # for people

    @contextmanager
    def translated(self, uri: str, trial: str | None = None, read: str | None = None) -> Iterator[None]:
        """Raise what the block raises about the object at `uri` as StoreError, one of its subclasses, or SettingsError.

        Args:
            uri: Address of the object.
            trial: For a write: the name of an object that may be written to find out why the write is denied.
            read: For a read: the name of the object, which may be absent.
        """
        try:
            yield
        except botocore.exceptions.ClientError as error:
            with self.translated(uri):  # a request may be needed to find out what is missing
                if trial and code_of(error) == "AccessDenied" and (kind := self._accepted_encryption(trial)):
                    raise StoreDeniedError(
                        f"The bucket {self._bucket} accepts encrypted objects only. Set store.encryption to {kind} (and store.kms_key_id "
                        "to the key that its policy names, if it names one)."
                    ) from error
                if read and code_of(error) in REFUSED and self._is_absent(read, error.operation_name):
                    raise NotFoundError(f"{uri} is not in the store.") from error
                raise self._store_error(error, uri) from error
        except botocore.exceptions.ParamValidationError as error:
            raise SettingsError(f"The store {self._settings.url} is not an S3 address: {error} Correct store.url.") from error
        except NO_CREDENTIALS as error:
            raise StoreDeniedError(
                f"No S3 credentials were found for the bucket {self._bucket}. Set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or an AWS profile or role."
            ) from error
        except NOT_RENEWED as error:
            raise StoreDeniedError(
                f"The S3 credentials for the bucket {self._bucket} cannot be obtained or renewed: {self._text(error)}. Check the AWS "
                "profile or role in use, or sign in again."
            ) from error
        except (*UNREACHABLE, botocore.exceptions.NoRegionError) as error:
            raise StoreUnavailableError(
                f"The S3 server at {self.server} does not answer (bucket {self._bucket}): {self._text(error)}. Check "
                "store.endpoint_url, store.region and the network, and run again."
            ) from error
        except botocore.parsers.ResponseParserError as error:
            raise StoreError(
                f"The server at {self.server} does not answer as S3 does ({self._text(error)[:200]}). Check store.endpoint_url: it must be "
                "the address of the S3 API."
            ) from error
        except OTHERS as error:
            raise StoreError(
                f"boto3 failed on {uri}: {self._text(error)}. Check the AWS profile and variables in use, and the settings under store."
            ) from error

    def _store_error(self, error: botocore.exceptions.ClientError, uri: str) -> StoreError:
        code = code_of(error)
        message = error.response.get("Error", {}).get("Message") or ""  # Ceph sends an empty one
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
        if code.startswith("KMS.") or (code in DENIED and "kms:" in message):
            return StoreDeniedError(
                f"{uri} cannot be used with its KMS key ({code} {message}). Check store.kms_key_id, and that the key's policy allows "
                "these credentials kms:GenerateDataKey and kms:Decrypt."
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
        if (
            (status >= 500 and status not in NEVER)
            or status == 429
            or code in BUSY | ASKS_FOR_FEWER
            or code.startswith("SlowDown")
        ):
            return StoreUnavailableError(f"The S3 server at {self.server} failed on {uri} ({code} {message}); run again later.")
        return StoreError(f"S3 refused {uri}: {code} {message}.")

    def _accepted_encryption(self, trial: str) -> str | None:
        """Return the encryption without which the bucket denies a write, or None if that is not why. Writes and removes `trial`."""
        if self._settings.encryption or self._accepts(trial):
            return None
        return next((kind for kind in ("AES256", "aws:kms") if self._accepts(trial, ServerSideEncryption=kind)), None)

    def _accepts(self, trial: str, **options: str) -> bool:
        place = {"Bucket": self._bucket, "Key": trial}
        try:
            self._client.put_object(**place, Body=b"", **options)
            self._client.delete_object(**place)
        except botocore.exceptions.ClientError:
            return False
        return True

    def _is_absent(self, name: str, operation: str) -> bool:
        """Return whether an object that was refused does not exist, as far as these credentials may list it.

        S3 says that an object is absent only to roles that may list the bucket without a prefix. The policies of infra/iam/ let
        each role list its own prefixes, so a listing of the object's name tells whether the object exists.

        Args:
            name: Name of the object in the bucket.
            operation: The request that was refused: GetObject or HeadObject.
        """
        place = {"Bucket": self._bucket, "Key": name}
        try:
            page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=name, MaxKeys=1)
            if any(entry["Key"] == name for entry in page.get("Contents", ())):
                if operation == "GetObject":  # it succeeds now if the object was created in the meantime
                    self._client.get_object(**place)["Body"].close()
                else:
                    self._client.head_object(**place)
        except botocore.exceptions.ClientError:
            return False
        return "IsTruncated" in page

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

    def _text(self, error: Exception) -> str:
        return without_password(error, self._settings).rstrip(".")


def without_password(error: Exception, settings: StoreSettings) -> str:
    """Return the error's text without the password that the server's address may contain."""
    return masked(str(error), secrets_of({"url": settings.endpoint_url or ""}))
