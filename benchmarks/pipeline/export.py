"""Users per second of an export: `python -m benchmarks.pipeline.export`.

A version of SS4Rec at its default size, with a catalogue of ML-25M's size and drawn weights, answers for drawn users whose histories
have ML-25M's lengths. Each row is one export of all users, in one process. Speed does not depend on training.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import hardware, write_result
from benchmarks.serving.world import NAME, histories, publish_drawn
from configs.settings import DataSettings, EtlSettings, ExportSettings, ValidationSettings
from infra.pages import markdown_table
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, write_dataset
from tasks.export import ExportSource, chosen_version, export_version
from tasks.ingest import building, locate

__all__ = ["main", "render"]

ROWS: dict[str, dict[str, Any]] = {
    "top 10": {"parts": ("top_k",), "k": 10},
    "top 100": {"parts": ("top_k",), "k": 100},
    "top 100, seen items shown": {"parts": ("top_k",), "k": 100, "seen": "show"},
    "top 100 and user vectors": {"parts": ("top_k", "user_vectors"), "k": 100},
}


def main() -> None:
    """Measure each row, write the result and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=62_000)
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/export.json"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recsys-export-") as folder:
        root = Path(folder)
        store = LocalStore(root / "store")
        dataset = _dataset(store, root, given.users, given.items, given.seed)
        publish_drawn(store, root / "model", given.items, given.seed)
        source = ExportSource(store, chosen_version(store, NAME, "champion"), dataset)
        engine, rows = EtlSettings(work_dir=root / "work"), {}
        for name, options in ROWS.items():
            settings = ExportSettings(at=dataset.last + 60, piece_users=1000, **options)
            found = export_version(source, LocalStore(root / "out"), settings, engine)
            rows[name] = {"seconds": found.seconds, "users_per_s": round(found.users_per_s, 1)}
    result = {
        "users": given.users,
        "items": given.items,
        "events": dataset.rows,
        "seed": given.seed,
        "hardware": hardware(),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "rows": rows,
    }
    write_result(given.out, result)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the table of a result, in Markdown."""
    rows = [[name, f"{row['users_per_s']:,.0f}", f"{row['seconds']:.1f}"] for name, row in result["rows"].items()]
    head = (
        f"{result['users']:,} users with {result['events']:,} events, {result['items']:,} items; peak {result['peak_mb']:,} MiB"
    )
    return markdown_table([head, "users/s", "seconds"], rows)


def _dataset(store: LocalStore, folder: Path, users: int, items: int, seed: int) -> DatasetRef:
    """Store the drawn users as a dataset version."""
    people = histories(users, items, seed)
    lengths = [len(person.items) for person in people]
    events = {
        "userId": np.repeat(np.arange(users, dtype=np.int64), lengths),
        "movieId": np.concatenate([person.items for person in people]),
        "rating": np.ones(sum(lengths)),
        "timestamp": np.concatenate([person.times for person in people]),
    }
    pd.DataFrame(events).to_csv(folder / "ratings.csv", index=False)
    source = locate(DataSettings(local_path=folder / "ratings.csv", dataset="drawn"))
    engine = EtlSettings(work_dir=folder / "work")
    with building(source, ValidationSettings(min_rows=1), engine, int(time.time())) as release:
        return write_dataset(store, source.name, release, release.features, source.hashes())


if __name__ == "__main__":
    main()
