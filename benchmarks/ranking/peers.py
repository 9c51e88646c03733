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
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.data import load_events, origin
from benchmarks.report import hardware, measured, refuse_mixed, write_json, write_result
from configs.cores import available_cores
from configs.errors import SettingsError
from configs.kinds import spec_of
from configs.loading import load_settings
from configs.settings import EvaluationSettings, ProtocolId, RetrainSettings, SourceName
from infra.pages import markdown_table
from models.evaluation import Ranking, Split, metrics, paired_test, per_request, rank_requests, slices, split
from models.kinds import recommender_class
from models.recommender import IntArray, Recommender, Requests

OURS = "SS4Rec"
NO_INTERVALS = {"interval_embedding": False}
FURTHER: dict[str, Any] = {"schedule": "constant", "weight_averaging": 0.998, "max_epochs": 36, "patience": 10}
"""A constant learning rate and a longer average of the weights. They helped SS4Rec most after the equal search, so its peers get them,
too."""
WIDER: dict[str, Any] = FURTHER | {
    "max_epochs": 80,
    "width": 192,
    "dropout": 0.25,
    "embedding_dropout": 0.35,
    "learning_rate": 0.002,
}
"""What the further search of SS4Rec added to them."""
DISTILLED: dict[str, Any] = {"teachers": 4, "patience": 8}
"""Four networks distilled into one."""
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    OURS: ("ss4rec", "ss4rec", {}),
    "SS4Rec, further": ("ss4rec", "ss4rec", WIDER | {"max_length": 400}),
    "SS4Rec, further, 200 events": ("ss4rec", "ss4rec", WIDER),
    "SS4Rec, further, 800 events": ("ss4rec", "ss4rec", WIDER | {"max_length": 800}),
    "SS4Rec, distilled": ("ss4rec", "ss4rec", WIDER | DISTILLED),
    "SASRec": ("sasrec", "sasrec", {}),
    "gSASRec": ("gsasrec", "gsasrec", {}),
    "eSASRec": ("esasrec", "esasrec", {}),
    "HSTU": ("hstu", "hstu", {}),
    "LRURec": ("lrurec", "lrurec", {}),
    "SASRec, further": ("sasrec", "sasrec", FURTHER),
    "gSASRec, further": ("gsasrec", "gsasrec", FURTHER | {"max_epochs": 120}),
    "eSASRec, further": ("esasrec", "esasrec", FURTHER),
    "HSTU, further": ("hstu", "hstu", FURTHER),
    "LRURec, further": ("lrurec", "lrurec", FURTHER),
    "HSTU, distilled": ("hstu", "hstu", FURTHER | DISTILLED | {"max_epochs": 48}),
    "SS4Rec, no time": ("ss4rec", "ss4rec", {"interval": "none"}),
    "SASRec, no time": ("sasrec", "sasrec", NO_INTERVALS),
    "gSASRec, no time": ("gsasrec", "gsasrec", NO_INTERVALS),
    "eSASRec, no time": ("esasrec", "esasrec", NO_INTERVALS),
    "HSTU, no time": ("hstu", "hstu", NO_INTERVALS | {"time_bias": False}),
    "LRURec, no time": ("lrurec", "lrurec", NO_INTERVALS),
}
"""Each variant: its kind, the study of `benchmarks.ranking.search` that found its settings, and what differs from them."""
SEARCHES = (Path("benchmarks/results/search.json"), Path("benchmarks/results/search_further.json"))
EPOCHS = 30
"""The length of a training whose settings the equal search found. Its learning rate falls to 0 meanwhile, as in the search."""

