"""The files of a version: their digests, their transfer and their verification.

A list of files is a dictionary that maps each name to its sha256.
"""

from __future__ import annotations

from pathlib import Path

from configs.errors import NotFoundError, VersionCorruptError
from infra.digests import sha256_of, sha256_of_json
from infra.storage import Store

__all__ = ["content_digest", "fetch_files", "file_digests", "read_file", "refuse_changed", "verify_files"]


def file_digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each file in `folder` by name, without hidden files. Raises VersionCorruptError if there is a link."""
    paths = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    links = [path.name for path in paths if path.is_symlink()]
    if links:
        raise VersionCorruptError(f"{folder / links[0]} is a link, but a version consists of regular files only. Train again.")
    return {path.name: sha256_of(path) for path in paths if path.is_file()}


def content_digest(files: dict[str, str]) -> str:
    """Return the digest that a version's name carries: 128 bits over the name and sha256 of each file."""
    return sha256_of_json(files)[:32]


def refuse_changed(folder: Path, expected: dict[str, str], *, since: str, more: bool = False) -> None:
    """Refuse a local folder that has changed.

    Args:
        folder: The folder.
        expected: The sha256 that each file had, by name.
        since: What had been done with the files by then, for the message: `trained`, `evaluated`.
        more: Whether added files are allowed.

    Raises:
        VersionCorruptError: A file was changed, removed or added. The message names the file.
    """
    found = file_digests(folder)
    for name in sorted(expected.keys() | (set() if more else found.keys())):
        if found.get(name) != expected.get(name):
            how = "added" if name not in expected else "removed" if name not in found else "changed"
            raise VersionCorruptError(
                f"{folder / name} was {how} after it was {since}, so the figures do not belong to these files. Nothing was "
                "promoted. Run again, and make sure that nothing else writes to work_dir."
            )


def fetch_files(store: Store, prefix: str, files: dict[str, str], folder: Path) -> Path:
    """Copy files from the store to `folder`, and verify each one.

    Args:
        store: The store.
        prefix: Prefix of the files in the store.
        files: The sha256 of each file, by name.
        folder: Where the copies go; created if it does not exist.

    Returns:
        The folder.

    Raises:
        VersionCorruptError: A file is missing or differs from its digest. The message names the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in files.items():
        try:
            store.fetch(f"{prefix}/{name}", folder / name)
        except NotFoundError as error:
            raise _lacking(store, prefix, name) from error
        if sha256_of(folder / name) != expected:
            raise _differing(store, f"{prefix}/{name}")
    return folder


def verify_files(store: Store, prefix: str, files: dict[str, str]) -> None:
    """Verify stored files against the sha256 of each. Holds one file in memory at a time.

    Raises:
        VersionCorruptError: A file is missing or differs. The message names the first one.
    """
    for name, expected in files.items():
        read_file(store, prefix, name, expected)


def read_file(store: Store, prefix: str, name: str, expected: str, most: int | None = None) -> bytes:
    """Read one stored file, and verify it.

    Args:
        store: The store.
        prefix: Prefix of the file in the store.
        name: Name of the file.
        expected: Its sha256.
        most: The most bytes that are read, or None for any number.

    Raises:
        VersionCorruptError: The file is missing or differs.
        StoreError: The file has more than `most` bytes.
    """
    try:
        content = store.get(f"{prefix}/{name}", most)
    except NotFoundError as error:
        raise _lacking(store, prefix, name) from error
    if sha256_of(content) != expected:
        raise _differing(store, f"{prefix}/{name}")
    return content


def _lacking(store: Store, prefix: str, name: str) -> VersionCorruptError:
    return VersionCorruptError(f"{store.uri(prefix)} lacks the file {name} that its manifest names.")


def _differing(store: Store, key: str) -> VersionCorruptError:
    return VersionCorruptError(
        f"{store.uri(key)} differs from its manifest: it was changed after it was stored. The version must not be used; roll back "
        "to another one."
    )
