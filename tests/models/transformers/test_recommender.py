"""Each kind learns an order, is the same again from a seed and after a kill, and answers as its full pass does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from configs.errors import TrainingError
from configs.settings import PopularitySettings
from models.evaluation import Split, metrics, rank_requests
from models.general import GeneralModel
from models.loading import load_recommender
from models.popularity import Popularity
from models.recommender import EpochReport, Recommender, WarmStart
from models.transformers.recommender import SequenceRecommender
from tests.models.transformers.kinds import KINDS, ring, untrained


@pytest.fixture(scope="module")
def parts() -> Split:
    return ring()


def fitted(model: Recommender, parts: Split, **options: object) -> list[EpochReport]:
    given = {"seed": 1, "mask_seen": False, **options}
    return model.fit(parts.train, parts.valid, parts.catalogue, **given).epochs  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=KINDS)
def trained(request: pytest.FixtureRequest, parts: Split) -> tuple[SequenceRecommender, list[EpochReport]]:
    model = untrained(request.param)
    return model, fitted(model, parts)


def ndcg(model: Recommender, parts: Split) -> float:
    ranking = rank_requests(model, parts.test, parts.catalogue, mask_seen=False, batch_size=64)
    return metrics(ranking.ranks, (10,))["ndcg@10"]


@pytest.mark.full
def test_it_learns_the_order_that_popularity_does_not_know(
    trained: tuple[SequenceRecommender, list[EpochReport]], parts: Split
) -> None:
    popularity = Popularity(PopularitySettings())
    fitted(popularity, parts)
    assert ndcg(trained[0], parts) > 0.6 > 2 * ndcg(popularity, parts)


def test_the_reported_valid_metric_is_that_of_the_ranking_that_judges_the_model(
    trained: tuple[SequenceRecommender, list[EpochReport]], parts: Split
) -> None:
    model, epochs = trained
    ranking = rank_requests(model, parts.valid, parts.catalogue, mask_seen=False, batch_size=50)
    assert max(epoch.valid["ndcg@10"] for epoch in epochs) == pytest.approx(metrics(ranking.ranks, (10,))["ndcg@10"])


def test_what_is_saved_serves_the_same_answers_from_the_same_events(
    trained: tuple[SequenceRecommender, list[EpochReport]], parts: Split, tmp_path: Path
) -> None:
    model, requests = trained[0], parts.test
    model.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors", ".parquet"}
    expected = model.scores(requests)
    assert torch.equal(load_recommender(tmp_path).scores(requests), expected)
    served = GeneralModel.load(tmp_path)
    columns = np.searchsorted(parts.catalogue, requests.item_ids)
    found = served.window_scores(columns, requests.timestamps, requests.offsets, requests.request_times, [None] * len(requests))
    assert np.allclose(found, expected.numpy(), atol=1e-5)
    products = model.user_vectors(requests) @ model.item_vectors().T
    assert torch.allclose(products, expected, atol=1e-5)


def test_an_answer_is_that_of_the_full_pass_at_its_position(
    trained: tuple[SequenceRecommender, list[EpochReport]], parts: Split
) -> None:
    model = trained[0]
    row = int(np.argmax(parts.test.lengths))
    one = parts.test.take(np.array([row]))
    items = torch.from_numpy(np.searchsorted(parts.catalogue, one.item_ids[:8]) + 1)
    times = one.timestamps[:9]
    seconds = torch.from_numpy(np.diff(times).astype(np.float32))
    with torch.no_grad():
        full = model.network(items[None], seconds[None])[0] @ model.item_vectors().T
    for end in range(1, 9):
        prefix = replace(
            one,
            offsets=np.array([0, end]),
            item_ids=one.item_ids[:end],
            timestamps=times[:end],
            request_times=times[end : end + 1],
            ratings=None,
        )
        assert torch.allclose(model.scores(prefix)[0], full[end - 1], atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_weights_and_a_killed_run_goes_on_to_them(kind: str, parts: Split, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(report: EpochReport) -> None:
        if report.epoch == 2:
            raise Killed

    few = {"max_epochs": 3, "schedule": "cosine"}
    whole, other, resumed = (untrained(kind, **few) for _ in range(3))
    fitted(whole, parts)
    fitted(other, parts, seed=2)
    with pytest.raises(Killed):
        fitted(untrained(kind, **few), parts, checkpoint_dir=tmp_path, on_epoch=kill)
    report = resumed.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=False, checkpoint_dir=tmp_path)
    assert report.resumed_from == 2
    weights = whole.network.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in resumed.network.state_dict().items())
    assert any(not torch.equal(weight, weights[name]) for name, weight in other.network.state_dict().items())


def test_a_request_without_known_events_is_ranked_by_popularity(
    trained: tuple[SequenceRecommender, list[EpochReport]], parts: Split
) -> None:
    nothing = np.empty(0, np.int64)
    none = replace(
        parts.test.take(np.array([0, 1])), offsets=np.zeros(3, np.int64), item_ids=nothing, timestamps=nothing, ratings=None
    )
    counts = np.bincount(np.searchsorted(parts.catalogue, parts.train.item_ids), minlength=len(parts.catalogue))
    assert np.allclose(trained[0].scores(none).numpy(), np.log1p(counts)[None])


def test_a_warm_start_keeps_the_weights_of_known_items_and_is_refused_for_another_shape(
    trained: tuple[SequenceRecommender, list[EpochReport]], parts: Split
) -> None:
    parent = trained[0]
    start = WarmStart(parent, np.arange(0, len(parts.train), 2))
    assert not untrained(parent.name, width=32).begin_with(start)
    warm = untrained(parent.name, max_epochs=1, learning_rate=1e-12)
    assert warm.begin_with(start)
    catalogue = np.concatenate([[5], parts.catalogue])  # the new item moves the rows of all others
    warm.fit(parts.train, parts.valid, catalogue, seed=3, mask_seen=False)
    assert torch.allclose(warm.item_vectors()[1:], parent.item_vectors(), atol=1e-6)
    assert torch.allclose(warm.scores(parts.test)[:, 1:], parent.scores(parts.test), atol=1e-4)


@pytest.mark.parametrize("kind", ["sasrec", "hstu"])
def test_milliseconds_are_refused_by_a_model_that_reads_time_and_only_by_it(kind: str, parts: Split) -> None:
    late = replace(parts, train=replace(parts.train, timestamps=parts.train.timestamps * 1000))
    model = untrained(kind, max_epochs=1)
    if kind == "sasrec":
        assert fitted(model, late)
    else:
        with pytest.raises(TrainingError, match=r"look like milliseconds .* but hstu needs seconds"):
            fitted(model, late)


def test_a_model_in_half_precision_is_ranked_in_float32(parts: Split) -> None:
    model = untrained("sasrec", max_epochs=1, precision="bfloat16")
    report = fitted(model, parts)[0]
    ranking = rank_requests(model, parts.valid, parts.catalogue, mask_seen=False, batch_size=64)
    assert report.valid == metrics(ranking.ranks, (10,))
    scores = model.scores(parts.valid)
    assert len(torch.unique(scores)) > 2 * len(torch.unique(scores.bfloat16()))
