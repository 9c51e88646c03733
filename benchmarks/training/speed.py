"""Training speed on one GPU: `python -m benchmarks.training.speed --data ml-1m.zip --out benchmarks/results/speed.json`.

Takes three measurements on MovieLens 1M under `loo-recbole`:

- epochs: median seconds of an epoch and of its evaluation (full ranking of all users), and peak GPU memory.
- cold start: a new process without compiled kernels, from its start to the epoch that reaches the target validation NDCG@10.
- stock: the same network built from s5-pytorch and mamba-ssm on the authors' rows, 1024 prefixes of at most 200 events. The time
  of an epoch is the median time of a step multiplied by the number of steps. The time to the target quality is extrapolated: the
  number of epochs that the published runs needed, multiplied by the time of an epoch.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STARTED = time.time()
TARGET = 0.2141
"""Final validation NDCG@10 of the published runs of the authors' code."""
PUBLISHED_EPOCHS = (30, 61)
"""Number of epochs that those runs needed to reach it."""
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "paper, 32k events a step": ("paper", {"batch_tokens": 32768}),
    "paper": ("paper", {}),
    "best": ("best", {}),
    "best, 32k events a step": ("best", {"batch_tokens": 32768}),
}
COLD: tuple[str, dict[str, Any]] = ("best", {"blocks": 2, "batch_tokens": 16384, "learning_rate": 6e-3})
"""The network of the cold start: the best preset with larger steps, because it only has to reach the target quality."""


