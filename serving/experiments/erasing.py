"""Takes erased users out of the logs of exposures and outcomes that are in the store, and out of what is read of them."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from configs.errors import SourceError
from infra.erasures import erased_users
from infra.storage import Store
from models.identity import number_of
from serving.experiments.exposures import Exposure, read_exposures, stored_exposures

__all__ = ["is_erased", "logged_exposures", "rewrite_logs"]

LOGS = {"exposures/": "user", "outcomes/": "user_id"}  # the field with the user of a line, by area


def is_erased(user: int | str, erased: Container[int]) -> bool:
    """Return whether a user is erased, given the id as it is logged or as text.

    Text of digits is taken for both a whole number and a text id: the files of outcomes do not tell which it is.
    """
    if isinstance(user, int):
        return user in erased
    return number_of(user) in erased or (user.isascii() and user.isdigit() and int(user) in erased)


def logged_exposures(store: Store, path: Path | None = None) -> Iterator[Exposure]:
    """Yield exposures of the store, or of a file or folder, without those of erased users.

    Raises:
        SourceError: If there are none, or if a line is not a valid exposure.
    """
    erased = erased_users(store)
    found = stored_exposures(store) if path is None else read_exposures(path)
    return found if not erased else (each for each in found if not is_erased(each.user, erased))


def rewrite_logs(store: Store, erased: Container[int]) -> tuple[int, int]:
    """Replace the stored files of both logs that have lines of erased users. Return the numbers of files and of lines.

    The new file is stored before the former one is deleted, so a killed run loses nothing. Exposures that are in both files for a while
    have the same request, and outcomes the same key.

    Raises:
        SourceError: If a line is not JSON.
    """
    files = lines = 0
    for area, field in LOGS.items():
        for key in [key for key in store.list(area) if key.endswith(".jsonl")]:
            content = store.get(key).splitlines(keepends=True)
            kept = [line for line in content if not is_erased(_user_in(line, field, store.uri(key)), erased)]
            if len(kept) < len(content):
                if kept:
                    store.put(_next(key), b"".join(kept))
                store.delete(key)
                files, lines = files + 1, lines + len(content) - len(kept)
    return files, lines


def _user_in(line: bytes, field: str, where: str) -> Any:
    try:
        return json.loads(line)[field]
    except (ValueError, KeyError, TypeError) as error:
        raise SourceError(f"{where} has a line without {field}: fix or remove it ({error}).") from error


def _next(key: str) -> str:
    """Return the name of the file that replaces another one: `...-e1.jsonl`, `...-e2.jsonl` and so on."""
    path = PurePosixPath(key)
    stem, _, number = path.stem.rpartition("-e")
    if stem and number.isdigit():
        return str(path.with_name(f"{stem}-e{int(number) + 1}.jsonl"))
    return str(path.with_name(f"{path.stem}-e1.jsonl"))
