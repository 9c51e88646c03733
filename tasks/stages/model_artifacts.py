"""Prefect UI artifacts of a run's models: how they trained and rank, and the gate's decision."""

from __future__ import annotations

from configs.kinds import label_of
from infra.pages import escaped, picture
from infra.version_names import shortened
from tasks.evaluation import Evaluation, beyond_accuracy_rows, metrics_rows, training_curve_png, value_rows
from tasks.gate import Decision, comparison_png, outcome_words, render_markdown
from tasks.stages.artifacts import best_effort_artifact, publish_markdown, text_table
from tasks.training import Candidate

__all__ = ["publish_decision_artifact", "publish_metrics_artifact", "publish_training_artifact"]

CURVE = "Training loss and valid NDCG@10 by epoch; the dot marks the epoch that was kept"
BEYOND = (
    "Of the top 10: share of the catalogue shown, Gini index of exposure, novelty in bits, mean train events, share of tail items, genre "
    "diversity, and genre distance from the history in nats. Of predicted ratings, where a model predicts any: RMSE and MAE. In brackets: "
    "95 % intervals of means over requests."
)


@best_effort_artifact
def publish_training_artifact(candidates: list[Candidate]) -> None:
    """Show the training of candidates that another run evaluates."""
    text = f"## Training\n\n{_curve(candidates)}\n"
    publish_markdown(text, key="metrics", description=f"Training of {', '.join(each.kind for each in candidates)}")


@best_effort_artifact
def publish_metrics_artifact(candidates: list[Candidate], evaluation: Evaluation) -> None:
    """Show the training curve and every metric of a run's candidates."""
    challenger = candidates[-1].kind
    assumed = " ".join(evaluation.value.assumptions)
    parts = [
        "## How well each model ranks",
        f"Full ranking under {escaped(evaluation.protocol)} on {evaluation.requests:,} test requests of "
        f"{escaped(shortened(evaluation.dataset))}. In brackets: 95 % intervals.",
        text_table(metrics_rows(evaluation.metrics, evaluation.intervals)),
        "## Training",
        _curve(candidates),
        "## Beyond accuracy",
        text_table(beyond_accuracy_rows(evaluation.beyond_accuracy, evaluation.intervals)),
        BEYOND,
        "## Expected value",
        text_table(value_rows(evaluation.value, challenger)),
        f"With 95 % intervals. It decides nothing, and rests on assumptions. {escaped(assumed)}",
    ]
    ours = evaluation.metrics[challenger]["all"]
    said = f"{label_of(challenger)}: HR@10 {ours['hr@10']:.4f}, NDCG@10 {ours['ndcg@10']:.4f}"
    publish_markdown("\n\n".join(parts) + "\n", key="metrics", description=said)


@best_effort_artifact
def publish_decision_artifact(decision: Decision) -> None:
    """Show the decision with every rule, and how challenger and champion compare."""
    parts = [render_markdown(decision)]
    if (png := comparison_png(decision)) is not None:
        parts.append(picture(png, "Challenger and champion on the same requests, overall and by slice"))
    said = f"{outcome_words(decision.outcome)}: {decision.challenger}. {' '.join(decision.reasons)}"
    publish_markdown("\n\n".join(parts) + "\n", key="gate", description=said)


def _curve(candidates: list[Candidate]) -> str:
    return picture(training_curve_png({each.kind: each.epochs for each in candidates}), CURVE)
