"""Training speed on the CPU: `python -m benchmarks.training.cpu_speed`.

Compares the seconds per epoch of our implementation with those of the stock parts, using the paper's network on MovieLens 100K.
The stock parts are s5-pytorch's S5 and mamba-ssm's reference maths, with one row per prefix of at most 200 events. The time of a
stock epoch is the median time per row in the timed steps, multiplied by the number of rows in an epoch. The stock steps are small
because the authors' 1024 rows at once would need tens of GB.
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
from benchmarks.training.stock import PrefixRows, StockSS4Rec
from configs.loading import load_settings
from configs.settings import RetrainSettings
from models.evaluation import Split
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
    stock = _stock(parts, given)
    result = {
        "data": "ml-100k",
        "protocol": "loo-recbole",
        "hardware": hardware() | {"threads": given.threads},
        "seed": given.seed,
        "ours": ours,
        "stock": stock,
        "ratio": stock["epoch_s"] / ours["epoch_s"],
    }
    write_result(given.out, result)
    print(
        f"ours {ours['epoch_s']:.1f} s an epoch; stock {stock['row_ms']:.1f} ms a row, {stock['rows']} rows, {stock['epoch_s']:.0f} s "
        f"an epoch; ours is {result['ratio']:.0f} times as fast"
    )


def _ours(parts: Split, given: argparse.Namespace) -> dict[str, Any]:
    settings = load_settings(RetrainSettings, "paper").models.ss4rec
    epochs = given.epochs + 1
    model = SS4Rec(settings.model_copy(update={"max_epochs": epochs, "patience": epochs, "device": "cpu"}))
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=given.seed, mask_seen=False)
    return {"epoch_s": statistics.median(epoch.training_seconds for epoch in report.epochs[1:]), "preset": "paper"}


def _stock(parts: Split, given: argparse.Namespace) -> dict[str, Any]:
    torch.manual_seed(given.seed)
    network = StockSS4Rec(len(parts.catalogue), device=torch.device("cpu"))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    rows = PrefixRows(parts.train, Vocabulary(parts.catalogue), 200, torch.device("cpu"))
    order = np.random.default_rng(given.seed).permutation(len(rows))
    seconds = []
    for step in range(given.steps + 1):
        began = time.perf_counter()
        items, intervals, lengths, targets = rows.batch(order[step * given.rows : (step + 1) * given.rows])
        optimizer.zero_grad()
        F.cross_entropy(network(items, intervals, lengths), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        seconds.append(time.perf_counter() - began)
    row = statistics.median(seconds[1:]) / given.rows
    return {"row_ms": 1000 * row, "rows": len(rows), "epoch_s": row * len(rows), "rows_of_a_step": given.rows}


if __name__ == "__main__":
    main()
