"""Results of a comparison: each entry's metrics with their uncertainty, and pairwise tests of which entry is better.

Two sources of randomness are kept separate. The standard deviation over an entry's seeds shows the effect of the seeds. Bootstrap intervals and
paired tests show the effect of the requests; they use per-request values averaged over an entry's seeds.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import ComparisonError, NotFoundError
from configs.studies import CompareSettings, EntrySettings
from infra.storage import Store
from models.evaluation import confidence_intervals, holm, paired_test, per_request_metrics
from tasks.comparison.stored_runs import StoredRun, read_run, refuse_other_requests
from tasks.datasets import DatasetRef

__all__ = [
    "Cell",
    "EntryResult",
    "Estimate",
    "Failure",
    "IncompleteComparisonError",
    "ModelComparison",
    "RunCurve",
    "compare_runs",
    "significance_matrix",
    "write_report",
]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A metric of an entry."""

    mean: float  # over seeds
    spread: float | None  # standard deviation over seeds; None if there is only one
    low: float  # 95 % bootstrap interval over requests, of the mean over seeds
    high: float


@dataclass(frozen=True)
class RunCurve:
    """Learning curve of one run of an entry."""

    seed: int
    epochs: list[int]
    losses: list[float]
    valid: list[float]  # NDCG@10
    best_epoch: int


@dataclass(frozen=True)
class EntryResult:
    """Results of an entry over its finished seeds."""

    name: str
    kind: str
    preset: str | None
    settings: dict[str, Any]  # that differ from the preset
    seeds: list[int]
    missing_seeds: list[int]
    metrics: dict[str, Estimate]
    beyond_accuracy: dict[str, float]  # mean over seeds
    curves: list[RunCurve]
    parameters: int
    devices: list[str]
    seconds: float  # training time, median over seeds
    total_seconds: float
    cost: float | None  # USD, total over all seeds
    git_commits: list[str | None]


@dataclass(frozen=True)
class Cell:
    """One-sided test with the alternative hypothesis that `entry` has a higher NDCG@10 than `other`."""

    entry: str
    other: str
    difference: float
    low: float  # two-sided 95 % interval of the difference
    high: float
    p_value: float
    adjusted: float  # p-value with Holm's correction over all cells
    significant: bool  # at the level `alpha`; stored as `shown`


@dataclass(frozen=True)
class Failure:
    """A run that failed to produce a result."""

    entry: str
    seed: int
    reason: str


@dataclass(frozen=True)
class ModelComparison:
    """Content of the report, stored as `report.json`."""

    id: str
    dataset: str
    protocol: str
    requests: int
    reference: str
    alpha: float
    resamples: int
    runner: str
    max_parallel: int
    entries: list[EntryResult]  # best NDCG@10 first
    matrix: list[Cell]
    failures: list[Failure]
    page: str  # address of the report's page

    @property
    def complete(self) -> bool:
        return not self.failures

    def cell(self, entry: str, other: str) -> Cell | None:
        """Return the test of whether `entry` is better than `other`, or None if either has no finished runs."""
        return next((cell for cell in self.matrix if (cell.entry, cell.other) == (entry, other)), None)

    def verdict(self, entry: str) -> str:
        """Return how the entry compares with the reference."""
        better, worse = self.cell(entry, self.reference), self.cell(self.reference, entry)
        if better is None or worse is None:
            return "reference" if entry == self.reference else "the reference has no run"
        return "better" if better.significant else "worse" if worse.significant else "no difference shown"

    def to_dict(self) -> dict[str, Any]:
        found = asdict(self)
        for cell in found["matrix"]:
            cell["shown"] = cell.pop("significant")  # its key in every stored report
        return found


class IncompleteComparisonError(ComparisonError):
    """Some runs failed. `comparison` holds the comparison of the others."""

    def __init__(self, message: str, comparison: ModelComparison) -> None:
        super().__init__(message)
        self.comparison = comparison


def compare_runs(
    store: Store, comparison: str, dataset: DatasetRef, failures: list[Failure], settings: CompareSettings
) -> ModelComparison:
    """Compute the metrics and tests of all stored runs.

    Raises:
        VersionCorruptError: The ranks of a run differ from those that were sealed.
        ComparisonError: Two runs were not ranked on the same requests.
    """
    runs = {entry.name: _stored_runs(store, comparison, entry, settings) for entry in settings.entries}
    every = [run for found in runs.values() for run in found]
    refuse_other_requests(every)
    results = [_entry_result(entry, runs[entry.name], settings) for entry in settings.entries if runs[entry.name]]
    return ModelComparison(
        id=comparison,
        dataset=f"{dataset.name}/{dataset.version}",
        protocol=settings.evaluation.protocol_id_for(dataset.properties.repeats),
        requests=len(every[0].ranks) if every else 0,
        reference=settings.reference,
        alpha=settings.alpha,
        resamples=settings.resamples,
        runner=settings.runner,
        max_parallel=settings.max_parallel,
        entries=sorted(results, key=lambda result: -result.metrics["ndcg@10"].mean),
        matrix=significance_matrix(
            {name: _over_seeds(found)["ndcg@10"] for name, found in runs.items() if found},
            alpha=settings.alpha,
            resamples=settings.resamples,
            seed=settings.bootstrap_seed,
        ),
        failures=failures,
        page=store.uri(_page_key(comparison)),
    )


