"""Prefect UI artifacts of a run's models: their training, their evaluation, the gate's decision, and the version."""

from __future__ import annotations

from prefect.artifacts import create_image_artifact, create_markdown_artifact

from configs.settings import model_option
from infra.pages import code_span, data_uri, escaped
from infra.registry import ModelRef
from tasks.evaluation import Evaluation, beyond_accuracy_rows, metrics_rows, training_curve_png, value_rows
from tasks.gate import Decision, comparison_png, render_markdown
from tasks.stages.artifacts import best_effort_artifact, publish_address_artifact, publish_table_artifact
from tasks.training import Candidate

__all__ = [
    "publish_decision_artifact",
    "publish_evaluation_artifact",
    "publish_page_artifact",
    "publish_recommendations_artifact",
    "publish_training_artifact",
    "publish_version_artifact",
]


@best_effort_artifact
def publish_training_artifact(candidates: list[Candidate]) -> None:
    png = training_curve_png({candidate.kind: candidate.epochs for candidate in candidates})
    create_image_artifact(
        data_uri(png),
        key="training-curve",
        description="Training loss and valid NDCG@10 by epoch; the dot marks the epoch that was kept",
    )


@best_effort_artifact
def publish_evaluation_artifact(evaluation: Evaluation, challenger_kind: str) -> None:
    publish_table_artifact(
        metrics_rows(evaluation.metrics, evaluation.intervals),
        key="metrics",
        description=f"Full ranking under {evaluation.protocol} on the test requests of {evaluation.dataset}",
    )
    publish_table_artifact(
        beyond_accuracy_rows(evaluation.beyond_accuracy, evaluation.intervals),
        key="beyond-accuracy",
        description="Beyond-accuracy metrics of the top 10, with 95 % intervals for means over requests: share of the catalogue "
        "shown, Gini index of exposure, novelty in bits, mean train events, share of tail items, genre diversity, and genre "
        "distance from the history in nats",
    )
    publish_table_artifact(
        value_rows(evaluation.value, challenger_kind),
        key="value",
        description=f"Expected value, with 95 % intervals, based on these assumptions: {' '.join(evaluation.value.assumptions)}",
    )


@best_effort_artifact
def publish_recommendations_artifact(link: str) -> None:
    publish_address_artifact(
        link,
        "Evidently's report on the recommendations",
        key="recommendations",
        description="Evidently's report on the recommendations, for information only; the gate does not use it",
    )


@best_effort_artifact
def publish_decision_artifact(decision: Decision) -> None:
    create_markdown_artifact(
        render_markdown(decision), key="gate", description=escaped(f"{decision.outcome.capitalize()}: {decision.challenger}")
    )
    png = comparison_png(decision)
    if png is not None:
        create_image_artifact(
            data_uri(png),
            key="challenger-and-champion",
            description="Challenger and champion on the same requests, overall and by slice",
        )


@best_effort_artifact
def publish_page_artifact(uri: str, decision: Decision) -> None:
    publish_address_artifact(
        uri,
        "The gate's decision as a page",
        key="gate-page",
        description=f"The gate's decision as a page that can be shared: {decision.outcome}",
    )


@best_effort_artifact
def publish_version_artifact(version: ModelRef) -> None:
    named = model_option(version.name)
    shown = (
        f"## {escaped(f'{version.name} {version.version}')}\n\nShow its lineage, files, promotions and gate decisions with this "
        f"command:\n\n{code_span(f'recsys model show {version.version}{named}')}\n\nIts files are under {code_span(version.uri)}.\n"
    )
    create_markdown_artifact(
        shown, key="model-version", description=escaped(f"Model version of this run; gate outcome: {version.outcome}")
    )
