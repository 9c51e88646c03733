"""Prefect UI artifacts of a search. A comparison and a replay have their summary, and nothing else."""

from __future__ import annotations

from infra.pages import escaped, picture
from infra.version_names import shortened
from tasks.search import SearchRecord, search_png, trial_rows
from tasks.stages.artifacts import best_effort_artifact, publish_markdown, text_table

__all__ = ["publish_search_artifact"]


@best_effort_artifact
def publish_search_artifact(record: SearchRecord) -> None:
    """Show each trial, and how the search went."""
    parts = [
        f"## Trials of the study {escaped(record.study)}",
        f"On {escaped(shortened(record.dataset))} under {escaped(record.protocol)}.",
        text_table(trial_rows(record.trials)),
    ]
    if any(trial.value is not None for trial in record.trials):
        said = "Valid NDCG@10 of each trial and the best so far, with the importance of each setting"
        parts.append(picture(search_png(record.trials, record.importance), said))
    publish_markdown(
        "\n\n".join(parts) + "\n", key="trials", description=f"Trials of the study {record.study} on {record.dataset}"
    )
