"""Small MovieLens-like data: popular and rare items, sessions with ties in time, and an order worth learning."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

START = 1_000_000_000


def interactions(users: int = 60, items: int = 40, events: int = 30, seed: int = 0) -> pd.DataFrame:
    """Make `events` events of each user on distinct items. Item i + 1 mostly follows item i."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(1, users + 1):
        time, seen, item = START + int(rng.integers(0, 10**6)), set(), int(rng.zipf(1.3)) % items
        for _ in range(min(events, items)):
            while item in seen:
                item = (item + 1) % items if rng.random() < 0.8 else int(rng.integers(items))
            seen.add(item)
            time += int(rng.choice([0, 0, 5, 60, 5000, 200_000]))
            rows.append((user, 100 + item, int(rng.integers(1, 6)), time))
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "rating", "timestamp"])
    return frame.sample(frac=1, random_state=seed).reset_index(drop=True)


def movies(frame: pd.DataFrame) -> pd.DataFrame:
    ids = np.sort(frame["item_id"].unique())
    genres = np.array(["Action|Comedy", "Drama", "Comedy", "Thriller|Drama"])
    return pd.DataFrame({"item_id": ids, "title": [f"Film {i}, The (19{i % 90 + 10})" for i in ids], "genres": genres[ids % 4]})


def write_csv(folder: Path, frame: pd.DataFrame) -> Path:
    """Write ratings.csv and movies.csv, as in the later releases."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {"user_id": "userId", "item_id": "movieId"}
    frame.rename(columns=names).to_csv(folder / "ratings.csv", index=False)
    if "item_id" in frame:
        movies(frame).rename(columns=names).to_csv(folder / "movies.csv", index=False)
    return folder / "ratings.csv"


def write_dat(folder: Path, frame: pd.DataFrame) -> Path:
    """Write ratings.dat, movies.dat and users.dat, as in ml-1m."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = frame.itertuples(index=False)
    (folder / "ratings.dat").write_text("".join(f"{r[0]}::{r[1]}::{r[2]}::{r[3]}\n" for r in rows), encoding="latin-1")
    titles = movies(frame).itertuples(index=False)
    (folder / "movies.dat").write_text("".join(f"{r[0]}::Amélie {r[1]}::{r[2]}\n" for r in titles), encoding="latin-1")
    users = np.sort(frame["user_id"].unique())
    (folder / "users.dat").write_text("".join(f"{u}::F::25::3::1234{u % 10}\n" for u in users), encoding="latin-1")
    return folder / "ratings.dat"


def write_u_data(folder: Path, frame: pd.DataFrame) -> Path:
    """Write u.data, u.item and u.user, as in ml-100k."""
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / "u.data", sep="\t", header=False, index=False)
    flags = "|".join(["0"] * 5 + ["1"] + ["0"] * 13)
    titles = movies(frame).itertuples(index=False)
    (folder / "u.item").write_text("".join(f"{r[0]}|{r[1]}|01-Jan-1995||http://x|{flags}\n" for r in titles), encoding="latin-1")
    users = np.sort(frame["user_id"].unique())
    (folder / "u.user").write_text("".join(f"{u}|{20 + u % 50}|M|writer|T8H1N\n" for u in users), encoding="latin-1")
    return folder / "u.data"


def write_atomic(folder: Path, frame: pd.DataFrame) -> Path:
    """Write RecBole's atomic files."""
    folder.mkdir(parents=True, exist_ok=True)
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    frame.to_csv(folder / "x.inter", sep="\t", index=False, header=header)
    items = movies(frame)
    items["year"], items["genres"] = 1995, items["genres"].str.replace("|", " ")
    header = ["item_id:token", "movie_title:token_seq", "class:token_seq", "release_year:token"]
    items.to_csv(folder / "x.item", sep="\t", index=False, header=header)
    return folder / "x.inter"


def write_zip(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"{path.stem}/{file.name}")
    return path
