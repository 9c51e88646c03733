"""How long a rollback takes: `python -m benchmarks.pipeline.rollback`.

A local store holds 20 versions of SS4Rec at its default size on MovieLens 100K. Each was champion once. They are trained for one
epoch, because the time does not depend on how well they rank. A rollback to a random one of them verifies the promotion log, the
manifest and every file. It loads the version in a clean process, which must answer the sample requests as the trained model did,
and appends to the log. Both the function and the command `recsys model rollback` are timed. The CPU seconds, which other work on
the machine does not lengthen, and the load at the start are reported too.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.data import load_split
from benchmarks.report import hardware, write_json, write_result
from configs.settings import PromotionSettings, RetrainSettings
from infra.registry import Lineage, ModelRegistry, machine_facts
from infra.storage.local import LocalStore
from models.ss4rec import SS4Rec
from tasks.evaluation.load_check import SAMPLE_FILE, sample_requests
from tasks.gate import roll_back

NAME = "movie-ranker"


def main() -> None:
    """Fill a store, roll back, write the result and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=20)
    parser.add_argument("--times", type=int, default=5, help="number of calls of the plain function")
    parser.add_argument("--commands", type=int, default=3, help="number of runs of `recsys model rollback`")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/rollback.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recsys-rollback-") as folder:
        store = LocalStore(Path(folder) / "store")
        megabytes = _fill(store, Path(folder) / "model", given.versions)
        draw = random.Random(given.seed)
        load = os.getloadavg()[0]
        function = [_seconds(store, draw, _by_function) for _ in range(given.times)]
        command = [_seconds(store, draw, _by_command) for _ in range(given.commands)]
    result: dict[str, Any] = {
        "data": "ml-100k",
        "versions": given.versions,
        "version_mb": round(megabytes, 2),
        "hardware": hardware() | {"load_1_min": round(load, 2)},
        "function": _summary(function),
        "command": _summary(command),
    }
    write_result(given.out, result)
    print(f"rollback among {given.versions} versions of {megabytes:.1f} MB, verified, at a load of {load:.1f}:")
    for name in ("function", "command"):
        print(f"{name}: median {result[name]['median_s']:.2f} s, of which {result[name]['median_cpu_s']:.2f} s of CPU")


def _fill(store: LocalStore, folder: Path, versions: int) -> float:
    """Fill the store with versions. Return the size of a version in MB."""
    registry = ModelRegistry(store)
    settings = RetrainSettings()
    parts = load_split("ml-100k", None, "loo-exact")
    model = SS4Rec(settings.models.ss4rec.model_copy(update={"max_epochs": 1, "device": "cpu"}))
    model.fit(parts.train, parts.valid, parts.catalogue, seed=settings.seed, mask_seen=True)
    model.save(folder)
    samples = sample_requests(model, parts.test, count=settings.promotion.sample_requests, seed=settings.seed)
    write_json(folder / SAMPLE_FILE, samples)
    lineage = Lineage(
        kind="ss4rec",
        dataset="ml-100k/none",
        protocol=parts.id,
        seed=settings.seed,
        settings={},
        metrics={},
        duration_s=0,
        cost=None,
        **machine_facts(),
    )
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(versions):
        when = now + timedelta(hours=number)
        ref = registry.seal(registry.stage(NAME, folder, when), {"outcome": "promoted", "reasons": []}, lineage, when)
        registry.promote(NAME, ref.version, expected=number, reason="benchmark", now=when)
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def _target(store: LocalStore, draw: random.Random) -> str:
    entries = ModelRegistry(store).history(NAME)
    return draw.choice(sorted({entry.version for entry in entries} - {entries[-1].version}))


def _seconds(store: LocalStore, draw: random.Random, go: Callable[[LocalStore, str], object]) -> tuple[float, float]:
    """Roll back to a version drawn at random. Return the wall and CPU seconds."""
    to, cpu, began = _target(store, draw), _cpu_seconds(), time.perf_counter()
    go(store, to)
    found = time.perf_counter() - began, _cpu_seconds() - cpu
    assert ModelRegistry(store).history(NAME)[-1].version == to
    return round(found[0], 2), round(found[1], 2)


def _by_function(store: LocalStore, to: str) -> object:
    return roll_back(store, NAME, to, "benchmark", PromotionSettings())


def _by_command(store: LocalStore, to: str) -> object:
    command = [sys.executable, "-m", "flows.cli", "model", "rollback", "--to", to, "--set", f"store.url=file:{store.folder}"]
    return subprocess.run(command, check=True, capture_output=True)


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its finished children."""
    used = [resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def _summary(times: list[tuple[float, float]]) -> dict[str, Any]:
    return {
        "wall_s": [wall for wall, _ in times],
        "cpu_s": [cpu for _, cpu in times],
        "median_s": statistics.median(wall for wall, _ in times),
        "median_cpu_s": statistics.median(cpu for _, cpu in times),
    }


if __name__ == "__main__":
    main()
