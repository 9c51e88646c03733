"""How long an increment takes: `python -m benchmarks.pipeline.increment`.

A dataset of 25 M synthetic events with MovieLens-25M's marginals is landed as one Parquet file. Then three CSV files of 100 k
rows arrive one after the other. Nine tenths of their rows are new events of the dataset's users, some of whom are new. The rest
are corrections of ratings, and rows that the dataset already has.

Each file is added by its own process, as in a scheduled run. The measured seconds are those of the stage, from the listing of the
landing zone to the sealed version. They exclude the imports, which are reported separately. For comparison, the same is done
without parts in plain pandas: read the complete table, append the rows, sort, drop the older event of each user and movie, and
write everything again.

Then the merged version is read, compacted, and read again. Each time is reported together with the CPU seconds, which other work
on the machine does not lengthen.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from benchmarks.pipeline.synthetic_events import INTERACTIONS, events, scaled
from benchmarks.report import hardware, write_result

if TYPE_CHECKING:
    from configs.settings import EtlSettings

NAME = "synthetic"
NEW_SHARE, CORRECTED_SHARE = 0.9, 0.05


def main() -> None:
    """Make the events, land them, add the increments, write the result and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=INTERACTIONS)
    parser.add_argument("--rows", type=int, default=100_000, help="rows in one increment")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/increment.json"))
    parser.add_argument("--child", nargs=2, metavar=("STEP", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child is not None:
        step, folder = given.child
        print(json.dumps(STEPS[step](Path(folder)) | {"peak_gib": _peak_gib()}))
        return
    with tempfile.TemporaryDirectory(prefix="recsys-increment-") as folder:
        root = Path(folder)
        (root / "zone").mkdir()
        increments = _make(root, given.interactions, given.rows, given.times, given.seed)
        load = os.getloadavg()[0]
        base = _timed("land", root)
        found = []
        for number, increment in enumerate(increments):
            increment.rename(root / "zone" / f"{number}.csv")
            found.append(_timed("land", root))
        rewrite = _timed("rewrite", root)
        after = {step: _timed(step, root) for step in ("read", "compact", "read_compacted")}
    seconds = statistics.median(each["seconds"] for each in found)
    result: dict[str, Any] = {
        "seed": given.seed,
        "interactions": given.interactions,
        "increment_rows": given.rows,
        "hardware": hardware() | {"load_1_min": round(load, 2)},
        "base": base,
        "increments": found,
        "median_s": seconds,
        "median_cpu_s": statistics.median(each["cpu_s"] for each in found),
        "peak_gib": max(each["peak_gib"] for each in found),
        "rewrite": rewrite,
        "ratio": round(rewrite["seconds"] / seconds, 1),
        "cpu_ratio": round(rewrite["cpu_s"] / statistics.median(each["cpu_s"] for each in found), 1),
        **after,
    }
    write_result(given.out, result)
    print(json.dumps(result, indent=2))


def _make(root: Path, interactions: int, rows: int, times: int, seed: int) -> list[Path]:
    """Write the base into the zone as Parquet and the increments next to the zone as CSV. Return the paths of the increments."""
    fresh = round(rows * NEW_SHARE)
    users, items = scaled(interactions)
    table = events(users, items, interactions + times * fresh, seed)
    draw = np.random.default_rng(seed)
    chosen = draw.permutation(len(table))[: times * fresh]
    held = np.zeros(len(table), dtype=bool)
    held[chosen] = True
    frame = pd.DataFrame(
        {
            "userId": table.user_id,
            "movieId": table.item_id,
            "rating": table.rating.astype(np.float64),
            "timestamp": table.timestamp,
        },
        copy=False,
    )
    base = frame[~held]
    base.to_parquet(root / "zone" / "base.parquet", index=False)
    paths = []
    for number in range(times):
        new = frame.iloc[chosen[number * fresh : (number + 1) * fresh]].copy()
        newcomers = new.index[: len(new) // 50]
        new.loc[newcomers, "userId"] += frame["userId"].max()
        corrected = base.sample(round(rows * CORRECTED_SHARE), random_state=seed + number)
        corrected = corrected.assign(rating=5.5 - corrected["rating"], timestamp=corrected["timestamp"] + 1)
        again = base.sample(rows - fresh - len(corrected), random_state=seed + 1000 + number)
        paths.append(root / f"{number}.csv")
        pd.concat([new, corrected, again]).sample(frac=1, random_state=number).to_csv(paths[-1], index=False)
    return paths


def _timed(step: str, root: Path) -> dict[str, Any]:
    """Run a step in its own process and return the result that it reports."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.pipeline.increment", "--child", step, str(root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return {**json.loads(done.stdout), "process_s": round(time.perf_counter() - began, 2)}


class _Clock:
    """Measures the time since its creation."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def seconds(self) -> dict[str, float]:
        """Return the wall and CPU seconds of this process, all threads together."""
        now = time.perf_counter(), time.process_time()
        return {"seconds": round(now[0] - self._began[0], 2), "cpu_s": round(now[1] - self._began[1], 2)}


def _peak_gib() -> float:
    # Not ru_maxrss: a process inherits its parent's value when it is forked.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    return round(int(status["VmHWM"].split()[0]) / (1 << 20), 2)


def _land(root: Path) -> dict[str, Any]:
    from configs.settings import LandingSettings, ValidationSettings
    from infra.landing_zone import FolderZone
    from infra.storage.local import LocalStore
    from tasks.landing import LandingOptions, land

    store, zone, options = LocalStore(root / "store"), FolderZone(root / "zone"), LandingSettings(settle_s=0)
    clock = _Clock()
    landed = land(store, zone, NAME, LandingOptions(ValidationSettings(), options, _engine(root), time.time()))
    spent = clock.seconds()
    account = landed.accounts[0]
    counts = {name: getattr(account, name) for name in ("rows", "accepted", "duplicates", "quarantined", "corrections")}
    return {**spent, "dataset_rows": landed.dataset.rows, **counts}


def _rewrite(root: Path) -> dict[str, Any]:
    """Add the first increment without parts."""
    clock = _Clock()
    events = pd.concat([pd.read_parquet(root / "zone" / "base.parquet"), pd.read_csv(root / "zone" / "0.csv")])
    events = events.sort_values(["userId", "timestamp", "movieId"]).drop_duplicates(["userId", "movieId"], keep="last")
    events.to_parquet(root / "rewritten.parquet", index=False, compression="zstd")
    return {**clock.seconds(), "dataset_rows": len(events)}


def _read(root: Path) -> dict[str, Any]:
    from infra.storage.local import LocalStore
    from tasks.datasets import list_datasets, read_table

    store = LocalStore(root / "store")
    newest = list_datasets(store)[-1]
    clock = _Clock()
    rows = len(read_table(store, newest, "interactions"))
    return {**clock.seconds(), "dataset_rows": rows}


def _compact(root: Path) -> dict[str, Any]:
    from configs.settings import LandingSettings
    from infra.storage.local import LocalStore
    from tasks.landing import compact

    clock = _Clock()
    made = compact(LocalStore(root / "store"), NAME, LandingSettings(), _engine(root).work_dir, time.time(), force=True)
    return {**clock.seconds(), "dataset_rows": made.rows}


def _engine(root: Path) -> EtlSettings:
    from configs.settings import EtlSettings

    return EtlSettings(work_dir=root / "work")


STEPS = {"land": _land, "rewrite": _rewrite, "read": _read, "compact": _compact, "read_compacted": _read}


if __name__ == "__main__":
    main()
