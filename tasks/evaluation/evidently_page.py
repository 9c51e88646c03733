"""A report on the recommendations, rendered by Evidently. It is for information only: the gate uses our own metrics.

Evidently defines some metrics differently from us; the page lists the differences.

The page shows those metrics of Evidently's RecsysPreset that are informative when one item per request is held out. Precision,
recall, F and MAP would only repeat hit rate and MRR, and a distribution of scores would mix scores of requests that are not
comparable.

Two known errors of Evidently 0.7.23 are worked around. The axis of the hit rate starts at 0 (for NDCG and MRR it is right in the
plot and shifted in the data, which is not used here). And `no_feedback_users=False` drops requests without a hit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from configs.settings import DEFAULT_NOUNS, NounSettings, ReportSettings
from infra.pages import evidently_page, render_template
from models.evaluation import FloatArray, Ranking
from models.recommender import IntArray, Sequences

__all__ = ["REPORT_FILE", "Named", "Shown", "recommendations_page"]

REPORT_FILE = "recsys_report.html"
TEMPLATE = "tasks/evaluation/templates/recommendations.html"
K = 10


@dataclass(frozen=True, eq=False)
class Shown:
    """A model's recommendations, and its name on the page."""

    name: str
    ranking: Ranking


@dataclass(frozen=True, eq=False)
class Named:
    """How items and users are named on the page."""

    items: pd.DataFrame  # the dataset's table of items
    item_ids: pd.Series[str] | None = None  # the team's ids, by number; None if the numbers are the team's
    user_ids: pd.Series[str] | None = None
    nouns: NounSettings = DEFAULT_NOUNS

    @cached_property
    def catalogue(self) -> pd.DataFrame:
        return self.items.set_index("item_id")

    def years(self, item_ids: IntArray) -> FloatArray:
        """Return the year of each item, NaN if it is unknown."""
        years = self.catalogue["year"].reindex(item_ids).astype("Float64")
        return np.asarray(years.to_numpy(np.float64, na_value=np.nan), np.float64)

    def labels(self, item_ids: IntArray) -> npt.NDArray[np.object_]:
        """Return title and id of each item, because titles alone are not unique."""
        distinct, place = np.unique(item_ids, return_inverse=True)
        titles = self.catalogue["title"].reindex(distinct).fillna("")
        ids = distinct if self.item_ids is None else self.item_ids.reindex(distinct).fillna("")
        named = [f"{title} [{item}]".strip() for title, item in zip(titles, ids, strict=True)]
        return np.array(named, dtype=object)[place]

    def users(self, user_ids: IntArray) -> npt.NDArray[np.generic]:
        """Return the team's id of each user."""
        return user_ids if self.user_ids is None else self.user_ids.reindex(user_ids).fillna("").to_numpy(object)


def recommendations_page(
    challenger: Shown,
    reference: Shown | None,
    train: Sequences,
    named: Named,
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
        named: The names of items and users.
        figures: Our own metrics over all requests, model -> metric -> value, shown at the top of the page.
        settings: Numbers of requests to show, and of train events to count. More are sampled at random.
        seed: Seed of the samples.
    """
    rng = np.random.default_rng(seed)
    everyone = len(challenger.ranking.ranks)
    rows = np.sort(rng.choice(everyone, min(settings.requests, everyone), replace=False))
    current = _recommended(challenger.ranking, rows, named)
    if current.empty:
        return None
    before = None if reference is None else _recommended(reference.ranking, rows, named)
    if before is not None and before.empty:
        reference = before = None
    drawn = _draw(current, before, _watched(train, named, settings.train_events, rng))
    sampled = f"{len(rows):,} of {everyone:,} requests are shown"
    if len(train.item_ids) > settings.train_events:
        sampled += f", and popularity is counted over {settings.train_events:,} of {len(train.item_ids):,} train events"
    words = _words(challenger.name, None if reference is None else reference.name, figures, sampled, named.nouns)
    return evidently_page(drawn, f"Recommendations of {challenger.name}", words).encode()


def _recommended(ranking: Ranking, rows: IntArray, named: Named) -> pd.DataFrame:
    top = ranking.top[rows][:, :K]
    places, ranks = np.nonzero(top >= 0)
    asked = rows[places]
    ids = ranking.catalogue[top[places, ranks]]
    return pd.DataFrame(
        {
            "user_id": named.users(ranking.user_ids[asked]),
            "item_id": named.labels(ids),
            "prediction": ranks + 1,
            "target": (ids == ranking.targets[asked]).astype(np.int64),
            "year": named.years(ids),
        }
    )


def _watched(train: Sequences, named: Named, events: int, rng: np.random.Generator) -> pd.DataFrame:
    n = len(train.item_ids)
    kept = np.sort(rng.choice(n, events, replace=False)) if n > events else np.arange(n)
    ids = train.item_ids[kept]
    return pd.DataFrame(
        {
            "user_id": named.users(train.user_ids[np.searchsorted(train.offsets, kept, side="right") - 1]),
            "item_id": named.labels(ids),
            "prediction": 1,
            "target": 1,
            "year": named.years(ids),
        }
    )


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


def _words(
    challenger: str, reference: str | None, figures: dict[str, dict[str, float]], sampled: str, nouns: NounSettings
) -> str:
    columns = [name for name in next(iter(figures.values()), {}) if all(name in values for values in figures.values())]
    return render_template(
        TEMPLATE,
        challenger=challenger,
        reference=reference,
        sampled=sampled,
        nouns=nouns,
        columns=columns,
        rows={model: [f"{values[name]:.4g}" for name in columns] for model, values in figures.items()},
    )
