"""Small events of three teams that have no MovieLens data: a shop, a music service and a news site.

Each shape has about 5,000 events, and what comes next can be learnt: a user mostly goes on to the next item of a chain.
"""

from __future__ import annotations

import gzip
import io
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["SHAPES", "Shape", "deliveries", "music", "news", "put", "shop", "write"]

DAY = 86_400
START = 1_704_067_200
"""2024-01-01, in UTC seconds."""


@dataclass(frozen=True)
class Shape:
    """One team's events, with the settings that read them."""

    name: str
    """Also the name of the dataset and of the event file."""
    suffix: str
    """.csv, .csv.gz or .parquet."""
    events: pd.DataFrame
    """The team's columns, sorted by time."""
    seconds: pd.Series
    """Time of each event in whole UTC seconds."""
    data: Mapping[str, Any]
    """Settings of the section `data` that map the events. `local_path` and `dataset` are not among them."""
    items: pd.DataFrame | None = None
    users: pd.DataFrame | None = None
    tables: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the section `data` that map the tables of items and users."""

    @property
    def user(self) -> str:
        """The team's name of the column of users."""
        return str(self.data["columns"]["user"])

    @property
    def item(self) -> str:
        """The team's name of the column of items."""
        return str(self.data["columns"]["item"])


def _walks(users: int, items: int, steps: int, stay: float, rng: np.random.Generator) -> Iterator[tuple[int, list[int]]]:
    """Yield the items of each user: mostly the next one of a chain, at times a popular one."""
    popular = np.arange(1, items + 1) ** -0.5
    popular /= popular.sum()
    for user in range(users):
        item, walk = int(rng.integers(items)), []
        for _ in range(steps):
            walk.append(item)
            item = (item + 1) % items if rng.random() < stay else int(rng.choice(items, p=popular))
        yield user, walk


def _sorted(rows: list[tuple[Any, ...]], columns: list[str]) -> pd.DataFrame:
    """Return the rows by time, which is their last cell in milliseconds."""
    frame = pd.DataFrame(rows, columns=[*columns, "ms"])
    return frame.sort_values("ms", kind="stable", ignore_index=True)


