"""The layout of a dataset version that is made of parts: a large first part, and small later parts.

A later part adds rows and removes earlier ones. A part is never rewritten. A later part refers to the rows it supersedes by part
and position, as in the deletion vectors of Apache Iceberg (spec v3). So the merged view costs one mask and one insertion,
whatever the number of rows.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from configs.errors import VersionCorruptError
from infra.digests import sha256_of_json
from tasks.datasets.content_digest import EventDigest, IdDigest

__all__ = ["IdMap", "Layout", "Part", "StoredFile"]


@dataclass(frozen=True)
class StoredFile:
    """A Parquet object that versions can share."""

    key: str
    sha256: str
    rows: int


@dataclass(frozen=True)
class Part:
    """Events, and the rows of earlier parts that they supersede (PART, POSITION, USER and ITEM of `models.columns.Columns`)."""

    events: StoredFile
    removals: StoredFile | None
    first: int  # UTC seconds
    last: int


@dataclass(frozen=True)
class IdMap:
    """The map of a column whose ids are text: each file adds the ids that are new, so that no delivery rewrites the others."""

    files: tuple[StoredFile, ...] = ()
    digest: IdDigest = field(default_factory=IdDigest)


@dataclass(frozen=True)
class Layout:
    """The objects that a version is made of."""

    parts: tuple[Part, ...]  # the first one is the largest
    items: StoredFile
    users: StoredFile
    base_rows: int  # rows of the release that the first files were added to; 0 if there is none
    events: EventDigest
    superseded: tuple[StoredFile, ...] = ()
    """Columns.HAPPENED, and their origin, of events that happened before the one that counts and are in no part."""
    ids: dict[str, IdMap] = field(default_factory=dict)
    """The id map of each column whose ids are text."""

    @property
    def rows(self) -> int:
        return sum(part.events.rows - (part.removals.rows if part.removals else 0) for part in self.parts)

    @property
    def files(self) -> list[StoredFile]:
        removals = [part.removals for part in self.parts if part.removals is not None]
        maps = [file for each in self.ids.values() for file in each.files]
        return [*(part.events for part in self.parts), *removals, *self.superseded, self.items, self.users, *maps]

    @property
    def digest(self) -> str:
        """12 hex digits of the names, sizes and sha256 of all objects."""
        return sha256_of_json(self.to_dict())[:12]

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        if not self.superseded:  # the digest of a layout without them is that of earlier versions of the product
            del found["superseded"]
        if not self.ids:
            del found["ids"]
        return found

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Layout:
        """Build a layout from a dict. Raises VersionCorruptError if `found` is not a layout."""
        try:
            parts = [
                Part(
                    StoredFile(**part["events"]),
                    StoredFile(**part["removals"]) if part["removals"] is not None else None,
                    part["first"],
                    part["last"],
                )
                for part in found["parts"]
            ]
            return cls(
                tuple(parts),
                StoredFile(**found["items"]),
                StoredFile(**found["users"]),
                found["base_rows"],
                EventDigest(**found["events"]),
                tuple(StoredFile(**each) for each in found.get("superseded", ())),
                {
                    column: IdMap(tuple(StoredFile(**each) for each in one["files"]), IdDigest(**one["digest"]))
                    for column, one in found.get("ids", {}).items()
                },
            )
        except (TypeError, KeyError) as error:
            raise VersionCorruptError(f"The layout of a dataset version is damaged ({error}); delete the version.") from error
