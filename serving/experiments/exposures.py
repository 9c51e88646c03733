"""Exposures: who was shown what, by which version, in which arm. They are written to a sink and read from files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from configs.errors import SourceError
from infra.storage import Store

__all__ = ["OPEN", "Exposure", "ExposureSink", "read_exposures", "stored_exposures"]

OPEN = ".open"  # ends the name of a file that is still being written


@dataclass(frozen=True)
class Exposure:
    """One answer: the list that a user was shown, or that a shadow version would have shown."""

    time: int  # UTC seconds
    user: int | str
    request: str  # id of the request, as in the response header
    version: str  # of the model that made the list; never `champion`
    items: Sequence[int]  # raw ids, best first
    experiment: str | None = None
    arm: str | None = None
    revision: str | None = None
    shadow: bool = False


EXPOSURE = TypeAdapter(Exposure)


class ExposureSink(Protocol):
    """Takes exposures while requests are being answered. `ExposureLog` is the default; another sink may send them elsewhere."""

    @property
    def dropped(self) -> int:
        """The number of exposures that were lost so far, for the metrics."""

    def write(self, exposure: Exposure) -> None:
        """Take one exposure. Must neither block nor raise: it is called in the event loop."""

    def close(self) -> None:
        """Deliver what was taken. Called once, after the last request."""


def read_exposures(path: Path) -> Iterator[Exposure]:
    """Yield the exposures of a file, or of every file in a folder and its subfolders.

    Raises:
        SourceError: If a line is not a valid exposure (names the file and line), or if the path holds no exposure files.
    """
    files = sorted(p for p in path.rglob("*") if p.name.endswith((".jsonl", ".jsonl" + OPEN))) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise SourceError(f"{path} holds no exposures: give a .jsonl file of the exposure log, or a folder of these files.")
    for file in files:
        with file.open("rb") as lines:
            yield from _parsed(lines, str(file))


def stored_exposures(store: Store) -> Iterator[Exposure]:
    """Yield the exposures that logs have uploaded to the store.

    Raises:
        SourceError: If there are none, or if a line is not a valid exposure.
    """
    keys = [key for key in store.list("exposures/") if key.endswith(".jsonl")]
    if not keys:
        raise SourceError(f"{store.uri('exposures')} holds no exposures: give the folder of the log with --exposures.")
    for key in keys:
        yield from _parsed(store.get(key).splitlines(keepends=True), store.uri(key))


def _parsed(lines: Iterable[bytes], name: str) -> Iterator[Exposure]:
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n") and name.endswith(OPEN):
            continue  # the writer is still writing this line, or was killed while writing it
        try:
            yield EXPOSURE.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise SourceError(
                f"{name}, line {number} is not a valid exposure ({where}: {first['msg']}): fix or remove the line."
            ) from error
