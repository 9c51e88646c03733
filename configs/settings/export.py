"""What an export contains, and where it goes."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from configs.base import Settings
from configs.settings.store import StoreSettings

__all__ = ["ExportPart", "ExportSettings"]

ExportPart = Literal["top_k", "item_vectors", "user_vectors", "program"]
PARTS: tuple[ExportPart, ...] = ("top_k", "item_vectors", "user_vectors", "program")


class ExportSettings(Settings):
    """What `recsys model export` writes, and where."""

    to: str = ".recsys/exports"
    """Where exports go: a folder, or s3://<bucket>/<prefix>. S3 takes its server and keys from `store`."""
    parts: tuple[ExportPart, ...] = Field(default=PARTS, min_length=1)
    """What is written. A part that models of this kind do not have is left out, and the manifest says so."""
    k: int = Field(default=100, ge=1, le=10_000)
    """Number of recommended items for each user."""
    seen: Literal["auto", "hide", "show"] = "auto"
    """Whether items of a user's own events are left out. `auto`: they are, except in a dataset that keeps repeats."""
    at: int | None = Field(default=None, ge=0, le=2**33)
    """Time of the recommendations in UTC seconds. If empty, the time at which the export starts."""
    piece_users: int = Field(default=20_000, ge=1)
    """Users in one file. A killed export goes on after its last complete file, and memory holds one file at a time."""

    @field_validator("to")
    @classmethod
    def _is_a_place(cls, to: str) -> str:
        if ":" in to:
            StoreSettings(url=to)
        elif not to.strip():
            raise ValueError("name a folder, or s3://<bucket>/<prefix>")
        return to

    def destination(self, store: StoreSettings) -> StoreSettings:
        """Return the settings of the place where exports go."""
        return store.model_copy(update={"url": self.to if ":" in self.to else f"file:{self.to}"})