UNFINISHED = ("gSASRec",)
"""Variants that still improve when their epochs end: their rows are lower bounds."""

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
    parser.add_argument(
        "--at-once", type=int, help="trainings that share the GPU, with those of other commands; the number of jobs"
    )
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
    load_events(given.source, given.data)  # downloads the data once, and fails early if it cannot be read
    kept = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {"data": given.source, "runs": []}
    if kept["data"] != given.source:
        parser.error(f"{given.out} contains runs on {kept['data']}, but this run uses {given.source}: choose another --out")
    runs: list[dict[str, Any]] = kept["runs"]
    ranks = _kept_ranks(given.out.with_suffix(".npz"))
    done = {(run["variant"], run["protocol"].split(";")[0], run["seed"]) for run in runs}
    chosen = {
        variant: settings_of(
            variant, studies, [o.split(".", 1)[1] for o in given.overrides if o.startswith(f"{kind_of(variant)}.")]
        )
        for variant in given.variants
    }
    at_once: int = given.at_once or given.jobs
    work = [
        Job(given.source, given.data, variant, protocol, seed, chosen[variant], at_once)
        for protocol in given.protocols
        for variant in given.variants
        for seed in (given.seeds if spec_of(kind_of(variant)).seeded else given.seeds[:1])
        if (variant, protocol, seed) not in done
    ]
    refuse_mixed(runs, going_on=bool(work))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, available_cores() // given.jobs)))
    said = origin(given.source, given.data) | {"hardware": hardware() | {"trainings_at_once": at_once}}
    if not work:
        said = {name: value for name, value in kept.items() if name not in ("rows", "runs")}
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


def kind_of(variant: str) -> str:
    """Return the kind of a variant."""
    return VARIANTS[variant][0] if variant in VARIANTS else variant


def settings_of(variant: str, studies: dict[str, Any], more: Sequence[str] = ()) -> Any:
    """Return the settings of a variant: what its study found, then what the variant changes, then `more` (key=value).

    Raises:
        SettingsError: if a study is missing, or a setting is wrong.
    """
    kind, name, changes = VARIANTS.get(variant, (variant, "", {}))
    found: dict[str, Any] = {}
    if name:
        if name not in studies:
            raise SettingsError(
                f"No result of a search has the study {name}, which the variant {variant} needs: pass it with --search."
            )
        study = studies[name]
        best: dict[str, Any] = next(trial["params"] for trial in study["trials"] if trial["number"] == study["best"])
        found = study["fixed"] | ({"max_epochs": EPOCHS, "patience": EPOCHS} if name == kind else {}) | best
    given = [f"models.{kind}.{key}={value}" for key, value in (found | changes).items()]
    given += [f"models.{kind}.{each}" for each in more]
    return load_settings(RetrainSettings, None, given).models.of(kind)


def studies_of(results: Sequence[Path]) -> dict[str, Any]:
    """Return the studies in the results of searches, by name."""
    return {
        name: study
        for path in results
        if path.exists()
        for name, study in json.loads(path.read_text(encoding="utf-8"))["studies"].items()
    }


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


def compared(found: list[dict[str, Any]], others: list[dict[str, Any]], ranks: dict[str, IntArray]) -> list[dict[str, Any]]:
    """Return the rows, each with the tests of whether a variant of SS4Rec has a higher NDCG@10, with and without seen items.

    A row of SS4Rec is compared with the rows of the other kinds. `others` are rows of other results, which are only compared with.
    """
    known = [*found, *others]
    for row in found:
        ours = kind_of(row["variant"]) == "ss4rec"
        same = [each for each in known if each["protocol"] == row["protocol"] and (kind_of(each["variant"]) == "ss4rec") != ours]
        row["compared"] = [
            {"variant": each["variant"], "ranking": seen, **_test(row if ours else each, each if ours else row, seen, ranks)}
            for each in same
            for seen in ("masked", "unmasked")
        ]
    return found


