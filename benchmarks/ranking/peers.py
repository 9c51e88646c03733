"""SS4Rec and its peers, each trained to its end: `python -m benchmarks.ranking.peers --source ml-1m --data ml-1m.zip --jobs 4`.

Trains each variant for each protocol and seed to the end of its schedule, on the same windows, and ranks the test requests over the
full catalogue: with and without the items of the user's history, at the time of the target and at the time of the user's last event.
The epoch is chosen at the time of the target. A variant is one of VARIANTS, with the settings that `benchmarks.ranking.search` found,
or any kind with its defaults.

Each other kind is compared with SS4Rec by a paired test over the requests, on NDCG@10 averaged over the seeds. The spread between the
seeds widens the test's distribution. The ranks of all requests are kept beside the result for it, in a file with the ending `.npz`.
`--beside` names results of other runs on the same data, to compare with their rows too.

`--jobs` trains side by side, in processes of their own that share the GPU. `gpu_seconds` are the seconds of the fit divided by the
number of trainings at once: what the training cost of the machine. `--at-once` gives this number if other commands train on the GPU
meanwhile. Runs that are already in the output file are not repeated. If nothing is left to train, the rows are only compared again,
and the result keeps the command and the hardware of its runs.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.data import load_events, origin
from benchmarks.ranking.comparison import compared, ranks_key, render, rows
from benchmarks.ranking.variants import SEARCHES, VARIANTS, kind_of, settings_of, studies_of
from benchmarks.report import hardware, measured, refuse_mixed, write_json, write_result
from configs.cores import available_cores
from configs.kinds import spec_of
from configs.settings import EvaluationSettings, ProtocolId, SourceName
from models.evaluation import Ranking, Split, metrics, per_request, rank_requests, slices, split
from models.kinds import recommender_class
from models.recommender import IntArray, Recommender, Requests


@dataclass(frozen=True)
class Job:
    """One training."""

    source: SourceName
    data: Path | None
    variant: str
    protocol: ProtocolId
    seed: int
    settings: Any
    at_once: int

    @property
    def kind(self) -> str:
        return kind_of(self.variant)


def main() -> None:
    """Train the missing runs, write the result after each one and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release; downloaded if left out")
    parser.add_argument("--protocols", nargs="+", default=["loo-exact", "loo-recbole"], choices=get_args(ProtocolId))
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), help=f"kinds, or of: {'; '.join(VARIANTS)}")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side; each gets an equal share of the cores")
    parser.add_argument("--at-once", type=int, help="trainings on the GPU, if other commands train on it, too; otherwise --jobs")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="KIND.key=value, may be repeated")
    parser.add_argument("--search", type=Path, nargs="+", default=list(SEARCHES), help="results of the searches")
    parser.add_argument(
        "--beside", type=Path, nargs="+", default=[], help="other results, whose runs the rows are also compared with"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/peers.json"))
    given = parser.parse_args()
    studies = studies_of(given.search)
    for variant in given.variants:
        if variant not in VARIANTS:
            spec_of(variant)  # refuses an unknown kind
    kept = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {"data": given.source, "runs": []}
    if kept["data"] != given.source:
        parser.error(f"{given.out} contains runs on {kept['data']}, but this run uses {given.source}: choose another --out")
    runs: list[dict[str, Any]] = kept["runs"]
    ranks = _kept_ranks(given.out.with_suffix(".npz"))
    done = {(run["variant"], run["protocol"].split(";")[0], run["seed"]) for run in runs}
    missing = [
        (variant, protocol, seed)
        for protocol in given.protocols
        for variant in given.variants
        for seed in (given.seeds if spec_of(kind_of(variant)).seeded else given.seeds[:1])
        if (variant, protocol, seed) not in done
    ]
    if missing:
        load_events(given.source, given.data)  # downloads the data once, and fails early if it cannot be read
    at_once: int = given.at_once or given.jobs
    work = [
        Job(
            given.source,
            given.data,
            variant,
            protocol,
            seed,
            settings_of(variant, studies, [o.split(".", 1)[1] for o in given.overrides if o.startswith(f"{kind_of(variant)}.")]),
            at_once,
        )
        for variant, protocol, seed in missing
    ]
    refuse_mixed(runs, going_on=bool(work))
    said = {name: value for name, value in kept.items() if name not in ("rows", "runs")}
    if work:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // given.jobs)))
        said = origin(given.source, given.data) | {"hardware": hardware() | {"trainings_at_once": at_once}}
        with multiprocessing.get_context("spawn").Pool(given.jobs, maxtasksperchild=1) as pool:
            for run in pool.imap_unordered(_run, work, chunksize=1):
                ranks |= run.pop("ranks")
                np.savez_compressed(given.out.with_suffix(".npz"), allow_pickle=False, **ranks)
                runs.append(run)
                write_result(given.out, {**said, "rows": rows(runs), "runs": runs})
                print(_line(run), flush=True)
    others = [row for path in given.beside for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    for path in given.beside:
        ranks |= _kept_ranks(path.with_suffix(".npz"))
    result = {**said, "rows": compared(rows(runs), others, ranks), "runs": runs}
    (write_result if work else write_json)(given.out, result)
    print(render(result))


def _kept_ranks(path: Path) -> dict[str, IntArray]:
    if not path.exists():
        return {}
    with np.load(path) as kept:
        return {name: kept[name] for name in kept.files}


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
    model: Recommender = recommender_class(spec_of(job.kind))(job.settings)
    mask, cpu = parts.masks_seen(sequential=model.sequential), time.process_time()
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=job.seed, mask_seen=mask)
    cpu = time.process_time() - cpu
    on_gpu = report.device.startswith("cuda")
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    ranked = (
        (name, requests, masked) for name, requests in (("", parts.test), (" at last event", at_last)) for masked in (False, True)
    )
    test, ranks = {}, {}
    for name, requests, masked in ranked:
        seen = f"{'masked' if masked else 'unmasked'}{name}"
        test[seen], found = _judged(model, parts, requests, masked, 4096 if on_gpu else 256)
        ranks[ranks_key(parts.protocol, job.variant, job.seed, seen)] = found
    return {
        "ranks": ranks,
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


def _judged(model: Recommender, parts: Split, requests: Requests, masked: bool, batch: int) -> tuple[dict[str, float], IntArray]:
    ranking: Ranking = rank_requests(model, requests, parts.catalogue, mask_seen=masked, batch_size=batch)
    tail = slices(parts.train, requests)["tail items"]
    found = {
        **metrics(ranking.ranks, (5, 10, 20)),
        "coverage@10": float(np.mean(ranking.recommended > 0)),
        "tail ndcg@10": float(per_request(ranking.ranks, "ndcg", 10)[tail].mean()) if tail.any() else 0.0,
    }
    return found, ranking.ranks.astype(np.int32)


@cache
def _loaded(source: SourceName, data: Path | None, protocol: ProtocolId) -> tuple[Split, Requests]:
    """Return the split, and its test requests at the time of each user's last event."""
    events = load_events(source, data)
    at_last = split(events, EvaluationSettings(protocol=protocol, query_time="last"))
    return split(events, EvaluationSettings(protocol=protocol)), at_last.test


if __name__ == "__main__":
    main()
