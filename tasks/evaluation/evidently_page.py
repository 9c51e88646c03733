"""A report on the recommendations, rendered by Evidently. It is for information only: the gate uses our own metrics.

Evidently defines some metrics differently from us; the page lists the differences.

The page shows those metrics of Evidently's RecsysPreset that are informative when one film per request is held out. Precision,
recall, F and MAP would only repeat hit rate and MRR, and a distribution of scores would mix scores of requests that are not
comparable.

Two known errors of Evidently 0.7.23 are worked around. The axis of the hit rate starts at 0 (for NDCG and MRR it is right in the
plot and shifted in the data, which is not used here). And `no_feedback_users=False` drops requests without a hit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from configs.settings import ReportSettings
from infra.pages import escaped_page, render_template
from models.evaluation import Ranking
from models.recommender import Sequences

__all__ = ["REPORT_FILE", "Shown", "recommendations_page"]

REPORT_FILE = "recsys_report.html"
TEMPLATE = "tasks/evaluation/templates/recommendations.html"
K = 10


@dataclass(frozen=True, eq=False)
class Shown:
    """A model's recommendations, and its name on the page."""

    name: str
    ranking: Ranking


def recommendations_page(
    challenger: Shown,
    reference: Shown | None,
    train: Sequences,
    items: pd.DataFrame,
    *,
    figures: dict[str, dict[str, float]],
    settings: ReportSettings,
    seed: int,
) -> bytes | None:
    """Render the challenger's recommendations beside those of `reference` as HTML, or return None if nothing was recommended.

    Args:
        challenger: The challenger's recommendations.
        reference: Another model's recommendations for the same requests, or None.
        train: Train part of the split, in which popularity is counted.
        items: The dataset's table of items.
        figures: Our own metrics over all requests, model -> metric -> value, shown at the top of the page.
        settings: Numbers of requests to show, and of train events to count. More are sampled at random.
        seed: Seed of the samples.
    """
    rng = np.random.default_rng(seed)
    everyone = len(challenger.ranking.ranks)
    rows = np.sort(rng.choice(everyone, min(settings.requests, everyone), replace=False))
    catalogue = items.set_index("item_id")
    current = _recommended(challenger.ranking, rows, catalogue)
    if current.empty:
        return None
    before = None if reference is None else _recommended(reference.ranking, rows, catalogue)
    if before is not None and before.empty:
        reference = before = None
    page = escaped_page(_draw(current, before, _watched(train, catalogue, settings.train_events, rng)))
    body = "<body>"
    if body not in page:
        raise ValueError("Evidently's page has no <body>: an unsupported version of Evidently is installed")
    sampled = f"{len(rows):,} of {everyone:,} requests are shown"
    if len(train.item_ids) > settings.train_events:
        sampled += f", and popularity is counted over {settings.train_events:,} of {len(train.item_ids):,} train events"
    words = _words(challenger.name, None if reference is None else reference.name, figures, sampled)
    return page.replace(body, body + words, 1).encode()


def _recommended(ranking: Ranking, rows: Any, catalogue: pd.DataFrame) -> pd.DataFrame:
    top = ranking.top[rows][:, :K]
    places, ranks = np.nonzero(top >= 0)
    asked = rows[places]
    ids = ranking.catalogue[top[places, ranks]]
    return pd.DataFrame(
        {
            "user_id": ranking.user_ids[asked],
            "item_id": _labels(ids, catalogue),
            "prediction": ranks + 1,
            "target": (ids == ranking.targets[asked]).astype(np.int64),
            "year": catalogue["year"].reindex(ids).astype("Float64").to_numpy(np.float64, na_value=np.nan),
        }
    )


def _watched(train: Sequences, catalogue: pd.DataFrame, events: int, rng: np.random.Generator) -> pd.DataFrame:
    n = len(train.item_ids)
    kept = np.sort(rng.choice(n, events, replace=False)) if n > events else np.arange(n)
    ids = train.item_ids[kept]
    return pd.DataFrame(
        {
            "user_id": train.user_ids[np.searchsorted(train.offsets, kept, side="right") - 1],
            "item_id": _labels(ids, catalogue),
            "prediction": 1,
            "target": 1,
            "year": catalogue["year"].reindex(ids).astype("Float64").to_numpy(np.float64, na_value=np.nan),
        }
    )


def _labels(ids: Any, catalogue: pd.DataFrame) -> Any:
    """Return title and id of each film, because titles alone are not unique."""
    distinct, place = np.unique(ids, return_inverse=True)
    titles = catalogue["title"].reindex(distinct).fillna("")
    return np.array([f"{title} [{item}]".strip() for item, title in titles.items()], dtype=object)[place]


def _draw(current: pd.DataFrame, reference: pd.DataFrame | None, train: pd.DataFrame) -> str:
    os.environ["DO_NOT_TRACK"] = "1"  # otherwise Evidently sends usage data to a server
    from evidently import DataDefinition, Dataset, Recsys, Report
    from evidently.metrics import MRR, NDCG, HitRate, ItemBias, Novelty, Personalization, PopularityBiasMetric, RecCasesTable

    dated = all(frame["year"].notna().any() for frame in (current, reference, train) if frame is not None)
    if not dated:  # a column without values makes Evidently divide by 0
        current, train = current.drop(columns="year"), train.drop(columns="year")
        reference = None if reference is None else reference.drop(columns="year")
    definition = DataDefinition(
        numerical_columns=["year"] if dated else [],
        categorical_columns=["user_id", "item_id"],
        ranking=[Recsys(recommendations_type="rank")],
    )
    shown = [frame for frame in (current, reference) if frame is not None]
    k = min(K, *(int(frame["prediction"].max()) for frame in shown))  # Evidently fails if no list has k entries
    hit_rate = HitRate(k=k, no_feedback_users=True)
    metrics: list[Any] = [
        hit_rate,
        NDCG(k=k, no_feedback_users=True),
        MRR(k=k, no_feedback_users=True),
        PopularityBiasMetric(k=k, metric="arp"),
        Novelty(k=k),
        Personalization(k=k),
    ]
    if dated:
        metrics.append(ItemBias(k=k, column_name="year", distribution="train"))
    metrics.append(RecCasesTable(display_features=["target"]))
    snapshot = Report(metrics).run(
        Dataset.from_pandas(current, data_definition=definition),
        None if reference is None else Dataset.from_pandas(reference, data_definition=definition),
        additional_data={"current_train_data": train},
    )
    for widget in snapshot.metric_results[hit_rate.get_metric_id()].get_widgets():
        for trace in widget.params.get("data", []):
            trace["x"] = np.asarray(trace["x"]) + 1  # list positions from 0, shown as ranks from 1
    return str(snapshot.get_html_str(as_iframe=False))


def _words(challenger: str, reference: str | None, figures: dict[str, dict[str, float]], sampled: str) -> str:
    columns = [name for name in next(iter(figures.values()), {}) if all(name in values for values in figures.values())]
    return render_template(
        TEMPLATE,
        challenger=challenger,
        reference=reference,
        sampled=sampled,
        columns=columns,
        rows={model: [f"{values[name]:.4g}" for name in columns] for model, values in figures.items()},
    )
