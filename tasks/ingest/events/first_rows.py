"""What the first rows of a file say: the format of its times, whether its ids are text, and faults that concern the whole file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from configs.settings import ValidationSettings
from models.columns import Columns
from tasks.ingest.events.ids import BLANKS, MISSING
from tasks.ingest.events.judging import judge_events
from tasks.ingest.events.reading import EventReading, RowRules
from tasks.ingest.events.remedies import remedy
from tasks.ingest.events.row_checks import Checks
from tasks.ingest.events.times import TIME_UNITS

__all__ = ["HEAD_ROWS", "Head", "faults_of_rows", "looks_like_text", "other_ids", "times_of_head"]

HEAD_ROWS = 100
Head = Mapping[str, Sequence[str | None]]
"""The cells of the first rows as text, by column."""
NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]+)?")
PADDED = re.compile(r"0[0-9]+")  # as a number, it would lose its zeros
ISO = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}(:?[0-9]{2}(:?[0-9]{2}([.,][0-9]+)?)?)?(?P<zone>Z|z|[+-][0-9]{2}(:?[0-9]{2})?)?)?"
)
DIGITS = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
DAYS = tuple(f"{day}{mark}%Y" for mark in "/.-" for day in (f"%d{mark}%m", f"%m{mark}%d"))
DAYS = (*DAYS, "%Y/%m/%d", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d/%b/%Y", "%a %b %d %Y", "%a, %d %b %Y")
CLOCKS = ("", " %H:%M:%S", " %H:%M", " %I:%M:%S %p", " %I:%M %p", ":%H:%M:%S", ", %H:%M:%S", " %H:%M:%S.%f")
PATTERNS = (*tuple(f"{day}{clock}{zone}" for day in DAYS for clock in CLOCKS for zone in ("", " %z")), "%a %b %d %H:%M:%S %z %Y")
MODERN = 31_536_000  # 1971: if a number is before this in one unit and after it in another, it has the second unit


def looks_like_text(cells: Sequence[str | None]) -> bool | None:
    """Return whether ids are text: at least half are not numbers, or begin with a zero. None if there are no cells."""
    given = _given(cells)
    if not given:
        return None
    return 2 * sum(NUMBER.fullmatch(cell) is None or PADDED.fullmatch(cell) is not None for cell in given) >= len(given)


def other_ids(head: Head, reading: EventReading, *, of: str) -> list[str]:
    """Return the faults of text ids in a file of a stored dataset whose ids are integers, as sentences."""
    columns = [name for name in (Columns.USER, Columns.ITEM) if reading.fixed and name not in reading.text_ids]
    return [
        f"The ids in the column {reading.columns.get(name, name)} of {of} are text, such as {_given(head[name])[0][:60]}, but those of the "
        "dataset are integers: deliver integers, or store the events as another dataset (data.dataset)."
        for name in columns
        if looks_like_text(head.get(name, ()))
    ]


def times_of_head(
    head: Head, reading: EventReading, settings: ValidationSettings, now: int, *, of: str
) -> tuple[str, str | None]:
    """Return the format of times in a file, which is not `auto`, and what must be decided first, as a sentence.

    Args:
        head: The first rows.
        reading: How events are written.
        settings: The limits.
        now: UTC seconds.
        of: The file, for the message.
    """
    if reading.timestamp_format != "auto":
        return reading.timestamp_format, None
    cells = _given(head.get(Columns.TIME, ()))
    if not cells:
        return "s", None
    numbers = [cell for cell in cells if NUMBER.fullmatch(cell)]
    if 2 * len(numbers) > len(cells):
        return _unit(numbers, settings, now, of)
    iso = [(cell, match) for cell in cells if (match := ISO.fullmatch(cell))]
    if 2 * len(iso) > len(cells):
        without = [cell for cell, match in iso if match["zone"] is None]
        if 2 * len(without) <= len(iso) or reading.timezone is not None:  # few such rows are bad ones
            return "iso", None
        return "iso", _without_zone(without, of)
    return _by_pattern(cells, reading, of)


def faults_of_rows(head: Head, rules: RowRules) -> list[str]:
    """Return the faults of the first rows, in the columns that the file has, as sentences with their remedies."""
    rows = max(map(len, head.values()), default=0)
    if not rows:
        return []
    reading = rules.reading
    good = {name: "1" for name in reading.read_columns}
    good |= {Columns.RATING: f"{rules.settings.max_rating}", Columns.TIME: f"{rules.now * TIME_UNITS.get(rules.times, 1)}"}
    good |= {Columns.WEIGHT: next(iter(reading.weights), "1")}
    cells = {name: list(head[name]) if name in head else [good[name]] * rows for name in reading.read_columns}
    checks = Checks("interactions", pd.DataFrame(cells, dtype=object))
    judge_events(checks, rules)
    return [
        f"{reason}: {int(mask.sum())} of the first {rows} rows, first data row {int(np.argmax(mask)) + 1}; {remedy(reason)}."
        for reason, mask in checks.reasons.items()
        if reason.startswith(tuple(f"{name} " for name in head))
    ]


def _given(cells: Sequence[str | None]) -> list[str]:
    bare = [cell.strip(BLANKS) for cell in cells if cell is not None]
    return [cell for cell in bare if cell not in MISSING]


def _unit(cells: Sequence[str], settings: ValidationSettings, now: int, of: str) -> tuple[str, str | None]:
    """Return the unit in which most numbers are possible times, and what to set if the same numbers are possible in two."""
    values = np.array([float(cell) for cell in cells])
    latest = now + settings.max_future_s
    fits = {unit: (values / scale >= settings.earliest) & (values / scale <= latest) for unit, scale in TIME_UNITS.items()}
    best = max(int(mask.sum()) for mask in fits.values())
    most = next((mask for mask in fits.values() if best and int(mask.sum()) == best), None)
    fitting = [unit for unit, mask in fits.items() if most is not None and np.array_equal(mask, most)]
    median = float(np.median(values))
    recent = [unit for unit in fitting if median / TIME_UNITS[unit] >= MODERN]
    if len(recent) == 1:
        return recent[0], None
    pattern = DIGITS.get(len(cells[0])) if all(_dated(cell) for cell in cells) else None
    readings = [(unit, _shown(float(cells[0]) / TIME_UNITS[unit])) for unit in fitting]
    if pattern is not None:
        readings.append((f"'{pattern}'", f"{datetime.strptime(cells[0], pattern):%Y-%m-%d %H:%M:%S}"))
    if pattern is None and len(fitting) < 2:
        return fitting[0] if fitting else "s", None
    said = " or ".join(f"{time} (as {name})" for name, time in readings)
    zone = " and data.timezone to its zone" if pattern is not None else ""
    remedy = f"data.timestamp_format to {' or '.join(name for name, _ in readings)}{zone}"
    return fitting[0] if fitting else "s", f"The time {cells[0]} of {of} may be {said}: set {remedy}."


def _dated(cell: str) -> bool:
    """Return whether digits can be read as a date, such as 20250403."""
    pattern = DIGITS.get(len(cell))
    return pattern is not None and cell.isdigit() and 1970 <= int(cell[:4]) <= 2100 and _reads(cell, pattern) is not None


def _without_zone(cells: Sequence[str], of: str) -> str:
    first = next((cell for cell in cells if _iso(cell) is not None), None)
    said = f"The times of {of} have no time zone"
    if first is not None and (at := _iso(first)) is not None:
        there = int(at.replace(tzinfo=ZoneInfo("America/New_York")).timestamp())
        said = f"The time {first} of {of} has no time zone: it is {int(at.replace(tzinfo=UTC).timestamp())} in UTC, and {there} in New York"
    return f"{said}. Set data.timezone to the zone of these times, for example to UTC."


def _iso(cell: str) -> datetime | None:
    try:
        return datetime.fromisoformat(cell)
    except ValueError:
        return None


def _by_pattern(cells: Sequence[str], reading: EventReading, of: str) -> tuple[str, str | None]:
    """Return what to set if most cells fit a usual pattern. If none does, each row is judged on its own."""
    near = [pattern for pattern in PATTERNS if any(_reads(cell, pattern) for cell in cells[:5])]
    counts = {pattern: sum(_reads(cell, pattern) is not None for cell in cells) for pattern in near}
    best = max(counts.values(), default=0)
    if 2 * best <= len(cells):
        return "s", None
    fitting = [pattern for pattern, count in counts.items() if count == best]
    cell = next(cell for cell in cells if _reads(cell, fitting[0]))
    days = {pattern: day for pattern in fitting if (day := _reads(cell, pattern)) is not None}
    zone = "" if reading.timezone is not None or "%z" in fitting[0] else ", and data.timezone to its zone"
    if len(days) == 1:
        return fitting[0], f"The time {cell} of {of} is not in ISO 8601: set data.timestamp_format to '{fitting[0]}'{zone}."
    readings = " or ".join(f"{day:%Y-%m-%d} ('{pattern}')" for pattern, day in days.items())
    return fitting[0], f"The time {cell} of {of} may be {readings}: set data.timestamp_format to one of these patterns{zone}."


def _reads(cell: str, pattern: str) -> datetime | None:
    try:
        return datetime.strptime(cell, pattern)
    except ValueError:
        return None


def _shown(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"
