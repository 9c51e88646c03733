"""Items without train events get vectors from their attributes, and everything after the training treats them like others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, PopularitySettings, SS4RecSettings
from models.attributes import item_features
from models.evaluation import MISS, Split, rank_requests, split
from models.popularity import Popularity
from models.recommender import WarmStart
from models.ss4rec import RecurrentSS4Rec, SS4Rec, SS4RecNetwork
from models.windows import Segments
from tests.models.ss4rec.test_recurrent import recurrent_scores
from tests.plain_ss4rec import PLAIN

SMALL: dict[str, Any] = PLAIN | {
    "width": 16, "blocks": 1, "time_state": 4, "relation_state": 4, "max_length": 20, "batch_tokens": 256, "max_epochs": 6,
    "dropout": 0.1, "embedding_dropout": 0.0, "learning_rate": 1e-2, "device": "cpu", "item_attributes": True,
}  # fmt: skip
ITEMS, GENRES = 60, 4
NEW = np.arange(100, 100 + ITEMS)[::5]
"""Items of all genres that nobody may have seen."""


def described() -> pd.DataFrame:
    ids = np.arange(100, 100 + ITEMS)
    return pd.DataFrame({"item_id": ids, "title": "Film", "genres": [f"Genre {item // 3 % GENRES}" for item in ids]})


@pytest.fixture(scope="module")
def parts() -> Split:
    """Users who watch films of one genre, of which the last one is new."""
    rng, rows = np.random.default_rng(0), []
    genre = described().set_index("item_id")["genres"].str[-1].astype(int)
    for user in range(120):
        own = genre.index[genre == user % GENRES]
        old = rng.permutation(own[~np.isin(own, NEW)])[:8]
        last = rng.choice(own[np.isin(own, NEW)])
        rows += [(user, item, 1_700_000_000 + 100 * place + user, 0) for place, item in enumerate([*old, last])]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp", "rating"]).assign(row=np.arange(len(rows)))
    found = split(frame, EvaluationSettings(k_core=0))
    assert np.isin(found.test.targets, NEW).all() and not np.isin(found.train.item_ids, NEW).any()
    return replace(found, catalogue=np.arange(100, 100 + ITEMS))


def fitted(parts: Split, **options: Any) -> SS4Rec:
    model = SS4Rec(SS4RecSettings(**SMALL | options))
    model.describe_items(described())
    model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    return model


@pytest.fixture(scope="module")
def trained(parts: Split) -> SS4Rec:
    return fitted(parts)


def test_new_items_are_recommended_to_those_whose_films_are_like_them(parts: Split, trained: SS4Rec) -> None:
    assert np.array_equal(trained.catalogue, parts.catalogue)
    popular = Popularity(PopularitySettings())
    popular.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    ranks, chance = (
        rank_requests(model, parts.test, parts.catalogue, mask_seen=True, batch_size=64).ranks for model in (trained, popular)
    )
    assert ranks.max() < MISS and (ranks <= 10).mean() > 0.5 and not (chance <= 10).any()


def test_the_stored_model_is_like_any_other_and_is_served_with_the_same_answers(
    parts: Split, trained: SS4Rec, tmp_path: Path
) -> None:
    trained.save(tmp_path)
    asked = parts.test.take(np.arange(10))
    scores = trained.scores(asked)
    loaded = SS4Rec.load(tmp_path)
    assert torch.equal(loaded.scores(asked), scores)
    plain = SS4RecNetwork(ITEMS, SS4RecSettings(**SMALL)).state_dict()
    assert set(loaded.network.state_dict()) == set(plain)
    stepped = recurrent_scores(RecurrentSS4Rec.load(tmp_path), asked, parts.catalogue)
    assert np.abs(stepped - scores.numpy()).max() < 1e-4 * max(1.0, float(scores.abs().max()))
    with_new = replace(asked, item_ids=np.where(np.arange(len(asked.item_ids)) % 3 == 0, NEW[0], asked.item_ids))
    assert not torch.allclose(trained.scores(with_new), scores)  # a new item in a history is read


def test_a_network_without_the_switch_draws_the_weights_that_it_drew() -> None:
    def drawn(features: torch.Tensor | None) -> SS4RecNetwork:
        torch.manual_seed(0)
        return SS4RecNetwork(5, SS4RecSettings(**SMALL), features=features).eval()

    features = torch.nn.functional.pad(torch.from_numpy(item_features(np.arange(100, 105), described())), (0, 0, 1, 0))
    plain, switched = drawn(None), drawn(features)
    assert set(switched.state_dict()) - set(plain.state_dict()) == {"described.map.weight"}
    assert all(torch.equal(switched.state_dict()[name], weight) for name, weight in plain.state_dict().items())
    vectors = switched.item_vectors()
    assert not vectors[0].any() and torch.allclose(vectors[1:] - plain.items.weight[1:], switched.described.map(features[1:]))  # type: ignore[union-attr]


def test_input_and_output_of_a_step_drop_the_same_items() -> None:
    torch.manual_seed(0)
    features = torch.nn.functional.pad(torch.from_numpy(item_features(np.arange(100, 140), described())), (0, 0, 1, 0))
    network = SS4RecNetwork(40, SS4RecSettings(**SMALL | {"identity_dropout": 0.5, "dropout": 0.0}), features=features).train()
    vectors = network.item_vectors()
    assert network.described is not None
    dropped = (vectors == network.described.map(features)).all(dim=1)
    assert 10 < int(dropped.sum()) < 32 and not torch.equal(network.item_vectors(), vectors)
    items, gaps, window = torch.arange(1, 6), torch.ones(5), Segments.of(torch.tensor([0, 5]), 5)
    given = network(items, gaps, window, "cpu", vectors=vectors)
    assert torch.equal(given, network(items, gaps, window, "cpu", vectors=vectors))
    assert torch.equal(network.embedded(items, gaps, vectors=vectors), vectors[1:6])


def test_items_must_be_described_and_a_warm_start_is_refused(parts: Split, trained: SS4Rec) -> None:
    model = SS4Rec(SS4RecSettings(**SMALL))
    with pytest.raises(TrainingError, match="describe_items"):
        model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    assert not model.begin_with(WarmStart(trained, np.arange(3)))


def test_the_same_seed_gives_the_same_vectors(parts: Split) -> None:
    first, second = (fitted(parts, max_epochs=1).item_vectors() for _ in range(2))
    assert torch.equal(first, second)
