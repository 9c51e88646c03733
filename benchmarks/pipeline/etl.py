"""Time and memory needed to turn a ratings.csv into a validated dataset version: `python -m benchmarks.pipeline.etl`.

The input files have MovieLens-25M's marginals (`benchmarks.pipeline.synthetic_events`), at several sizes up to that of MovieLens-25M. You
can add MovieLens files (`--data ml-1m=ml-1m.zip`). Each engine of `benchmarks.pipeline.etl_peers` runs in its own process. The benchmark
measures the wall and CPU seconds of the process, including imports, and its peak resident memory as counted by the kernel. The
features of all engines must agree. Each file is read once beforehand, so that no engine waits for the disk.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pipeline.etl_peers import ENGINES, features_file
from benchmarks.pipeline.synthetic_events import INTERACTIONS
from benchmarks.report import hardware, skip, write_result

SEED = 1
BAR_S, BAR_GIB = 60, 6  # at MovieLens-25M's size
NAMES = {"ours": "this project", "pandas": "plain pandas", "polars": "polars", "duckdb": "DuckDB"}
SUMMED = [
    "user_idx",
    "item_idx",
    "gap_s",
    "session_id",
    "user_events_before",
    "item_events_before",
    "rating_weekday",
    "rating_year",
]


def main() -> None:
    """Measure every size, write the result after each and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=int, default=[1_000_000, 5_000_000, INTERACTIONS])
    parser.add_argument("--engines", nargs="+", choices=list(ENGINES), default=list(ENGINES))
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--once", nargs="*", choices=list(ENGINES), default=[], help="engines measured once at the largest size")
    parser.add_argument(
        "--data", nargs="*", default=["ml-100k"], metavar="SOURCE[=PATH]", help="MovieLens files, read with the default settings"
    )
    parser.add_argument("--folder", type=Path, help="folder for the input and output files (6 GB); temporary if left out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/etl.json"))
    given = parser.parse_args()
    for engine in given.engines:
        if engine != "ours" and importlib.util.find_spec(engine) is None:
            skip(f"there is no package {engine}; install the extra `peers`, or leave it out of --engines.")
    for source in given.data:
        path = source.partition("=")[2]
        if path and not Path(path).exists():
            skip(f"there is no {path}; give --data NAME=PATH a release's zip, or NAME alone to download it.")
    result: dict[str, Any] = {"hardware": hardware(), "seed": SEED, "sizes": [], "movielens": []}
    for source in given.data:
        name, _, path = source.partition("=")
        result["movielens"].append(_release(name, path, given.times))
        write_result(given.out, result)
        print(json.dumps(result["movielens"][-1]))
    with tempfile.TemporaryDirectory(prefix="recsys-etl-", dir=given.folder) as folder:
        for size in given.sizes:
            path = Path(folder) / f"{size}" / "ratings.csv"
            made = [
                sys.executable,
                "-m",
                "benchmarks.pipeline.synthetic_events",
                "--interactions",
                str(size),
                "--seed",
                str(SEED),
                "--out",
                str(path),
            ]
            subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
            once = given.once if size == max(given.sizes) else []
            times = {name: 1 if name in once else given.times for name in given.engines}
            result["sizes"].append(_size(size, path, Path(folder), times))
            write_result(given.out, result)
            path.unlink()


def render(result: dict[str, Any]) -> str:
    """Return the sizes as Markdown: seconds and memory of each engine, and its time relative to ours."""
    head = ["rows", "engine", "wall, s (every run)", "of the processors, s", "peak GiB", "wall / ours", "load"]
    lines = []
    for size in result["sizes"]:
        ours = size["engines"]["ours"]
        for name, found in size["engines"].items():
            wall, peak = f"{found['median_wall_s']:.1f}", f"{found['median_peak_gib']:.2f}"
            wall += f" ({', '.join(f'{run:.1f}' for run in found['wall_s'])})"
            if name == "ours" and size["interactions"] == INTERACTIONS:
                wall += f", bar < {BAR_S}: {_met(found['median_wall_s'] < BAR_S)}"
                peak += f", bar < {BAR_GIB}: {_met(found['median_peak_gib'] < BAR_GIB)}"
            ratio = f"{found['median_wall_s'] / ours['median_wall_s']:.2f}"
            loads = f"{min(found['load_1_min']):.0f} to {max(found['load_1_min']):.0f}"
            lines.append([f"{size['interactions']:,}", NAMES[name], wall, f"{found['median_cpu_s']:.1f}", peak, ratio, loads])
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, ["---"] * len(head), *lines])


