"""A page of the recommendations for people, drawn by Evidently. It judges nothing: its figures have other definitions than
ours (it says which), and the gate reads ours.

Of Evidently's RecsysPreset the metrics are drawn that say something where one film of each request is held out: precision,
recall, F and MAP are hit rate and MRR again, and the distribution of scores would mix scores of requests that do not compare.
Two known errors of 0.7.23 are kept off the page: the axis of the hit rate starts at 0 (that of NDCG and MRR is right in the
drawing and shifted in the data, which is not read here), and `no_feedback_users` leaves requests without a hit out when it is False.
"""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.ranking import Ranking
from models.recommender import Sequences

__all__ = ["REPORT_FILE", "Shown", "recommendations_page"]

REPORT_FILE = "recsys_report.html"
K = 10


@dataclass(frozen=True, eq=False)
class Shown:
    """A model's recommendations and how the page calls it."""

    name: str
    ranking: Ranking


def recommendations_page(
    challenger: Shown,
    reference: Shown | None,
    train: Sequences,
    items: pd.DataFrame,
    *,
    figures: dict[str, dict[str, float]],
    requests: int,
    train_events: int,
    seed: int,
) -> bytes | None:
    """HTML of the challenger's recommendations beside those of `reference`, or None where nothing was recommended.

    Both rankings are of the same requests, of which a random `requests` are shown. `items` is the items table. `figures` are our
    own, model -> metric -> value over all requests; they head the page.
    """
    rng = np.random.default_rng(seed)
    everyone = len(challenger.ranking.ranks)
    rows = np.sort(rng.choice(everyone, min(requests, everyone), replace=False))
    catalogue = items.set_index("movie_id")
    current = _recommended(challenger.ranking, rows, catalogue)
    if current.empty:
        return None
    before = None if reference is None else _recommended(reference.ranking, rows, catalogue)
    if before is not None and before.empty:
        reference = before = None
    page = _draw(current, before, _watched(train, catalogue, train_events, rng))
    body = "<body>"
    if body not in page:
        raise ValueError("Evidently's page has no <body>: another version of it is installed")
    sampled = f"{len(rows):,} of {everyone:,} requests are drawn"
    if len(train.item_ids) > train_events:
        sampled += f", and popularity is counted in {train_events:,} of {len(train.item_ids):,} train events"
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
    """Title and id of each film: titles alone are not unique."""
    distinct, place = np.unique(ids, return_inverse=True)
    titles = catalogue["title"].reindex(distinct).fillna("")
    return np.array([f"{title} [{item}]".strip() for item, title in titles.items()], dtype=object)[place]


def _draw(current: pd.DataFrame, reference: pd.DataFrame | None, train: pd.DataFrame) -> str:
    os.environ["DO_NOT_TRACK"] = "1"  # Evidently would send usage to a server
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
    k = min(K, *(int(frame["prediction"].max()) for frame in shown))  # Evidently fails where no list is as long as k
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
            trace["x"] = np.asarray(trace["x"]) + 1  # places in a list, drawn as ranks
    return str(snapshot.get_html_str(as_iframe=False))


def _words(challenger: str, reference: str | None, figures: dict[str, dict[str, float]], sampled: str) -> str:
    columns = [name for name in next(iter(figures.values()), {}) if all(name in values for values in figures.values())]
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("model", *columns))
    rows = "".join(
        f"<tr><td>{html.escape(model)}</td>" + "".join(f"<td>{values[name]:.4g}</td>" for name in columns) + "</tr>"
        for model, values in figures.items()
    )
    beside = f' "Reference" is {html.escape(reference)}.' if reference else ""
    return f"""
<section style="font:15px/1.5 sans-serif;color:black;background:white;max-width:1200px;margin:24px auto;padding:0 16px">
<h1 style="font-size:22px">Recommendations on the test requests</h1>
<p>"Current" is {html.escape(challenger)}.{beside} {sampled[0].upper()}{sampled[1:]}.
<b>This page decides nothing.</b> The numbers that decide are ours, over all requests:</p>
<table border="1" cellpadding="6" style="border-collapse:collapse;text-align:right">
<tr>{head}</tr>{rows}</table>
<p>Where Evidently's figures below are others: it takes equal scores in the order they happened to be listed, ours count them
against the model; its Gini index is over the items that were shown, ours over the whole catalogue; its coverage is of the items
in the train events; its novelty is by the share of users who have seen an item, ours by the share of events. One film of each
request is held out, so most lists show no hit; they count ("no feedback users included").</p>
</section>
"""
