"""The tasks of the flow `housekeeping`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event
from prefect.logging import get_run_logger

from configs.loading import load_settings
from configs.serving import ExperimentFile
from configs.settings import ExportSettings, LandingSettings, RetentionSettings, StoreSettings
from infra.prefect_server import ALIVE, model_resource
from infra.registry import ModelRegistry
from infra.storage import open_store
from tasks.gate import served_versions
from tasks.retention import RetentionPlan, apply_retention, plan_retention
from tasks.stages.artifacts import publish_markdown, text_table
from tasks.stages.task_options import NETWORK

__all__ = ["delete_old", "show_life"]


@task(name="delete what is old", **NETWORK)
def delete_old(
    settings: RetentionSettings, landing: LandingSettings, export: ExportSettings, store: StoreSettings, work_dir: Path
) -> RetentionPlan:
    """Plan what may go and, if `retention.automatic` is on, delete it. The artifact `retention` says what."""
    place, exports = open_store(store), open_store(export.destination(store))
    served = served_versions(load_settings(ExperimentFile, str(path)) for path in settings.experiments)
    plan = plan_retention(place, settings, landing, datetime.now(UTC), exports=exports, work_dir=work_dir, served=served)
    spared = apply_retention(place, plan, settings, exports=exports, served=served) if settings.automatic else []
    done = "deleted" if settings.automatic else "would be deleted (retention.automatic is off)"
    rows = [
        {"area": each.area, "goes": f"{each.number:,} {each.what}", "stays": each.rule} for each in plan.rows(settings, landing)
    ]
    publish_markdown(f"{plan.said} {done}.\n\n{text_table(rows)}", key="retention", description="What is old")
    get_run_logger().info("%s %s%s", plan.said, done, f"; {len(spared)} have just come into use" if spared else "")
    return plan


@task(name="show life", cache_policy=NO_CACHE)
def show_life(model_name: str, store: StoreSettings, plan: RetentionPlan) -> str:
    """Emit the event that an automation passes on each day: as a message, and to whoever is alarmed when it stays away."""
    champion = ModelRegistry(open_store(store)).champion(model_name)
    since = f"{champion.version}, since {champion.when[:10]}" if champion else "none yet"
    said = f"Schedules, worker, server and messages work. Champion of {model_name}: {since}. Old: {plan.said}."
    emit_event(event=ALIVE, resource=model_resource(model_name), payload={"subject": f"{model_name}: all is well", "body": said})
    return said
