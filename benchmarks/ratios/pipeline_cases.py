"""Etl, a landing, a measurement of drift and the start of processes, beside plain pandas, numpy and Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.pipeline.drift import steady_stream, synthetic_source, time_slice
from benchmarks.pipeline.etl_peers import ENGINES
from benchmarks.pipeline.synthetic_events import events, scaled, write_csv
from benchmarks.ratios.measuring import Case, Place, repeated
from configs.settings import DriftSettings, EtlSettings, LandingSettings, ValidationSettings
from infra.landing_zone import FolderZone
from infra.storage.local import LocalStore
from tasks.datasets import Quarantine
from tasks.ingest import build_features
from tasks.landing import LandingOptions, land
from tasks.monitoring.drift import Beside, detect_drift, reference_of

__all__ = ["command_help", "drift", "etl", "landing", "serving_import"]

SEED = 1
ROOT = Path(__file__).parents[2]
LITTLE = "import asyncio, json"
SERVING = "import serving.run, serving.supervisor, serving.api.app"
"""What a process of `recsys serve` imports, without what the command line imports."""


def etl(place: Place) -> Case:
    """From a ratings.csv to a dataset version, and in plain pandas to the same tables."""
    rows = place.size(200_000, 2000)
    source = place.folder / "ratings.csv"
    write_csv(events(*scaled(rows), rows, SEED), source)

    def run(engine: Callable[[Path, Path], None]) -> None:
        with tempfile.TemporaryDirectory(dir=place.folder) as folder:
            engine(source, Path(folder))

    return Case(repeated(lambda: run(ENGINES["ours"])), repeated(lambda: run(ENGINES["pandas"])))


def landing(place: Place) -> Case:
    """A file of new events is merged into a dataset, and in plain pandas into a table."""
    rows, new = place.size(200_000, 2000), place.size(10_000, 100)
    table = events(*scaled(rows), rows, SEED)
    columns = {"userId": table.user_id, "movieId": table.item_id, "rating": table.rating, "timestamp": table.timestamp}
    frame = pd.DataFrame(columns).sample(frac=1, random_state=SEED).astype({"rating": np.float64})
    zone, kept = place.folder / "zone", place.folder / "landed"
    zone.mkdir()
    frame[new:].to_parquet(zone / "base.parquet", index=False)
    options = LandingSettings(settle_s=0)

    def landed(folder: Path) -> None:
        store, engine = LocalStore(folder / "store"), EtlSettings(work_dir=folder / "work")
        land(store, FolderZone(zone), "ratios", LandingOptions(ValidationSettings(), options, engine, time.time()))

    landed(kept)
    frame[:new].to_csv(zone / "new.csv", index=False)

    def ours() -> None:
        with tempfile.TemporaryDirectory(dir=place.folder) as folder:
            shutil.copytree(kept, folder, dirs_exist_ok=True)
            landed(Path(folder))

    def reference() -> None:
        both = pd.concat([pd.read_parquet(zone / "base.parquet"), pd.read_csv(zone / "new.csv")])
        both = both.sort_values(["userId", "timestamp", "movieId"]).drop_duplicates(["userId", "movieId"], keep="last")
        both.to_parquet(place.folder / "merged.parquet", index=False, compression="zstd")

    return Case(repeated(ours), repeated(reference))


def drift(place: Place) -> Case:
    """A measurement of drift, and numpy's sort of the same columns."""
    size, before = place.size(5000, 500), place.size(50_000, 3000)
    source = synthetic_source(place.size(100_000, 8000), SEED)
    features = build_features(steady_stream(source, before + 2 * size, SEED))
    begins = int(np.sort(features["timestamp"].to_numpy(np.int64))[before])
    known, settings = features[features["timestamp"] < begins], DriftSettings()
    reference = reference_of(known, source.items, settings, SEED, Quarantine(before, before // 1000))
    current, window = time_slice(features, begins, size)
    quarantine = Quarantine(len(current), len(current) // 1000)

    def ours() -> None:
        detect_drift(reference, current, source.items, settings, window=window, quarantine=quarantine, beside=Beside(seed=SEED))

    compared = [
        part[name].to_numpy(np.float64)
        for part in (known, current)
        for name in ("user_id", "item_id", "rating", "gap_s", "rating_hour", "rating_weekday")
    ]
    return Case(repeated(ours), repeated(lambda: [np.sort(column) for column in compared]))


def serving_import(place: Place) -> Case:
    """What a serving process imports."""
    return Case(repeated(lambda: _python("-c", SERVING)), repeated(lambda: _python("-c", LITTLE)))


def command_help(place: Place) -> Case:
    """The help of the command line."""
    return Case(repeated(lambda: _python("-m", "flows.cli", "--help")), repeated(lambda: _python("-c", LITTLE)))


def _python(*arguments: str) -> None:
    # Python must be allowed to keep compiled modules. Compiling them would cost more than anything else.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, cwd=ROOT, env=environment)
