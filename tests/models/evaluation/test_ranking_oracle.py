"""Ranks, top lists and metrics equal a plain loop over the requests of random cases."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.evaluation import MISS, metrics, per_request_metrics, rank_requests
from tests.models.evaluation.test_ranking import Fixed, requests
from tests.volume import volume

WORLD = list(range(1, 9))  # raw ids, of which a catalogue and a model each know some
UNKNOWN = 99  # an id outside it


@dataclass(frozen=True)
class Case:
    """Requests, the items that the catalogue and the model know, and the model's scores."""

    catalogue: list[int]
    vocabulary: list[int]  # of the model
    scores: list[list[float]]  # of each request, by vocabulary
    histories: list[list[int]]
    targets: list[int]
    mask: bool
    batch: int
    k: int


@st.composite
def cases(draw: st.DrawFn) -> Case:
    some = st.sets(st.sampled_from(WORLD), min_size=1).map(sorted)
    catalogue, vocabulary = draw(some), draw(some)
    count = draw(st.integers(1, 5))
    few = st.sampled_from([-2.0, -0.5, 0.0, 0.5, 0.5000001, 3.0])  # ties are common, and near ties must be told apart
    anything = st.floats(-(2.0**100), 2.0**100, width=32)
    row = st.lists(draw(st.sampled_from([few, anything])), min_size=len(vocabulary), max_size=len(vocabulary))
    ids = st.sampled_from([*WORLD, UNKNOWN])
    return Case(
        catalogue,
        vocabulary,
        scores=draw(st.lists(row, min_size=count, max_size=count)),
        histories=draw(st.lists(st.lists(ids, max_size=6), min_size=count, max_size=count)),
        targets=draw(st.lists(ids, min_size=count, max_size=count)),
        mask=draw(st.booleans()),
        batch=draw(st.integers(1, 6)),
        k=draw(st.integers(1, 10)),
    )


def open_items(case: Case, row: int) -> dict[int, np.float32]:
    """Score of each item that may be recommended for a request."""
    known = dict(zip(case.vocabulary, np.array(case.scores[row], dtype=np.float32), strict=True))
    seen = case.histories[row] if case.mask else []
    return {item: score for item, score in known.items() if item in case.catalogue and item not in seen}


def expected_rank(case: Case, row: int) -> int:
    scores = open_items(case, row)
    if case.targets[row] not in scores:
        return MISS
    own = scores.pop(case.targets[row])
    return 1 + sum(bool(score >= own) for score in scores.values())


@pytest.mark.full
@given(cases())
@settings(max_examples=volume(400, 1500))
def test_ranks_and_lists_are_those_of_a_plain_loop(case: Case) -> None:
    model = Fixed(case.vocabulary, np.array(case.scores))
    catalogue = np.array(case.catalogue)
    ranking = rank_requests(
        model, requests(case.histories, case.targets), catalogue, mask_seen=case.mask, batch_size=case.batch, top_k=case.k
    )
    assert ranking.ranks.tolist() == [expected_rank(case, row) for row in range(len(case.targets))]
    assert ranking.top.shape == (len(case.targets), min(case.k, len(catalogue))) and ranking.top.dtype == np.int32
    shown_at_all = [0] * len(catalogue)
    for row, columns in enumerate(ranking.top.tolist()):
        scores = open_items(case, row)
        shown = [case.catalogue[column] for column in columns if column >= 0]
        assert columns == [*columns[: len(shown)], *[-1] * (len(columns) - len(shown))], "gaps are at the end"
        assert len(set(shown)) == len(shown) == min(case.k, len(scores)) and set(shown) <= set(scores)
        # Any of several items with one score may be shown, so the scores are compared and not the items.
        assert [scores[item] for item in shown] == sorted(scores.values(), reverse=True)[: len(shown)]
        for item in shown:
            shown_at_all[case.catalogue.index(item)] += 1
        if case.targets[row] in scores and case.targets[row] not in shown:
            assert ranking.ranks[row] > len(shown), "a target that is not shown is not ranked among those that are"
    assert ranking.recommended.tolist() == shown_at_all


@given(cases(), st.integers(1, 6))
@settings(max_examples=volume(150, 500))
def test_neither_the_batch_size_nor_the_order_of_requests_changes_a_rank(case: Case, batch: int) -> None:
    def ranks(order: list[int], size: int) -> list[int]:
        asked = requests([case.histories[row] for row in order], [case.targets[row] for row in order])
        model = Fixed(case.vocabulary, np.array([case.scores[row] for row in order]))
        return rank_requests(model, asked, np.array(case.catalogue), mask_seen=case.mask, batch_size=size).ranks.tolist()

    count = len(case.targets)
    forwards = ranks(list(range(count)), case.batch)
    assert forwards == ranks(list(range(count)), batch)
    assert forwards == ranks(list(reversed(range(count))), batch)[::-1]


RANKS = st.lists(st.one_of(st.integers(1, 60), st.just(MISS)), min_size=1, max_size=40)
CUTS = st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True)


@given(RANKS, CUTS)
@settings(max_examples=volume(500, 2000))
def test_metrics_are_those_of_ranked_lists_with_one_relevant_item(ranks: list[int], cuts: list[int]) -> None:
    found = metrics(np.array(ranks), tuple(cuts))
    by_request = per_request_metrics(np.array(ranks), tuple(cuts))
    for k in cuts:
        lists = [[place == rank for place in range(1, k + 1)] for rank in ranks]  # relevance of each shown place
        hits = [float(any(shown)) for shown in lists]
        gains = [sum(relevant / math.log2(place + 2) for place, relevant in enumerate(shown)) for shown in lists]
        ideal = 1 / math.log2(2)  # the one relevant item at the first place
        reciprocal = [next((1 / (place + 1) for place, relevant in enumerate(shown) if relevant), 0.0) for shown in lists]
        for name, values in (("hr", hits), ("ndcg", [gain / ideal for gain in gains]), ("mrr", reciprocal)):
            assert np.allclose(by_request[f"{name}@{k}"], values, rtol=1e-12, atol=0)
            assert math.isclose(found[f"{name}@{k}"], sum(values) / len(ranks), rel_tol=1e-12)
    assert len(found) == 3 * len(cuts)
