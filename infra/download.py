"""Download datasets. Downloads are resumed and verified, and an incomplete file is never visible under its final name."""

from __future__ import annotations

import os
from collections.abc import Callable
from netrc import NetrcParseError
from pathlib import Path

import httpx
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential

from configs.errors import SourceError
from configs.redaction import shown_address
from infra.digests import digest_of

__all__ = ["OnBytes", "check_digest", "download"]

OnBytes = Callable[[int, int | None], None]
"""Called with the number of bytes received so far and the total size, or None if the server does not report the size."""


def download(
    url: str,
    path: Path,
    *,
    checksum: str | None = None,
    timeout_s: float = 30.0,
    retries: int = 4,
    on_bytes: OnBytes | None = None,
    pause_s: float = 0.5,
) -> None:
    """Download `url` to `path`.

    The bytes go to `<path>.part` first. An interrupted download resumes from there, in this run or the next one.

    Args:
        url: Address of the file.
        path: Where the complete file goes.
        checksum: The expected digest, as `md5:<hex>` or `sha256:<hex>`.
        timeout_s: Seconds to wait for the server.
        retries: How many failures in a download are retried.
        on_bytes: Receives the progress.
        pause_s: Seconds before the first retry; the pause doubles with each retry.

    Raises:
        SourceError: The server cannot be reached, refuses, or sends content that does not match the checksum, or the bytes
            cannot be written.
    """
    if checksum is not None:
        _split(checksum)  # refuse a malformed checksum before the download, not after it
    part = path.with_name(path.name + ".part")
    attempts = Retrying(
        stop=stop_after_attempt(retries + 1),
        wait=wait_exponential(pause_s),
        retry=retry_if_exception_type((httpx.HTTPError, httpx.InvalidURL, _BrokenOffError)),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        attempts(_receive, url, part, timeout_s, on_bytes)
    except OSError as error:
        raise SourceError(
            f"{shown_address(url)} cannot be written to {part}: {error.strerror or error}. Free space there, or choose another data.cache_dir."
        ) from error
    except RetryError as given_up:
        last = given_up.last_attempt
        cause = last.exception()
        raise SourceError(
            f"{shown_address(url)} could not be downloaded ({type(cause).__name__}: {cause}; {last.attempt_number} attempts). Without a network, "
            "give a local zip, folder or ratings file (data.local_path), or a mirror (data.mirror_url). The bytes "
            f"received so far are kept in {part}, and a later run resumes from there."
        ) from cause
    if checksum is not None:
        check_digest(part, checksum, f"downloaded from {shown_address(url)}", discard=True)
    part.replace(path)


def check_digest(path: Path, checksum: str, origin: str, *, discard: bool = False) -> None:
    """Verify a file's digest.

    Args:
        path: The file.
        checksum: The expected digest, as `md5:<hex>` or `sha256:<hex>`.
        origin: Where the file comes from, for the message.
        discard: Delete the file if its digest is wrong.

    Raises:
        SourceError: The digest is not the expected one.
    """
    kind, expected = _split(checksum)
    found = digest_of(path, kind)
    if found != expected.lower():
        if discard:
            path.unlink()
        raise SourceError(
            f"The file {path.name} {origin} has the {kind} {found}, not the expected {expected}: it is damaged, or it is another "
            f"release. {'It was discarded' if discard else 'Delete it'}; get it again, or correct data.checksum if this content is "
            "the intended one."
        )


def _split(checksum: str) -> tuple[str, str]:
    kind, _, expected = checksum.partition(":")
    if kind not in ("md5", "sha256") or not expected:
        raise SourceError(f"data.checksum is {checksum!r}: write md5:<hex> or sha256:<hex>.")
    return kind, expected


def _credentials() -> httpx.NetRCAuth | None:
    """Return the user's passwords by host. An address with a password would be a parameter that others can read."""
    named = os.environ.get("NETRC")
    file = Path(named or os.path.expanduser("~/.netrc"))
    try:
        if not named and not file.is_file():
            return None
        return httpx.NetRCAuth(str(file))
    except OSError as error:
        raise SourceError(f"{file} cannot be read ({error.strerror}). Correct it, or name another file in NETRC.") from None
    except NetrcParseError as error:
        raise SourceError(
            f"{file} cannot be read, line {error.lineno}: {error.msg}. Correct it, or name another file in NETRC."
        ) from None


class _BrokenOffError(Exception):
    """The answer does not continue the file, or the server asks the client to come back later."""


def _receive(url: str, part: Path, timeout_s: float, on_bytes: OnBytes | None) -> None:
    """Append the missing bytes to `part`. Start over if the server's file has changed (If-Range with the part's validator)."""
    validator_file = part.with_name(part.name + ".etag")
    validator = validator_file.read_text(encoding="utf-8") if part.exists() and validator_file.exists() else ""
    have = part.stat().st_size if validator else 0
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    headers["Accept-Encoding"] = "identity"
    with httpx.stream("GET", url, headers=headers, timeout=timeout_s, follow_redirects=True, auth=_credentials()) as answer:
        if answer.status_code == 416:  # nothing is missing, or the part is longer than the file: start over
            part.unlink()
            raise _BrokenOffError("the server refuses the missing range")
        if answer.status_code >= 500 or answer.status_code == 429:
            raise _BrokenOffError(f"the server answered {answer.status_code}")
        if answer.status_code >= 400:
            raise SourceError(
                f"{shown_address(url)} was refused with status {answer.status_code}. Check data.source and data.mirror_url, or give a local "
                "file (data.local_path)."
            )
        resumed = answer.status_code == 206
        if resumed and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            part.unlink()
            raise _BrokenOffError("the server did not send the missing range")
        received = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = received + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            # Write the validator after the file is truncated. If the process were killed between the two steps in the other
            # order, the new validator would vouch for old bytes.
            validator_file.write_text(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "", encoding="utf-8")
            for block in answer.iter_bytes(1 << 16):
                file.write(block)
                received += len(block)
                if on_bytes is not None:
                    on_bytes(received, total)
    validator_file.unlink()
