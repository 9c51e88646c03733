"""Training speed on the CPU: `python -m benchmarks.training.cpu_speed`.

Compares the CPU seconds per epoch of our implementation with those of the stock parts, using the paper's network on MovieLens 100K.
The stock parts are s5-pytorch's S5 and mamba-ssm's reference maths, because mamba-ssm has no build for the CPU. They are trained in
two ways: with the loss at all positions of windows of 200 events, which is the fair rival, and with one row of 200 for each target,
as in the authors' code. A stock epoch is the median of the timed steps, multiplied by the number of rows in an epoch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.data import load_split
from benchmarks.report import hardware, write_result
from benchmarks.training.stock import PrefixRows, StockSS4Rec, WindowRows
from configs.loading import load_settings
from configs.settings import RetrainSettings
from models.evaluation import Split
from models.recommender import EpochReport
from models.sequences import Vocabulary
from models.ss4rec import SS4Rec


def main() -> None:
    """Measure both, write the result and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=3, help="timed epochs of our implementation, after one that compiles")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of the stock parts, after one to warm up")
    parser.add_argument("--rows", type=int, default=32, help="rows in one stock step")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/cpu_speed.json"))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    parts = load_split("ml-100k", None, "loo-recbole")
    ours = _ours(parts, given)
    stock = {name: _stock(parts, given, all_positions=name == "windows") for name in ("windows", "prefixes")}
    result = {
        "data": "ml-100k",
        "protocol": "loo-recbole",
        "hardware": hardware() | {"threads": given.threads},
        "seed": given.seed,
        "ours": ours,
        "stock": stock,
        "ratio": stock["windows"]["epoch_s"] / ours["epoch_s"],
    }
    write_result(given.out, result)
    print(f"ours: {ours['epoch_s']:.1f} CPU seconds an epoch")
    for name, row in stock.items():
        times = row["epoch_s"] / ours["epoch_s"]
        print(
            f"stock, {name}: {row['rows']} rows at {row['row_ms']:.1f} ms, {row['epoch_s']:.0f} CPU seconds, {times:.1f} times ours"
        )


def _ours(parts: Split, given: argparse.Namespace) -> dict[str, Any]:
    settings = load_settings(RetrainSettings, "paper").models.ss4rec
    epochs = given.epochs + 1
    model = SS4Rec(settings.model_copy(update={"max_epochs": epochs, "patience": epochs, "device": "cpu"}))
    seconds: list[float] = []
    began = time.process_time()

    def on_epoch(_: EpochReport) -> None:
        nonlocal began
        seconds.append(time.process_time() - began)
        began = time.process_time()

    model.fit(parts.train, parts.valid, parts.catalogue, seed=given.seed, mask_seen=False, on_epoch=on_epoch)
    return {"epoch_s": statistics.median(seconds[1:]), "preset": "paper"}


def _stock(parts: Split, given: argparse.Namespace, *, all_positions: bool) -> dict[str, Any]:
    torch.manual_seed(given.seed)
    network = StockSS4Rec(len(parts.catalogue), device=torch.device("cpu"))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    kind: type[WindowRows | PrefixRows] = WindowRows if all_positions else PrefixRows
    rows = kind(parts.train, Vocabulary(parts.catalogue), 200, torch.device("cpu"))
    order = np.random.default_rng(given.seed).permutation(len(rows))
    seconds = []
    for step in range(given.steps + 1):
        began = time.process_time()
        chosen = order[step * given.rows : (step + 1) * given.rows]
        optimizer.zero_grad()
        if isinstance(rows, WindowRows):
            loss = network.loss(*rows.batch(chosen))
        else:
            items, intervals, lengths, targets = rows.batch(chosen)
            loss = F.cross_entropy(network(items, intervals, lengths), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.process_time() - began)
    row = statistics.median(seconds[1:]) / given.rows
    return {"row_ms": 1000 * row, "rows": len(rows), "epoch_s": row * len(rows), "rows_of_a_step": given.rows}


if __name__ == "__main__":
    main()
