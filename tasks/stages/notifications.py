"""Tasks that notify people of a decision. Each emits an event, and an automation on the server sends it (`infra.prefect_server`).

So the webhook's secret stays on the server, and a webhook that fails, hangs or is missing does not affect the run.
"""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.logging import get_run_logger

from configs.settings import StoreSettings, TrackingSettings
from infra.registry import PAGE, ModelRef, Promotion
from infra.storage import open_store
from tasks.best_effort import attempt
from tasks.gate import Decision, Notice, champion_notice, decision_notice
from tasks.tracking import mirror_champion

__all__ = ["mirror_promotion", "notify_champion", "notify_decision"]


@task(name="tell of decision", cache_policy=NO_CACHE)
def notify_decision(version: ModelRef, decision: Decision, store: StoreSettings) -> None:
    """Notify that a version was promoted or held, or is waiting for approval."""
    attempt("The message about the decision", _decision, get_run_logger(), version, decision, store)


@task(name="tell of champion", cache_policy=NO_CACHE)
def notify_champion(entry: Promotion, store: StoreSettings) -> None:
    """Notify that the champion was rolled back, or promoted by force."""
    attempt("The message about the champion", _champion, get_run_logger(), entry, store)


def mirror_promotion(model_name: str, tracking: TrackingSettings, store: StoreSettings) -> None:
    """Show the champion in MLflow's registry too, if the settings ask for it."""
    if tracking.mlflow_uri is not None and tracking.mlflow_registry:
        _mirror(model_name, tracking, store)


@task(name="mirror in MLflow", cache_policy=NO_CACHE)
def _mirror(model_name: str, tracking: TrackingSettings, store: StoreSettings) -> None:
    attempt("The mirror in MLflow", mirror_champion, get_run_logger(), open_store(store), model_name, tracking, get_run_logger())


def _decision(version: ModelRef, decision: Decision, store: StoreSettings) -> None:
    place = open_store(store)
    _emit(decision_notice(decision, {"decision": place.uri(f"{version.prefix}/{PAGE}"), "version": version.uri}))


def _champion(entry: Promotion, store: StoreSettings) -> None:
    _emit(champion_notice(entry, {"version": open_store(store).uri(f"models/{entry.name}/{entry.version}")}))


def _emit(notice: Notice) -> None:
    emit_event(
        event=notice.event,
        resource={"prefect.resource.id": f"recsys.model.{notice.model_name}", "prefect.resource.name": notice.model_name},
        payload=notice.payload(),
    )
