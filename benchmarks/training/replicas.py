"""SS4Rec trained on one GPU and on several GPUs of one host: `python -m benchmarks.training.replicas --data ml-1m.zip`.

Each training runs in a child process, as in retrain: one process, or replicas under torchrun that share each batch. Each one is
trained under `loo-recbole` until early stopping, for each seed, so the table shows the quality of the model next to the seconds
per epoch. Runs that are already in the output file are not repeated. Without GPUs, `--set device=cpu` trains on CPU processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks.data import load_split, origin
from benchmarks.report import hardware, measured, refuse_mixed, skip, write_result
from configs.cores import available_cores
from configs.loading import load_settings
from configs.settings import RetrainSettings
from infra.pages import markdown_table
from models.recommender import OnEpoch
from models.training import Placement, resolve_device
from tasks.training import run_apart

NETWORKS: dict[str, tuple[str, ...]] = {
    "best": (),
    "best, 64k events a step": ("batch_tokens=65536",),
}
UNTIMED = 2
"""First epochs of a run that are left out of its median, because they compile kernels and capture graphs."""


def main() -> None:
    """Train the missing runs, write the result after each one and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of MovieLens 1M; downloaded if left out")
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2], help="numbers of replicas, each compared to the first")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="key=value of the model, may be repeated")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/replicas.json"))
    given = parser.parse_args()
    import torch

    wanted = load_settings(RetrainSettings, None, [f"models.ss4rec.{override}" for override in given.overrides]).models.ss4rec
    if wanted.device != "cpu" and torch.cuda.device_count() < max(given.counts):
        skip(
            f"{max(given.counts)} replicas need as many GPUs, and torch sees {torch.cuda.device_count()}; lower --counts, or give "
            "--set device=cpu."
        )
    if given.data is not None and not given.data.exists():
        skip(f"there is no {given.data}; give --data the zip of ml-1m, or leave it out to download it.")
    runs: list[dict[str, Any]] = json.loads(given.out.read_text(encoding="utf-8"))["runs"] if given.out.exists() else []
    for seed in given.seeds:  # counts take turns within a seed, so that a slow minute of the machine affects all of them
        for network in given.networks:
            for count in given.counts:
                if (network, count, seed) in {(run["network"], run["replicas"], run["seed"]) for run in runs}:
                    continue
                refuse_mixed(runs, going_on=True)
                runs.append(_run(network, count, seed, given.data, given.overrides))
                machine = hardware() | ({"gpus": max(given.counts)} if wanted.device != "cpu" else {})
                said = origin("ml-1m", given.data) | {"protocol": "loo-recbole", "hardware": machine}
                write_result(given.out, {**said, "rows": rows(runs), "runs": runs})
    print(render({"rows": rows(runs)}))


def _run(network: str, count: int, seed: int, data: Path | None, overrides: list[str]) -> dict[str, Any]:
    from benchmarks.training.replicas import (
        train,  # imported by its full name, because the child process could not find it in __main__
    )

    settings = load_settings(RetrainSettings, "best", [f"models.ss4rec.{o}" for o in (*NETWORKS[network], *overrides)])
    began = time.perf_counter()
    found = run_apart(
        train,
        settings,
        data,
        seed,
        trains=f"{network} with {count} replicas",
        on_epoch=None,
        threads=max(1, available_cores() // count),
        if_killed="Lower --set batch_tokens.",
        placement=Placement(resolve_device(settings.models.ss4rec.device), count),
    )
    whole_s = time.perf_counter() - began
    run = {"network": network, "replicas": count, "seed": seed, "commit": measured()["commit"], **found, "whole_s": whole_s}
    print(
        f"{network}, {count} replica{'s' if count > 1 else ''}, seed {seed}: epoch {run['epoch_s']:.3f} s, test NDCG@10 "
        f"{run['ndcg@10']:.4f}, best epoch {run['best_epoch']} of {run['epochs']}, {run['whole_s']:.0f} s in all",
        flush=True,
    )
    return run


def train(settings: RetrainSettings, data: Path | None, seed: int, on_epoch: OnEpoch | None) -> dict[str, Any]:
    """Train to the end and return the test metrics. Runs in each replica."""
    import torch

    from models.evaluation import metrics, rank_requests
    from models.ss4rec import SS4Rec

    parts = load_split("ml-1m", data, "loo-recbole")
    model = SS4Rec(settings.models.ss4rec)
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=False, on_epoch=on_epoch)
    on_gpu = report.device.startswith("cuda")
    ranked = rank_requests(model, parts.test, parts.catalogue, mask_seen=False, batch_size=4096 if on_gpu else 256)
    timed = report.epochs[UNTIMED:] or report.epochs
    return {
        **metrics(ranked.ranks, (10,)),
        "epochs": len(report.epochs),
        "best_epoch": report.best_epoch,
        "valid_curve": [round(epoch.valid["ndcg@10"], 4) for epoch in report.epochs],
        "epoch_s": statistics.median(epoch.training_seconds for epoch in timed),
        "evaluation_s": statistics.median(epoch.seconds - epoch.training_seconds for epoch in timed),
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
        "device": report.device,
    }


def rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return for each network and number of replicas the median times, and the mean and spread of test NDCG@10 over the seeds."""
    found = []
    for network, count in sorted({(run["network"], run["replicas"]) for run in runs}):
        same = [run for run in runs if (run["network"], run["replicas"]) == (network, count)]
        values = [run["ndcg@10"] for run in same]
        peaks = [run["peak_gib"] for run in same if run["peak_gib"] is not None]
        found.append(
            {
                "network": network,
                "replicas": count,
                "seeds": sorted(run["seed"] for run in same),
                "epoch_s": statistics.median(run["epoch_s"] for run in same),
                "evaluation_s": statistics.median(run["evaluation_s"] for run in same),
                "peak_gib": max(peaks, default=None),
                "ndcg@10": statistics.mean(values),
                "sd": statistics.stdev(values) if len(values) > 1 else None,
                "epochs": statistics.median(run["epochs"] for run in same),
            }
        )
    return found


def render(result: dict[str, Any]) -> str:
    """Return the rows as a Markdown table, each with its speed-up over the fewest replicas of its network."""
    alone: dict[str, float] = {}
    lines = []
    for row in result["rows"]:
        first = alone.setdefault(row["network"], row["epoch_s"])
        lines.append(
            [
                f"`{row['network']}`",
                str(row["replicas"]),
                f"{row['epoch_s']:.3f}",
                f"{first / row['epoch_s']:.2f}",
                f"{row['evaluation_s']:.3f}",
                "" if row["peak_gib"] is None else f"{row['peak_gib']:.2f}",
                f"{row['ndcg@10']:.4f}" + ("" if row["sd"] is None else f" ± {row['sd']:.4f}"),
                f"{row['epochs']:.0f}",
            ]
        )
    head = [
        "network",
        "replicas",
        "epoch, s",
        "times as fast",
        "ranking all users, s",
        "peak GPU memory each, GiB",
        "test NDCG@10",
        "epochs",
    ]
    return markdown_table(head, lines)


if __name__ == "__main__":
    main()
