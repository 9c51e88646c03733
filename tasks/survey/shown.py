"""What a survey found, for people, and the settings file that it proposes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from configs.errors import RecsysError, SettingsError
from configs.settings import RetrainSettings, StoreSettings
from infra.registry import ModelRegistry
from infra.storage import open_store
from tasks.survey.columns import utc_text
from tasks.survey.proposal import file_stem
from tasks.survey.survey import Survey, Surveyed

__all__ = ["column_rows", "dataset_of_champion", "fact_rows", "settings_file", "write_settings"]


def column_rows(table: Surveyed) -> list[dict[str, str]]:
    """Return the columns of a table: type, range, examples, and what they would be mapped to."""
    roles = {name: role for role, name in table.roles.columns.items()}
    undecided = {name: f"{role}?" for role, names in table.roles.open.items() for name in names}
    attributes = dict.fromkeys(table.roles.attributes, "attribute")
    return [
        {
            "column": column.name,
            "type": column.kind if not column.formats or column.kind != "time" else f"time ({', '.join(column.formats)})",
            "missing": f"{column.missing:,}",
            "distinct": f"{column.distinct:,}",
            "range": column.range,
            "examples": ", ".join(column.examples),
            "would be": roles.get(column.name) or undecided.get(column.name) or attributes.get(column.name, "-"),
        }
        for column in table.columns
    ]


def fact_rows(found: Survey) -> list[dict[str, str]]:
    """Return the figures of the events."""
    figures = found.figures
    if figures is None:
        return []
    lengths = figures.events_of_users
    rows = {
        "events": f"{figures.rows:,}{'' if found.is_whole else ' in the rows that were looked at'}",
        "users": f"{figures.users:,}",
        "items": f"{figures.items:,}",
        "items of a user": f"{np.median(lengths):.0f} (median), {lengths.max():,} (most)" if len(lengths) else "",
        "repeats": f"{figures.repeated:,} events of a user and item that had one before; {figures.identical:,} at the same time",
    }
    if figures.first is not None and figures.last is not None:
        rows["time span"] = f"{utc_text(figures.first)} to {utc_text(figures.last)} UTC"
    return [{"fact": name, "value": value} for name, value in rows.items()]


def dataset_of_champion(settings: StoreSettings) -> str | None:
    """Return the dataset that the champion of the default model name was trained on, or None if there is none, or no store."""
    try:
        found = ModelRegistry(open_store(settings)).champion_ref(RetrainSettings.model_fields["model_name"].default)
    except RecsysError:
        return None
    return None if found is None else found[0].dataset.partition("/")[0]


def settings_file(path: Path, out: Path | None, *, force: bool) -> Path:
    """Return the path of the settings file to write.

    Raises:
        SettingsError: The file exists, and `force` is not set, or its folder does not exist.
    """
    target = Path(f"{file_stem(path)}.yaml") if out is None else out
    if target.is_dir() or not target.parent.is_dir():
        raise SettingsError(f"{target} cannot be written: name a file in an existing folder with --out.")
    if target.exists() and not force:
        raise SettingsError(f"{target} exists. Overwrite it with --force, or name another file with --out.")
    return target


def write_settings(target: Path, content: str, *, force: bool) -> None:
    """Write the settings file. A file that another program has made meanwhile is not overwritten without `force`.

    Raises:
        SettingsError: The file exists, or it cannot be written.
    """
    try:
        if force:
            target.write_text(content, encoding="utf-8")
        else:
            with target.open("x", encoding="utf-8") as file:
                file.write(content)
    except FileExistsError as error:
        raise SettingsError(f"{target} exists. Overwrite it with --force, or name another file with --out.") from error
    except OSError as error:
        raise SettingsError(f"{target} cannot be written ({error.strerror}). Name another file with --out.") from error
