"""Prefect UI artifacts of a run: tables, plots and addresses."""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import ParamSpec

from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.logging import get_run_logger

from infra.registry import ModelRef
from tasks.best_effort import drawn
from tasks.datasets import DatasetRef
from tasks.evaluation import Evaluation, beyond_accuracy_rows, metrics_rows, training_curve_png, value_rows
from tasks.gate import DEFAULT_NAME, Decision, comparison_png, render_markdown
from tasks.ingest import ValidationReport
from tasks.landing import Landing
from tasks.monitoring import Monitored, check_rows, live_rows
from tasks.search import SearchRecord, search_png, trial_rows
from tasks.training import Candidate

__all__ = [
    "address_artifact",
    "show_dataset",
    "show_decision",
    "show_drift",
    "show_evaluation",
    "show_landing",
    "show_page",
    "show_recommendations",
    "show_search",
    "show_training",
    "show_validation",
    "show_version",
]

MOST_ROWS = 500  # per table in the UI
P = ParamSpec("P")


def _for_people(show: Callable[P, None]) -> Callable[P, None]:
    """Make `show` best-effort within a task: if it raises, the run logs a warning and continues."""

    @wraps(show)
    def attempt(*args: P.args, **kwargs: P.kwargs) -> None:
        drawn(f"The artifact of {show.__name__}", show, get_run_logger(), *args, **kwargs)

    return attempt


def address_artifact(uri: str, text: str, *, key: str, description: str) -> None:
    """Show a store address with the command that opens it.

    It is not a link: a browser does not follow s3:// addresses, nor file:// addresses from a page of the server.
    """
    shown = f"{text}:\n\n`recsys data open {uri}`\n\nBrowsers cannot open this address; run the command where the store can be reached.\n"
    create_markdown_artifact(shown, key=key, description=description)


@_for_people
def show_dataset(dataset: DatasetRef) -> None:
    rows = [
        {"fact": "version", "value": f"{dataset.name}/{dataset.version}"},
        {"fact": "interactions", "value": f"{dataset.rows:,}"},
        {"fact": "users", "value": f"{dataset.users:,}"},
        {"fact": "items", "value": f"{dataset.items:,}"},
        {"fact": "first event", "value": _when(dataset.first)},
        {"fact": "last event", "value": _when(dataset.last)},
        *({"fact": "made from", "value": parent} for parent in dataset.parents),
        {"fact": "stored at", "value": dataset.uri},
    ]
    create_table_artifact(rows, key="dataset", description="Dataset version of this run")


@_for_people
def show_landing(landing: Landing) -> None:
    rows = [
        {
            "file": account.file,
            "kind": account.kind,
            "rows": account.rows,
            "accepted": account.accepted,
            "duplicates": account.duplicates,
            "quarantined": account.quarantined,
            "corrections": account.corrections,
            "late": account.late,
            "new users": account.new_users,
            "new items": account.new_items,
            "remarks": account.remarks,
        }
        for account in landing.accounts[:MOST_ROWS]
    ]
    rows += [{"file": file, "kind": "waiting", "remarks": why} for file, why in list(landing.waiting.items())[:MOST_ROWS]]
    more = max(len(landing.accounts) - MOST_ROWS, 0) + max(len(landing.waiting) - MOST_ROWS, 0)
    create_table_artifact(
        rows,
        key="landing",
        description=f"Landing zone files in this run: rows = accepted + duplicates + quarantined. Complete until "
        f"{_when(landing.watermark)}. {f'{more} more files are listed in the log of the zone.' if more else ''}",
    )


@_for_people
def show_validation(report: ValidationReport) -> None:
    rows = [
        {
            "table": name,
            "rows": table.rows,
            "accepted": table.accepted,
            "quarantined": table.quarantined,
            "reasons": "; ".join(f"{reason}: {count}" for reason, count in table.reasons.items()),
        }
        for name, table in report.tables.items()
    ]
    create_table_artifact(rows, key="validation", description="Rows in = accepted + quarantined")


