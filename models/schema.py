"""What kind of data a model version was trained on: types of ids, feedback, repeats, attributes of items, and words for them.

The publisher writes it beside the weights, and serving reads it. A version without the file was trained on MovieLens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from configs.errors import VersionCorruptError
from configs.settings import NounSettings

__all__ = ["SCHEMA_FILE", "DataSchema", "IdType", "IdTypes"]

SCHEMA_FILE = "schema.json"
IdType = Literal["integer", "text"]


@dataclass(frozen=True)
class IdTypes:
    """Types of the ids, as the team writes them. Text is hashed to a number (`models.identity`)."""

    user_id: IdType = "integer"
    item_id: IdType = "integer"


@dataclass(frozen=True)
class DataSchema:
    """The properties of a dataset that serving depends on."""

    ids: IdTypes = IdTypes()
    feedback: Literal["explicit", "implicit"] = "explicit"
    repeats: Literal["newest", "keep"] = "newest"
    attributes: Mapping[str, Literal["category", "number"]] = field(default_factory=dict)
    """Columns of the catalogue, besides title, year and genres, that the team chose."""
    nouns: NounSettings = field(default_factory=NounSettings)
    """What pages and messages call users, items and events."""

    @property
    def hides_seen(self) -> bool:
        """Whether items of a user's history are usually left out. They are not if users come back to the same items."""
        return self.repeats == "newest"

    @classmethod
    def read(cls, folder: Path) -> DataSchema:
        """Read the schema of a version's folder.

        Raises:
            VersionCorruptError: If the file cannot be read.
        """
        path = folder / SCHEMA_FILE
        if not path.exists():
            return cls()
        try:
            return _SCHEMA.validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise VersionCorruptError(f"{path} does not describe the data of a version ({error}); train again.") from error

    def write(self, folder: Path) -> Path:
        path = folder / SCHEMA_FILE
        path.write_bytes(_SCHEMA.dump_json(self, indent=2))
        return path


_SCHEMA = TypeAdapter(DataSchema)