def main() -> None:
    """Run the measurements, print and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="MovieLens 1M; downloaded if left out")
    parser.add_argument("--epochs", type=int, default=8, help="timed epochs, after two to warm up")
    parser.add_argument("--cold-runs", type=int, default=3)
    parser.add_argument("--stock-steps", type=int, default=12)
    parser.add_argument("--parts", nargs="+", default=["cold", "epochs", "stock"], choices=["cold", "epochs", "stock"])
    parser.add_argument("--only-cold", action="store_true", help="run as the process that the cold start measures")
    parser.add_argument("--started", type=float, default=STARTED)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed.json"))
    given = parser.parse_args()
    if given.only_cold:
        _cold_start(given)
        return
    from benchmarks.data import origin
    from benchmarks.report import hardware, skip, write_json

    result: dict[str, Any] = {
        **origin("ml-1m", given.data), "protocol": "loo-recbole", "seed": given.seed, "hardware": hardware()
    }  # fmt: skip
    if "gpu" not in result["hardware"]:
        skip("this benchmark measures a GPU and there is none; for the CPU see benchmarks.training.cpu_speed.")
    if given.data is not None and not given.data.exists():
        skip(f"there is no {given.data}; give --data the zip of ml-1m, or leave it out to download it.")
    if "stock" in given.parts and importlib.util.find_spec("mamba_ssm") is None:
        skip("the stock comparison needs the package mamba-ssm, which is not installed; leave it out with --parts cold epochs.")
    if "cold" in given.parts:
        result["cold_start"] = _measure_cold_start(given)
    if {"epochs", "stock"} & set(given.parts):
        result |= _measure_warm(given)
    if "stock" in result and "cold_start" in result:
        ours = result["cold_start"]["reached_s"]
        result["stock"]["time_ratio"] = [seconds / ours for seconds in result["stock"]["time_to_target_s"]]
    print(render(result))
    write_json(given.out, result)


def render(result: dict[str, Any]) -> str:
    """Return a summary of the result as text."""
    lines = []
    for name, row in result.get("epochs", {}).items():
        lines.append(
            f"{name}: epoch {row['epoch_s']:.3f} s + evaluation {row['evaluation_s']:.3f} s, peak {row['peak_gib']:.2f} GiB"
        )
    if cold := result.get("cold_start"):
        lines.append(
            f"cold start to valid NDCG@10 {cold['target']}: {cold['reached_s']:.1f} s, in epoch {cold['epoch']} "
            f"(import {cold['import_s']:.1f}, data {cold['data_s']:.1f}, first epoch with compilation {cold['first_epoch_s']:.1f})"
        )
    if stock := result.get("stock"):
        lines.append(
            f"stock: {stock['step_ms']:.1f} ms a step, epoch {stock['epoch_s']:.0f} s; ours is {stock['epoch_ratio']:.0f} times as fast"
        )
        if "time_ratio" in stock:
            low, high = stock["time_ratio"]
            lines.append(
                f"time to that quality: {low:.0f} to {high:.0f} times as fast as stock (extrapolated from published epochs)"
            )
    return "\n".join(lines)


def _model(preset: str, changes: dict[str, Any], epochs: int) -> Any:
    from configs.loading import load_settings
    from configs.settings import RetrainSettings
    from models.ss4rec import SS4Rec

    settings = load_settings(RetrainSettings, preset).models.ss4rec
    return SS4Rec(settings.model_copy(update={**changes, "max_epochs": epochs, "patience": epochs}))


def _measure_cold_start(given: argparse.Namespace) -> dict[str, Any]:
    runs = sorted((_cold_process(given) for _ in range(given.cold_runs)), key=lambda run: run["reached_s"])
    return runs[len(runs) // 2] | {"every_run_s": [run["reached_s"] for run in runs]}


def _cold_process(given: argparse.Namespace) -> dict[str, Any]:
    import json

    with tempfile.TemporaryDirectory() as empty:
        out = Path(empty) / "cold.json"
        caches = {"TRITON_CACHE_DIR": f"{empty}/triton", "NUMBA_CACHE_DIR": f"{empty}/numba", "CUDA_CACHE_PATH": f"{empty}/cuda"}
        data = ["--data", str(given.data)] if given.data else []
        command = [
            sys.executable,
            "-m",
            "benchmarks.training.speed",
            "--only-cold",
            "--out",
            str(out),
            "--seed",
            str(given.seed),
            *data,
        ]
        subprocess.run([*command, "--started", str(time.time())], env=os.environ | caches, check=True)
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found


def _cold_start(given: argparse.Namespace) -> None:
    import torch

    from benchmarks.data import load_split
    from benchmarks.report import write_json
    from models.recommender import EpochReport

    preset, changes = COLD
    model = _model(preset, changes, 60)
    model.prepare()
    imported = time.time()
    parts = load_split("ml-1m", given.data, "loo-recbole")
    loaded = time.time()
    curve: list[tuple[float, float]] = []

    class ReachedError(Exception):
        pass

    def on_epoch(epoch: EpochReport) -> None:
        curve.append((time.time() - given.started, epoch.valid["ndcg@10"]))
        if epoch.valid["ndcg@10"] >= TARGET:
            raise ReachedError

    try:
        model.fit(parts.train, parts.valid, parts.catalogue, seed=given.seed, mask_seen=False, on_epoch=on_epoch)
        raise SystemExit(f"The cold start never reached {TARGET}; best {max(ndcg for _, ndcg in curve):.4f}.")
    except ReachedError:
        pass
    write_json(
        given.out,
        {
            "settings": {"preset": preset, **changes},
            "target": TARGET,
            "reached_s": curve[-1][0],
            "epoch": len(curve),
            "import_s": imported - given.started,
            "data_s": loaded - imported,
            "first_epoch_s": curve[0][0] - (loaded - given.started),
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
            "curve": [[round(seconds, 2), round(ndcg, 4)] for seconds, ndcg in curve],
        },
    )


def _measure_warm(given: argparse.Namespace) -> dict[str, Any]:
    import gc

    import torch

    from benchmarks.data import load_split

    parts = load_split("ml-1m", given.data, "loo-recbole")
    result: dict[str, Any] = {}
    if "epochs" in given.parts:
        result["epochs"] = {}
        for name, (preset, changes) in NETWORKS.items():
            model = _model(preset, changes, given.epochs + 2)
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            report = model.fit(parts.train, parts.valid, parts.catalogue, seed=given.seed, mask_seen=False)
            timed = report.epochs[2:]
            result["epochs"][name] = {
                "epoch_s": statistics.median(epoch.training_seconds for epoch in timed),
                "evaluation_s": statistics.median(epoch.seconds - epoch.training_seconds for epoch in timed),
                "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
                "settings": {"preset": preset, **changes},
            }
            del model
    if "stock" in given.parts:
        result["stock"] = _stock(given, parts)
        if "epochs" in result:
            result["stock"]["epoch_ratio"] = result["stock"]["epoch_s"] / result["epochs"]["paper, 32k events a step"]["epoch_s"]
    return result


def _stock(given: argparse.Namespace, parts: Any) -> dict[str, Any]:
    import numpy as np
    import torch
    import torch.nn.functional as F

    from benchmarks.training.stock import PrefixRows, StockSS4Rec
    from models.sequences import Vocabulary

    torch.manual_seed(given.seed)
    device = torch.device("cuda")
    network = StockSS4Rec(len(parts.catalogue), device=device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    rows = PrefixRows(parts.train, Vocabulary(parts.catalogue), 200, device)
    order = np.random.default_rng(given.seed).permutation(len(rows))
    torch.cuda.reset_peak_memory_stats()
    seconds = []
    for step in range(given.stock_steps + 3):
        torch.cuda.synchronize()
        began = time.perf_counter()
        items, intervals, lengths, targets = rows.batch(order[step * 1024 : (step + 1) * 1024])
        optimizer.zero_grad()
        F.cross_entropy(network(items, intervals, lengths), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    step_s = statistics.median(seconds[3:])
    steps = -(-len(rows) // 1024)
    epoch = step_s * steps
    return {
        "step_ms": 1000 * step_s,
        "steps": steps,
        "epoch_s": epoch,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30,
        "published_epochs": PUBLISHED_EPOCHS,
        "time_to_target_s": [epoch * epochs for epochs in PUBLISHED_EPOCHS],
    }


if __name__ == "__main__":
    main()
