"""How the time of an epoch and of a full evaluation grows with the data: `python -m benchmarks.training.scale`.

Uses synthetic events with MovieLens-25M's marginals (`benchmarks.pipeline.synthetic_events`) at several sizes up to its own 25 M. Each
user's last event is held out and ranked over the full catalogue without the items seen before. The benchmark measures the time of
one epoch and of one evaluation of all users; it does not measure quality.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.pipeline.synthetic_events import INTERACTIONS, EventTable, events, scaled, sequences
from benchmarks.report import hardware, skip, write_result
from configs.loading import load_settings
from configs.settings import RetrainSettings
from models.recommender import Requests, Sequences
from models.ss4rec import SS4Rec

SEED = 1
CPU_INTERACTIONS = 1_000_000  # with more, an epoch would take hours


def main() -> None:
    """Measure every size, write the result after each and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", type=int, default=[1_000_000, 5_000_000, INTERACTIONS])
    parser.add_argument("--config", default="best")
    parser.add_argument("--batch-tokens", type=int, default=32768)
    parser.add_argument("--epochs", type=int, default=3, help="number of epochs; the first one compiles and is not counted")
    parser.add_argument("--generate", type=Path, help="only write the events of each size to this folder, for --events")
    parser.add_argument("--events", type=Path, help="folder with the events written by --generate; generated again if left out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/scale.json"))
    given = parser.parse_args()
    if given.generate is not None:
        for size in given.sizes:
            _keep(events(*scaled(size), size, SEED), given.generate / f"{size}.npz")
        return
    if not torch.cuda.is_available() and max(given.sizes) > CPU_INTERACTIONS:
        skip(f"{max(given.sizes)} events need a GPU and there is none; on a CPU use --sizes up to {CPU_INTERACTIONS}.")
    settings = load_settings(RetrainSettings, given.config).models.ss4rec
    settings = settings.model_copy(
        update={"batch_tokens": given.batch_tokens, "max_epochs": given.epochs, "patience": given.epochs}
    )
    result: dict[str, Any] = {"hardware": hardware(), "seed": SEED, "settings": settings.model_dump(mode="json"), "sizes": []}
    for size in given.sizes:
        table = _kept(given.events / f"{size}.npz") if given.events else events(*scaled(size), size, SEED)
        train, held_out = _split(table)
        catalogue = np.unique(table.item_id)
        del table
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        model, began = SS4Rec(settings), time.perf_counter()
        report = model.fit(train, held_out, catalogue, seed=SEED, mask_seen=True)
        timed = report.epochs[1:]
        row = {
            "interactions": len(train.item_ids) + len(held_out),
            "users": len(held_out),
            "items": len(catalogue),
            "epoch_s": statistics.median(epoch.training_seconds for epoch in timed),
            "evaluation_s": statistics.median(epoch.seconds - epoch.training_seconds for epoch in timed),
            "before_first_epoch_s": time.perf_counter() - began - sum(epoch.seconds for epoch in report.epochs),
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else None,
            "valid_ndcg@10": [round(epoch.valid["ndcg@10"], 4) for epoch in report.epochs],
        }
        result["sizes"].append(row)
        write_result(given.out, result)
        print(row, flush=True)
        del model
    first, last = result["sizes"][0], result["sizes"][-1]
    print(
        f"{last['interactions'] / first['interactions']:.1f} times the events: {last['epoch_s'] / first['epoch_s']:.1f} times the "
        f"epoch, {last['evaluation_s'] / first['evaluation_s']:.1f} times the evaluation"
    )


def _split(table: EventTable) -> tuple[Sequences, Requests]:
    """Split off each user's last event as a request. Return the other events, and the requests."""
    every = sequences(table)
    last = every.offsets[1:] - 1
    kept = np.ones(len(table), dtype=bool)
    kept[last] = False
    offsets = every.offsets - np.arange(len(every.offsets))
    history = (every.user_ids, offsets, every.item_ids[kept], every.timestamps[kept])
    requests = Requests(*history, request_times=every.timestamps[last], targets=every.item_ids[last])
    return Sequences(*history), requests


def _keep(table: EventTable, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, user_id=table.user_id, item_id=table.item_id, rating=table.rating, timestamp=table.timestamp)
    partial.replace(path)


def _kept(path: Path) -> EventTable:
    while not path.exists():
        time.sleep(1)  # --generate is still running
    with np.load(path) as arrays:
        return EventTable(arrays["user_id"], arrays["item_id"], arrays["rating"], arrays["timestamp"])


if __name__ == "__main__":
    main()
