"""How long a rollback takes: `python -m benchmarks.rollback`.

A local store with 20 versions of SS4Rec at its default size on MovieLens 100K (one epoch: time does not depend on how well it
ranks), each of which was champion once. A rollback to one of them, drawn at random, verifies the promotion log, the manifest and
every file, loads the version in a clean process that must answer its sample requests as the trained model did, and appends to the
log. Timed as the function and as the command `recsys rollback`.
"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.data import load_split
from benchmarks.report import hardware, write_json
from configs.settings import PromotionSettings, RetrainSettings
from infra.stores import LocalStore
from models.ss4rec.recommender import SS4Rec
from tasks.load_check import SAMPLE_FILE, sample_requests
from tasks.promotions import history, promote
from tasks.registry import collect_lineage, seal, stage
from tasks.rollback import roll_back

NAME = "movie-ranker"


def main() -> None:
    """Fill a store, roll back, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--times", type=int, default=5, help="of the plain function")
    parser.add_argument("--commands", type=int, default=3, help="times of `recsys rollback`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rollback.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recsys-rollback-") as folder:
        store = LocalStore(Path(folder) / "store")
        megabytes = _fill(store, Path(folder) / "model", given.versions)
        draw = random.Random(given.seed)
        function = [_seconds_of_function(store, draw) for _ in range(given.times)]
        command = [_seconds_of_command(store, draw) for _ in range(given.commands)]
    result: dict[str, Any] = {
        "data": "ml-100k",
        "versions": given.versions,
        "version_mb": round(megabytes, 2),
        "hardware": hardware(),
        "function_s": function,
        "function_median_s": statistics.median(function),
        "command_s": command,
        "command_median_s": statistics.median(command),
    }
    write_json(given.out, result)
    print(
        f"rollback among {given.versions} versions of {megabytes:.1f} MB, verified: median {result['function_median_s']:.2f} s; "
        f"`recsys rollback`: median {result['command_median_s']:.2f} s"
    )


def _fill(store: LocalStore, folder: Path, versions: int) -> float:
    """MB of a version."""
    settings = RetrainSettings()
    parts = load_split("ml-100k", None, "loo-exact")
    model = SS4Rec(settings.models.ss4rec.model_copy(update={"max_epochs": 1, "device": "cpu"}))
    model.fit(parts.train, parts.valid, parts.catalogue, seed=settings.seed, mask_seen=True)
    model.save(folder)
    samples = sample_requests(model, parts.test, count=settings.promotion.sample_requests, seed=settings.seed)
    write_json(folder / SAMPLE_FILE, samples)
    lineage = collect_lineage(
        kind="ss4rec", dataset="ml-100k/none", protocol=parts.id, seed=settings.seed, settings={}, metrics={}, duration_s=0
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(versions):
        when = now + timedelta(hours=number)
        ref = seal(store, stage(store, NAME, folder, when), {"outcome": "promoted", "reasons": []}, lineage, when)
        promote(store, NAME, ref.version, expected=number, reason="benchmark", now=when)
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def _target(store: LocalStore, draw: random.Random) -> str:
    entries = history(store, NAME)
    return draw.choice(sorted({entry.version for entry in entries} - {entries[-1].version}))


def _seconds_of_function(store: LocalStore, draw: random.Random) -> float:
    to, settings = _target(store, draw), PromotionSettings()
    began = time.perf_counter()
    entry = roll_back(store, NAME, to, "benchmark", settings)
    seconds = time.perf_counter() - began
    assert entry.version == to
    return round(seconds, 2)


def _seconds_of_command(store: LocalStore, draw: random.Random) -> float:
    to = _target(store, draw)
    command = [sys.executable, "-m", "flows.cli", "rollback", "--to", to, "--set", f"store.url=file:{store.folder}"]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    seconds = time.perf_counter() - began
    assert history(store, NAME)[-1].version == to
    return round(seconds, 2)


if __name__ == "__main__":
    main()
