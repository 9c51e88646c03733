"""The items that an index finds are those of a full sort, with the same scores and the same order of ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.pruning import ItemIndex, ItemMask, UserScores, index
from models.pruning.blocks import LEVELS, WIDTH, blocks_of
from models.ss4rec.kernels import Floats, products

NONE = np.empty(0, np.int64)
KINDS = ("normal", "clustered", "equal rows", "few values", "zeros among them", "one long row", "lengths from 1e-9 to 1e9")


def drawn(rng: np.random.Generator, kind: str, n: int, width: int) -> Floats:
    vectors = rng.normal(size=(n, width)).astype(np.float32)
    if kind == "clustered":
        vectors = vectors[rng.integers(0, max(1, n // 50), n)] + np.float32(0.05) * vectors
    elif kind == "equal rows":
        vectors = vectors[rng.integers(0, 7, n) % n]
    elif kind == "few values":
        vectors = rng.integers(-1, 2, (n, width)).astype(np.float32)
    elif kind == "zeros among them":
        vectors[rng.random(n) < 0.5] = 0
    elif kind == "one long row":
        vectors[rng.integers(0, n)] *= np.float32(1e6)
    elif kind.startswith("lengths"):
        vectors *= (10.0 ** rng.uniform(-9, 9, (n, 1))).astype(np.float32)
    return np.ascontiguousarray(vectors)


def all_scores(vectors: Floats, user: Floats) -> Floats:
    found: Floats = np.empty(len(vectors), np.float32)
    products(vectors, user[None], found[None])
    return found


def scores_of(vectors: Floats, made: ItemIndex, user: Floats) -> UserScores:
    return UserScores(made, user, lambda user, items: all_scores(vectors if items is None else vectors[items], user))


def sorted_whole(scores: Floats, count: int, mask: ItemMask) -> list[int]:
    closed = set(mask.closed.tolist())
    order = np.lexsort((np.arange(len(scores)), -scores))
    return [item for item in order.tolist() if item not in closed and (mask.allowed is None or mask.allowed[item])][:count]


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(KINDS),
    st.integers(1, 1500),
    st.integers(1, 70),
    st.integers(1, 20),
    st.sampled_from([None, 0.0, 0.02, 0.3, 1.0]),
    st.integers(0, 600),
)
@settings(deadline=None, max_examples=40)
def test_the_best_are_those_of_a_full_sort(
    seed: int, kind: str, n: int, width: int, count: int, share: float | None, seen: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, user = drawn(rng, kind, n, width), rng.normal(size=width).astype(np.float32)
    mask = ItemMask(None if share is None else rng.random(n) < share, rng.integers(0, n, seen))
    made = ItemIndex.of(vectors)
    if made is None:
        assert not vectors.any()
        return
    scores = all_scores(vectors, user)
    expected = sorted_whole(scores, count, mask)
    for tried in (1, index.TRIED):  # with 1, no search is given up
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(index, "TRIED", tried)
            items, found = scores_of(vectors, made, user).best(count, mask)
            assert tried != 1 or made.candidates(user, count, mask) is not None
        assert items.tolist() == expected
        assert found.tobytes() == scores[items].tobytes()


def test_few_of_many_products_are_computed() -> None:
    rng = np.random.default_rng(3)
    vectors = np.ascontiguousarray(drawn(rng, "normal", 40_000, 64) * (np.arange(1, 65) ** -0.5).astype(np.float32))
    made = ItemIndex.of(vectors)
    assert made is not None and made.nbytes < vectors.nbytes / 2
    for user in rng.normal(size=(5, 64)).astype(np.float32):
        found = made.candidates(user, 10)
        assert found is not None and 10 <= len(found) < 40
        assert set(sorted_whole(all_scores(vectors, user), 10, ItemMask())) <= set(found.tolist())


def test_a_search_that_does_not_pay_is_given_up_and_gives_the_same_items() -> None:
    vectors = np.ones((5000, 8), np.float32)  # all items have the same score
    made, user = ItemIndex.of(vectors), np.ones(8, np.float32)
    assert made is not None and made.candidates(user, 10) is None
    items, scores = scores_of(vectors, made, user).best(10, ItemMask(None, np.array([0, 2, 2])))
    assert items.tolist() == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11] and set(scores.tolist()) == {8.0}


@pytest.mark.parametrize("user", [[0, 0], [np.nan, 1], [np.inf, 1], [1e20, 1], [1e-30, 0]])
def test_a_vector_of_an_unusual_length_is_not_searched_for(user: list[float]) -> None:
    made = ItemIndex.of(np.ones((300, 2), np.float32))
    assert made is not None and made.candidates(np.array(user, np.float32), 5) is None


@pytest.mark.parametrize("vectors", [np.zeros((300, 4)), np.full((300, 4), 1e20), np.empty((300, 0)), np.empty((0, 4))])
def test_there_is_no_index_of_vectors_without_use_or_of_an_unusual_length(vectors: Floats) -> None:
    assert ItemIndex.of(vectors.astype(np.float32)) is None


def test_more_items_than_a_search_keeps_are_found_by_a_scan() -> None:
    vectors = drawn(np.random.default_rng(1), "normal", 2000, 8)
    made, user = ItemIndex.of(vectors), np.ones(8, np.float32)
    assert made is not None and made.candidates(user, 600) is None and made.candidates(user, 0) is None
    scores = scores_of(vectors, made, user)
    assert scores.best(600, ItemMask())[0].tolist() == sorted_whole(all_scores(vectors, user), 600, ItemMask())
    assert not len(scores.best(0, ItemMask())[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("n", "width"), [(1, 1), (WIDTH, 16), (700, 37)])
def test_the_blocks_hold_every_item_once_and_bound_its_vector(kind: str, n: int, width: int) -> None:
    vectors = drawn(np.random.default_rng(5), kind, n, width)
    blocks = blocks_of(vectors)
    assert np.sort(blocks.order[blocks.order >= 0]).tolist() == list(range(n))
    for block, items in enumerate(blocks.order):
        members = items[items >= 0]
        turned = vectors[members].astype(np.float64) @ blocks.turn
        halves = blocks.codes[block][:, : len(members)]
        codes = np.stack([halves & 15, halves >> 4], axis=1).reshape(-1, len(members)).T
        said = blocks.centres[block] + (codes - LEVELS / 2) * blocks.steps[block].astype(np.float64)
        assert (np.linalg.norm(turned - said, axis=1) <= blocks.errors[block]).all()
        assert (np.linalg.norm(turned, axis=1) <= blocks.norms[block]).all()
        apart = turned - blocks.centres[block]
        assert (np.linalg.norm(apart[:, : blocks.ends[0]], axis=1) <= blocks.radii[block, 0]).all()
        assert (np.linalg.norm(apart[:, blocks.ends[0] :], axis=1) <= blocks.radii[block, 1]).all()
        for stage, end in enumerate(blocks.ends):
            left = np.linalg.norm(apart[:, end:], axis=1)
            covered = blocks.tails[block, stage, : len(members)] * blocks.tail_scales[block, stage].astype(np.float64)
            assert (left <= covered).all()
