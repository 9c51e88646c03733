"""Exposures: who was shown what, by which version, in which arm. They are written to a sink and read from files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Protocol

from pydantic import Field, TypeAdapter, ValidationError

from configs.errors import SourceError
from configs.serving import ExposureSettings
from infra.storage import Store
from serving.experiments.log_files import OPEN, files_in, opened

__all__ = ["LATEST", "Exposure", "ExposureSink", "read_exposures", "stored_exposures", "waiting_exposures", "wrong_unit"]

LATEST = 2**33  # the year 2242; larger values are not UTC seconds
UNITS = (("milliseconds", 10**3), ("microseconds", 10**6), ("nanoseconds", 10**9))


@dataclass(frozen=True)
class Exposure:
    """One answer: the list that a user was shown, or that a shadow version would have shown."""

    time: Annotated[int, Field(ge=0, le=LATEST)]  # UTC seconds
    user: int | str
    request: str  # id of the request, as in the response header
    version: str  # of the model that made the list; never `champion`
    items: Sequence[int | str]  # as the team writes their ids, best first
    experiment: str | None = None
    arm: str | None = None
    revision: str | None = None
    shadow: bool = False
    propensities: Sequence[float] | None = None  # probability with which each item is shown; None if each is 1
    teams: Sequence[
        str
    ] = ()  # arm that drafted each item of an interleaved list, whose version is that of both arms, joined by +
    others: Sequence[tuple[int | str, float]] = ()  # items that could have been shown too, with their probabilities


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


def wrong_unit(time: int) -> str:
    """Return, for a time that cannot be UTC seconds, what it looks like and what to do about it."""
    for unit, per_second in UNITS:
        if LATEST < time <= LATEST * per_second:
            return f"which looks like {unit}, but times are UTC seconds: divide by {per_second:,}"
    return "but times are UTC seconds since 1970"


def read_exposures(path: Path) -> Iterator[Exposure]:
    """Yield the exposures of a file, or of every file in a folder and its subfolders.

    Raises:
        SourceError: If a line is not a valid exposure (names the file and line), if the path holds no exposure files, or if a
            file left the folder before it was read.
    """
    files = files_in(path) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise SourceError(f"{path} holds no exposures: give a .jsonl file of the exposure log, or a folder of these files.")
    for file in files:
        yield from _parsed(opened(file, "exposures --exposures").splitlines(keepends=True), str(file))


def stored_exposures(store: Store, folder: Path | None = None) -> Iterator[Exposure]:
    """Yield the exposures that logs have uploaded to the store.

    Args:
        store: The store.
        folder: A log's folder, to point to if the store has no exposures yet. By default, the folder of `recsys serve`.

    Raises:
        SourceError: If there are none, or if a line is not a valid exposure.
    """
    keys = [key for key in store.list("exposures/") if key.endswith(".jsonl")]
    if not keys:
        elsewhere = waiting_exposures(folder)
        raise SourceError(
            f"{store.uri('exposures')} holds no exposures{f' yet, but {elsewhere}' if elsewhere else ''}: give the folder of the "
            "log with --exposures."
        )
    for key in keys:
        yield from _parsed(store.get(key).splitlines(keepends=True), store.uri(key))


def waiting_exposures(folder: Path | None = None) -> str:
    """Return a note on the files of a log that are not in the store. It is empty if there are none.

    Args:
        folder: The log's folder. By default, the folder of `recsys serve`.
    """
    folder = ExposureSettings().folder if folder is None else folder
    files = len(files_in(folder))
    which = "file that is" if files == 1 else "files that are"
    return f"the log in {folder} has {files} {which} not uploaded" if files else ""


def _parsed(lines: Iterable[bytes], name: str) -> Iterator[Exposure]:
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n") and name.endswith(OPEN):
            continue  # the writer is still writing this line, or was killed while writing it
        try:
            yield EXPOSURE.validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            said = f"{where}: {first['msg']}"
            if where == "time" and first["type"] in ("greater_than_equal", "less_than_equal"):
                said = f"time is {first['input']}, {wrong_unit(first['input'])}"
            raise SourceError(f"{name}, line {number} is not a valid exposure ({said}): fix or remove the line.") from error
