"""Evidently draws the page. These tests check that it shows our lists and says what it is."""

from __future__ import annotations

import html as escapes
import json
import os
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configs.settings import ReportSettings
from models.evaluation import Ranking, Split, metrics, rank_requests
from tasks.evaluation.evidently_page import Named, Shown, recommendations_page
from tests import synthetic
from tests.models.evaluation.test_ranking import Fixed
from tests.planted import PLANTED, planted_elements
from tests.tasks.stored import small_split

FIGURES = {"ss4rec": {"hr@10": 0.25, "gini@10": 0.75}, "ncf": {"hr@10": 0.125}}


@pytest.fixture(scope="module")
def parts() -> Split:
    return small_split()


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    table = synthetic.movies(synthetic.interactions(60, 40, 25))
    return table.assign(year=pd.array(1950 + table["item_id"] % 50, dtype="Int64"))


@pytest.fixture(scope="module")
def ranking(parts: Split) -> Ranking:
    return noisy(parts, 0)


def noisy(parts: Split, seed: int) -> Ranking:
    """A ranking by random scores, so that no two tie: Evidently counts ties in another way."""
    scores = np.random.default_rng(seed).random((len(parts.test), len(parts.catalogue)))
    asked = replace(parts.test, user_ids=np.arange(len(parts.test)))  # the model finds its row by this id
    ranking = rank_requests(Fixed(parts.catalogue.tolist(), scores), asked, parts.catalogue, mask_seen=True, batch_size=16)
    return replace(ranking, user_ids=parts.test.user_ids)


def page(ranking: Ranking, reference: Ranking | None, parts: Split, items: pd.DataFrame, **changes: Any) -> str:
    made = recommendations_page(
        Shown("ss4rec <new>", ranking),
        None if reference is None else Shown("ncf", reference),
        parts.train,
        Named(items),
        figures=FIGURES,
        settings=ReportSettings(**changes),
        seed=0,
    )
    assert made is not None
    return made.decode()


def widgets(content: str) -> list[dict[str, Any]]:
    """Return the widgets of the page, in order."""
    start = re.search(r"metric_[0-9a-f]+ = (?=\{)", content)
    assert start is not None
    dashboard, _ = json.JSONDecoder().raw_decode(content, start.end())
    group: list[dict[str, Any]] = dashboard["widgets"][0]["widgets"]
    return group


def curves(content: str, axis: str) -> list[tuple[list[int], list[float]]]:
    """Return ranks and values of each trace (current, reference) of the drawing whose y axis has this title."""
    drawings = [widget["params"] for widget in widgets(content) if "layout" in (widget["params"] or {})]
    found = [drawing for drawing in drawings if drawing["layout"].get("yaxis", {}).get("title", {}).get("text") == axis]
    return [(trace["x"], trace["y"]) for trace in found[0]["data"]]


def test_the_page_says_what_it_is_and_shows_both_models(ranking: Ranking, parts: Split, items: pd.DataFrame) -> None:
    content = page(ranking, ranking, parts, items)
    words = content[content.index("<section") : content.index("</section>")]
    assert "This page is for information only." in words and "ss4rec &lt;new&gt;" in words and '"Reference" is ncf' in words
    assert "<th>hr@10</th>" in words and "0.125" in words and "gini@10" not in words, (
        "a metric that only one model has is left out"
    )
    assert f"{len(parts.test)} of {len(parts.test)} requests are shown" in escapes.unescape(words).lower()
    for name in ("Hit Rate", "NDCG", "MRR", "Popularity bias", "Novelty", "Personalization", "Item bias", "Recommendation Cases"):
        assert name in content, name
    assert re.search(r"Film \d+, The \(19\d\d\) \[1\d\d\]", content), "films are shown by title and id"
    assert os.environ["DO_NOT_TRACK"] == "1"


@pytest.mark.parametrize(("axis", "name"), [("HitRate@k", "hr"), ("ndcg@k", "ndcg"), ("mrr@k", "mrr")])
def test_each_curve_runs_over_the_ranks_with_our_values(axis: str, name: str, parts: Split, items: pd.DataFrame) -> None:
    ours, theirs = (noisy(parts, seed) for seed in (1, 2))
    for made, (ranks, values) in zip((ours, theirs), curves(page(ours, theirs, parts, items), axis), strict=True):
        assert ranks == list(range(1, 11))
        found = metrics(made.ranks, tuple(range(1, 11)))
        assert values == pytest.approx([found[f"{name}@{k}"] for k in ranks]) and values[-1] > 0


def test_the_page_shows_a_sample_of_requests_and_of_train_events_and_says_so(parts: Split, items: pd.DataFrame) -> None:
    made = noisy(parts, 1)
    content = page(made, None, parts, items, requests=7, train_events=100)
    assert "7 of 60 requests are shown, and popularity is counted over 100 of" in content and "Reference" not in content[:3000]
    (ranks, values), *others = curves(content, "HitRate@k")
    assert not others and ranks == list(range(1, 11)) and all(round(7 * value, 9).is_integer() for value in values)
    assert curves(content, "HitRate@k") == curves(page(made, None, parts, items, requests=7, train_events=100), "HitRate@k")


def test_items_without_a_title_or_a_year_are_shown_by_their_id(parts: Split, items: pd.DataFrame) -> None:
    bare = items.assign(title="", year=pd.array([pd.NA] * len(items), dtype="Int64"))
    content = page(noisy(parts, 1), None, parts, bare)
    assert "Item bias" not in content and '"[1' in content
    assert "Hit Rate" in page(noisy(parts, 1), None, parts, bare.head(0))


def test_a_title_that_holds_markup_is_shown_as_written(ranking: Ranking, parts: Split, items: pd.DataFrame) -> None:
    planted = items.assign(title=[f"{PLANTED[item % len(PLANTED)]} {item}" for item in items["item_id"]])
    content = page(ranking, None, parts, planted)
    assert planted_elements(content) == [] and content.index("<body>") < content.index("This page is for information only.")
    shown = json.dumps(widgets(content))
    assert all(json.dumps(f"{text} ")[1:-1] in shown for text in PLANTED)


def test_no_page_is_made_if_nothing_was_recommended(parts: Split, items: pd.DataFrame, ranking: Ranking) -> None:
    empty = replace(ranking, top=np.full_like(ranking.top, -1))
    few = ReportSettings(requests=10, train_events=10)
    assert (
        recommendations_page(Shown("ss4rec", empty), None, parts.train, Named(items), figures=FIGURES, settings=few, seed=0)
        is None
    )
    content = page(ranking, empty, parts, items)
    assert '"Reference" is' not in content
