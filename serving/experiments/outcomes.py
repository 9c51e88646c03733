"""Reads outcomes: what users did, which an experiment is judged by. They come from files, and from the log of the API."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.errors import SourceError
from configs.serving import OutcomeSettings
from infra.erasures import erased_users
from infra.storage import Store
from models.columns import Columns
from serving.experiments.erasing import is_erased
from serving.experiments.exposures import LATEST, wrong_unit
from serving.experiments.log_files import OPEN, files_in, opened
from serving.experiments.outcome_log import AREA, id_key

__all__ = ["StoredOutcomes", "all_outcomes", "read_outcomes", "stored_outcomes", "waiting_outcomes"]

CONTENT = ["user", "time", "item", "value", "request"]  # of an outcome
COLUMNS = [*CONTENT, "kind", "key"]
NAMES = {
    "user_id": str,
    "request_id": str,
    "outcome_id": str,
    "kind": str,
    Columns.ITEM: str,
    Columns.FORMER_ITEM: str,
}  # columns read as text, even if their values look like numbers


def all_outcomes(store: Store, path: Path | None = None) -> pd.DataFrame:
    """Return the outcomes that the API has stored and those of a file or folder, as one table without repetitions and erased users.

    An outcome of the file that the API has too counts once: it has the same user and id, or else the same content.

    Args:
        store: The store of the server.
        path: A file, or the folder of an outcome log.

    Returns:
        Columns as `read_outcomes` returns them. If neither has any outcome, the table is empty.

    Raises:
        SourceError: If the file, or a line of the log, cannot be used.
    """
    found = stored_outcomes(store)
    if path is not None:
        told = read_outcomes(path)
        told = told[~_repeats(told, found)]
        found = told if found.empty else pd.concat([found, told], ignore_index=True)
    erased = erased_users(store)
    if erased:
        found = found[[not is_erased(user, erased) for user in found["user"]]].reset_index(drop=True)
    return found


def stored_outcomes(store: Store) -> pd.DataFrame:
    """Return the outcomes that servers have uploaded to the store, each key once. Columns as `read_outcomes` returns them.

    Raises:
        SourceError: If a line cannot be used.
    """
    return _logged((store.get(key), store.uri(key)) for key in _keys(store))


class StoredOutcomes:
    """Who did something since a time, for whoever looks again and again. Each file of the store is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, bytes] = {}

    def __call__(self, since: int) -> list[tuple[str, int]] | None:
        """Return each user (as text) and time (UTC seconds) of an outcome at or after `since`, or None if nobody reports outcomes.

        A repeated report counts once, as in `stored_outcomes`.

        Raises:
            SourceError: If a line cannot be used.
        """
        keys = _keys(self._store)
        # A file is named after the day on which it was begun. It is complete within a day.
        first = f"{datetime.fromtimestamp(since, UTC) - timedelta(days=1):%Y%m%d}"
        recent = [key for key in keys if key.split("/")[1] >= first]
        self._read = {key: self._read[key] if key in self._read else self._store.get(key) for key in recent}
        found = _logged((content, self._store.uri(key)) for key, content in self._read.items())
        found = found[found["time"] >= since]
        return [*zip(found["user"].tolist(), found["time"].tolist(), strict=True)] if keys else None


def _keys(store: Store) -> list[str]:
    return [key for key in store.list(f"{AREA}/") if key.endswith(".jsonl")]


def waiting_outcomes(folder: Path | None = None) -> str:
    """Return a note on the files of a log that are not in the store. It is empty if there are none.

    Args:
        folder: The log's folder. By default, the folder of `recsys serve`.
    """
    folder = OutcomeSettings().folder if folder is None else folder
    files = len(files_in(folder))
    which = "file that is" if files == 1 else "files that are"
    return f"the log in {folder} has {files} {which} not uploaded" if files else ""


def read_outcomes(path: Path) -> pd.DataFrame:
    """Read outcomes from a CSV, Parquet or JSON lines file, or from a folder of the outcome log.

    The columns user_id and timestamp are required; item_id, value (1 if absent), request_id, kind and outcome_id are optional. A
    timestamp is a number of UTC seconds. A column of dates in a Parquet file states its own unit and zone and is converted; without a
    zone, it is in UTC. If rows of one user have the same outcome_id, the first counts.

    Returns:
        user (str), time (int64), item (str, empty if not given), value (float64), request (str, empty if not given), kind (str,
        empty if not given), key (str, equal for repeated reports, empty if a row has no id).

    Raises:
        SourceError: If the file cannot be used; names the file, column and row.
    """
    if path.is_dir():
        files = files_in(path)
        if not files:
            raise SourceError(f"{path} holds no outcomes: give a file of outcomes, or the folder of the outcome log.")
        return _logged((opened(file, "outcomes --outcomes"), str(file)) for file in files)
    readers: dict[str, Callable[[Path], pd.DataFrame]] = {
        ".csv": lambda p: pd.read_csv(p, dtype=NAMES),
        ".parquet": pd.read_parquet,
        ".jsonl": lambda p: _from_lines(p.read_bytes()),
    }
    if path.suffix not in readers:
        raise SourceError(f"{path} is not an outcomes file: give a .csv, .parquet or .jsonl file.")
    try:
        raw = readers[path.suffix](path)
    except FileNotFoundError as error:
        raise SourceError(f"The outcomes file {path} does not exist.") from error
    except (ValueError, OSError) as error:
        raise SourceError(f"{path} cannot be read as {path.suffix[1:]}: {error}") from error
    return _each_once(_outcomes_in(raw, path))


