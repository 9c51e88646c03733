"""Downloads of data sets: resumed, checked, and never seen half-done."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from configs.errors import SourceError
from configs.redaction import shown_address

__all__ = ["OnBytes", "check_digest", "download"]

OnBytes = Callable[[int, int | None], None]
"""Called with the bytes received so far and the size, if the server tells it."""


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
    """Download `url` to `path`; bytes gather in `<path>.part`, from where a broken download goes on, in this run or the next.

    `checksum` is `md5:<hex>` or `sha256:<hex>`. Raises SourceError when the server cannot be reached, refuses, or sends
    something else than the checksum says, and when the bytes cannot be written.
    """
    if checksum is not None:
        _split(checksum)  # a misspelt one is refused before the bytes are fetched, not after
    part = path.with_name(path.name + ".part")
    failures = 0
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _receive(url, part, timeout_s, on_bytes)
            break
        except OSError as error:
            raise SourceError(
                f"{shown_address(url)} cannot be written to {part}: {error.strerror or error}. Free space there, or choose another data.cache_dir."
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, _BrokenOffError) as error:
            failures += 1
            if failures > retries:
                raise SourceError(
                    f"{shown_address(url)} could not be downloaded ({type(error).__name__}: {error}; {failures} attempts). Without a network, "
                    "give a local zip, folder or ratings file (data.local_path), or a mirror (data.mirror_url). What has arrived "
                    f"is kept in {part} and a later run goes on from there."
                ) from error
            time.sleep(pause_s * 2 ** (failures - 1))
    if checksum is not None:
        check_digest(part, checksum, f"downloaded from {shown_address(url)}", discard=True)
    part.replace(path)


def check_digest(path: Path, checksum: str, origin: str, *, discard: bool = False) -> None:
    """Raises SourceError when the file's digest is not `checksum` (`md5:<hex>` or `sha256:<hex>`)."""
    kind, expected = _split(checksum)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    if found != expected.lower():
        if discard:
            path.unlink()
        raise SourceError(
            f"The file {path.name} {origin} has the {kind} {found}, not the expected {expected}: it is damaged or another "
            f"release. {'It was discarded' if discard else 'Delete it'}; get it again, or correct data.checksum if this content is "
            "the wanted one."
        )


def _split(checksum: str) -> tuple[str, str]:
    kind, _, expected = checksum.partition(":")
    if kind not in ("md5", "sha256") or not expected:
        raise SourceError(f"data.checksum is {checksum!r}: write md5:<hex> or sha256:<hex>.")
    return kind, expected


class _BrokenOffError(Exception):
    """The answer is not the missing part, or the server asks to come back later."""


def _receive(url: str, part: Path, timeout_s: float, on_bytes: OnBytes | None) -> None:
    """Append to `part` what is missing. A changed file at the server restarts it (If-Range with the part's validator)."""
    validator_file = part.with_name(part.name + ".etag")
    validator = validator_file.read_text(encoding="utf-8") if part.exists() and validator_file.exists() else ""
    have = part.stat().st_size if validator else 0
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    headers["Accept-Encoding"] = "identity"
    with httpx.stream("GET", url, headers=headers, timeout=timeout_s, follow_redirects=True) as answer:
        if answer.status_code == 416:  # nothing is missing, or the part is longer than the file: begin again
            part.unlink()
            raise _BrokenOffError("the server refuses the range that is missing")
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
            raise _BrokenOffError("the server sent another range than the one that is missing")
        received = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = received + int(length) if length else None
        with part.open("ab" if resumed else "wb") as file:
            # Only now: had the old bytes stayed, killed in between, the new validator would vouch for them.
            validator_file.write_text(answer.headers.get("ETag") or answer.headers.get("Last-Modified") or "", encoding="utf-8")
            for block in answer.iter_bytes(1 << 16):
                file.write(block)
                received += len(block)
                if on_bytes is not None:
                    on_bytes(received, total)
    validator_file.unlink()