def _test(ours: dict[str, Any], peer: dict[str, Any], seen: str, ranks: dict[str, IntArray]) -> dict[str, float]:
    """Test whether the NDCG@10 of `ours` is higher than that of `peer`, over the requests and the seeds."""
    values = [
        np.mean([per_request(ranks[_key(row["protocol"], row["variant"], seed, seen)], "ndcg", 10) for seed in row["seeds"]], 0)
        for row in (ours, peer)
    ]
    spread = [(row[f"{seen} ndcg@10"]["sd"] or 0.0) / len(row["seeds"]) ** 0.5 for row in (ours, peer)]
    test = paired_test(values[0], values[1], resamples=10_000, seed=17, common_sd=float(np.hypot(*spread)))
    return {name: getattr(test, name) for name in ("difference", "ci_low", "ci_high", "p_value")}


def render(result: dict[str, Any]) -> str:
    """Return the rows as a Markdown table, the best of each protocol first."""
    found = result["rows"]
    head = ["protocol", "model"]
    head += [f"{name.upper()}, {ranking}" for ranking in RANKINGS for name in SHOWN]
    head += [
        "SS4Rec's masked NDCG@10 is higher",
        "coverage@10",
        "tail NDCG@10",
        "seeds",
        "epochs",
        "GPU s",
        "peak MiB",
        "weights",
    ]
    lines = []
    for row in found:
        cells = [_mean(row[f"{ranking} {name}"]) for ranking in RANKINGS for name in SHOWN]
        cells.append(_difference(row))
        cells += [_mean(row["masked coverage@10"]), _mean(row["masked tail ndcg@10"]), str(len(row["seeds"]))]
        cells += [
            f"{row['epochs']:.0f}",
            f"{row['gpu_seconds']:.0f}",
            f"{row['peak_bytes'] / 2**20:,.0f}",
            f"{row['parameters']:,.0f}",
        ]
        lines.append([f"`{row['protocol']}`", row["variant"], *cells])
    return markdown_table(head, lines)


def headline(result: dict[str, Any]) -> str:
    """Return the figures under `loo-exact` without seen items as a short Markdown table, of the models that were trained to their end."""
    rows = [row for row in result["rows"] if row["protocol"].split(";")[0] == "loo-exact" and row["variant"] not in UNFINISHED]
    cells = [[row["variant"], *(_mean(row[f"masked {name}"]) for name in SHOWN), _short_difference(row)] for row in rows]
    return markdown_table(["model", "HR@10", "NDCG@10", "SS4Rec's NDCG@10 is higher by"], cells)


def _short_difference(row: dict[str, Any]) -> str:
    tests = [each for each in row.get("compared", []) if (each["ranking"], each["variant"]) == ("masked", OURS)]
    return "".join(f"{each['difference']:.4f} ({each['ci_low']:.4f} to {each['ci_high']:.4f})" for each in tests)


def _difference(row: dict[str, Any]) -> str:
    """Return by how much SS4Rec is higher: than this row, or, in a row of SS4Rec, than the best row of another kind.

    The SS4Rec that is compared with another kind was trained in the same way, if the tests have one. It is named if it is not OURS.
    """
    tests = {each["variant"]: each for each in row.get("compared", []) if each["ranking"] == "masked"}
    if not tests:
        return ""
    variant: str = row["variant"]
    ours = kind_of(variant) == "ss4rec"
    alike = ", ".join([OURS, *variant.split(", ")[1:]])
    other = (
        min(tests, key=lambda each: tests[each]["difference"]) if ours else next(v for v in (alike, OURS, *tests) if v in tests)
    )
    test, named = tests[other], f", than {other}" if ours else f", {other}" if other != OURS else ""
    return f"by {test['difference']:+.4f} ({test['ci_low']:+.4f} to {test['ci_high']:+.4f}), p = {test['p_value']:.4f}{named}"


def _key(protocol: str, variant: str, seed: int, seen: str) -> str:
    return "|".join((protocol, variant, str(seed), seen))


def _kept_ranks(path: Path) -> dict[str, IntArray]:
    if not path.exists():
        return {}
    with np.load(path) as kept:
        return {name: kept[name] for name in kept.files}


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
        ranks[_key(parts.protocol, job.variant, job.seed, seen)] = found
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
