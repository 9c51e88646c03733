"""Time and memory of events with text ids, ISO 8601 times and no rating: `python -m benchmarks.pipeline.text_ids`.

The events are those of `benchmarks.pipeline.synthetic_events`, with MovieLens-25M's marginals. They are written twice: as MovieLens
writes them, and as a shop does, with `customer-000123` and `SKU-0456` for ids and times with an offset. Each file is turned into a
stored dataset version in a process of its own. `--distinct N` also reads N events of N different customers, where the map from
numbers to ids is the largest. The seconds include the start of the process; the memory is the peak that the kernel counted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.pipeline.synthetic_events import INTERACTIONS, EventTable, events, scaled, write_csv
from benchmarks.report import hardware, write_result

IntArray = npt.NDArray[np.int64]
SEED = 1
BAR_S, BAR_GIB = 90, 4  # at MovieLens-25M's size, with text ids
SHOP = {"columns": {"user": "customer", "item": "sku", "timestamp": "at"}, "feedback": "implicit", "repeats": "keep"}
MOVIELENS: dict[str, Any] = {}
THIS = [sys.executable, "-m", "benchmarks.pipeline.text_ids"]


def main() -> None:
    """Measure both forms of the events, write the result after each and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=INTERACTIONS)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--distinct", type=int, default=0, help="also read as many events, each of another customer")
    parser.add_argument("--folder", type=Path, help="folder for the files (6 GB); temporary if left out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/text_ids.json"))
    parser.add_argument("--one", nargs=3, metavar=("FILE", "FOLDER", "SETTINGS"), help=argparse.SUPPRESS)
    parser.add_argument("--write", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        _store(Path(given.one[0]), Path(given.one[1]), json.loads(given.one[2]))
        return
    if given.write:
        _write_files(given.write, given.rows, given.distinct)
        return
    result: dict[str, Any] = {"hardware": hardware(), "seed": SEED, "rows": []}
    with tempfile.TemporaryDirectory(prefix="recsys-text-ids-", dir=given.folder) as name:
        folder = Path(name)
        # In a process of its own, because the kernel counts the memory of a process that starts another one as the other's too.
        write = ["--write", str(folder), "--rows", str(given.rows), "--distinct", str(given.distinct)]
        subprocess.run([*THIS, *write], check=True)
        files = [("integers, seconds", folder / "ratings.csv", MOVIELENS), ("text ids, ISO 8601", folder / "orders.csv", SHOP)]
        if given.distinct:
            files.append((f"{given.distinct:,} customers", folder / "distinct.csv", SHOP))
        for _ in range(given.times):
            for what, path, settings in files:
                found = _measured(path, folder / "work", settings)
                result["rows"].append({"events": what, "mb": round(path.stat().st_size / 1e6), **found})
                write_result(given.out, result)
                print(json.dumps(result["rows"][-1]), flush=True)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the runs as a Markdown table."""
    head = ["events", "rows", "users", "file, MB", "wall, s", "of the processors, s", "peak GiB", "load"]
    lines = [head, ["---"] * len(head)]
    for run in result["rows"]:
        wall, peak = f"{run['wall_s']:.1f}", f"{run['peak_gib']:.2f}"
        if run["events_read"] == INTERACTIONS and run["events"].startswith("text"):
            wall += f", bar < {BAR_S}"
            peak += f", bar < {BAR_GIB}"
        counts = [f"{run[name]:,}" for name in ("events_read", "users", "mb")]
        lines.append([run["events"], *counts, wall, f"{run['cpu_s']:.1f}", peak, f"{run['load']:.0f}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _write_files(folder: Path, rows: int, distinct: int) -> None:
    table = events(*scaled(rows), rows, SEED)
    write_csv(table, folder / "ratings.csv")
    write_shop(table.user_id, table.item_id, table.timestamp, folder / "orders.csv")
    if distinct:
        write_shop(*_distinct(table, distinct), folder / "distinct.csv")


def write_shop(users: IntArray, items: IntArray, times: IntArray, path: Path, chunk: int = 1 << 20) -> None:
    """Write events (n) as a shop does: text ids, and ISO 8601 times with an offset."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.csv

    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    with path.open("wb") as file:
        file.write(b"customer,sku,at\n")
        for start in range(0, len(users), chunk):
            part = slice(start, start + chunk)
            stamps = pa.array(times[part] + 7200).cast(pa.timestamp("s"))
            columns = {
                "customer": _texts("customer-", users[part], 9),
                "sku": _texts("SKU-", items[part], 7),
                "at": pc.binary_join_element_wise(pc.strftime(stamps, "%Y-%m-%dT%H:%M:%S"), "+02:00", ""),
            }
            pyarrow.csv.write_csv(pa.table(columns), file, options)


def _texts(prefix: str, numbers: IntArray, width: int) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width, "0"), "")


def _distinct(table: EventTable, count: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return users, items and times of `count` events, each of another user."""
    users = np.random.default_rng(SEED).permutation(count)
    return users, np.resize(table.item_id, count), np.resize(table.timestamp, count)


def _measured(path: Path, work: Path, settings: dict[str, Any]) -> dict[str, Any]:
    work.mkdir()
    with path.open("rb") as file:  # so that no run waits for the disk
        while file.read(1 << 24):
            pass
    load, began = os.getloadavg()[0], time.perf_counter()
    command = [*THIS, "--one", str(path), str(work), json.dumps(settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    wall = time.perf_counter() - began
    shutil.rmtree(work)
    return {"wall_s": round(wall, 2), "load": round(load, 1), **json.loads(done.stdout)}


def _store(path: Path, work: Path, settings: dict[str, Any]) -> None:
    """Turn a file into a stored dataset version, as the flow `etl` does, and print the account."""
    from configs.settings import DataSettings, EtlSettings, ValidationSettings
    from infra.storage.local import LocalStore
    from tasks.datasets import write_dataset
    from tasks.ingest import building, locate

    limits = ValidationSettings()
    source = locate(DataSettings.model_validate({"local_path": path, "cache_dir": work / "cache", **settings}), None, limits)
    with building(source, limits, EtlSettings(work_dir=work / "work"), int(time.time())) as release:
        ref = write_dataset(LocalStore(work / "store"), "bench", release, release.features, source.hashes())
        report = release.report.tables["interactions"]
    used, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(
        json.dumps(
            {
                "events_read": report.rows,
                "accepted": report.accepted,
                "users": ref.users,
                "items": ref.items,
                "cpu_s": round(sum(each.ru_utime + each.ru_stime for each in (used, children)), 1),
                "peak_gib": round(used.ru_maxrss / 2**20, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
