"""Baselines on one dataset: `python -m benchmarks.ranking.baselines --source ml-1m --data ml-1m.zip --max-seconds 600`.

Each model is trained once for each protocol and seed. It ranks the test requests twice: over all items, and without the items
that the user has seen. The best epoch is chosen on the validation part without seen items, except under loo-recbole: there it is
chosen over all items, as RecBole does for sequential models. NCF is RecBole's NeuMF with our settings. SASRec and GRU4Rec are
trained by RecBole's own Trainer with RecBole's settings, except for the length of the history, and validated by our ranking.
"""

from __future__ import annotations

import argparse
import importlib.util
import multiprocessing
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from benchmarks.data import load_events, load_split, origin
from benchmarks.report import hardware, skip, write_result
from configs.cores import available_cores
from configs.settings import NCFSettings, PopularitySettings, ProtocolId, SourceName
from infra.pages import markdown_table
from models.evaluation import Split
from models.recommender import EpochReport, FitReport, Recommender

Kind = Literal["popularity", "ncf", "sasrec", "gru4rec"]
METRICS = ("hr@10", "ndcg@10", "mrr@10")
RANKINGS = ("unmasked", "masked")


@dataclass(frozen=True)
class Job:
    """One training and its two rankings."""

    source: SourceName
    data: Path | None
    protocol: ProtocolId
    kind: Kind
    seed: int
    max_seconds: float
    max_epochs: int | None
    max_length: int
    device: Literal["auto", "cpu", "cuda"]


