"""Event files with faults of every kind: nothing but a RecsysError is raised, and rows that a fault left alone are read once."""

from __future__ import annotations

import gzip
import io
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from configs.errors import RecsysError, SourceError
from configs.settings import DataSettings, EtlSettings, ValidationSettings
from tasks.ingest import building, locate, open_event_file
from tests.volume import volume

pytestmark = pytest.mark.full
BATCHES, FILES = volume(4, 20), 100  # of each batch
NOW = 1_700_000_000
LAX = ValidationSettings(max_quarantined_share=1.0, min_rows=1)
Event = tuple[int, int, float, int]
COLUMNS = ["user_id", "item_id", "rating", "timestamp"]
TEXTS = ["", "phone", "é", "日本", "x" * 50, "0x1F", "a b", "NULL", "1"]


@dataclass
class Mutant:
    """A file as lines, and what the faults left alone."""

    name: str
    separator: bytes
    lines: list[bytes]  # without ends
    events: list[Event | None]  # of each line; None where a fault has touched it, and for header and blank lines
    ends: list[bytes]
    quoted: bool = False
    header: bool = False
    prefix: bytes = b""
    may_be_refused: bool = False
    story: list[str] = field(default_factory=list)

    def rows(self) -> list[int]:
        """Return the numbers of the lines that hold events, touched ones included."""
        return list(range(self.header, len(self.lines)))

    def content(self) -> bytes:
        return self.prefix + b"".join(line + end for line, end in zip(self.lines, self.ends, strict=True))


def original(draw: random.Random) -> Mutant:
    count = draw.randint(8, 60)
    pairs = draw.sample([(user, movie) for user in range(1, 40) for movie in range(1, 40)], count)
    events = [(user, movie, draw.randint(1, 10) / 2, draw.randint(10**9, 10**9 + 10**8)) for user, movie in pairs]
    kind = draw.choice(["csv", "csv", "csv", "csv", "dat", "data", "inter"])
    cells = [
        [f"{user}", f"{movie}", draw.choice([f"{rating:.1f}", f"{rating:g}"]), f"{time}"] for user, movie, rating, time in events
    ]
    names = ["userId", "movieId", "rating", "timestamp"]
    separator, quoted = {"csv": (",", True), "dat": ("::", False), "data": ("\t", False), "inter": ("\t", False)}[kind]
    header: list[str] | None = None
    if kind == "csv":
        separator = draw.choice([",", ",", ",", ";", "\t"])
        header = names
    if kind == "inter":
        header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    if header is not None:
        for number in range(draw.choice([0, 0, 1, 2])):  # schema additions
            header = [*header, f"extra{number}"]
            for row in cells:
                row.append(draw.choice(TEXTS))
        order = draw.sample(range(len(header)), len(header))
        header, cells = [header[place] for place in order], [[row[place] for place in order] for row in cells]
    lines = [separator.join(row) for row in ([header] if header else []) + cells]
    name = {"csv": "events.csv", "dat": "ratings.dat", "data": "u.data", "inter": "x.inter"}[kind]
    known: list[Event | None] = [*([None] if header else []), *events]
    return Mutant(
        name, separator.encode(), [line.encode() for line in lines], known, [b"\n"] * len(lines), quoted, header is not None
    )


