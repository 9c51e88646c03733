"""Prefect UI artifacts of dataset versions, of their drift, and of whether a retraining is due."""

from __future__ import annotations

from datetime import UTC, datetime

from configs.settings import NounSettings, StoreSettings
from infra.pages import code_span, escaped
from infra.version_names import shortened
from tasks.datasets import DatasetRef, FileAccount
from tasks.ingest import ValidationReport
from tasks.landing import Landing
from tasks.monitoring import Monitored, check_rows, live_rows
from tasks.retraining import StoredAnswer
from tasks.stages.artifacts import best_effort_artifact, page_lines, publish_markdown, text_table

__all__ = ["publish_data_artifact", "publish_drift_artifact", "publish_due_artifact"]

MOST_ROWS = 500  # per table in the UI
CHECK_COLUMNS = ("check", "effect", "matters above", "p, Holm", "verdict")


@best_effort_artifact
def publish_data_artifact(
    dataset: DatasetRef | None, report: ValidationReport | None = None, landing: Landing | None = None
) -> None:
    """Show a dataset version, and what became of each row. `dataset` is None if the data was refused."""
    parts = []
    if dataset is not None:
        parts += [
            f"## Data: {escaped(shortened(f'{dataset.name}/{dataset.version}'))}",
            f"{dataset.rows:,} events of {dataset.users:,} users and {dataset.items:,} items, from {_utc(dataset.first)} to "
            f"{_utc(dataset.last)}.",
        ]
    if report is not None:
        parts += ["### What became of each row", text_table(_table_rows(report)), _account(_leaves_out(report))]
    if landing is not None:
        parts += ["### New files in this run", text_table(_file_rows(landing)), _files_note(landing)]
    if dataset is not None:
        facts = [("version", f"{dataset.name}/{dataset.version}"), *(("made from", parent) for parent in dataset.parents)]
        parts.append("\n".join(f"- {name}: {code_span(value)}" for name, value in [*facts, ("stored at", dataset.uri)]))
    said = "The data was refused" if dataset is None else f"{dataset.rows:,} events of {dataset.users:,} users"
    publish_markdown("\n\n".join(part for part in parts if part) + "\n", key="data", description=said)


@best_effort_artifact
def publish_drift_artifact(found: Monitored, nouns: NounSettings, store: StoreSettings) -> None:
    """Show whether the newest events have drifted, each check, and live quality beside the holdout."""
    result = found.result
    parts = [
        f"## Drift: {escaped(result.verdict)}",
        escaped(shortened(" ".join(result.reasons))),
        page_lines({"All checks with plots": found.page, "Evidently's page": found.evidently}, store),
        text_table({name: row[name] for name in CHECK_COLUMNS} for row in check_rows(result)),
        "A check drifts if its effect is above what matters, and its p is small: chance alone would hardly explain it.",
    ]
    if result.live is not None:
        champion = escaped(shortened(result.live.champion))
        parts += [f"### Live quality of the champion {champion}, beside its holdout", text_table(live_rows(result.live, nouns))]
    text = "\n\n".join(part for part in parts if part) + "\n"
    publish_markdown(text, key="drift", description=f"{result.verdict.capitalize()}. {' '.join(result.reasons)}")


@best_effort_artifact
def publish_due_artifact(kept: StoredAnswer, store: StoreSettings) -> None:
    """Show whether a retraining starts, why, and when the next one is expected."""
    answer = kept.answer
    said = " ".join(filter(None, [answer.message, answer.freshness]))
    parts = [
        f"## {'A retraining starts' if answer.retrain else 'No retraining starts'}",
        escaped(shortened(said)),
        page_lines({"What the answer is based on, and earlier answers": kept.page}, store),
    ]
    publish_markdown("\n\n".join(part for part in parts if part) + "\n", key="retraining", description=answer.why)


def _table_rows(report: ValidationReport) -> list[dict[str, str]]:
    leaves_out = _leaves_out(report)
    return [
        {
            "table": name,
            "rows": f"{table.rows:,}",
            "accepted": f"{table.accepted:,}",
            "duplicates": f"{table.duplicates:,}",
            "quarantined": f"{table.quarantined:,}",
            **({"left out": f"{table.left_out:,}"} if leaves_out else {}),
            "reasons": "; ".join(f"{reason}: {count}" for reason, count in table.reasons.items()),
        }
        for name, table in report.tables.items()
    ]


def _file_rows(landing: Landing) -> list[dict[str, str]]:
    leaves_out = _files_left_out(landing)
    rows = [
        {
            "file": account.file,
            "rows": f"{account.rows:,}",
            "accepted": f"{account.accepted:,}",
            "duplicates": f"{account.duplicates:,}",
            "quarantined": f"{account.quarantined:,}",
            **({"left out": f"{account.left_out:,}"} if leaves_out else {}),
            "remarks": _remarks(account),
        }
        for account in landing.accounts[:MOST_ROWS]
    ]
    return rows + [{"file": file, "remarks": f"waiting: {why}"} for file, why in list(landing.waiting.items())[:MOST_ROWS]]


def _remarks(account: FileAccount) -> str:
    counts = {
        "removed": account.removed,
        "corrections": account.corrections,
        "late": account.late,
        "new users": account.new_users,
        "new items": account.new_items,
    }
    shown = [f"{number:,} {name}" for name, number in counts.items() if number]
    return "; ".join(filter(None, [account.kind if account.kind != "events" else "", *shown, account.remarks]))


def _files_note(landing: Landing) -> str:
    more = max(len(landing.accounts) - MOST_ROWS, 0) + max(len(landing.waiting) - MOST_ROWS, 0)
    rest = f" {more} more files are listed in the log of the zone." if more else ""
    return f"{_account(_files_left_out(landing), removed=True)} Complete until {_utc(landing.watermark)}.{rest}"


def _account(leaves_out: bool, *, removed: bool = False) -> str:
    parts = ["accepted", "duplicates", "quarantined", *(["removed"] if removed else []), *(["left out"] if leaves_out else [])]
    return f"rows = {' + '.join(parts)}."


def _leaves_out(report: ValidationReport) -> bool:
    return any(table.left_out for table in report.tables.values())


def _files_left_out(landing: Landing) -> bool:
    return any(account.left_out for account in landing.accounts)  # events of weight 0


def _utc(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
