"""The summary of a flow run: one artifact on the run itself, and a log line that leads to it.

The page of a run opens with the start of its log, so the summary is two clicks from the list of runs.
"""

from __future__ import annotations

from uuid import UUID

from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.settings import PREFECT_API_URL
from prefect.utilities.urls import url_for

from configs.settings import StoreSettings
from infra.pages import escaped
from infra.registry import PAGE
from infra.storage import open_store
from infra.version_names import shortened
from tasks.best_effort import attempt
from tasks.evaluation import REPORT_FILE
from tasks.gate import outcome_words
from tasks.monitoring import Monitored
from tasks.outcome import Answers, Retraining, answers_of, headline_figures, summary_markdown
from tasks.stages.artifacts import SUMMARY, UNDER_WAY, page_lines, publish_markdown

__all__ = ["begin_summary", "summarise", "summarise_retraining"]


def begin_summary(what: str) -> None:
    """Log where the summary of this flow run will be, in its first lines, which people see without scrolling.

    It must be called in the flow itself, not in a task.
    """
    if flow_run.id is None:  # not within a run: the flow's function was called as such
        return
    text = f"## Under way\n\n{escaped(shortened(what))} The summary comes here when the run ends.\n"
    found = attempt("The summary", lambda: publish_markdown(text, key=SUMMARY, description=UNDER_WAY), get_run_logger())
    if found is not None:
        _say_where(found)


def summarise(text: str, description: str) -> None:
    """Show Markdown as the summary of this flow run. It must be called in the flow itself, not in a task."""
    if flow_run.id is not None:
        attempt("The summary", lambda: publish_markdown(text, key=SUMMARY, description=description), get_run_logger())


def summarise_retraining(found: Retraining, watched: Monitored | None, store: StoreSettings) -> Answers:
    """Show the summary of a retraining, and return the answers to the three questions."""
    answers = answers_of(found)
    attempt("The summary", _summarise, get_run_logger(), found, watched, store)
    return answers


def _summarise(found: Retraining, watched: Monitored | None, store: StoreSettings) -> None:
    place, prefix = open_store(store), found.version.prefix
    pages = {
        "The decision, with every figure": f"{prefix}/{PAGE}",
        "The recommendations (Evidently)": f"{prefix}/{REPORT_FILE}",
    }
    stored: dict[str, str | None] = {name: place.uri(key) for name, key in pages.items() if place.exists(key)}
    if watched is not None:
        stored |= {"Drift, with every check": watched.page, "Drift (Evidently)": watched.evidently}
    decision = found.decision
    description = f"{outcome_words(decision.outcome)}: {headline_figures(decision)}"
    summarise(summary_markdown(found, page_lines(stored, store)), description)


def _say_where(artifact: UUID) -> None:
    """Log the address of the summary, which the Prefect UI makes a link. A temporary server is gone after the run."""
    if not PREFECT_API_URL.value():
        return
    run = url_for("flow-run", obj_id=str(flow_run.id))  # Prefect has no such function for artifacts
    if run:
        get_run_logger().info("summary: %s/artifacts/artifact/%s", run.partition("/runs/")[0], artifact)
