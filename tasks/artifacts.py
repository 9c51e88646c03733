"""What a run shows in the Prefect UI."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from tasks.candidates import Candidate
from tasks.datasets import DatasetRef
from tasks.decision import Decision
from tasks.decision_page import comparison_png, render_markdown
from tasks.drift import DriftResult
from tasks.evaluate import Evaluation
from tasks.figures import beyond_accuracy_rows, metrics_rows, training_curve_png, value_rows
from tasks.registry import ModelRef
from tasks.search import SearchRecord
from tasks.search_figures import search_png, trial_rows
from tasks.validate import ValidationReport

__all__ = [
    "show_dataset",
    "show_decision",
    "show_drift",
    "show_evaluation",
    "show_page",
    "show_recommendations",
    "show_search",
    "show_training",
    "show_validation",
    "show_version",
]


def show_dataset(dataset: DatasetRef) -> None:
    rows = [
        {"fact": "version", "value": f"{dataset.name}/{dataset.version}"},
        {"fact": "interactions", "value": f"{dataset.rows:,}"},
        {"fact": "users", "value": f"{dataset.users:,}"},
        {"fact": "items", "value": f"{dataset.items:,}"},
        {"fact": "first event", "value": _when(dataset.first)},
        {"fact": "last event", "value": _when(dataset.last)},
        {"fact": "stored at", "value": dataset.uri},
    ]
    create_table_artifact(rows, key="dataset", description="Dataset version of this run")


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


def show_drift(result: DriftResult, link: str | None) -> None:
    rows = [
        {
            "column": c.column,
            "distance": round(c.distance, 4),
            "threshold": c.threshold,
            "method": c.method,
            "drifted": str(c.drifted).lower(),
        }
        for c in result.columns
    ]
    create_table_artifact(rows, key="drift", description=f"Newest slice: {result.verdict}. {' '.join(result.reasons)}")
    both = [
        ("events on items that the other never saw", result.expected_unseen_item_share, result.unseen_item_share),
        ("events by users that the other never saw", None, result.unseen_user_share),
        ("Gini index of events over films", result.reference_gini, result.current_gini),
        ("events on the most popular 1 % of films", result.reference_top_share, result.current_top_share),
        ("median seconds between a user's events", result.reference_median_gap_s, result.current_median_gap_s),
    ]
    figures = [
        {"figure": name, "reference": "" if before is None else round(before, 4), "newest slice": round(now, 4)}
        for name, before, now in both
    ]
    create_table_artifact(figures, key="drift-of-the-catalogue", description="What matters to a ranker, beside the columns")
    if link is not None:
        create_link_artifact(
            link, link_text="Evidently's drift report", key="drift-report", description=f"Newest slice: {result.verdict}"
        )


def show_training(candidates: list[Candidate]) -> None:
    png = training_curve_png({candidate.kind: candidate.epochs for candidate in candidates})
    create_image_artifact(
        _inline(png),
        key="training-curve",
        description="Training loss and valid NDCG@10 by epoch; the dot is the epoch that was kept",
    )


def show_evaluation(evaluation: Evaluation) -> None:
    create_table_artifact(
        metrics_rows(evaluation.metrics, evaluation.intervals),
        key="metrics",
        description=f"Full ranking under {evaluation.protocol} on the test requests of {evaluation.dataset}",
    )
    create_table_artifact(
        beyond_accuracy_rows(evaluation.beyond_accuracy, evaluation.intervals),
        key="beyond-accuracy",
        description="What the top 10 is like, with 95 % intervals of means over requests: share of the catalogue shown, Gini index of "
        "how often, novelty in bits, mean train events, share of tail items; by genres, diversity and distance in nats from the history",
    )
    create_table_artifact(
        value_rows(evaluation.value, "ss4rec"),
        key="value",
        description=f"Expected value, with 95 % intervals. It rests on these assumptions: {' '.join(evaluation.value.assumptions)}",
    )


def show_recommendations(link: str) -> None:
    create_link_artifact(
        link,
        link_text="Evidently's page of the recommendations",
        key="recommendations",
        description="A drawing for people; it decides nothing",
    )


def show_decision(decision: Decision) -> None:
    create_markdown_artifact(
        render_markdown(decision), key="gate", description=f"The gate's verdict on {decision.challenger}: {decision.outcome}"
    )
    png = comparison_png(decision)
    if png is not None:
        create_image_artifact(
            _inline(png), key="challenger-and-champion", description="How the two rank the same requests, overall and by slice"
        )


def show_page(uri: str, decision: Decision) -> None:
    create_link_artifact(uri, link_text="The decision as a page", key="gate-page", description=decision.outcome)


def _inline(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def show_version(version: ModelRef) -> None:
    create_link_artifact(
        version.uri, link_text=f"{version.name} {version.version}", key="model-version", description=version.outcome
    )


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
            description="Valid NDCG@10 of each trial and the best so far; which settings separate good trials from the others",
        )


def _when(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
