"""Prefect UI artifacts of a search, of a comparison and of a replay."""

from __future__ import annotations

from prefect.artifacts import create_image_artifact, create_markdown_artifact
from prefect.logging import get_run_logger

from infra.pages import data_uri, escaped
from tasks.best_effort import attempt
from tasks.comparison import ModelComparison, headline, result_rows
from tasks.comparison import render_markdown as comparison_markdown
from tasks.replay import Replay, policy_rows
from tasks.replay import render_markdown as replay_markdown
from tasks.search import SearchRecord, search_png, trial_rows
from tasks.stages.artifacts import best_effort_artifact, publish_address_artifact, publish_table_artifact

__all__ = ["publish_comparison_artifacts", "publish_replay_artifacts", "publish_search_artifact"]


@best_effort_artifact
def publish_search_artifact(record: SearchRecord) -> None:
    publish_table_artifact(
        trial_rows(record.trials),
        key="trials",
        description=f"Trials of the study {record.study} on {record.dataset} under {record.protocol}",
    )
    if any(trial.value is not None for trial in record.trials):
        create_image_artifact(
            data_uri(search_png(record.trials, record.importance)),
            key="search",
            description="Valid NDCG@10 of each trial and the best so far, with the importance of each setting",
        )


def publish_comparison_artifacts(comparison: ModelComparison) -> None:
    create_markdown_artifact(comparison_markdown(comparison), key="comparison", description=escaped(headline(comparison)))
    publish_table_artifact(
        result_rows(comparison),
        key="comparison-results",
        description=f"Test requests of {comparison.dataset} under {comparison.protocol}; the reference is {comparison.reference}",
    )
    matrix = [
        {
            "better": cell.entry,
            "than": cell.other,
            "difference of NDCG@10": round(cell.difference, 4),
            "95 % interval": f"{cell.low:+.4f} to {cell.high:+.4f}",
            "p": round(cell.p_value, 4),
            "p, Holm": round(cell.adjusted, 4),
            "significant": str(cell.significant).lower(),
        }
        for cell in comparison.matrix
    ]
    publish_table_artifact(
        matrix,
        key="comparison-matrix",
        description=f"Pairwise tests of which entry is better, at level {comparison.alpha:g} for all tests together",
    )
    publish_address_artifact(comparison.page, "Report", key="comparison-report", description=headline(comparison))


def publish_replay_artifacts(found: Replay) -> None:
    """Publish the replay from within a task. A failure is logged, and the run continues."""
    attempt("The replay's artifacts", _publish_replay, get_run_logger(), found)


def _publish_replay(found: Replay) -> None:
    create_markdown_artifact(replay_markdown(found), key="replay", description=escaped(f"Retraining policies on {found.source}"))
    publish_table_artifact(policy_rows(found), key="replay-policies", description="What each policy was worth")
    publish_address_artifact(found.page, "The replay page", key="replay-page", description="Quality over time, by policy")
