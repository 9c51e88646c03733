"""Export a model version as a Prefect task."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from prefect import task
from prefect.logging import get_run_logger

from configs.settings import EtlSettings, ExportSettings, StoreSettings
from infra.pages import escaped
from infra.progress import report
from infra.registry import ModelRef
from infra.storage import open_store
from infra.version_names import shortened
from tasks.datasets import DatasetRef
from tasks.export import Exported, ExportSource, export_version, read_users
from tasks.stages.artifacts import best_effort_artifact, happened, live_progress, publish_markdown, text_table
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
    source = ExportSource(place, ref, dataset)
    with live_progress("export-progress", "no user is exported yet") as shown:
        found = export_version(source, destination, export, engine, users=chosen, progress=_once_a_second(shown))
    happened(f"export: {found.users:,} users")
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
    text = f"## Export of {escaped(shortened(f'{found.model_name} {found.version}'))}\n\n{text_table(rows)}\n"
    publish_markdown(text, key="export", description=f"Export of {found.model_name} {found.version}")


def _once_a_second(shown: Callable[[float, str], None]) -> Callable[[int, int], None]:
    """Return what reports the users that are done, at most once a second."""
    last = 0.0

    def done(users: int, of: int) -> None:
        nonlocal last
        if time.monotonic() - last >= 1.0 or users >= of:
            last = time.monotonic()
            report("export", users, of, f"{users:,} of {of:,} users")
            shown(100.0 * users / max(of, 1), f"{users:,} of {of:,} users are exported")

    return done