@_for_people
def show_drift(found: Monitored) -> None:
    result = found.result
    said = f"Newest slice: {result.verdict}. {' '.join(result.reasons)}"
    create_table_artifact(check_rows(result), key="drift", description=said)
    if result.live is not None:
        create_table_artifact(
            live_rows(result.live),
            key="live-quality",
            description=f"Live quality of the champion {result.live.champion} after its training, beside its holdout",
        )
    for link, text, key in (
        (found.page, "All drift checks with plots, as a page", "drift-page"),
        (found.evidently, "Evidently's drift report, as a page", "drift-report"),
    ):
        if link is not None:
            address_artifact(link, text, key=key, description=f"{text}; the newest slice: {result.verdict}")


@_for_people
def show_training(candidates: list[Candidate]) -> None:
    png = training_curve_png({candidate.kind: candidate.epochs for candidate in candidates})
    create_image_artifact(
        _inline(png),
        key="training-curve",
        description="Training loss and valid NDCG@10 by epoch; the dot marks the epoch that was kept",
    )


@_for_people
def show_evaluation(evaluation: Evaluation) -> None:
    create_table_artifact(
        metrics_rows(evaluation.metrics, evaluation.intervals),
        key="metrics",
        description=f"Full ranking under {evaluation.protocol} on the test requests of {evaluation.dataset}",
    )
    create_table_artifact(
        beyond_accuracy_rows(evaluation.beyond_accuracy, evaluation.intervals),
        key="beyond-accuracy",
        description="Beyond-accuracy metrics of the top 10, with 95 % intervals for means over requests: share of the catalogue "
        "shown, Gini index of exposure, novelty in bits, mean train events, share of tail items, genre diversity, and genre "
        "distance from the history in nats",
    )
    create_table_artifact(
        value_rows(evaluation.value, "ss4rec"),
        key="value",
        description=f"Expected value, with 95 % intervals, based on these assumptions: {' '.join(evaluation.value.assumptions)}",
    )


@_for_people
def show_recommendations(link: str) -> None:
    address_artifact(
        link,
        "Evidently's report on the recommendations",
        key="recommendations",
        description="Evidently's report on the recommendations, for information only; the gate does not use it",
    )


@_for_people
def show_decision(decision: Decision) -> None:
    create_markdown_artifact(
        render_markdown(decision), key="gate", description=f"{decision.outcome.capitalize()}: {decision.challenger}"
    )
    png = comparison_png(decision)
    if png is not None:
        create_image_artifact(
            _inline(png),
            key="challenger-and-champion",
            description="Challenger and champion on the same requests, overall and by slice",
        )


@_for_people
def show_page(uri: str, decision: Decision) -> None:
    address_artifact(
        uri,
        "The gate's decision as a page",
        key="gate-page",
        description=f"The gate's decision as a page that can be shared: {decision.outcome}",
    )


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


@_for_people
def show_version(version: ModelRef) -> None:
    named = "" if version.name == DEFAULT_NAME else f" --set model_name={version.name}"
    shown = (
        f"## {version.name} {version.version}\n\nShow its lineage, files, promotions and gate decisions with this command:\n\n"
    )
    create_markdown_artifact(
        f"{shown}`recsys model show {version.version}{named}`\n\nIts files are under `{version.uri}`.\n",
        key="model-version",
        description=f"Model version of this run; gate outcome: {version.outcome}",
    )


@_for_people
def show_search(record: SearchRecord) -> None:
    create_table_artifact(
        trial_rows(record.trials),
        key="trials",
        description=f"Trials of the study {record.study} on {record.dataset} under {record.protocol}",
    )
    if any(trial.value is not None for trial in record.trials):
        create_image_artifact(
            _inline(search_png(record.trials, record.importance)),
            key="search",
            description="Valid NDCG@10 of each trial and the best so far, with the importance of each setting",
        )


def _when(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
