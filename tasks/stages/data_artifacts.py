"""Prefect UI artifacts of dataset versions and of their drift."""

from __future__ import annotations

from datetime import UTC, datetime

from configs.settings import NounSettings
from tasks.datasets import DatasetRef
from tasks.ingest import ValidationReport
from tasks.landing import Landing
from tasks.monitoring import Monitored, check_rows, live_rows
from tasks.stages.artifacts import best_effort_artifact, publish_address_artifact, publish_table_artifact

__all__ = [
    "publish_dataset_artifact",
    "publish_drift_artifact",
    "publish_landing_artifact",
    "publish_validation_artifact",
]

MOST_ROWS = 500  # per table in the UI


@best_effort_artifact
def publish_dataset_artifact(dataset: DatasetRef) -> None:
    rows = [
        {"fact": "version", "value": f"{dataset.name}/{dataset.version}"},
        {"fact": "interactions", "value": f"{dataset.rows:,}"},
        {"fact": "users", "value": f"{dataset.users:,}"},
        {"fact": "items", "value": f"{dataset.items:,}"},
        {"fact": "first event", "value": _utc(dataset.first)},
        {"fact": "last event", "value": _utc(dataset.last)},
        *({"fact": "made from", "value": parent} for parent in dataset.parents),
        {"fact": "stored at", "value": dataset.uri},
    ]
    publish_table_artifact(rows, key="dataset", description="Dataset version of this run")


@best_effort_artifact
def publish_landing_artifact(landing: Landing) -> None:
    leaves_out = any(account.left_out for account in landing.accounts)  # events of weight 0
    rows = [
        {
            "file": account.file,
            "kind": account.kind,
            "rows": account.rows,
            "accepted": account.accepted,
            "duplicates": account.duplicates,
            "quarantined": account.quarantined,
            "removed": account.removed,
            **({"left out": account.left_out} if leaves_out else {}),
            "corrections": account.corrections,
            "late": account.late,
            "new users": account.new_users,
            "new items": account.new_items,
            "remarks": account.remarks,
        }
        for account in landing.accounts[:MOST_ROWS]
    ]
    rows += [{"file": file, "kind": "waiting", "remarks": why} for file, why in list(landing.waiting.items())[:MOST_ROWS]]
    more = max(len(landing.accounts) - MOST_ROWS, 0) + max(len(landing.waiting) - MOST_ROWS, 0)
    publish_table_artifact(
        rows,
        key="landing",
        description=f"Landing zone files in this run: rows = accepted + duplicates + quarantined + removed"
        f"{' + left out' if leaves_out else ''}. Complete until {_utc(landing.watermark)}. {f'{more} more files are listed in the log of the zone.' if more else ''}",
    )


@best_effort_artifact
def publish_validation_artifact(report: ValidationReport) -> None:
    leaves_out = any(table.left_out for table in report.tables.values())
    rows = [
        {
            "table": name,
            "rows": table.rows,
            "accepted": table.accepted,
            "duplicates": table.duplicates,
            "quarantined": table.quarantined,
            **({"left out": table.left_out} if leaves_out else {}),
            "reasons": "; ".join(f"{reason}: {count}" for reason, count in table.reasons.items()),
        }
        for name, table in report.tables.items()
    ]
    publish_table_artifact(
        rows, key="validation", description=f"Rows in = accepted + duplicates + quarantined{' + left out' if leaves_out else ''}"
    )


@best_effort_artifact
def publish_drift_artifact(found: Monitored, nouns: NounSettings) -> None:
    result = found.result
    said = f"Newest slice: {result.verdict}. {' '.join(result.reasons)}"
    publish_table_artifact(check_rows(result), key="drift", description=said)
    if result.live is not None:
        publish_table_artifact(
            live_rows(result.live, nouns),
            key="live-quality",
            description=f"Live quality of the champion {result.live.champion} after its training, beside its holdout",
        )
    for link, text, key in (
        (found.page, "All drift checks with plots, as a page", "drift-page"),
        (found.evidently, "Evidently's drift report, as a page", "drift-report"),
    ):
        if link is not None:
            publish_address_artifact(link, text, key=key, description=f"{text}; the newest slice: {result.verdict}")


def _utc(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
