"""SS4Rec's ranking quality: `python -m benchmarks.ranking.ss4rec_quality --data ml-1m.zip`.

Trains each variant for each protocol and seed, with early stopping on the validation part. It ranks the test requests over the
full catalogue twice: with and without the items of the user's history. The variants are the presets, and ablations of the best
one. Runs that are already in the output file are not repeated, so a killed benchmark resumes where it stopped.

Under torchrun, the processes train each run together and share its batches, one GPU per process (or CPU processes if there is no
GPU). The first process writes: `torchrun --standalone --nproc-per-node 2 -m benchmarks.ranking.ss4rec_quality --out two_gpus.json`.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch

from benchmarks.data import load_split, load_users, origin
from benchmarks.report import hardware, write_json
from configs.loading import load_settings
from configs.settings import ProtocolId, RetrainSettings, SourceName
from infra.pages import markdown_table
from models.evaluation import Split, metrics, rank_requests
from models.ss4rec import SS4Rec
from models.training import Replicas, joined_replicas
from models.users import TRAITS

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "best": ("best", {}),
    "paper": ("paper", {}),
    "best, user features": ("best", {"user_features": True}),
    "best, no time": ("best", {"interval": "none"}),
    "best, S5 only": ("best", {"layers": "time"}),
    "best, Mamba only": ("best", {"layers": "relation"}),
}
SHOWN = ("hr@10", "ndcg@10", "mrr@10")


def main() -> None:
    """Train the missing runs, write the result after each one and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release; downloaded if left out")
    parser.add_argument("--protocols", nargs="+", default=["loo-recbole", "loo-exact"], choices=get_args(ProtocolId))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--shared-gpu", action="store_true", help="other programs use the GPU too: times are not reported")
    parser.add_argument(
        "--take", nargs="+", type=Path, default=[], help="result files whose runs are included, for example from other machines"
    )
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="key=value of the model, may be repeated")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ss4rec_quality.json"))
    given = parser.parse_args()
    kept = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {"data": given.source, "runs": []}
    if kept["data"] != given.source:
        parser.error(f"{given.out} contains runs on {kept['data']}, but this run uses {given.source}: choose another --out")
    runs: list[dict[str, Any]] = kept["runs"]
    for path in given.take:
        if (other := json.loads(path.read_text(encoding="utf-8")))["data"] != given.source:
            parser.error(f"{path} contains runs on {other['data']}, but this run uses {given.source}")
        runs += [run for run in other["runs"] if _key(run) not in {_key(known) for known in runs}]
        _write(given, runs, other["hardware"])
    device = load_settings(RetrainSettings, None, [f"models.ss4rec.{o}" for o in given.overrides]).models.ss4rec.device
    on_gpu = torch.cuda.is_available() if device == "auto" else device == "cuda"
    with joined_replicas("cuda" if on_gpu else "cpu") as replicas:
        _train(given, runs, replicas)
        if replicas.rank == 0:
            print(render(rows(runs)))


def _train(given: argparse.Namespace, runs: list[dict[str, Any]], replicas: Replicas) -> None:
    done = {_key(run) for run in runs}
    for protocol in given.protocols:
        parts = load_split(given.source, given.data, protocol)
        users = load_users(given.source, given.data)
        for variant in given.variants:
            if "user features" in variant and not set(TRAITS) & set(users):
                print(f"{variant}: skipped, {given.source} has no user attributes")
                continue
            for seed in given.seeds:
                if (variant, protocol, seed) not in done:
                    said = {"replicas": replicas.count, "shared_gpu": given.shared_gpu}
                    runs.append(_run(variant, parts, users, seed, given.overrides) | said)
                    if replicas.rank == 0:
                        _write(given, runs, hardware())


def _key(run: dict[str, Any]) -> tuple[str, str, int]:
    return run["variant"], run["protocol"], run["seed"]


def _write(given: argparse.Namespace, runs: list[dict[str, Any]], machine: dict[str, Any]) -> None:
    said = origin(given.source, given.data) | {"hardware": machine}
    write_json(given.out, {**said, "rows": rows(runs), "runs": runs})


def rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mean and spread over the seeds for each variant and protocol, with and without seen items."""
    found = []
    protocols, variants = list(get_args(ProtocolId)), list(VARIANTS)
    groups = {(run["protocol"], run["variant"]) for run in runs}
    for protocol, variant in sorted(groups, key=lambda g: (-protocols.index(g[0].split(";")[0]), variants.index(g[1]))):
        same = [run for run in runs if (run["protocol"], run["variant"]) == (protocol, variant)]
        row: dict[str, Any] = {"protocol": protocol, "variant": variant, "seeds": sorted(run["seed"] for run in same)}
        for seen in ("unmasked", "masked"):
            for name in SHOWN:
                values = [run[seen][name] for run in same]
                spread = statistics.stdev(values) if len(values) > 1 else None
                row[f"{seen} {name}"] = {"mean": statistics.mean(values), "sd": spread}
        alone = [run["seconds"] for run in same if not run.get("shared_gpu")]
        row["seconds"] = statistics.median(alone) if alone else None
        row["epochs"] = statistics.median(run["epochs"] for run in same)
        found.append(row)
    return found


def render(found: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    head = ["protocol", "variant", "unmasked HR@10", "NDCG@10", "masked HR@10", "NDCG@10", "seeds", "fit, s", "epochs"]
    lines = []
    for row in found:
        cells = []
        for key in ("unmasked hr@10", "unmasked ndcg@10", "masked hr@10", "masked ndcg@10"):
            value = row[key]
            cells.append(f"{value['mean']:.4f}" + (f" ± {value['sd']:.4f}" if value["sd"] is not None else ""))
        cells += [str(len(row["seeds"])), _seconds(row), f"{row['epochs']:.0f}"]
        lines.append([f"`{row['protocol']}`", row["variant"], *cells])
    return markdown_table(head, lines)


def _seconds(row: dict[str, Any]) -> str:
    return "" if row["seconds"] is None else f"{row['seconds']:.0f}"


def _run(variant: str, parts: Split, users: pd.DataFrame, seed: int, overrides: list[str]) -> dict[str, Any]:
    preset, changes = VARIANTS[variant]
    every = [*(f"models.ss4rec.{key}={value}" for key, value in changes.items())]
    every += [f"models.ss4rec.{override}" for override in overrides]
    settings = load_settings(RetrainSettings, preset, every).models.ss4rec
    model = SS4Rec(settings)
    model.describe_users(users)
    mask = parts.masks_seen(sequential=True)
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=mask)
    batch = 4096 if report.device.startswith("cuda") else 256
    found = {
        name: metrics(rank_requests(model, parts.test, parts.catalogue, mask_seen=masked, batch_size=batch).ranks, (5, 10, 20))
        for name, masked in (("unmasked", False), ("masked", True))
    }
    run = {
        "variant": variant,
        "protocol": parts.protocol,
        "seed": seed,
        **found,
        "validated": "masked" if mask else "unmasked",
        "epochs": len(report.epochs),
        "best_epoch": report.best_epoch,
        "valid_curve": [round(epoch.valid["ndcg@10"], 4) for epoch in report.epochs],
        "seconds": report.seconds,
        "epoch_s": statistics.median(epoch.training_seconds for epoch in report.epochs),
        "parameters": report.parameters,
        "non_finite_steps": 0,  # a non-finite step ends the fit with an error
        "settings": settings.model_dump(mode="json"),
    }
    print(
        f"{parts.protocol} {variant} seed {seed}: unmasked {found['unmasked']['hr@10']:.4f} {found['unmasked']['ndcg@10']:.4f} "
        f"masked {found['masked']['hr@10']:.4f} {found['masked']['ndcg@10']:.4f}; epoch {report.best_epoch} of "
        f"{len(report.epochs)}, {report.seconds:.0f} s",
        flush=True,
    )
    del model
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return run


if __name__ == "__main__":
    main()