def _from_lines(content: bytes) -> pd.DataFrame:
    # Not with pd.read_json: it parses a column named timestamp as dates, and ids made of digits as numbers.
    return pd.DataFrame([json.loads(line) for line in content.splitlines() if line.strip()], dtype=object)


def _logged(files: Iterable[tuple[bytes, str]]) -> pd.DataFrame:
    """Return the outcomes of files of the log, each key once: as it was first received."""
    tables = []
    for content, name in files:
        if name.endswith(OPEN):
            content = content[: content.rfind(b"\n") + 1]  # the writer is still writing the last line, or was killed
        try:
            raw = _from_lines(content)
        except ValueError as error:
            raise SourceError(f"{name} is not a file of the outcome log ({error}): fix or remove it.") from error
        if len(raw):
            received = raw["received"] if "received" in raw else raw["timestamp"]
            tables.append(_outcomes_in(raw, Path(name), logged=True).assign(received=received.astype(np.int64)))
    if not tables:
        return pd.DataFrame({name: np.empty(0, dtype) for name, dtype in _DTYPES.items()})
    found = pd.concat(tables, ignore_index=True).sort_values("received", kind="stable")
    return _each_once(found[COLUMNS].reset_index(drop=True))


_DTYPES: dict[str, Any] = dict.fromkeys(COLUMNS, object) | {"time": np.int64, "value": np.float64}


def _outcomes_in(raw: pd.DataFrame, path: Path, *, logged: bool = False) -> pd.DataFrame:
    """Return the outcomes of a file. One of the log names no item in some lines, and has keys."""
    for column in ("user_id", "timestamp"):
        if column not in raw:
            raise SourceError(f"{path} lacks the column {column}; it has {', '.join(map(str, raw.columns)) or 'none'}.")
    rows, item = len(raw), Columns.stored_as(Columns.ITEM, raw.columns)
    found = pd.DataFrame(
        {
            "user": _ids(raw["user_id"], path),
            "time": _times(raw["timestamp"], path),
            "item": _texts(raw, item) if logged or item not in raw else _items(raw[item], path),
            "value": _numbers(raw["value"], path) if "value" in raw else np.ones(rows),
            "request": _texts(raw, "request_id"),
            "kind": _texts(raw, "kind"),
        }
    )
    if logged and "key" in raw:
        return found.assign(key=_texts(raw, "key"))
    identity = _texts(raw, "outcome_id")
    return found.assign(key=[id_key(user, each) if each else "" for user, each in zip(found["user"], identity, strict=True)])


def _each_once(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return the first outcome of each key, and all without one."""
    return outcomes[(outcomes["key"] == "") | ~outcomes["key"].duplicated()].reset_index(drop=True)


def _repeats(told: pd.DataFrame, stored: pd.DataFrame) -> pd.Series[bool]:
    """Return which outcomes of a file the API has too."""
    known = pd.MultiIndex.from_frame(stored[CONTENT])
    same = pd.Series(pd.MultiIndex.from_frame(told[CONTENT]).isin(known), index=told.index)
    return told["key"].isin(stored["key"]).where(told["key"] != "", same)


def _texts(raw: pd.DataFrame, column: str) -> pd.Series[str]:
    if column not in raw:
        return pd.Series("", index=raw.index, dtype=object)
    return raw[column].fillna("").astype(str)


def _ids(column: pd.Series[Any], path: Path) -> pd.Series[str]:
    _refuse_empty(column, path)
    return (column.astype(np.int64) if column.dtype.kind == "f" else column).astype(str)


def _items(column: pd.Series[Any], path: Path) -> pd.Series[str]:
    """Return the ids as the log of exposures writes them. A column of numbers with a gap was written with fractions: 318.0 is 318."""
    if column.dtype.kind in "fc":
        return _numbers(column, path).astype(np.int64).astype(str)
    texts = _ids(column, path)
    return texts.str.removesuffix(".0") if texts.str.fullmatch(r"\d+\.0").all() else texts


def _times(column: pd.Series[Any], path: Path) -> pd.Series[int]:
    """Return UTC seconds. A wrong unit is refused: it would put all outcomes outside of every window, without another sign."""
    if isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M":
        _refuse_empty(column, path)
        return pd.to_datetime(column, utc=True).dt.as_unit("s").astype(np.int64)
    times = _numbers(column, path)
    bad = np.flatnonzero(((times < 0) | (times > LATEST)).to_numpy())
    if len(bad):
        value = column.iloc[bad[0]]
        raise SourceError(
            f"{path}: row {bad[0] + 1} of the column timestamp is {value}, {wrong_unit(int(times.iloc[bad[0]]))} "
            f"({len(bad)} of {len(column)} rows)."
        )
    return times.astype(np.int64)


def _refuse_empty(column: pd.Series[Any], path: Path) -> None:
    missing = np.flatnonzero(column.isna().to_numpy())
    if len(missing):
        raise SourceError(
            f"{path}: row {missing[0] + 1} of the column {column.name} is empty ({len(missing)} of {len(column)} rows)."
        )


def _numbers(column: pd.Series[Any], path: Path) -> pd.Series[float]:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero(~np.isfinite(numbers.to_numpy(np.float64, na_value=np.nan)))
    if len(bad):
        raise SourceError(
            f"{path}: row {bad[0] + 1} of the column {column.name} is {column.iloc[bad[0]]!r}, which is not a finite number "
            f"({len(bad)} of {len(column)} rows)."
        )
    return numbers
