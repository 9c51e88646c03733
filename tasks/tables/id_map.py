"""Collect the ids of a delivery that are text, and write them as a map from number to text.

The number of an id is a hash of its text (`models.identity`), so it needs no shared map. The map is for the way back, and it shows
when two texts have one number. That is not expected in practice (p = 5e-6 for ten million ids), but it must not mix two people up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.columns import Columns
from tasks.tables.external_sort import partition_by_key
from tasks.tables.parquet import ParquetWriter

__all__ = [
    "ID_TABLES",
    "NUMBER",
    "TEXT",
    "IdCollector",
    "IdCollectors",
    "id_digests",
    "id_schema",
    "joined_refusals",
    "text_digests",
]

NUMBER, TEXT = "number", "text"
ID_TABLES = {Columns.USER: "user_ids", Columns.ITEM: "item_ids"}
"""The name of the id map of each column, as a table of a dataset version."""
SPILLED = pa.schema([(NUMBER, pa.int64()), (TEXT, pa.string())])
HASH_KEY = "recsys id map v1"  # 16 bytes
BATCH_ROWS = 1 << 20
Ids = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


def id_schema(column: str) -> pa.Schema:
    """Return the schema of an id map: the column of the numbers, ascending, and their texts."""
    return pa.schema([(column, pa.int64()), (Columns.EXTERNAL_ID, pa.string())])


def text_digests(texts: pa.Array | pa.ChunkedArray) -> Words:
    """Return 64 bits of each text, independent of its number."""
    found: Words = pd.util.hash_array(np.asarray(texts, dtype=object), hash_key=HASH_KEY, categorize=False)
    return found


def id_digests(numbers: Ids, texts: pa.Array | pa.ChunkedArray) -> Words:
    """Return 64 bits of each pair of a number and its text."""
    word = text_digests(texts) ^ (numbers.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed: Words = word ^ (word >> np.uint64(29))
    return mixed


class IdCollector:
    """The distinct ids of one column over many chunks. Texts are spilled to files, so an id takes 16 bytes of memory."""

    def __init__(self, column: str, folder: Path) -> None:
        self.column, self._folder = column, folder
        self._rivals: dict[int, set[str]] = {}  # the texts of the delivery that share a number, or have that of a stored one
        self._stored: dict[int, str] = {}  # the text that the dataset has for such a number
        self._numbers, self._digests = np.empty(0, dtype=np.int64), np.empty(0, dtype=np.uint64)
        self._parts: list[Path] = []

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def refused(self) -> set[str]:
        """Texts whose number belongs to another text.

        Of the texts of one delivery, the least one keeps the number, so that the order of the chunks does not matter. A text that
        the dataset has keeps it in any case.
        """
        return {text for number, texts in self._rivals.items() for text in texts - {self._stored.get(number, min(texts))}}

    def add(self, ids: pa.Table) -> None:
        """Add the ids of a chunk: NUMBER and TEXT, in any order, maybe repeated."""
        table = ids.select([NUMBER, TEXT]).combine_chunks()
        numbers, digests = table.column(NUMBER).to_numpy(), text_digests(table.column(TEXT))
        order = np.lexsort((digests, numbers))
        first = np.append(True, (np.diff(numbers[order]) != 0) | (digests[order][1:] != digests[order][:-1]))[: len(order)]
        order = order[first]
        if len(order) and bool((np.diff(numbers[order]) == 0).any()):
            order = self._without_collisions(table, numbers, order)
        numbers, digests = numbers[order], digests[order]
        place = np.searchsorted(self._numbers, numbers)
        known = np.zeros(len(numbers), dtype=bool)
        if len(self._numbers):
            at = np.minimum(place, len(self._numbers) - 1)
            known = self._numbers[at] == numbers
            for each in np.flatnonzero(known & (self._digests[at] != digests)):
                number, text = int(numbers[each]), table.column(TEXT)[int(order[each])].as_py()
                self._rivals.setdefault(number, set()).update((self.text_of(number), text))
        new = ~known
        if not new.any():
            return
        self._numbers = np.insert(self._numbers, place[new], numbers[new])
        self._digests = np.insert(self._digests, place[new], digests[new])
        part = self._folder / f"{self.column}-{len(self._parts)}.ids.parquet"
        with ParquetWriter(part, SPILLED, temporary=True, background=False) as writer:
            taken = table.take(pa.array(order[new]))
            writer.write({NUMBER: taken.column(NUMBER).to_numpy(), TEXT: taken.column(TEXT)})
        self._parts.append(part)

    def text_of(self, number: int) -> str:
        """Return the text of a number that was added."""
        for part in self._parts:
            found = pq.read_table(part, filters=[(NUMBER, "==", number)])
            if len(found):
                return str(found.column(TEXT)[0].as_py())
        raise KeyError(number)

    def compare(self, numbers: Ids, texts: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.bool_]:
        """Note the texts whose number has another text in the dataset's map, and return a mask of the numbers that were added."""
        if not len(self._numbers) or not len(numbers):
            return np.zeros(len(numbers), dtype=bool)
        at = np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)
        same: npt.NDArray[np.bool_] = self._numbers[at] == numbers
        shared = np.flatnonzero(same)
        apart = self._digests[at[shared]] != text_digests(pc.take(texts, pa.array(shared)))
        contested = np.isin(numbers[shared], np.fromiter(self._rivals, np.int64, len(self._rivals)))
        for each in shared[apart | contested]:
            number = int(numbers[each])
            self._rivals.setdefault(number, set()).add(self.text_of(number))
            self._stored[number] = texts[int(each)].as_py()
        return same

    def write(self, out: Path, wanted: Ids, *, memory_rows: int) -> None:
        """Write the map of the ids that are in `wanted`, in ascending order. At most `memory_rows` texts are in memory at once."""
        with ParquetWriter(out, id_schema(self.column)) as writer:
            for numbers, texts in self.sorted(wanted, memory_rows=memory_rows):
                writer.write({self.column: numbers, Columns.EXTERNAL_ID: texts})

    def sorted(self, wanted: Ids, *, memory_rows: int) -> Iterator[tuple[Ids, pa.ChunkedArray]]:
        """Yield the numbers that are in `wanted`, ascending, and their texts, in pieces."""
        for table in partition_by_key(self._parts, [NUMBER, TEXT], NUMBER, memory_rows, self._folder):
            numbers = table.column(NUMBER).to_numpy()
            places = np.flatnonzero(np.isin(numbers, wanted))
            places = places[np.argsort(numbers[places])]
            if len(places):
                yield numbers[places], table.column(TEXT).take(pa.array(places))

    def _without_collisions(self, table: pa.Table, numbers: Ids, order: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
        """Keep the least text of each number, and note the others."""
        texts = table.column(TEXT)
        best: dict[int, Any] = {}
        for place in order:
            number, text = int(numbers[place]), texts[int(place)].as_py()
            other = best.get(number)
            if other is None:
                best[number] = (text, place)
            else:
                self._rivals.setdefault(number, set()).update((text, other[0]))
                best[number] = min((text, place), other)
        return np.array([place for _, place in best.values()], dtype=np.intp)


class IdCollectors:
    """The text ids of a delivery: one collector for each column whose ids are text."""

    def __init__(self, columns: Iterable[str], folder: Path) -> None:
        self.by_column = {column: IdCollector(column, folder) for column in columns}

    def add(self, ids: Mapping[str, pa.Table]) -> None:
        """Add the ids of a chunk, by column."""
        for column, pairs in ids.items():
            self.by_column[column].add(pairs)

    @property
    def refused(self) -> dict[str, frozenset[str]]:
        """The texts by column whose number belongs to another text. Their rows are bad, so the files have to be read again."""
        return {column: frozenset(each.refused) for column, each in self.by_column.items() if each.refused}


def joined_refusals(*refused: Mapping[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    """Return the texts by column that one of these refuses."""
    columns = {column for each in refused for column in each}
    return {column: frozenset().union(*(each.get(column, frozenset()) for each in refused)) for column in columns}