def some_rows(mutant: Mutant, draw: random.Random) -> list[int]:
    """Return at most a third of the rows."""
    rows = mutant.rows()
    return draw.sample(rows, draw.randint(1, max(1, len(rows) // 3)))


def change_bytes(mutant: Mutant, draw: random.Random) -> None:
    for row in some_rows(mutant, draw):
        line = bytearray(mutant.lines[row])
        for _ in range(draw.randint(1, 4)):
            if line:
                line[draw.randrange(len(line))] = draw.randrange(256)
        mutant.lines[row], mutant.events[row] = bytes(line), None


def damage_header(mutant: Mutant, draw: random.Random) -> None:
    if mutant.header:
        line = bytearray(mutant.lines[0])
        line[draw.randrange(len(line))] = draw.randrange(256)
        mutant.lines[0], mutant.may_be_refused = bytes(line), True
        mutant.events = [None] * len(mutant.events)  # a column may mean something else now


def rename_column(mutant: Mutant, draw: random.Random) -> None:
    if mutant.header:
        cells = mutant.lines[0].split(mutant.separator)
        cells[draw.randrange(len(cells))] = draw.choice([b"", b"rating", b"userId", b"when", b"h" * 70_000])
        mutant.lines[0], mutant.may_be_refused = mutant.separator.join(cells), True
        mutant.events = [None] * len(mutant.events)


def add_and_drop_cells(mutant: Mutant, draw: random.Random) -> None:
    for row in some_rows(mutant, draw):
        cells = mutant.lines[row].split(mutant.separator)
        for _ in range(draw.randint(1, 3)):
            if draw.random() < 0.5 and cells:
                cells.pop(draw.randrange(len(cells)))
            else:
                cells.insert(draw.randint(0, len(cells)), draw.choice([b"", b"7", b"x", b"5.5"]))
        mutant.lines[row], mutant.events[row] = mutant.separator.join(cells), None


def other_separators(mutant: Mutant, draw: random.Random) -> None:
    for row in some_rows(mutant, draw):
        mutant.lines[row] = mutant.lines[row].replace(mutant.separator, draw.choice([b"|", b" ", b";;", b":", b",,", b"\t\t"]))
        mutant.events[row] = None


def bad_cells(mutant: Mutant, draw: random.Random) -> None:
    values = [
        b"",
        b"abc",
        b"-5",
        b"nan",
        b"inf",
        b"1e300",
        b"9" * 40,
        b"0x10",
        b"1,5",
        b"\xff\xfe",
        "٣".encode(),
        b"\x00",
        b"True",
    ]
    for row in some_rows(mutant, draw):
        cells = mutant.lines[row].split(mutant.separator)
        cells[draw.randrange(len(cells))] = draw.choice(values)
        mutant.lines[row], mutant.events[row] = mutant.separator.join(cells), None


def huge_fields(mutant: Mutant, draw: random.Random) -> None:
    for row in some_rows(mutant, draw)[:2]:
        cells = mutant.lines[row].split(mutant.separator)
        cells[draw.randrange(len(cells))] = draw.choice([b"7", b"x", b" ", b'"', "é".encode()]) * draw.choice([5_000, 150_000])
        mutant.lines[row], mutant.events[row] = mutant.separator.join(cells), None


def stray_quotes(mutant: Mutant, draw: random.Random) -> None:
    for row in some_rows(mutant, draw):
        line = mutant.lines[row]
        place = draw.choice([0, len(line), draw.randint(0, len(line)), line.find(mutant.separator) + len(mutant.separator)])
        mutant.lines[row], mutant.events[row] = line[:place] + b'"' + line[place:], None


def quoted_line_ends(mutant: Mutant, draw: random.Random) -> None:
    for row in some_rows(mutant, draw):
        mutant.lines[row] = b'"' + mutant.lines[row].replace(mutant.separator, b'"\n"' + mutant.separator, 1) + b'"'
        mutant.events[row] = None


def fair_quotes(mutant: Mutant, draw: random.Random) -> None:
    """Quote cells where that is allowed. It is not a fault, so the rows must be read."""
    if mutant.quoted:
        for row in some_rows(mutant, draw):
            if b'"' not in mutant.lines[row]:
                cells = mutant.lines[row].split(mutant.separator)
                mutant.lines[row] = mutant.separator.join(b'"' + cell + b'"' if draw.random() < 0.7 else cell for cell in cells)


def byte_order_mark(mutant: Mutant, draw: random.Random) -> None:
    if draw.random() < 0.6:
        mutant.prefix = b"\xef\xbb\xbf"
    else:
        row = draw.choice(mutant.rows())
        mutant.lines[row], mutant.events[row] = b"\xef\xbb\xbf" + mutant.lines[row], None


def mixed_line_ends(mutant: Mutant, draw: random.Random) -> None:
    ends = draw.choice([[b"\n", b"\r\n", b"\r"], [b"\r\n"], [b"\r"], [b"\n", b"\n\n", b"\r\n\r\n", b"\n \n"]])
    mutant.ends = [draw.choice(ends) for _ in mutant.ends]


def repeated_header(mutant: Mutant, draw: random.Random) -> None:
    if mutant.header:
        place = draw.choice(mutant.rows()) + 1
        mutant.lines.insert(place, mutant.lines[0])
        mutant.events.insert(place, None)
        mutant.ends.insert(place, b"\n")


def cut_off(mutant: Mutant, draw: random.Random) -> None:
    kept = draw.randint(max(1, len(mutant.lines) // 2), len(mutant.lines))
    mutant.lines, mutant.events, mutant.ends = mutant.lines[:kept], mutant.events[:kept], mutant.ends[:kept]
    mutant.ends[-1] = b""
    mutant.lines[-1] = mutant.lines[-1][: draw.randint(0, len(mutant.lines[-1]))]
    mutant.events[-1] = None


def other_encoding(mutant: Mutant, draw: random.Random) -> None:
    text = mutant.content().decode("utf-8", "replace")
    content = text.encode(draw.choice(["utf-16", "utf-16-le", "utf-32", "utf-8-sig"]))
    mutant.lines, mutant.ends, mutant.prefix = [content], [b""], b""
    mutant.events, mutant.may_be_refused, mutant.header = [None], True, False


FAULTS: list[Callable[[Mutant, random.Random], None]] = [
    change_bytes,
    damage_header,
    rename_column,
    add_and_drop_cells,
    other_separators,
    bad_cells,
    huge_fields,
    stray_quotes,
    quoted_line_ends,
    fair_quotes,
    byte_order_mark,
    mixed_line_ends,
    repeated_header,
    cut_off,
]


def mutated(number: int) -> Mutant:
    draw = random.Random(number)
    mutant = original(draw)
    faults = draw.sample(FAULTS, draw.randint(1, 3))
    if draw.random() < 0.03:
        faults.append(other_encoding)
    for fault in faults:
        fault(mutant, draw)
        mutant.story.append(fault.__name__)
    return mutant


def written(mutant: Mutant, folder: Path, draw: random.Random) -> Path:
    """Write the file as text, as gzip, as damaged gzip, or as damaged Parquet."""
    content, path = mutant.content(), folder / mutant.name
    packing = draw.choices(["plain", "gzip", "damaged gzip", "parquet"], [80, 10, 5, 5])[0]
    mutant.story.append(packing)
    if packing == "parquet":
        rows = [event for event in mutant.events if event is not None] or [(1, 1, 1.0, 10**9)]
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pandas(pd.DataFrame(rows, columns=COLUMNS)), buffer)
        content, path = buffer.getvalue(), folder / "events.parquet"
    elif packing != "plain":
        content, path = gzip.compress(content, 1, mtime=0), folder / f"{mutant.name}.gz"
    if packing in ("damaged gzip", "parquet"):
        damaged = bytearray(content)
        for _ in range(draw.randint(1, 5)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        content = bytes(damaged[: draw.randint(len(damaged) // 2, len(damaged))] if draw.random() < 0.5 else damaged)
        mutant.events, mutant.may_be_refused = [None], True
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("batch", range(BATCHES))
def test_faults_of_a_file_affect_only_the_rows_that_they_touch(batch: int, tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for number in range(batch * FILES, (batch + 1) * FILES):
        mutant, draw = mutated(number), random.Random(-number - 1)
        path = written(mutant, tmp_path, draw)
        told = f"file {number}: {', '.join(mutant.story)}"
        good = Counter(event for event in mutant.events if event is not None)
        try:
            rows = 0
            accepted, seen = [], []
            for chunk in open_event_file(path, LAX, NOW, draw.choice([3, 40, 1_000_000])).chunks():
                assert chunk.rows == len(chunk.accepted) + len(chunk.quarantined), told
                assert (chunk.quarantined["reasons"].str.len() > 0).all(), told
                rows += chunk.rows
                accepted.append(chunk.accepted)
                seen += [*chunk.accepted["row"], *chunk.quarantined["row"]]
        except SourceError as error:
            assert mutant.may_be_refused or not good, f"{told}: refused by {error}"
            assert path.name in str(error), told
            outcomes["refused"] += 1
        else:
            assert sorted(seen) == list(range(rows)), told
            found = Counter(event for frame in accepted for event in frame[COLUMNS].itertuples(index=False, name=None))
            assert all(found[event] == 1 for event in good), f"{told}: {[event for event in good if found[event] != 1]}"
            outcomes["read"] += 1
            if number % 5 == 0:
                check_dataset(path, set(good), found, told, tmp_path)
        path.unlink()
    assert outcomes["read"] > 50 and outcomes["refused"] > 0


def check_dataset(path: Path, good: set[Event], found: Counter[Event], told: str, folder: Path) -> None:
    """Check the same for the tables of a dataset version."""
    try:
        with building(
            locate(DataSettings(local_path=path)), LAX, EtlSettings(work_dir=folder / "work", memory_rows=7), NOW
        ) as release:
            events = pd.read_parquet(release.interactions)
            account = release.report.tables["interactions"]
            assert account.rows == account.accepted + account.quarantined, told
            assert account.accepted == len(events) == len(pd.read_parquet(release.features)), told
            pairs = set(events[COLUMNS].itertuples(index=False, name=None))
    except RecsysError as error:
        assert not good, f"{told}: refused by {error}"
        return
    replaced = {(event[0], event[1]): event for event in found if event not in good}  # a touched row can repeat a pair
    for event in good:
        other = replaced.get((event[0], event[1]))
        assert event in pairs or (other is not None and other[3] >= event[3]), f"{told}: {event} is lost"
