"""The items of a model version with their descriptions, aligned with the columns of its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import VersionCorruptError
from models.columns import Columns
from models.identity import number_of
from models.inference import CATALOGUE_FILE
from models.schema import DataSchema

__all__ = ["Attribute", "Catalogue", "ItemDescription", "Value"]

NO_GENRE = ("", "unknown")  # ml-100k flags a film without metadata as "unknown"
EXTERNAL = Columns.EXTERNAL_ID
FEW = 64  # categories
Value = str | float | int | None


class ItemDescription(NamedTuple):
    """The description of an item in a response."""

    item_id: int | str  # as the team writes it
    title: str
    year: int | None
    genres: list[str]
    attributes: dict[str, Value] | None = None  # None if the data has none


def as_text(value: Value) -> str:
    """Return a category as the catalogue has it. Somebody may have written one that looks like a number."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True, eq=False)
class Attribute:
    """A column of the catalogue that the team chose: categories or numbers."""

    numbers: npt.NDArray[np.float64] | None = None  # (n,) NaN = unknown; None for categories
    codes: npt.NDArray[np.int64] | None = None  # (n,) indices into `values`, -1 = unknown; None for numbers
    values: tuple[str, ...] = ()

    def having(self, wanted: Sequence[Value]) -> npt.NDArray[np.bool_]:
        """Return the items (n,) that have any of the wanted values. For numbers these are the least and the greatest; None is open.

        Raises:
            ValueError: If numbers are compared with something else than two bounds.
        """
        if self.numbers is not None:
            if len(wanted) != 2 or any(isinstance(bound, str) for bound in wanted):
                raise ValueError("holds numbers: give the least and the greatest, such as [10, 20] or [10, null]")
            low, high = (
                bound if isinstance(bound, (int, float)) else end for bound, end in zip(wanted, (-np.inf, np.inf), strict=True)
            )
            return (self.numbers >= low) & (self.numbers <= high)
        assert self.codes is not None
        return np.isin(
            self.codes, [code for code, value in enumerate(self.values) if value in {as_text(each) for each in wanted}]
        )

    def unknown(self, wanted: Sequence[Value]) -> list[str]:
        """Return the wanted categories that no item has."""
        return [] if self.numbers is not None else [text for each in wanted if (text := as_text(each)) not in self.values]

    def groups(self, items: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Return flags (m, d) of the items, which tell those with equal categories, or with numbers of one tenth of all, apart."""
        codes = self._bins if self.codes is None else self.codes
        known, places = np.unique(codes[items], return_inverse=True)
        flags = np.zeros((len(items), len(known)), np.float32)
        flags[np.arange(len(items)), places] = 1
        return flags[:, known >= 0]

    @cached_property
    def _bins(self) -> npt.NDArray[np.int64]:
        assert self.numbers is not None
        known = np.isfinite(self.numbers)
        edges = np.quantile(self.numbers[known], np.linspace(0.1, 0.9, 9)) if known.any() else np.empty(0)
        return np.where(known, np.searchsorted(edges, self.numbers, side="right"), -1)

    def of(self, index: int) -> Value:
        """Return the value of one item, or None if it is unknown."""
        if self.numbers is not None:
            number = float(self.numbers[index])
            return None if np.isnan(number) else number
        assert self.codes is not None
        code = int(self.codes[index])
        return None if code < 0 else self.values[code]


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Items by index 0..n - 1, in the order of the model's scores."""

    item_ids: npt.NDArray[np.int64]  # (n,) the numbers of the items, ascending
    titles: list[str]  # (n,) without the year; empty if unknown
    years: npt.NDArray[np.int64]  # (n,) 0 = unknown
    genre_bits: npt.NDArray[np.bool_]  # (n, genres)
    genres: tuple[str, ...]
    popularity: npt.NDArray[np.float64]  # (n,) events in the train part
    external_ids: list[str] | None = None  # (n,) the team's ids, if they are text
    attributes: Mapping[str, Attribute] = field(default_factory=lambda: MappingProxyType({}))
    schema: DataSchema = field(default_factory=DataSchema)
    _places: dict[int, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        n = len(self.item_ids)
        for name in ("titles", "years", "genre_bits", "popularity", "external_ids"):
            column = getattr(self, name)
            if column is not None and len(column) != n:
                raise ValueError(f"{name} has {len(column)} items, but item_ids has {n}")
        if self.genre_bits.shape != (n, len(self.genres)):
            raise ValueError(f"genre_bits has the shape {self.genre_bits.shape} for {n} items and {len(self.genres)} genres")
        object.__setattr__(self, "_places", {int(item_id): place for place, item_id in enumerate(self.item_ids)})

    def __len__(self) -> int:
        return len(self.item_ids)

    def index_of(self, item_id: int) -> int | None:
        """Return the index of an item by its number, or None if the model does not know it."""
        return self._places.get(item_id)

    def index_named(self, item: int | str) -> int | None:
        """Return the index of an item by the team's id, or None if the model does not know it."""
        if (self.external_ids is None) != isinstance(item, int):
            return None
        return self.index_of(number_of(item) if isinstance(item, str) else item)

    def id_of(self, index: int) -> int | str:
        """Return the team's id of an item."""
        return int(self.item_ids[index]) if self.external_ids is None else self.external_ids[index]

    def genres_of(self, index: int) -> list[str]:
        """Return the genres of one item, in alphabetical order."""
        return [self.genres[genre] for genre in np.flatnonzero(self.genre_bits[index])]

    def attributes_of(self, index: int) -> dict[str, Value] | None:
        """Return the attributes of one item, or None if the data has none."""
        return {name: attribute.of(index) for name, attribute in self.attributes.items()} if self.attributes else None

    def features(self) -> npt.NDArray[np.float32]:
        """Return flags (n, d) by which items differ for a person: their genres, or without any, their attributes of few categories."""
        if self.genres:
            return self.genre_bits.astype(np.float32)
        few = [each for each in self.attributes.values() if each.codes is not None and len(each.values) <= FEW]
        everything = np.arange(len(self))
        return np.concatenate([np.zeros((len(self), 0), np.float32), *[each.groups(everything) for each in few]], axis=1)

    def name_of(self, index: int) -> str:
        """Return what a person knows the item by: its title, or the team's id if it has none."""
        return self.titles[index] or str(self.id_of(index))

    @classmethod
    def load(cls, folder: Path) -> Catalogue:
        """Load the catalogue from a model version's files.

        A version published without `catalogue.parquet` has only ids and popularity.

        Raises:
            VersionCorruptError: If a file cannot be read, or its items differ from the vocabulary.
        """
        ids, counts = _vocabulary(folder / "vocabulary.parquet")
        path, schema = folder / CATALOGUE_FILE, DataSchema.read(folder)
        is_text = schema.ids.item_id == "text"
        if not path.exists():
            if is_text:
                raise VersionCorruptError(f"{path} is missing, and with it the text ids of the items; train again.")
            nothing = np.zeros((len(ids), 0), dtype=bool)
            return cls(ids, [""] * len(ids), np.zeros(len(ids), np.int64), nothing, (), counts, schema=schema)
        names = ["item_id", "title", "year", "genres", "train_events", *([EXTERNAL] if is_text else []), *schema.attributes]
        table = _read(path, names)
        if not np.array_equal(table["item_id"].to_numpy(), ids):
            raise VersionCorruptError(f"The items in {path} differ from the version's vocabulary; train again.")
        titles = [title or "" for title in table["title"].to_pylist()]
        years = np.array([year or 0 for year in table["year"].to_pylist()], dtype=np.int64)
        listed = [[name for name in (text or "").split("|") if name not in NO_GENRE] for text in table["genres"].to_pylist()]
        genres = tuple(sorted({name for names in listed for name in names}))
        places = {name: place for place, name in enumerate(genres)}
        bits = np.zeros((len(ids), len(genres)), dtype=bool)
        for item, names in enumerate(listed):
            bits[item, [places[name] for name in names]] = True
        return cls(
            ids,
            titles,
            years,
            bits,
            genres,
            table["train_events"].to_numpy().astype(np.float64),
            external_ids=[str(text) for text in table[EXTERNAL].to_pylist()] if is_text else None,
            attributes={name: _attribute(table[name], kind) for name, kind in schema.attributes.items()},
            schema=schema,
        )


def _attribute(column: pa.ChunkedArray, kind: str) -> Attribute:
    if kind == "number":
        return Attribute(numbers=np.array([np.nan if value is None else value for value in column.to_pylist()], np.float64))
    texts = [str(value) if value not in (None, "") else None for value in column.to_pylist()]
    values = tuple(sorted({text for text in texts if text is not None}))
    places = {text: place for place, text in enumerate(values)}
    return Attribute(codes=np.array([-1 if text is None else places[text] for text in texts], np.int64), values=values)


def _vocabulary(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    table = _read(path, ["item_id", "train_events"], optional={"train_events"})
    ids = table["item_id"].to_numpy().astype(np.int64)
    if "train_events" not in table.column_names:
        return ids, np.zeros(len(ids))
    return ids, table["train_events"].to_numpy().astype(np.float64)


def _read(path: Path, columns: list[str], optional: frozenset[str] | set[str] = frozenset()) -> pa.Table:
    try:
        found = pq.ParquetFile(path).read()  # read_table would import pandas
    except (OSError, pa.ArrowInvalid) as error:
        raise VersionCorruptError(f"{path} cannot be read as Parquet ({error}); train again.") from error
    found = found.rename_columns(Columns.present(found.column_names))
    missing = [name for name in columns if name not in found.column_names and name not in optional]
    if missing:
        raise VersionCorruptError(f"{path} lacks the column {missing[0]}; train again.")
    return found.select([name for name in columns if name in found.column_names])