def _met(met: bool) -> str:
    return "met" if met else "**missed**"


def _size(size: int, path: Path, folder: Path, times: dict[str, int]) -> dict[str, Any]:
    row: dict[str, Any] = {"interactions": size, "csv_mb": round(path.stat().st_size / 1e6, 1), "engines": {}}
    sums: dict[str, dict[str, int]] = {}
    for run in range(max(times.values())):  # engines take turns, so that other load on the machine affects all of them
        for name in (name for name in times if run < times[name]):
            work = folder / "work"
            work.mkdir()
            found = row["engines"].setdefault(name, {"wall_s": [], "cpu_s": [], "peak_gib": [], "load_1_min": []})
            for key, value in _measured(name, path, work).items():
                found[key].append(value)
            sums[name] = sums.get(name) or _sums(features_file(name, work))
            shutil.rmtree(work)
            print(f"{size:,} by {name}: {found['wall_s'][-1]} s, {found['peak_gib'][-1]} GiB, at load {found['load_1_min'][-1]}")
    for found in row["engines"].values():
        found |= {f"median_{key}": statistics.median(found[key]) for key in ("wall_s", "cpu_s", "peak_gib")}
    first, *others = sums
    if differing := [name for name in others if sums[name] != sums[first]]:
        raise SystemExit(f"The features of {', '.join(differing)} differ from those of {first}: {sums}")
    return row


def _measured(name: str, path: Path, work: Path) -> dict[str, float]:
    with path.open("rb") as file:
        while file.read(1 << 24):
            pass
    load, began = os.getloadavg()[0], time.perf_counter()
    engine = [sys.executable, "-m", "benchmarks.pipeline.etl_peers", name, str(path), str(work)]
    done = subprocess.run(engine, stdout=subprocess.PIPE, text=True, check=True)
    wall = time.perf_counter() - began
    used = json.loads(done.stdout)
    return {"wall_s": round(wall, 2), "cpu_s": used["cpu_s"], "peak_gib": used["peak_gib"], "load_1_min": round(load, 1)}


def _sums(features: Path) -> dict[str, int]:
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(features) as file:
        found = {"rows": file.metadata.num_rows}
        for name in SUMMED:
            found[name] = int(pc.sum(pc.cast(file.read([name]).column(0), "int64")).as_py())
    return found


def _release(source: str, path: str, times: int) -> dict[str, Any]:
    """Process a MovieLens release with default settings. Return its counts, and the seconds without process start."""
    from configs.settings import DataSettings, EtlSettings, ValidationSettings
    from infra.storage.local import LocalStore
    from tasks.datasets import write_dataset
    from tasks.ingest import building, locate

    seconds = []
    for _ in range(times):
        with tempfile.TemporaryDirectory(prefix="recsys-etl-") as folder:
            began = time.perf_counter()
            data = DataSettings.model_validate(
                {"source": source, "local_path": path or None, **({"cache_dir": folder} if path else {})}
            )
            found = locate(data)
            with building(found, ValidationSettings(), EtlSettings(work_dir=Path(folder)), int(time.time())) as release:
                ref = write_dataset(LocalStore(Path(folder) / "store"), source, release, release.features, found.hashes())
                tables = {name: (table.rows, table.accepted) for name, table in release.report.tables.items()}
            seconds.append(round(time.perf_counter() - began, 2))
    rows, accepted = tables["interactions"]
    return {
        "data": source,
        "file": Path(path).name or f"{source}, as published",
        "rows": rows,
        "accepted": accepted,
        "users": ref.users,
        "items": ref.items,
        "version": ref.version,
        "tables": sorted(tables),
        "seconds": seconds,
        "median_s": statistics.median(seconds),
    }


if __name__ == "__main__":
    main()
