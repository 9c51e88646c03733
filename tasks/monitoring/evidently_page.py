"""Draw the compared columns with Evidently: a page, and a snapshot in a workspace of Evidently's own UI. It decides nothing."""

from __future__ import annotations

import os
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from configs.settings import MonitoringSettings
from infra.pages import evidently_page, visible
from tasks.monitoring.drift import Compared, DriftResult

__all__ = ["draw_columns"]


def draw_columns(compared: Compared, result: DriftResult, settings: MonitoringSettings, run: str) -> bytes:
    """Return the page as HTML. If `monitoring.workspace` is set, also add a snapshot named `run` there, to the model's project.

    The threshold of a column is the distance at which our own check would alarm. Evidently draws a sample and bins it in its own way,
    so the page opens with our verdict and says which of the two decides.
    """
    snapshot = _snapshot(compared, settings)
    html = evidently_page(snapshot.get_html_str(as_iframe=False), f"{result.verdict.capitalize()}: the columns", _verdict(result))
    if settings.workspace is not None:
        _keep(snapshot, settings.workspace, result.model_name, run)
    return html.encode()


def _verdict(result: DriftResult) -> str:
    """Return our verdict for the top of the page, as HTML."""
    reasons = " ".join(result.reasons) or "No check exceeds both its bound and the reach of chance."
    return (
        f"<p><b>The verdict of <code>recsys monitor</code>: {escape(result.verdict)}.</b> {escape(visible(reasons))}</p>"
        "<p>The figures below were drawn by Evidently and decide nothing. It looks at columns only, in a sample, and without "
        "the test against chance, so its headline may differ.</p>"
    )


def _snapshot(compared: Compared, settings: MonitoringSettings) -> Any:
    os.environ["DO_NOT_TRACK"] = "1"  # otherwise Evidently sends usage data to a server
    from evidently import DataDefinition, Dataset, Report  # takes 7 s, so only when there is something to draw
    from evidently.presets import DataDriftPreset

    numerical = [name for name in compared.traits.numerical if name in compared.thresholds]
    categorical = [name for name in compared.traits.categorical if name in compared.thresholds]
    columns = [*numerical, *categorical]
    names = {name: str(_label(name)) for name in columns}  # the name of an attribute is the team's
    definition = DataDefinition(
        numerical_columns=[names[name] for name in numerical], categorical_columns=[names[name] for name in categorical]
    )
    preset = DataDriftPreset(
        columns=list(names.values()),
        num_method="wasserstein",
        cat_method="jensenshannon",
        per_column_threshold={names[name]: compared.thresholds[name] for name in columns},
        drift_share=1 / len(columns),  # one column is enough
    )
    current, reference = (
        Dataset.from_pandas(
            _drawn(side[columns], categorical, settings.drawn_rows).rename(columns=names), data_definition=definition
        )
        for side in (compared.current, compared.reference)
    )
    return Report([preset]).run(current, reference)


def _drawn(frame: pd.DataFrame, categorical: list[str], rows: int) -> pd.DataFrame:
    sample = frame.sample(min(len(frame), rows), random_state=0)
    # Plotly reads <b> and <a href=...> in a label as markup, on the page and in the workspace.
    named = {name: sample[name].fillna("unknown").map(_label) for name in categorical}
    return sample.assign(**named)


def _label(value: object) -> object:
    return escape(visible(value), quote=False) if isinstance(value, str) else value


def _keep(snapshot: Any, folder: Path, project: str, run: str) -> None:
    from evidently.ui.workspace import Workspace

    workspace = Workspace.create(str(folder))
    known = [found for found in workspace.search_project(project) if found.name == project]
    kept = known[0] if known else workspace.create_project(project)
    workspace.add_run(kept.id, snapshot, name=run)
