"""An indexed catalogue is ranked as one whose scores are all computed: the same items, scores and names of rules."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.serving import RuleFile
from models.pruning import ItemIndex, UserScores
from models.ss4rec.kernels import Floats, products
from serving.catalogue import Catalogue
from serving.reranking import RankRequest, Rules

N, WIDTH = 700, 12
GENRES = ("Action", "Comedy", "Drama")
RNG = np.random.default_rng(0)
VECTORS = np.ascontiguousarray(RNG.normal(size=(N, WIDTH)).round(1).astype(np.float32))
VECTORS[::9] = VECTORS[0]  # items with equal scores
FILMS = Catalogue(
    item_ids=np.arange(N, dtype=np.int64) + 1,
    titles=[""] * N,
    years=RNG.choice([0, 1980, 1990, 2000], N).astype(np.int64),
    genre_bits=RNG.random((N, 3)) < 0.3,
    genres=GENRES,
    popularity=RNG.integers(0, 6, N).astype(np.float64),
)
RULES: dict[str, dict[str, Any]] = {
    "exclude": {"name": "ban", "action": "exclude", "where": {"genres": ["Drama"]}},
    "boost": {"name": "lift", "action": "boost", "where": {"years": [1990, 2000]}, "by": 0.7},
    "pin": {"name": "editor", "action": "pin", "items": [5, 9, 700], "position": 2},
}


def scores_of(user: Floats, items: np.ndarray | None) -> Floats:
    vectors = VECTORS if items is None else VECTORS[items]
    found: Floats = np.empty(len(vectors), np.float32)
    products(vectors, user[None], found[None])
    return found


@pytest.fixture(scope="module")
def index() -> ItemIndex:
    made = ItemIndex.of(VECTORS)
    assert made is not None
    return made


@given(
    seed=st.integers(0, 1000),
    names=st.sets(st.sampled_from(sorted(RULES))),
    least=st.sampled_from([0, 3]),
    share=st.sampled_from([None, 0.2]),
    weight=st.sampled_from([0, 0.5]),
    asked=st.fixed_dictionaries(
        {"k": st.integers(0, 30)},
        optional={"genres": st.just(("Action", "Comedy")), "years": st.just((1985, None))},
    ),
)
@settings(deadline=None, max_examples=60)
def test_rules_and_filters_rank_the_same_with_and_without_an_index(
    index: ItemIndex, seed: int, names: set[str], least: int, share: float | None, weight: float, asked: dict[str, Any]
) -> None:
    rng = np.random.default_rng(seed)
    user = rng.normal(size=WIDTH).astype(np.float32)
    rules = Rules(
        RuleFile.model_validate(
            {
                "min_popularity": least,
                "max_new_share": share,
                "diversity": {"weight": weight, "pool": 20},
                "rules": [RULES[name] for name in sorted(names)],
            }
        )
    )
    request = RankRequest(history=rng.integers(0, N, 40), exclude=rng.integers(0, N, 3), **asked)
    plain = rules.rank(scores_of(user, None), FILMS, request, VECTORS)
    found = rules.rank(UserScores(index, user, scores_of), FILMS, request, VECTORS)
    assert found.items.tolist() == plain.items.tolist()
    assert found.scores.tobytes() == plain.scores.tobytes()
    assert (found.applied_rules, found.left_out) == (plain.applied_rules, plain.left_out)
