"""SS4Rec and its peers, each trained to its end: `python -m benchmarks.ranking.peers --source ml-1m --data ml-1m.zip --jobs 4`.

Trains each variant for each protocol and seed until patience ends it, on the same windows, and ranks the test requests over the full
catalogue: with and without the items of the user's history, at the time of the target and at the time of the user's last event.
The epoch is chosen at the time of the target. A variant is one of VARIANTS, or any kind with its defaults.

`--jobs` trains side by side, in processes of their own that share the GPU. `gpu_seconds` are the seconds of the fit divided by the
number of trainings at once: what the training cost of the machine. Runs that are already in the output file are not repeated.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.data import load_events, origin
from benchmarks.report import hardware, measured, refuse_mixed, write_result
from configs.cores import available_cores
from configs.kinds import spec_of
from configs.loading import load_settings
from configs.settings import EvaluationSettings, ProtocolId, RetrainSettings, SourceName
from infra.pages import markdown_table
from models.evaluation import Ranking, Split, metrics, per_request, rank_requests, slices, split
from models.kinds import recommender_class
from models.recommender import Recommender, Requests

INTERVALS = {"interval_embedding": True}
VARIANTS: dict[str, tuple[str, str | None, dict[str, Any]]] = {
    "SS4Rec best": ("ss4rec", "best", {}),
    "SASRec": ("sasrec", None, {}),
    "SASRec, intervals": ("sasrec", None, INTERVALS),
    "gSASRec": ("gsasrec", None, {}),
    "eSASRec": ("esasrec", None, {}),
    "eSASRec, intervals": ("esasrec", None, INTERVALS),
    "HSTU": ("hstu", None, {}),
    "HSTU, intervals": ("hstu", None, INTERVALS),
    "HSTU, no time": ("hstu", None, {"time_bias": False}),
    "HSTU, 8 layers": ("hstu", None, {"blocks": 8}),
    "LRURec": ("lrurec", None, {}),
    "LRURec, intervals": ("lrurec", None, INTERVALS),
}
"""Each variant: its kind, a preset, and what differs from it."""
SHOWN = ("hr@10", "ndcg@10")
RANKINGS = ("unmasked", "masked", "unmasked at last event", "masked at last event")


@dataclass(frozen=True)
class Job:
    """One training."""

    source: SourceName
    data: Path | None
    variant: str
    protocol: ProtocolId
    seed: int
    overrides: tuple[str, ...]
    at_once: int

    @property
    def kind(self) -> str:
        return VARIANTS[self.variant][0] if self.variant in VARIANTS else self.variant


def main() -> None:
    """Train the missing runs, write the result after each one and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release; downloaded if left out")
    parser.add_argument("--protocols", nargs="+", default=["loo-exact", "loo-recbole"], choices=get_args(ProtocolId))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help=f"kinds, or of: {'; '.join(VARIANTS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side; each gets an equal share of the cores")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="KIND.key=value, may be repeated")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/peers.json"))
    given = parser.parse_args()
    for variant in given.variants:
        if variant not in VARIANTS:
            spec_of(variant)  # refuses an unknown kind
    load_events(given.source, given.data)  # downloads the data once, and fails early if it cannot be read
    kept = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {"data": given.source, "runs": []}
    if kept["data"] != given.source:
        parser.error(f"{given.out} contains runs on {kept['data']}, but this run uses {given.source}: choose another --out")
    runs: list[dict[str, Any]] = kept["runs"]
    done = {(run["variant"], run["protocol"].split(";")[0], run["seed"]) for run in runs}
    work = [
        Job(given.source, given.data, variant, protocol, seed, tuple(given.overrides), given.jobs)
        for protocol in given.protocols
        for variant in given.variants
        for seed in (given.seeds if spec_of(VARIANTS.get(variant, (variant,))[0]).seeded else given.seeds[:1])
        if (variant, protocol, seed) not in done
    ]
    refuse_mixed(runs, going_on=bool(work))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // given.jobs)))
    said = origin(given.source, given.data) | {"hardware": hardware() | {"trainings_at_once": given.jobs}}
    with multiprocessing.get_context("spawn").Pool(given.jobs, maxtasksperchild=1) as pool:
        for run in pool.imap_unordered(_run, work, chunksize=1):
            runs.append(run)
            write_result(given.out, {**said, "rows": rows(runs), "runs": runs})
            print(_line(run), flush=True)
    print(render(rows(runs)))


def rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each protocol and variant: the mean and the spread over the seeds."""
    found = []
    for protocol, variant in dict.fromkeys((run["protocol"], run["variant"]) for run in runs):
        same = [run for run in runs if (run["protocol"], run["variant"]) == (protocol, variant)]
        row: dict[str, Any] = {"protocol": protocol, "variant": variant, "seeds": sorted(run["seed"] for run in same)}
        for ranking in RANKINGS:
            for name in (*SHOWN, "coverage@10", "tail ndcg@10"):
                values = [run["test"][ranking][name] for run in same]
                spread = statistics.stdev(values) if len(values) > 1 else None
                row[f"{ranking} {name}"] = {"mean": statistics.mean(values), "sd": spread}
        for name in ("gpu_seconds", "epochs", "peak_bytes", "parameters"):
            row[name] = statistics.median(run[name] for run in same)
        row["collapsed"] = sum(bool(run["collapsed"]) for run in same)
        found.append(row)
    return sorted(found, key=lambda row: (row["protocol"], -row["masked ndcg@10"]["mean"]))


def render(found: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table, the best of each protocol first."""
    head = ["protocol", "model"]
    head += [f"{name.upper()}, {ranking}" for ranking in RANKINGS for name in SHOWN]
    head += ["coverage@10", "tail NDCG@10", "seeds", "epochs", "GPU s", "peak MiB", "weights"]
    lines = []
    for row in found:
        cells = [_mean(row[f"{ranking} {name}"]) for ranking in RANKINGS for name in SHOWN]
        cells += [_mean(row["masked coverage@10"]), _mean(row["masked tail ndcg@10"]), str(len(row["seeds"]))]
        cells += [
            f"{row['epochs']:.0f}",
            f"{row['gpu_seconds']:.0f}",
            f"{row['peak_bytes'] / 2**20:,.0f}",
            f"{row['parameters']:,}",
        ]
        lines.append([f"`{row['protocol']}`", row["variant"], *cells])
    return markdown_table(head, lines)


def _mean(value: dict[str, float | None]) -> str:
    return f"{value['mean']:.4f}" + (f" ± {value['sd']:.4f}" if value["sd"] is not None else "")


def _line(run: dict[str, Any]) -> str:
    masked, plain = run["test"]["masked"], run["test"]["unmasked"]
    return (
        f"{run['protocol']} {run['variant']} seed {run['seed']}: masked {masked['hr@10']:.4f} {masked['ndcg@10']:.4f}, unmasked "
        f"{plain['hr@10']:.4f} {plain['ndcg@10']:.4f}; epoch {run['best_epoch']} of {run['epochs']}, {run['seconds']:.0f} s"
        f"{'; collapsed' if run['collapsed'] else ''}"
    )


def _run(job: Job) -> dict[str, Any]:
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    parts, at_last = _loaded(job.source, job.data, job.protocol)
    _, preset, changes = VARIANTS.get(job.variant, (job.variant, None, {}))
    given = [f"{job.kind}.{key}={value}" for key, value in changes.items()]
    given += [each for each in job.overrides if each.startswith(f"{job.kind}.")]
    settings = load_settings(RetrainSettings, preset, [f"models.{each}" for each in given]).models.of(job.kind)
    model: Recommender = recommender_class(spec_of(job.kind))(settings)
    mask, cpu = parts.masks_seen(sequential=model.sequential), time.process_time()
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=job.seed, mask_seen=mask)
    cpu = time.process_time() - cpu
    on_gpu = report.device.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ranked = (
        (name, requests, masked) for name, requests in (("", parts.test), (" at last event", at_last)) for masked in (False, True)
    )
    test = {
        f"{'masked' if masked else 'unmasked'}{name}": _judged(model, parts, requests, masked, 4096 if on_gpu else 256)
        for name, requests, masked in ranked
    }
    return {
        "variant": job.variant,
        "kind": job.kind,
        "protocol": parts.protocol,
        "seed": job.seed,
        "commit": measured()["commit"],
        "test": test,
        "validated": "masked" if mask else "unmasked",
        "requests": len(parts.test),
        "items": len(parts.catalogue),
        "epochs": len(report.epochs),
        "best_epoch": report.best_epoch,
        "valid_curve": [round(epoch.valid["ndcg@10"], 4) for epoch in report.epochs],
        "collapsed": report.collapsed,
        "device": report.device,
        "seconds": report.seconds,
        "gpu_seconds": report.seconds / job.at_once if on_gpu else 0.0,
        "cpu_seconds": cpu,
        "peak_bytes": peak,
        "parameters": report.parameters,
        "settings": model.settings(),
    }


def _judged(model: Recommender, parts: Split, requests: Requests, masked: bool, batch: int) -> dict[str, float]:
    ranking: Ranking = rank_requests(model, requests, parts.catalogue, mask_seen=masked, batch_size=batch)
    tail = slices(parts.train, requests)["tail items"]
    return {
        **metrics(ranking.ranks, (5, 10, 20)),
        "coverage@10": float(np.mean(ranking.recommended > 0)),
        "tail ndcg@10": float(per_request(ranking.ranks, "ndcg", 10)[tail].mean()) if tail.any() else 0.0,
    }


@cache
def _loaded(source: SourceName, data: Path | None, protocol: ProtocolId) -> tuple[Split, Requests]:
    """Return the split, and its test requests at the time of each user's last event."""
    events = load_events(source, data)
    at_last = split(events, EvaluationSettings(protocol=protocol, query_time="last"))
    return split(events, EvaluationSettings(protocol=protocol)), at_last.test


if __name__ == "__main__":
    main()
