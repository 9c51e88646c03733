from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from configs.errors import TrainingError, VersionCorruptError
from configs.settings import EvaluationSettings, NCFSettings, PopularitySettings
from models.loading import load_recommender
from models.ncf import NCF
from models.popularity import Popularity
from models.protocol import Split, split
from models.ranking import metrics, rank_requests
from models.recbole import neumf
from models.recommender import Recommender
from tests import synthetic

SMALL = NCFSettings(mf_width=8, mlp_width=8, mlp_hidden=(16, 8), max_epochs=3, batch_size=512, device="cpu")


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(60, 80, 25)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def fitted(model: Recommender, parts: Split, seed: int = 1) -> Recommender:
    seen = []
    model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=True, on_epoch=seen.append)
    assert seen and seen[-1].valid["ndcg@10"] >= 0
    return model


@pytest.mark.parametrize("kind", ["ncf", "popularity"])
def test_a_saved_model_answers_the_same(kind: str, parts: Split, tmp_path: Path) -> None:
    model = fitted(NCF(SMALL) if kind == "ncf" else Popularity(PopularitySettings()), parts)
    model.save(tmp_path)
    loaded = load_recommender(tmp_path)
    assert loaded.name == kind and loaded.settings() == model.settings()
    torch.testing.assert_close(loaded.scores(parts.test), model.scores(parts.test), rtol=0, atol=0)


def test_ncf_scores_equal_recboles_neumf(parts: Split) -> None:
    torch.manual_seed(0)
    network = neumf(len(parts.train), len(parts.catalogue), SMALL).eval()
    for weight in network.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    model = fitted(NCF(SMALL), parts)
    assert isinstance(model, NCF)
    model._take_weights(network.state_dict())
    rows = np.array([0, 5, 59])
    ours = torch.sigmoid(model.scores(parts.test.take(rows)))
    items = torch.arange(1, len(parts.catalogue) + 1)
    for place, row in enumerate(rows):
        theirs = network.predict({"user_id": torch.full_like(items, int(row) + 1), "item_id": items})  # type: ignore[operator]
        torch.testing.assert_close(ours[place], theirs.detach(), rtol=1e-5, atol=1e-6)


def test_ncf_is_deterministic_and_learns(parts: Split) -> None:
    first, second = (fitted(NCF(SMALL), parts).scores(parts.test) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, fitted(NCF(SMALL), parts, seed=2).scores(parts.test))


def test_a_stranger_gets_the_mean_user(parts: Split) -> None:
    model = fitted(NCF(SMALL), parts)
    requests = parts.test.take(np.array([0, 1]))
    object.__setattr__(requests, "user_ids", np.array([10**6, 10**6 + 1]))
    scores = model.scores(requests)
    assert torch.isfinite(scores).all()
    torch.testing.assert_close(scores[0], scores[1])


def test_a_user_who_met_everything_leaves_no_negatives() -> None:
    frame = synthetic.interactions(20, 10, 10)
    parts = split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))
    only = parts.catalogue[np.isin(parts.catalogue, parts.train.item_ids[: int(parts.train.lengths[0])])]
    with pytest.raises(TrainingError, match=r"no negative can be drawn.*models\.ncf: null"):
        NCF(SMALL).fit(parts.train, parts.valid, only, seed=0, mask_seen=True)


def test_without_weights_ncf_does_not_answer(parts: Split) -> None:
    with pytest.raises(TrainingError, match="no weights"):
        NCF(SMALL).scores(parts.test)


def test_popularity_ranks_by_train_events(parts: Split) -> None:
    model = fitted(Popularity(PopularitySettings()), parts)
    ids, counts = np.unique(parts.train.item_ids, return_counts=True)
    scores = model.scores(parts.test.take(np.array([0])))[0].numpy()
    assert scores[np.searchsorted(parts.catalogue, ids)].tolist() == counts.tolist()
    ranking = rank_requests(model, parts.test, parts.catalogue, mask_seen=True, batch_size=16)
    assert metrics(ranking.ranks, (10,))["hr@10"] > 0


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VersionCorruptError, match=r"config\.json cannot be read"):
        load_recommender(tmp_path)
    (tmp_path / "config.json").write_text('{"model": "bert"}')
    with pytest.raises(VersionCorruptError, match="unknown kind 'bert'"):
        load_recommender(tmp_path)
