from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file

from configs.errors import TrainingError, VersionCorruptError
from configs.settings import EvaluationSettings, NCFSettings, PopularitySettings
from models.evaluation import Split, metrics, rank_requests, split
from models.inference import load_inference_model
from models.ncf import NCF
from models.ncf.recommender import _Sampler
from models.popularity import Popularity
from models.recbole_bridge import neumf
from models.recommender import EpochReport, Requests
from tests import synthetic

SMALL = NCFSettings(mf_width=8, mlp_width=8, mlp_hidden=(16, 8), batch_size=128, max_epochs=3, device="cpu")


@pytest.fixture(scope="module")
def parts() -> Split:
    return split(synthetic.interactions(50, 40, 12), EvaluationSettings(k_core=0))


def fitted(parts: Split, settings: NCFSettings = SMALL, seed: int = 1, reports: list[EpochReport] | None = None) -> NCF:
    model = NCF(settings)
    on_epoch = None if reports is None else reports.append
    model.fit(parts.train, parts.valid, parts.catalogue, seed=seed, mask_seen=True, on_epoch=on_epoch)
    return model


@pytest.fixture(scope="module")
def model(parts: Split) -> NCF:
    return fitted(parts)


def test_equal_weights_change_nothing_and_other_weights_do(parts: Split) -> None:
    def trained(weights: np.ndarray | None) -> dict[str, torch.Tensor]:
        given = replace(parts, train=replace(parts.train, weights=weights))
        return fitted(given, SMALL.model_copy(update={"max_epochs": 1}))._weights

    count = len(parts.train.item_ids)
    plain, equal = trained(None), trained(np.full(count, 4, dtype=np.float32))
    other = trained(np.where(np.arange(count) % 2, 4, 1e-6).astype(np.float32))
    assert all(torch.allclose(plain[name], equal[name], atol=1e-6) for name in plain)
    assert any(not torch.allclose(plain[name], other[name], atol=1e-4) for name in plain)


@pytest.mark.parametrize("hidden", [(8,), (16, 8), (12, 10, 8, 6, 4)])
def test_served_weights_score_like_trained_ones_even_for_new_users(parts: Split, tmp_path: Path, hidden: tuple[int, ...]) -> None:
    model = fitted(parts, SMALL.model_copy(update={"mlp_hidden": hidden, "max_epochs": 1}))
    torch.manual_seed(3)
    for weight in model._weights.values():  # drawn wide, so that every term matters
        weight.add_(torch.randn_like(weight) * 0.5)
    model.save(tmp_path)
    served = load_inference_model(tmp_path)
    users = [int(parts.train.user_ids[3]), 999_999, int(parts.train.user_ids[0])]
    asked = Requests(
        user_ids=np.array(users),
        offsets=np.arange(4),
        item_ids=parts.catalogue[:3],
        timestamps=np.arange(3),
        request_times=np.full(3, 9),
        targets=np.zeros(3, np.int64),
    )
    nothing = np.empty(0, np.int64)
    hidden_states = served.advance(served.start(3), nothing, nothing, np.zeros(4, np.int64), [users[0], None, users[2]], nothing)
    found = served.scores(hidden_states)
    assert np.allclose(found, model.scores(asked).numpy(), atol=1e-4)
    assert np.allclose(found[1], served.cold_scores) and not np.allclose(found[0], found[1], atol=1e-3)
    assert served.item_vectors.shape == (len(parts.catalogue), SMALL.mf_width + SMALL.mlp_width)
    pd.DataFrame({"user_id": [1, 2]}).to_parquet(tmp_path / "users.parquet")
    with pytest.raises(VersionCorruptError, match="have ids"):
        load_inference_model(tmp_path)


@pytest.mark.parametrize("hidden", [(8,), (12, 10, 8)])
def test_the_program_gives_the_models_own_scores_from_the_numbers_of_users(parts: Split, hidden: tuple[int, ...]) -> None:
    model = fitted(parts, SMALL.model_copy(update={"mlp_hidden": hidden, "max_epochs": 1}))
    program, asked = model.program(), parts.test.take(np.array([5, 0, 7]))
    assert program.users is not None
    numbers = torch.from_numpy(np.searchsorted(program.users, asked.user_ids) + 1)
    torch.testing.assert_close(program.module(numbers), model.scores(asked), rtol=1e-5, atol=1e-5)
    assert model.item_vectors().shape[1] == model.user_vectors(asked).shape[1] and not model.products