def main() -> None:
    """Run the requested trainings, write the JSON after each one and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", default="ml-1m", choices=get_args(SourceName))
    parser.add_argument("--data", type=Path, help="zip, folder or ratings file of the release; or ml-100k (part of recbole)")
    parser.add_argument("--protocols", nargs="+", default=["loo-recbole", "loo-exact"], choices=["loo-recbole", "loo-exact"])
    parser.add_argument("--models", nargs="+", default=list(get_args(Kind)), choices=get_args(Kind))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--max-seconds", type=float, default=600, help="no epoch of a training starts after this time")
    parser.add_argument("--max-epochs", type=int, help="default: RecBole's 300, and NCF's own")
    parser.add_argument("--max-length", type=int, default=200, help="number of events that a sequential model reads")
    parser.add_argument("--jobs", type=int, default=1, help="parallel trainings; each gets an equal share of the cores")
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/baselines.json"))
    given = parser.parse_args()
    if given.data == Path("ml-100k"):
        given.source, given.data = "ml-100k", None
    if importlib.util.find_spec("recbole") is None and set(given.models) != {"popularity"}:
        skip(
            "the package recbole is not installed, and ncf, sasrec and gru4rec need it: pip install recbole==1.2.1, or choose "
            "--models popularity."
        )
    load_events(given.source, given.data)  # downloads the data once, and fails early if it cannot be read
    bounds = (given.max_seconds, given.max_epochs, given.max_length, given.device)
    work = [
        Job(given.source, given.data, protocol, kind, seed, *bounds)
        for kind in given.models
        for protocol in given.protocols
        for seed in (given.seeds if kind != "popularity" else given.seeds[:1])
    ]
    threads = max(1, available_cores() // given.jobs)
    os.environ["OMP_NUM_THREADS"] = str(threads)
    machine = hardware() | {"threads_a_run": threads, "runs_at_once": given.jobs}
    asked = origin(given.source, given.data) | {
        "max_seconds": given.max_seconds,
        "max_length": given.max_length,
        "seeds": given.seeds,
    }
    result: dict[str, Any] = {**asked, "hardware": machine, "trainings": len(work), "runs": []}
    with multiprocessing.get_context("spawn").Pool(given.jobs, maxtasksperchild=1) as pool:
        for run in pool.imap_unordered(_run, work, chunksize=1):
            result["runs"].append(run)
            write_result(given.out, result)
            print(run, flush=True)
    print(render(result))


def render(result: dict[str, Any]) -> str:
    """Return the result as a Markdown table: means over the seeds, with the standard deviation if there are several."""
    names = [f"{name.upper()} {ranking}" for ranking in RANKINGS for name in METRICS]
    head = ["protocol", "model", *names, "epochs", "stopped by", "seconds"]
    rows = []
    order = get_args(Kind)
    keys = sorted({(run["protocol"], run["model"]) for run in result["runs"]}, key=lambda key: (key[0], order.index(key[1])))
    for protocol, kind in keys:
        same = [run for run in result["runs"] if (run["protocol"], run["model"]) == (protocol, kind)]
        cells = [f"`{protocol}`", kind]
        for ranking in RANKINGS:
            for name in METRICS:
                values = [run["test"][ranking][name] for run in same]
                cells.append(f"{statistics.mean(values):.4f}" + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""))
        cells.append(" ".join(str(run["epochs"]) for run in same))
        cells.append(" ".join(dict.fromkeys(run["stopped_by"] or "" for run in same)))
        cells.append(f"{statistics.median(run['seconds'] for run in same):.0f}")
        rows.append(cells)
    return markdown_table(head, rows)


def _run(job: Job) -> dict[str, Any]:
    import torch

    from models.evaluation import metrics, rank_requests

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    parts = load_split(job.source, job.data, job.protocol)
    validated = "unmasked" if job.protocol == "loo-recbole" else "masked"
    with tempfile.TemporaryDirectory(prefix="recsys-baselines-") as folder:
        model, report, stopped_by = _fit(job, parts, mask_seen=validated == "masked", folder=Path(folder))
    test = {}
    for ranking in RANKINGS:
        ranked = rank_requests(model, parts.test, parts.catalogue, mask_seen=ranking == "masked", batch_size=256)
        test[ranking] = {name: value for name, value in metrics(ranked.ranks, (10,)).items() if name in METRICS}
    return {
        "protocol": job.protocol,
        "model": job.kind,
        "seed": job.seed,
        "validated": validated,
        "valid": report.epochs[report.best_epoch - 1].valid,
        "test": test,
        "requests": len(parts.test),
        "items": len(parts.catalogue),
        "seconds": report.seconds,
        "epochs": len(report.epochs),
        "best_epoch": report.best_epoch,
        "stopped_by": stopped_by,
        "parameters": report.parameters or None,
        "device": report.device,
        "settings": model.settings(),
    }


def _fit(job: Job, parts: Split, *, mask_seen: bool, folder: Path) -> tuple[Recommender, FitReport, str | None]:
    """Return the model of the best validation epoch, the report of its training, and the reason why it ended."""
    if job.kind == "ncf":
        from models.ncf import NCF

        settings = NCFSettings(device=job.device)
        if job.max_epochs is not None:
            settings = settings.model_copy(update={"max_epochs": job.max_epochs})
        return _fit_in_time(NCF(settings), settings.patience, job, parts, mask_seen=mask_seen, folder=folder)
    if job.kind == "popularity":
        from models.popularity import Popularity

        model = Popularity(PopularitySettings())
        return model, model.fit(parts.train, parts.valid, parts.catalogue, seed=job.seed, mask_seen=mask_seen), None
    from models.recbole_bridge import RecBoleModel, RecBoleSettings

    named = RecBoleSettings(
        model="SASRec" if job.kind == "sasrec" else "GRU4Rec",
        max_length=job.max_length,
        max_epochs=job.max_epochs or 300,
        device=job.device,
    )
    return _fit_in_time(RecBoleModel(named), named.patience, job, parts, mask_seen=mask_seen, folder=folder)


class _TimeIsOver(Exception):
    """Raised to stop a fit between two epochs."""


def _fit_in_time(
    model: Recommender, patience: int, job: Job, parts: Split, *, mask_seen: bool, folder: Path
) -> tuple[Recommender, FitReport, str]:
    import torch

    started, epochs = time.perf_counter(), list[EpochReport]()

    def after_epoch(report: EpochReport) -> None:
        epochs.append(report)
        if report.best_epoch == report.epoch:
            model.save(folder)  # if an exception ends the training loop, its best epoch is lost
        if time.perf_counter() - started >= job.max_seconds:
            raise _TimeIsOver

    try:
        report = model.fit(parts.train, parts.valid, parts.catalogue, seed=job.seed, mask_seen=mask_seen, on_epoch=after_epoch)
    except _TimeIsOver:
        device = "cuda" if job.device == "cuda" or (job.device == "auto" and torch.cuda.is_available()) else "cpu"
        report = FitReport(epochs, epochs[-1].best_epoch, device=device, seconds=time.perf_counter() - started)
        return type(model).load(folder, device), report, "max_seconds"
    patient = len(epochs) - report.best_epoch >= patience
    return model, report, "patience" if patient else "max_epochs"


if __name__ == "__main__":
    main()
