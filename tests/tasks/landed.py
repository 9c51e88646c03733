"""Landing zones of a few files, and runs over them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from configs.settings import DataSettings, EtlSettings, LandingSettings, ValidationSettings
from infra.landing_zone import FolderZone
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, FileAccount, plan_prune, prune_versions, read_table, write_dataset
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tasks.landing import Landing, LandingOptions, compact, land

NAME = "small"
NOW = 1_700_000_000.0
SETTLED = NOW - 3600
LAX = ValidationSettings(min_rows=1)


class Place:
    """A store, a landing zone, and the runs over it at NOW."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder, self.zone = folder, folder / "zone"
        self.zone.mkdir(parents=True)
        self.store = LocalStore(folder / "store")
        self.engine = EtlSettings(work_dir=folder / "work")
        self.data = DataSettings(dataset=NAME)
        self.settings = LandingSettings.model_validate({"base": "none", "compact_parts": 1000, "compact_share": 1.0, **settings})

    def put(self, name: str, content: str | bytes | pd.DataFrame, modified: float = SETTLED) -> Path:
        """Put a file into the zone that was complete at `modified`."""
        path = self.zone / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pd.DataFrame):
            content = csv(content)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(path, (modified, modified))
        return path

    def land(self, now: float = NOW, validation: ValidationSettings = LAX, *, retry_quarantined: bool = False) -> Landing:
        options = LandingOptions(validation, self.settings, self.engine, now, retry_quarantined, self.data)
        return land(self.store, FolderZone(self.zone), NAME, options)

    def compact(self) -> DatasetRef:
        return compact(self.store, NAME, self.settings, self.engine.work_dir, NOW, force=True)

    def table(self, ref: DatasetRef, name: str = "interactions") -> pd.DataFrame:
        return read_table(self.store, ref, name)


def csv(frame: pd.DataFrame) -> str:
    return frame.rename(columns={"user_id": "userId", "item_id": "movieId"}).to_csv(index=False)


def events(*rows: tuple[int, int, float, int]) -> pd.DataFrame:
    """Events from rows of (user, movie, rating, seconds after 2000)."""
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    return frame.assign(rating=frame["rating"].astype("float64"), timestamp=frame["timestamp"] + 946_684_800)


def random_events(seed: int, rows: int, users: int = 8, movies: int = 6, seconds: int = 20) -> pd.DataFrame:
    """Random events, many of which share the user and movie, or the second."""
    draw = np.random.default_rng(seed)
    return events(
        *zip(
            draw.integers(1, users + 1, rows).tolist(),
            draw.integers(1, movies + 1, rows).tolist(),
            (draw.integers(1, 11, rows) / 2).tolist(),
            draw.integers(0, seconds, rows).tolist(),
            strict=True,
        )
    )


def by_file(landing: Landing) -> dict[str, FileAccount]:
    return {account.file: account for account in landing.accounts}


def release(place: Place, frame: pd.DataFrame) -> str:
    items = pd.DataFrame({"item_id": [1, 2], "title": ["One", "Two"], "year": [1990, 1991], "genres": ["Drama", ""]})
    validated = validate(RawTables(frame, items, None, ()), LAX, int(NOW))
    return write_dataset(place.store, NAME, validated, build_features(validated.interactions), {}).version


def content(ref: DatasetRef) -> str:
    return ref.version.partition("-")[0]


# What a process does while it is killed (tests/doubles/kill_points.py).


def at(made: Place, store: Path) -> Place:
    """The same zone beside a copy of the store. Scratch files lie elsewhere: a kill while they are written cannot matter."""
    place = Place.__new__(Place)
    engine = made.engine.model_copy(update={"work_dir": store.with_name(f"{store.name}-work")})
    place.__dict__ = {**made.__dict__, "store": LocalStore(store), "engine": engine}
    return place


def land_in(made: Place, store: Path) -> None:
    at(made, store).land()


def compact_in(made: Place, store: Path) -> None:
    at(made, store).compact()


def prune_in(store: Path) -> None:
    prune_versions(LocalStore(store), plan_prune(LocalStore(store), 1))
