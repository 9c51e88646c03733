"""Export a model version as a Prefect task."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.logging import get_run_logger

from configs.settings import EtlSettings, ExportSettings, StoreSettings
from infra.progress import report
from infra.registry import ModelRef
from infra.storage import open_store
from tasks.best_effort import attempt
from tasks.datasets import DatasetRef
from tasks.export import Exported, ExportSource, export_version, read_users
from tasks.stages.artifacts import best_effort_artifact, publish_table_artifact
from tasks.stages.task_options import NETWORK

__all__ = ["write_export"]


@task(name="write export", **NETWORK)
def write_export(
    ref: ModelRef, dataset: DatasetRef, users: Path | None, export: ExportSettings, store: StoreSettings, engine: EtlSettings
) -> Exported:
    """Write the export of a version piece by piece, and show what it contains.

    Args:
        ref: The version.
        dataset: The dataset version with the users and their events.
        users: File with the ids of the users to export. None takes all users of the dataset.
        export: What is exported, and where to.
        store: Store of the version and the dataset.
        engine: Where the pieces are computed.
    """
    place = open_store(store)
    chosen = None if users is None else read_users(users, text=dataset.properties.user_ids == "text")
    destination = open_store(export.destination(store))
    found = export_version(ExportSource(place, ref, dataset), destination, export, engine, users=chosen, progress=_Progress())
    _publish_export_artifact(found)
    log = get_run_logger()
    for why in found.left_out.values():
        log.warning("%s", why)
    log.info("%s users in %.0f s (%.0f a second): %s", f"{found.users:,}", found.seconds, found.users_per_s, found.uri)
    return found


@best_effort_artifact
def _publish_export_artifact(found: Exported) -> None:
    rows = [
        {"fact": "version", "value": f"{found.model_name} {found.version}"},
        {"fact": "dataset", "value": found.dataset},
        {"fact": "recommendations at", "value": f"{datetime.fromtimestamp(found.at, UTC):%Y-%m-%d %H:%M:%S} UTC"},
        {"fact": "users", "value": f"{found.users:,}"},
        {"fact": "items", "value": f"{found.items:,}"},
        {"fact": "files", "value": f"{found.files:,}, of which {found.kept:,} were there from an earlier run"},
        *({"fact": f"without {part}", "value": why} for part, why in found.left_out.items()),
        {"fact": "seconds", "value": f"{found.seconds:.1f}"},
        {"fact": "users per second", "value": f"{found.users_per_s:.0f}"},
        {"fact": "written to", "value": found.uri},
    ]
    publish_table_artifact(rows, key="export", description=f"Export of {found.model_name} {found.version}")


class _Progress:
    """Progress in the UI, at most once a second."""

    def __init__(self) -> None:
        self._artifact: Any = None
        self._shown = 0.0

    def __call__(self, done: int, users: int) -> None:
        if time.monotonic() - self._shown >= 1.0 or done >= users:
            self._shown = time.monotonic()
            report("export", done, users, f"{done:,} of {users:,} users")
            attempt("The progress of the export", self._show, get_run_logger(), 100.0 * min(done / max(users, 1), 1.0))

    def _show(self, percent: float) -> None:
        if self._artifact is None:
            self._artifact = create_progress_artifact(percent, key="export-progress", description="Users that are exported")
        else:
            update_progress_artifact(self._artifact, percent)