@pytest.mark.parametrize("hidden", [(8,), (16, 8), (12, 10, 8, 6, 4)])
def test_stored_weights_score_like_recboles_own_predict(parts: Split, tmp_path: Path, hidden: tuple[int, ...]) -> None:
    settings = SMALL.model_copy(update={"mlp_hidden": hidden, "max_epochs": 2})
    fitted(parts, settings).save(tmp_path)
    loaded = NCF.load(tmp_path)
    network = neumf(len(parts.train), len(parts.catalogue), settings)
    network.load_state_dict(load_file(tmp_path / "model.safetensors"))
    network.eval()
    scores = torch.sigmoid(loaded.scores(parts.test))
    items = torch.arange(1, len(parts.catalogue) + 1)
    for row, user in enumerate(parts.test.user_ids):
        index = int(np.searchsorted(parts.train.user_ids, user)) + 1
        theirs = network.predict({"user_id": torch.full_like(items, index), "item_id": items})  # type: ignore[operator]
        assert torch.allclose(scores[row], theirs, atol=1e-6, rtol=0)


def test_scores_do_not_depend_on_how_many_are_computed_at_once(parts: Split, model: NCF, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = model.scores(parts.test)
    monkeypatch.setattr("models.ncf.recommender.SCORED_AT_ONCE", {"cpu": 1})
    assert torch.allclose(model.scores(parts.test), whole, atol=1e-6)


@pytest.mark.full
def test_a_stored_model_answers_as_before_without_recbole(parts: Split, model: NCF, tmp_path: Path) -> None:
    model.save(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {
        "model.safetensors",
        "config.json",
        "vocabulary.parquet",
        "users.parquet",
    }
    loaded = NCF.load(tmp_path)
    assert (loaded.catalogue == model.catalogue).all()
    assert (loaded.scores(parts.test) == model.scores(parts.test)).all()
    script = f"import sys; from pathlib import Path; from models.ncf.recommender import NCF; NCF.load(Path({str(tmp_path)!r})); assert 'recbole' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])


def test_the_seed_decides_the_weights(parts: Split, model: NCF) -> None:
    torch.manual_seed(99)
    assert (fitted(parts).scores(parts.test) == model.scores(parts.test)).all()
    assert (fitted(parts, seed=2).scores(parts.test) != model.scores(parts.test)).any()


def test_fitting_leaves_the_global_generator_alone(parts: Split) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    fitted(parts, SMALL.model_copy(update={"max_epochs": 1}))
    assert (torch.get_rng_state() == before).all()


def test_unknown_users_get_the_mean_of_all_users(parts: Split, model: NCF) -> None:
    asked = parts.test.take(np.arange(2))
    unknown = replace(asked, user_ids=np.array([10**6, 10**6 + 1]))
    scores = model.scores(unknown)
    assert torch.isfinite(scores).all() and torch.equal(scores[0], scores[1])
    assert (scores[0] != model.scores(asked)[0]).any()


def test_a_user_may_ask_more_than_once_and_a_batch_may_be_empty(parts: Split, model: NCF) -> None:
    twice: Requests = parts.test.take(np.array([3, 3]))
    scores = model.scores(twice)
    assert torch.equal(scores[0], scores[1])
    assert model.scores(parts.test.take(np.array([], dtype=np.int64))).shape == (0, len(parts.catalogue))


def test_the_best_epoch_is_kept(parts: Split) -> None:
    reports: list[EpochReport] = []
    model = fitted(parts, SMALL.model_copy(update={"max_epochs": 8, "learning_rate": 0.05, "patience": 8}), reports=reports)
    best = max(reports, key=lambda report: (report.valid["ndcg@10"], -report.epoch))
    assert [report.epoch for report in reports] == list(range(1, 9)) and reports[-1].best_epoch == best.epoch
    ranking = rank_requests(model, parts.valid, parts.catalogue, mask_seen=True, batch_size=64)
    assert metrics(ranking.ranks, (10,)) == pytest.approx(best.valid)


def test_a_fit_that_was_cut_off_resumes_and_ends_with_the_same_weights(parts: Split, model: NCF, tmp_path: Path) -> None:
    def cut(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        NCF(SMALL).fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True, checkpoint_dir=tmp_path, on_epoch=cut)
    again = NCF(SMALL)
    report = again.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True, checkpoint_dir=tmp_path)
    assert report.resumed_from == 2 and [epoch.epoch for epoch in report.epochs] == [1, 2, 3]
    assert (again.scores(parts.test) == model.scores(parts.test)).all()


def test_users_with_a_taste_are_ranked_better_than_by_popularity() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for user in range(120):  # even users stay in the first half of the catalogue, odd ones in the second
        liked = rng.permutation(20)[:12] + 20 * (user % 2)
        rows += [(user, int(movie), 1000 + step) for step, movie in enumerate(liked)]
    parts = split(pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]), EvaluationSettings(k_core=0))
    settings = SMALL.model_copy(update={"max_epochs": 30, "patience": 30, "learning_rate": 0.01})
    popular = Popularity(PopularitySettings())
    popular.fit(parts.train, parts.valid, parts.catalogue, seed=0, mask_seen=True)
    found = [
        metrics(rank_requests(m, parts.test, parts.catalogue, mask_seen=True, batch_size=64).ranks, (10,))["hr@10"]
        for m in (fitted(parts, settings), popular)
    ]
    assert found[0] > 0.9 > 0.6 > found[1]  # a user's own half has 9 unseen items, which all fit into the top 10


