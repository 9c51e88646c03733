"""The tasks of the flow `rollout`, and what starts it after a promotion."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.deployments import run_deployment
from prefect.events import emit_event
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger

from configs.settings import StoreSettings, model_option
from infra.prefect_server import model_resource
from infra.registry import Promotion
from infra.storage import open_store
from tasks.best_effort import attempt
from tasks.rollout import Standing, Watch, page_key, render_markdown, rollout_notice, sentence
from tasks.stages.artifacts import SUMMARY, happened, live_progress, page_lines, publish_markdown

__all__ = ["DEPLOYMENT", "rollout_progress", "show_rollout", "start_rollout", "take_step"]

DEPLOYMENT = "rollout/rollout"


def start_rollout(entry: Promotion, store: StoreSettings) -> None:
    """Start the run that watches a rollout, if the promotion began one and the server has the deployment.

    It is started once for each entry of the log. Without it, `recsys rollout watch` does the same, and the schedule of the deployment
    finds the rollout, too.
    """
    if entry.rolling_out is not None:
        attempt("The run of the rollout", _start, get_run_logger(), entry, store)


def _start(entry: Promotion, store: StoreSettings) -> None:
    with get_client(sync_client=True) as client:
        try:
            client.read_deployment_by_name(DEPLOYMENT)
        except ObjectNotFound:
            get_run_logger().warning(
                "%s is promoted for a share of the users, and nothing watches its rollout: the server has no deployment %s. Run "
                "`recsys rollout watch%s`.", entry.version, DEPLOYMENT, model_option(entry.name),
            )  # fmt: skip
            return
    given = store.model_dump(mode="json", exclude={"access_key_id", "secret_access_key"}, exclude_unset=True)
    run_deployment(
        DEPLOYMENT,
        parameters={"model_name": entry.name, "store": given},
        timeout=0,
        as_subflow=False,
        idempotency_key=f"rollout-{entry.name}-{entry.number}-{entry.version}",
    )


@task(name="rollout step", cache_policy=NO_CACHE)
def take_step(watch: Watch, standing: Standing, store: StoreSettings, approved: str = "") -> Promotion | None:
    """Write the step into the log and tell people. Return the new entry, or None if somebody else was first."""
    entry = watch.step(standing, approved)
    log = get_run_logger()
    if entry is None and standing.move != "ask":
        happened("another was first")
        return None
    if entry is not None:
        happened(f"{entry.kind}: {entry.version}")
        log.info("promotion %d, %s: %s", entry.number, entry.kind, entry.reason)
    attempt("The message about the rollout", _tell, log, standing, entry, store)
    return entry


@contextmanager
def rollout_progress() -> Iterator[Callable[[Standing], None]]:
    """Show how far a rollout is as a progress bar. Yields what updates it."""
    with live_progress("rollout", "How far the rollout is") as update:

        def show(standing: Standing) -> None:
            stages = len(standing.rollout.stages) - 1
            update(100 * (standing.rollout.stage + standing.part) / stages, sentence(standing))

        yield show


def show_rollout(standing: Standing, store: StoreSettings) -> None:
    """Show where the rollout stands as the summary of the run. It must be called in the flow itself."""
    pages = page_lines({"The comparison of both versions": open_store(store).uri(page_key(standing))}, store)
    text = f"{render_markdown(standing)}\n{pages}\n"
    attempt("The summary", lambda: publish_markdown(text, key=SUMMARY, description=sentence(standing)), get_run_logger())


def _tell(standing: Standing, entry: Promotion | None, store: StoreSettings) -> None:
    notice = rollout_notice(standing, entry, {"page": open_store(store).uri(page_key(standing))})
    emit_event(event=notice.event, resource=model_resource(notice.model_name), payload=notice.payload())