def shop(users: int = 260, items: int = 120, seed: int = 0) -> Shape:
    """Make a shop: text ids, no rating, ISO times with a zone, kinds of event, and items that are looked at again."""
    rng = np.random.default_rng([seed, 1])
    skus = [f"SKU-{'ABCD'[i % 4]}{i:04d}" for i in range(items)]
    zones = ["+01:00", "+00:00", "Z", "-05:00"]
    rows: list[tuple[Any, ...]] = []
    for user, walk in _walks(users, items, 12, 0.85, rng):
        customer, zone = f"cust/{user * 7919 % 10_007:05d}", zones[user % 4]
        time = START + int(rng.integers(0, 60 * DAY))
        for item in walk:
            for kind, go_on in (("view", 1.0), ("cart", 0.4), ("purchase", 0.6)):
                if rng.random() >= go_on:
                    break
                time += int(rng.integers(20, 400))
                rows.append((customer, skus[item], kind, zone, time * 1000))
            time += int(rng.choice([40, 600, 4000, DAY, 3 * DAY]))
    frame = _sorted(rows, ["customer", "sku", "kind", "zone"])
    seconds = frame.pop("ms") // 1000
    offset = frame["zone"].map({"+01:00": 3600, "+00:00": 0, "Z": 0, "-05:00": -18_000})
    local = pd.to_datetime(seconds + offset, unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S")
    frame["occurred_at"] = local + frame.pop("zone")
    number = np.arange(items)
    table = pd.DataFrame({
        "sku": skus,
        "name": [f"{['Chair', 'Lamp', 'Desk', 'Shelf', 'Sofa'][i % 5]} no. {i}" for i in number],
        "category": np.array(["seating", "lighting", "tables", "storage", "seating|living"])[number % 5],
        "brand": np.array(["Nordholm", "Casa Lina", "Umbra & Sons"])[number % 3],
        "price": np.round(20 + 480 * rng.random(items), 2),
    })  # fmt: skip
    columns = {"user": "customer", "item": "sku", "timestamp": "occurred_at", "weight": "kind"}
    weights = {"view": 0.1, "cart": 0.5, "purchase": 1.0}
    data = {"columns": columns, "feedback": "implicit", "repeats": "keep", "weights": weights}
    chosen = {"item": "sku", "title": "name", "genres": "category", "attributes": ["brand", "price"]}
    return Shape("shop", ".csv", frame, seconds, data, items=table, tables={"columns_items": chosen})


def music(users: int = 250, tracks: int = 150, seed: int = 0) -> Shape:
    """Make a music log: 64-bit ids, times in milliseconds, and tracks that are played again and again. There are no titles."""
    rng = np.random.default_rng([seed, 2])
    track_ids = 2**62 + np.sort(rng.choice(2**40, tracks, replace=False))
    listener_ids = 2**53 + np.sort(rng.choice(2**50, users, replace=False))
    rows: list[tuple[Any, ...]] = []
    for user, walk in _walks(users, tracks, 16, 0.9, rng):
        time = (START + int(rng.integers(0, 90 * DAY))) * 1000
        for track in walk:
            for _ in range(2 if rng.random() < 0.25 else 1):  # a track on repeat
                time += int(rng.integers(30_000, 300_000))
                rows.append((listener_ids[user], track_ids[track], time))
            time += int(rng.choice([0, 0, 0, 3600_000, DAY * 1000]))
    frame = _sorted(rows, ["listener", "track"]).rename(columns={"ms": "played_at"})
    table = pd.DataFrame({
        "listener": listener_ids,
        "country": np.array(["NO", "DE", "BR", "JP"])[np.arange(users) % 4],
        "birth_year": 1950 + np.arange(users) % 55,
    })  # fmt: skip
    columns = {"user": "listener", "item": "track", "timestamp": "played_at"}
    data = {"columns": columns, "feedback": "implicit", "repeats": "keep"}
    chosen = {"user": "listener", "attributes": ["country", "birth_year"]}
    seconds = frame["played_at"] // 1000
    return Shape("music", ".csv.gz", frame, seconds, data, users=table, tables={"columns_users": chosen})


def news(users: int = 320, articles: int = 240, seed: int = 0) -> Shape:
    """Make a news site: Parquet timestamps, users by cookie, and articles that come and go within days."""
    rng = np.random.default_rng([seed, 3])
    cookies = [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(users)]
    slugs = [f"{['world', 'sport', 'culture'][i % 3]}/2024/story-{i:03d}-é" for i in range(articles)]
    days, alive = 60, 6
    born = np.arange(articles) * days / articles  # in days since the start
    rows: list[tuple[Any, ...]] = []
    for user in range(users):
        day, article = float(rng.random() * days * 0.7), -1
        for _ in range(16):
            day += float(rng.choice([0.002, 0.01, 0.4, 1.0, 2.5]))
            now = np.flatnonzero((born <= day) & (day < born + alive))
            if not len(now) or day >= days:
                break
            following = article + 3  # the next story of the same section
            article = following if following in now and rng.random() < 0.85 else int(rng.choice(now))
            rows.append((cookies[user], slugs[article], int((START + day * DAY) * 1000) + int(rng.integers(1000))))
    frame = _sorted(rows, ["cookie", "article"])
    seconds = frame["ms"] // 1000
    frame["at"] = pd.to_datetime(frame.pop("ms"), unit="ms", utc=True).astype("datetime64[us, UTC]")
    number = np.arange(articles)
    table = pd.DataFrame({
        "article": slugs,
        "headline": [f"Story {i}: what happened" for i in number],
        "section": np.array(["world", "sport", "culture"])[number % 3],
        "author": np.array(["A. Berg", "N. Okafor", "L. Ruiz", "M. Sato"])[number % 4],
        "words": 200 + 37 * (number % 40),
    })  # fmt: skip
    columns = {"user": "cookie", "item": "article", "timestamp": "at"}
    chosen = {"item": "article", "title": "headline", "genres": "section", "attributes": ["author", "words"]}
    data = {"columns": columns, "feedback": "implicit"}
    return Shape("news", ".parquet", frame, seconds, data, items=table, tables={"columns_items": chosen})


SHAPES = {"shop": shop, "music": music, "news": news}


def _content(frame: pd.DataFrame, suffix: str) -> bytes:
    """Return the bytes of a file with these rows."""
    buffer = io.BytesIO()
    if suffix == ".parquet":
        frame.to_parquet(buffer, index=False)
        return buffer.getvalue()
    frame.to_csv(buffer, index=False)
    return gzip.compress(buffer.getvalue(), mtime=0) if suffix.endswith(".gz") else buffer.getvalue()


def put(files: Mapping[str, bytes], folder: Path) -> list[Path]:
    """Write the files into the folder, which is made if it is absent."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def _tables(shape: Shape) -> dict[str, bytes]:
    found = {"items": shape.items, "users": shape.users}
    return {
        f"{shape.name}-{kind}{shape.suffix}": _content(table, shape.suffix) for kind, table in found.items() if table is not None
    }


def write(shape: Shape, folder: Path, tables: bool = True) -> Path:
    """Write the event file, and the tables of items and users beside it. Return the path of the event file."""
    files = {f"{shape.name}{shape.suffix}": _content(shape.events, shape.suffix), **(_tables(shape) if tables else {})}
    return put(files, folder)[0]


def deliveries(shape: Shape, late: float = 0.04, seed: int = 0) -> list[dict[str, bytes]]:
    """Split the events into five deliveries, each with its files by name.

    Together they contain each event at least once. A share `late` of the events comes one or more deliveries after its time.
    The third delivery brings the first file again under another name, and the fourth repeats 60 rows of the second in its own file.
    The tables come with the first delivery, in halves: the other half comes with the fifth.
    """
    rng = np.random.default_rng([seed, 4])
    count = len(shape.events)
    number = np.arange(count) * 5 // count
    moved = rng.random(count) < late
    number = np.where(moved, np.minimum(4, number + rng.integers(1, 5, count)), number)
    parts = [shape.events[number == place] for place in range(5)]
    parts[3] = pd.concat([parts[3], parts[1].head(60)])
    found = [{f"{shape.name}-{place + 1}{shape.suffix}": _content(part, shape.suffix)} for place, part in enumerate(parts)]
    found[2][f"{shape.name}-1-again{shape.suffix}"] = next(iter(found[0].values()))
    for kind, table in (("items", shape.items), ("users", shape.users)):
        if table is not None:
            half = len(table) // 2
            found[0][f"{shape.name}-{kind}-1{shape.suffix}"] = _content(table.iloc[:half], shape.suffix)
            found[4][f"{shape.name}-{kind}-2{shape.suffix}"] = _content(table.iloc[half:], shape.suffix)
    return found