def significance_matrix(values: dict[str, FloatArray], *, alpha: float, resamples: int, seed: int) -> list[Cell]:
    """Test every pair of entries in both directions with a one-sided paired bootstrap of their per-request values (R,).

    Holm's correction covers all of these tests together, so the family-wise error rate is at most `alpha`.
    """
    pairs = [(entry, other) for entry in values for other in values if entry != other]
    tests = {
        f"{entry}/{other}": paired_test(values[entry], values[other], resamples=resamples, seed=seed) for entry, other in pairs
    }
    corrected = holm({name: test.p_value for name, test in tests.items()}, alpha)
    cells: dict[tuple[str, str], Cell] = {}
    for entry, other in pairs:
        test, (adjusted, significant) = tests[f"{entry}/{other}"], corrected[f"{entry}/{other}"]
        mirror = cells.get((other, entry))  # the two bootstraps differ slightly; both directions report one interval
        low, high = (test.ci_low, test.ci_high) if mirror is None else (0.0 - mirror.high, 0.0 - mirror.low)  # avoids -0.0
        cells[entry, other] = Cell(entry, other, test.difference, low, high, test.p_value, adjusted, significant)
    return list(cells.values())


def write_report(store: Store, comparison: ModelComparison, html: bytes) -> None:
    """Store `report.json` and the page. A report from when fewer runs had ended is overwritten."""
    store.put(f"comparisons/{comparison.id}/report.json", json.dumps(comparison.to_dict(), indent=2).encode())
    store.put(_page_key(comparison.id), html)


def _page_key(comparison: str) -> str:
    return f"comparisons/{comparison}/report.html"


def _stored_runs(store: Store, comparison: str, entry: EntrySettings, settings: CompareSettings) -> list[StoredRun]:
    found = []
    for seed in settings.seeds_of(entry):
        try:
            found.append(read_run(store, comparison, entry.name, seed))
        except NotFoundError:
            continue  # listed among the failures
    return found


def _over_seeds(runs: list[StoredRun], ks: tuple[int, ...] = (10,)) -> dict[str, FloatArray]:
    """Per-request metrics (R,), averaged over the runs."""
    each = [per_request_metrics(run.ranks, ks) for run in runs]
    return {name: np.mean([values[name] for values in each], axis=0) for name in each[0]}


def _entry_result(entry: EntrySettings, runs: list[StoredRun], settings: CompareSettings) -> EntryResult:
    averaged = _over_seeds(runs, settings.evaluation.ks)
    intervals = confidence_intervals(averaged, resamples=settings.resamples, seed=settings.bootstrap_seed)
    estimates = {}
    for name, values in averaged.items():
        by_seed = [float(per_request_metrics(run.ranks, settings.evaluation.ks)[name].mean()) for run in runs]
        spread = statistics.stdev(by_seed) if len(by_seed) > 1 else None
        estimates[name] = Estimate(float(values.mean()), spread, *intervals[name])
    records = [run.record for run in runs]
    costs = [record.cost for record in records if record.cost is not None]
    ended = [run.seed for run in runs]
    return EntryResult(
        name=entry.name,
        kind=entry.kind,
        preset=entry.preset,
        settings=entry.settings,
        seeds=ended,
        missing_seeds=[seed for seed in settings.seeds_of(entry) if seed not in ended],
        metrics=estimates,
        beyond_accuracy={
            name: statistics.fmean(record.beyond_accuracy[name] for record in records) for name in records[0].beyond_accuracy
        },
        curves=[_curve(run) for run in runs],
        parameters=records[0].parameters,
        devices=sorted({record.device for record in records}),
        seconds=statistics.median(record.seconds for record in records),
        total_seconds=sum(record.seconds for record in records),
        cost=sum(costs) if len(costs) == len(records) else None,
        git_commits=sorted({record.plan.git_commit for record in records}, key=str),
    )


def _curve(run: StoredRun) -> RunCurve:
    measured = [report for report in run.record.epochs if "ndcg@10" in report.valid]
    return RunCurve(
        seed=run.seed,
        epochs=[report.epoch for report in measured],
        losses=[report.loss for report in measured],
        valid=[report.valid["ndcg@10"] for report in measured],
        best_epoch=run.record.best_epoch,
    )
