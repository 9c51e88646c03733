"""What the events of a dataset are: the kinds of its ids, feedback, repeats and weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from configs.errors import SettingsError
from models.columns import Columns

__all__ = ["PLAIN", "DatasetProperties", "IdKind"]

IdKind = Literal["integer", "text"]
SETTINGS = {
    "user_ids": "data.id_type.user",
    "item_ids": "data.id_type.item",
    "feedback": "data.feedback",
    "repeats": "data.repeats",
    "weights": "data.columns.weight",
}
"""The setting that decides each property."""


@dataclass(frozen=True)
class DatasetProperties:
    """The properties of a dataset, which its first version fixes. The defaults are those of MovieLens."""

    user_ids: IdKind = "integer"
    item_ids: IdKind = "integer"
    feedback: Literal["explicit", "implicit"] = "explicit"
    repeats: Literal["newest", "keep"] = "newest"
    """newest: one event for each user and item. keep: one for each user, item and second."""
    weights: bool = False
    """Whether events have a weight."""

    @property
    def ids(self) -> dict[str, IdKind]:
        """The kind of ids by column."""
        return {Columns.USER: self.user_ids, Columns.ITEM: self.item_ids}

    @property
    def text_columns(self) -> tuple[str, ...]:
        """The id columns whose external ids are text."""
        return tuple(name for name, kind in self.ids.items() if kind == "text")

    @property
    def keeps_repeats(self) -> bool:
        return self.repeats == "keep"

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that identify an event."""
        return Columns.HAPPENED if self.keeps_repeats else (Columns.USER, Columns.ITEM)

    @property
    def event_columns(self) -> tuple[str, ...]:
        """The columns of an event that are its content."""
        return (*Columns.EVENT, Columns.WEIGHT) if self.weights else Columns.EVENT

    def with_weight(self, columns: tuple[str, ...]) -> tuple[str, ...]:
        """Return the columns of a table of events, with that of the weight if events have one."""
        return (*columns, Columns.WEIGHT) if self.weights else columns

    @classmethod
    def from_manifest(cls, manifest: Mapping[str, Any]) -> DatasetProperties:
        """Return the properties that a dataset's manifest records. Older manifests record none."""
        ids = manifest.get("ids", {})
        return cls(
            user_ids=ids.get(Columns.USER, "integer"),
            item_ids=ids.get(Columns.ITEM, "integer"),
            feedback=manifest.get("feedback", "explicit"),
            repeats=manifest.get("repeats", "newest"),
            weights=bool(manifest.get("weights", False)),
        )

    def to_manifest(self) -> dict[str, Any]:
        """Return the properties for a manifest, without those that are as in MovieLens."""
        found: dict[str, Any] = {"ids": self.ids} if self.text_columns else {}
        plain = DatasetProperties()
        for name in ("feedback", "repeats", "weights"):
            if getattr(self, name) != getattr(plain, name):
                found[name] = getattr(self, name)
        return found

    def described(self) -> str:
        """Return the properties as a line of text."""
        ids = "text ids" if len(self.text_columns) == 2 else ", ".join(f"{name} {kind}" for name, kind in self.ids.items())
        parts = ["integer ids" if not self.text_columns else ids, f"{self.feedback} feedback"]
        parts.append("every event counts" if self.keeps_repeats else "newest event of each user and item")
        return ", ".join([*parts, "weighted"] if self.weights else parts)

    def check(self, given: DatasetProperties, dataset: str) -> None:
        """Check that a delivery or settings agree with the properties of a stored dataset.

        Args:
            given: What the delivery has, or the settings say.
            dataset: The dataset, or a version of it, for the message.

        Raises:
            SettingsError: They contradict each other.
        """
        for field in fields(self):
            stored, found = getattr(self, field.name), getattr(given, field.name)
            if stored != found:
                raise SettingsError(_contradiction(field.name, stored, found, dataset))


PLAIN = DatasetProperties()
"""The properties of MovieLens, and of every dataset whose manifest records none."""


def _contradiction(name: str, stored: Any, found: Any, dataset: str) -> str:
    setting = SETTINGS[name]
    remedy = "or store the events as another dataset (data.dataset)."
    if name == "weights":
        has, lacks = ("has weights", "name their column") if stored else ("has none", "remove the setting")
        return f"{setting} {'is empty' if stored else 'is set'}, but the dataset {dataset} {has}: {lacks}, {remedy}"
    if name.endswith("_ids"):
        column = Columns.USER if name == "user_ids" else Columns.ITEM
        return (
            f"The column {column} holds {found} ids, but those of the dataset {dataset} are {stored}: deliver {stored} ids and leave "
            f"{setting} at auto or {stored}, {remedy}"
        )
    return f"{setting} is {found}, but the dataset {dataset} was made with {stored}: set it to {stored}, {remedy}"
