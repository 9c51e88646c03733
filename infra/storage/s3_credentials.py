"""AWS credentials that follow their source: they are looked up again after their file changes, and after the server refuses them."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Any

import botocore.exceptions
import botocore.session
from botocore.credentials import CredentialProvider, CredentialResolver, Credentials

__all__ = ["FollowedCredentials", "follow_credentials"]

LOG = logging.getLogger(__name__)
REFUSED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
REFUSED_HEAD = {"400", "403"}  # the answer to a HEAD has no body that would tell more
RENEWED = "recsys_renewed"  # in the context of a request: the credentials were looked up again for it


class FollowedCredentials(Credentials):  # type: ignore[misc]
    """What botocore's chain finds: environment, files, role.

    botocore reads the files once for each session. A key that is rotated in them would be used until the process ends.
    """

    def __init__(self, files: list[Path]) -> None:
        super().__init__("", "", method="recsys")  # botocore asks for the keys at each signature
        self._files = files
        self._lock = threading.Lock()
        self._found: Credentials | None = None
        self._stamp: list[tuple[int, int, int] | None] = []

    def get_frozen_credentials(self) -> Any:
        """Return the keys to sign with. Raises botocore's errors if there are none, or if they cannot be renewed."""
        with self._lock:
            if self._found is None or self._stamp != [_stamp_of(path) for path in self._files]:
                self._look_up()
            found = self._found
        if found is None:
            raise botocore.exceptions.NoCredentialsError
        return found.get_frozen_credentials()

    def renewed_after(self, code: str, method: str, context: dict[str, Any]) -> bool:
        """Look the credentials up again if the server refused them, once for each request.

        Args:
            code: The error code of the answer.
            method: The HTTP method of the request.
            context: The context that all attempts of the request share.

        Returns:
            Whether the request should be sent again.
        """
        if context.get(RENEWED) or code not in (REFUSED | REFUSED_HEAD if method == "HEAD" else REFUSED):
            return False
        context[RENEWED] = True
        with self._lock:
            self._look_up()
        return True

    def _look_up(self) -> None:
        """Look the credentials up. If a file cannot be read, because it is being rewritten, the earlier ones stay in use."""
        stamp = [_stamp_of(path) for path in self._files]
        try:
            found = botocore.session.get_session().get_credentials()
        except botocore.exceptions.BotoCoreError as error:
            if self._found is None:
                raise
            LOG.warning("The AWS credentials cannot be read again: %s. The earlier ones stay in use.", error)
            return
        if found is not None:
            self._found, self._stamp = found, stamp


class _Provider(CredentialProvider):  # type: ignore[misc]
    METHOD = "recsys"

    def __init__(self, credentials: FollowedCredentials) -> None:
        super().__init__()
        self._credentials = credentials

    def load(self) -> FollowedCredentials:
        return self._credentials


def follow_credentials(session: botocore.session.Session) -> FollowedCredentials:
    """Let the clients of a session sign with credentials that follow their source."""
    files = [Path(session.get_config_variable(name)).expanduser() for name in ("credentials_file", "config_file")]
    credentials = FollowedCredentials(files)
    session.register_component("credential_provider", CredentialResolver(providers=[_Provider(credentials)]))
    return credentials


def _stamp_of(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
