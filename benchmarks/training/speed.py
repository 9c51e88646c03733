"""Training speed on one GPU: `python -m benchmarks.training.speed --data ml-1m.zip --out benchmarks/results/speed.json`.

Takes three measurements on MovieLens 1M under `loo-recbole`:

- epochs: median seconds of an epoch and of its evaluation (full ranking of all users), and peak GPU memory.
- cold start: a new process without compiled kernels, from its start to the epoch that reaches the target validation NDCG@10.
- stock: the paper's network built from s5-pytorch and mamba-ssm. The time of an epoch is the median time of a step multiplied by
  the number of steps. Once with the rows of the authors' code, 1024 prefixes of at most 200 events a step, in float32; and once
  with the loss at all positions of windows of 200 events, at the same number of events a step as ours, in float32, with bfloat16
  autocast as in our training, and in a captured CUDA graph. The last one is the fair rival of our kernels and our training loop.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

STARTED = time.time()
TARGET = 0.2141
"""Validation NDCG@10 that the weaker of two published runs of the authors' code ends with."""
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "paper, 32k events a step": ("paper", {"batch_tokens": 32768}),
    "paper": ("paper", {}),
    "best": ("best", {}),
    "best, 32k events a step": ("best", {"batch_tokens": 32768}),
}
GRAPH = "bfloat16 autocast, CUDA graph"
HOWS = ("float32", "bfloat16 autocast", GRAPH)
WINDOW = 200
"""Events of a window, as in the authors' code."""
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
    from benchmarks.report import hardware, skip, write_result

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
    print(render(result))
    write_result(given.out, result)


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
        lines.append(f"stock, a row for each target: {stock['step_ms']:.1f} ms a step, epoch {stock['epoch_s']:.0f} s")
    for row in result.get("stock_windows", []):
        found = row["refused"] or f"{row['step_ms']:.1f} ms a step, epoch {row['epoch_s']:.3f} s, peak {row['peak_gib']:.2f} GiB"
        lines.append(f"stock, all positions, {row['events']:,} events a step, {row['how']}: {found}")
    return "\n".join(lines)


def _model(preset: str, changes: dict[str, Any], epochs: int) -> Any:
    from models.ss4rec import SS4Rec

    return SS4Rec(_settings(preset, {**changes, "max_epochs": epochs, "patience": epochs}))


def _settings(preset: str, changes: dict[str, Any]) -> Any:
    from configs.loading import load_settings
    from configs.settings import RetrainSettings

    return load_settings(RetrainSettings, preset).models.ss4rec.model_copy(update=changes)


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
                "events": _settings(preset, changes).batch_tokens,
                "settings": {"preset": preset, **changes},
            }
            del model
    if "stock" in given.parts:
        result["stock"] = _stock(given, parts)
        batches = [_settings(preset, changes).batch_tokens for preset, changes in NETWORKS.values() if preset == "paper"]
        result["stock_windows"] = [_stock_windows(given, parts, events, how) for events in batches for how in HOWS]
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
    }


def _stock_windows(given: argparse.Namespace, parts: Any, events: int, how: str) -> dict[str, Any]:
    """Time the stock network with the loss at all positions. `refused` says why it could not run this way, or is None."""
    import gc

    import numpy as np
    import torch

    from benchmarks.training.stock import StockSS4Rec, WindowRows
    from models.sequences import Vocabulary

    torch.manual_seed(given.seed)
    device = torch.device("cuda")
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    network = StockSS4Rec(len(parts.catalogue), device=device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, capturable=True, foreach=True)
    rows = WindowRows(parts.train, Vocabulary(parts.catalogue), WINDOW, device)
    size = events // WINDOW
    steps = -(-len(rows) // size)
    order = np.random.default_rng(given.seed).permutation(len(rows))
    found: dict[str, Any] = {"how": how, "events": events, "rows": len(rows), "steps": steps, "refused": None}
    batch = [part.contiguous() for part in rows.batch(order[:size])]

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=how != "float32"):
            loss = network.loss(*batch)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    run = step
    try:
        if how == GRAPH:
            run = _captured(step)
        seconds = []
        for number in range(given.stock_steps + 3):
            torch.cuda.synchronize()
            began = time.perf_counter()
            for part, new in zip(batch, rows.batch(order[number % (steps - 1) * size :][:size]), strict=True):
                part.copy_(new)
            run()
            torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
    except RuntimeError as error:
        return found | {"refused": str(error).splitlines()[0]}
    step_s = statistics.median(seconds[3:])
    peak = torch.cuda.max_memory_allocated() / 2**30
    return found | {"step_ms": 1000 * step_s, "epoch_s": step_s * steps, "peak_gib": peak}


def _captured(step: Callable[[], None]) -> Callable[[], None]:
    """Return the step as a replay of its CUDA graph."""
    import torch

    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


if __name__ == "__main__":
    main()
