"""Ranking quality of the three models, by protocol: `python -m benchmarks.ranking.quality --out benchmarks/results/quality.json`.

Each model is trained with the default settings for each protocol and seed, and ranks the test requests. SS4Rec is then compared
with each baseline by a paired bootstrap over requests on NDCG@10 (per-request values averaged over the seeds).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import write_result
from configs.cores import available_cores
from configs.loading import load_settings
from configs.settings import RetrainSettings
from infra.pages import markdown_table

KINDS = ("popularity", "ncf", "ss4rec")
METRICS = ("hr@10", "ndcg@10", "mrr@10")


def main() -> None:
    """Run the benchmark, write its JSON and print its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", help="settings file or name; the defaults are ml-100k's")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="key=value, may be repeated")
    parser.add_argument(
        "--protocols",
        nargs="+",
        default=["loo-exact", "loo-recbole", "temporal"],
        help="protocols, each with its settings after it, as in 'temporal;temporal_target=last'",
    )
    parser.add_argument("--twins", action="store_true", help="run each protocol once more with query_time=last")
    parser.add_argument("--models", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="parallel trainings; each gets an equal share of the cores")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/quality.json"))
    given = parser.parse_args()
    order = sorted(given.models, key=KINDS.index, reverse=True)  # the longest first
    work = [
        (given.config, given.overrides, protocol, kind, seed)
        for kind in order
        for protocol in given.protocols
        for seed in (given.seeds if kind != "popularity" else given.seeds[:1])
    ]
    if given.twins:
        work = [(config, set_, each, *rest) for config, set_, own, *rest in work for each in (own, f"{own};query_time=last")]
    threads = max(1, available_cores() // given.jobs)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    with multiprocessing.get_context("spawn").Pool(given.jobs, maxtasksperchild=1) as pool:
        runs = list(pool.imap_unordered(_run, work, chunksize=1))
    data = load_settings(RetrainSettings, given.config, given.overrides).data
    result = {"data": data.source, "hardware": _hardware(threads, given.jobs), "seeds": given.seeds, "rows": _rows(runs)}
    write_result(given.out, result)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table."""
    lines = []
    for row in result["rows"]:
        cells = [
            f"{row[name]['mean']:.4f}" + (f" ± {row[name]['sd']:.4f}" if row[name]["sd"] is not None else "") for name in METRICS
        ]
        test = row.get("ss4rec_is_higher")
        shown = (
            ""
            if test is None
            else f"by {test['difference']:+.4f} ({test['ci_low']:+.4f} to {test['ci_high']:+.4f}), p = {test['p_value']:.4f}"
        )
        lines.append([f"`{row['protocol']}`", row["model"], *cells, shown])
    return markdown_table(["protocol", "model", "HR@10", "NDCG@10", "MRR@10", "SS4Rec's NDCG@10 is higher"], lines)


def _run(job: tuple[str | None, list[str], str, str, int]) -> dict[str, Any]:
    config, overrides, protocol, kind, seed = job
    import torch

    from models.evaluation import metrics, per_request, rank_requests, split
    from models.loading import make_recommender
    from tasks.ingest import ingest

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    name, *more = protocol.split(";")
    own = [f"evaluation.{each}" for each in (f"protocol={name}", *more)]
    settings = load_settings(RetrainSettings, config, [*overrides, *own, f"seed={seed}"])
    protocol = settings.evaluation.protocol_id
    events = ingest(settings.data).tables.interactions
    parts = split(events.assign(row=np.arange(len(events))), settings.evaluation)
    model = make_recommender(kind, settings.models)
    mask = parts.masks_seen(model.sequential)
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=mask)
    ranking = rank_requests(model, parts.test, parts.catalogue, mask_seen=mask, batch_size=settings.evaluation.batch_size)
    found = metrics(ranking.ranks, settings.evaluation.ks)
    print(
        f"{protocol} {kind} seed {seed} ({report.device}): {found} {report.seconds:.0f} s, epoch {report.best_epoch}", flush=True
    )
    return {
        "protocol": protocol,
        "model": kind,
        "seed": seed,
        "metrics": found,
        "ndcg": per_request(ranking.ranks, "ndcg", 10),
        "seconds": report.seconds,
        "device": report.device,
        "data": settings.data.source,
    }


def _rows(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    from models.evaluation import paired_test

    rows = []
    for protocol in dict.fromkeys(run["protocol"] for run in sorted(runs, key=lambda run: run["protocol"])):
        mean_ndcg: dict[str, Any] = {}
        own = []
        for kind in KINDS:
            same = [run for run in runs if (run["protocol"], run["model"]) == (protocol, kind)]
            if not same:
                continue
            row: dict[str, Any] = {"data": same[0]["data"], "protocol": protocol, "model": kind, "device": same[0]["device"]}
            row["requests"], row["runs"] = len(same[0]["ndcg"]), len(same)
            for name in same[0]["metrics"]:
                values = [run["metrics"][name] for run in same]
                row[name] = {"mean": statistics.mean(values), "sd": statistics.stdev(values) if len(values) > 1 else None}
            row["seconds"] = statistics.median(run["seconds"] for run in same)
            mean_ndcg[kind] = np.mean([run["ndcg"] for run in same], axis=0)
            own.append(row)
        for row in own:
            if row["model"] != "ss4rec" and "ss4rec" in mean_ndcg:
                test = paired_test(mean_ndcg["ss4rec"], mean_ndcg[row["model"]], resamples=10_000, seed=17)
                row["ss4rec_is_higher"] = {name: getattr(test, name) for name in ("difference", "ci_low", "ci_high", "p_value")}
        rows += own
    return rows


def _hardware(threads: int, jobs: int) -> dict[str, Any]:
    cpuinfo = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": available_cores(),
        "threads_a_run": threads,
        "runs_at_once": jobs,
    }


if __name__ == "__main__":
    main()
