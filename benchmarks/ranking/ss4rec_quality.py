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
import multiprocessing
import statistics
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import torch

from benchmarks.data import load_split, load_users, origin
from benchmarks.report import hardware, measured, refuse_mixed, write_result
from configs.loading import load_settings
from configs.settings import ProtocolId, RetrainSettings, SourceName
from infra.pages import markdown_table
from models.evaluation import Split, metrics, rank_requests
from models.ss4rec import SS4Rec
from models.training import joined_replicas
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
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side; with more than one, times are not reported")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="key=value of the model, may be repeated")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/ss4rec_quality.json"))
    given = parser.parse_args()
    kept = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {"data": given.source, "runs": []}
    if kept["data"] != given.source:
        parser.error(f"{given.out} contains runs on {kept['data']}, but this run uses {given.source}: choose another --out")
    runs: list[dict[str, Any]] = kept["runs"]
    work = _missing(given, runs)
    refuse_mixed(runs, going_on=bool(work))
    if given.jobs > 1:
        # Each training in a process of its own: they share the GPU, and none keeps memory of another.
        with multiprocessing.get_context("spawn").Pool(given.jobs, maxtasksperchild=1) as pool:
            for run in pool.imap_unordered(_apart, work, chunksize=1):
                runs.append(run)
                _write(given, runs)
        print(render(rows(runs)))
        return
    device = load_settings(RetrainSettings, None, [f"models.ss4rec.{o}" for o in given.overrides]).models.ss4rec.device
    on_gpu = torch.cuda.is_available() if device == "auto" else device == "cuda"
    with joined_replicas("cuda" if on_gpu else "cpu") as replicas:
        for job in work:
            runs.append(_run(job) | {"replicas": replicas.count})
            if replicas.rank == 0:
                _write(given, runs)
        if replicas.rank == 0:
            print(render(rows(runs)))


@dataclass(frozen=True)
class Job:
    """One training."""

    source: SourceName
    data: Path | None
    variant: str
    protocol: ProtocolId
    seed: int
    overrides: tuple[str, ...]
    alone: bool


def _missing(given: argparse.Namespace, runs: list[dict[str, Any]]) -> list[Job]:
    done = {(run["variant"], run["protocol"].split(";")[0], run["seed"]) for run in runs}
    variants = list(given.variants)
    traits = set(TRAITS) & set(load_users(given.source, given.data))
    if not traits and any("user features" in variant for variant in variants):
        print(f"Variants with user features are skipped: {given.source} has no user attributes.")
        variants = [variant for variant in variants if "user features" not in variant]
    keys = [(variant, protocol, seed) for protocol in given.protocols for variant in variants for seed in given.seeds]
    common = (tuple(given.overrides), given.jobs == 1)
    return [Job(given.source, given.data, *key, *common) for key in keys if key not in done]


def _write(given: argparse.Namespace, runs: list[dict[str, Any]]) -> None:
    said = origin(given.source, given.data) | {"hardware": hardware()}
    write_result(given.out, {**said, "rows": rows(runs), "runs": runs})


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


def _apart(job: Job) -> dict[str, Any]:
    return _run(job) | {"replicas": 1}


def _run(job: Job) -> dict[str, Any]:
    parts, users = _loaded(job.source, job.data, job.protocol)
    variant, seed = job.variant, job.seed
    preset, changes = VARIANTS[variant]
    every = [*(f"models.ss4rec.{key}={value}" for key, value in changes.items())]
    every += [f"models.ss4rec.{override}" for override in job.overrides]
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
        "commit": measured()["commit"],
        "shared_gpu": not job.alone,
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


@cache
def _loaded(source: SourceName, data: Path | None, protocol: ProtocolId) -> tuple[Split, pd.DataFrame]:
    return load_split(source, data, protocol), load_users(source, data)


if __name__ == "__main__":
    main()