@given(st.integers(1, 6), st.integers(2, 9), st.integers(1, 4), st.integers(1, 10), st.integers(0, 2**16))
def test_negatives_are_items_the_user_never_met_and_each_event_comes_once(
    users: int, items: int, negatives: int, batch_size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    met = rng.random((users, items)) < 0.6
    met[:, rng.integers(items)] = False
    assume(met.any())
    rows, columns = np.nonzero(met)
    sampler = _Sampler(rows + 1, columns + 1, items, negatives)
    positives = []
    for batch in sampler.batches(batch_size, rng):
        label = batch["label"].numpy() == 1
        pairs = np.stack([batch["user_id"].numpy(), batch["item_id"].numpy()], axis=1)
        assert len(pairs) == label.sum() * (1 + negatives) and label.sum() <= batch_size
        positives += [tuple(pair) for pair in pairs[label] - 1]
        assert not met[pairs[~label, 0] - 1, pairs[~label, 1] - 1].any()
        assert np.array_equal(pairs[~label, 0], np.repeat(pairs[label, 0], negatives))
    assert sorted(positives) == sorted(zip(rows, columns, strict=True))


@pytest.mark.parametrize("bits", [1, 4, 26])
def test_the_hash_decides_only_how_fast_negatives_are_drawn(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few bits, most pairs share a mark with a seen one."""
    rng = np.random.default_rng(7)
    rows, columns = np.nonzero(rng.random((40, 30)) < 0.5)
    users, items, met = rows + 1, columns + 1, set(zip((rows + 1).tolist(), (columns + 1).tolist(), strict=True))
    monkeypatch.setattr("models.ncf.recommender.MOST_BITS", bits)
    sampler = _Sampler(users, items, 30, 4)
    drawn = np.concatenate(
        [batch["item_id"][batch["label"] == 0].numpy() for batch in sampler.batches(64, np.random.default_rng(3))]
    )

    expected, rng = [], np.random.default_rng(3)
    order = rng.permutation(len(users))
    for start in range(0, len(order), 64):
        of = np.repeat(users[order[start : start + 64]], 4)
        found = rng.integers(1, 31, size=len(of))
        while again := [i for i, pair in enumerate(zip(of.tolist(), found.tolist(), strict=True)) if pair in met]:
            found[again] = rng.integers(1, 31, size=len(again))
        expected.append(found)
    assert np.array_equal(drawn, np.concatenate(expected))


def test_a_user_who_has_seen_all_items_is_refused_before_training() -> None:
    table = pd.DataFrame({"user_id": [1] * 6 + [2] * 3, "item_id": [0, 1, 2, 3, 0, 1, 0, 1, 2], "timestamp": range(9)})
    parts = split(table, EvaluationSettings(k_core=0))
    with pytest.raises(TrainingError, match=r"seen all 4 items.*models\.ncf: null"):
        fitted(parts)


def test_a_model_without_weights_does_not_score(parts: Split) -> None:
    with pytest.raises(TrainingError, match="no weights yet"):
        NCF(SMALL).scores(parts.test)


@pytest.mark.parametrize("hidden", [(), (8, 0)])
def test_hidden_layers_need_widths(hidden: tuple[int, ...]) -> None:
    with pytest.raises(ValidationError, match="mlp_hidden"):
        NCFSettings(mlp_hidden=hidden)
