"""The torch-free recurrent form gives what the trained network gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import VersionCorruptError
from configs.settings import EvaluationSettings, SS4RecSettings
from models.evaluation import Split, split
from models.recommender import Requests
from models.ss4rec import RecurrentSS4Rec, SS4Rec, recurrent
from models.ss4rec.kernels import matrices
from models.ss4rec.kernels import step as kernels_step
from models.ss4rec.kernels.matrices import dense, packed, padded
from models.users import UserTraits
from tests import synthetic
from tests.plain_ss4rec import PLAIN
from tests.volume import volume

TINY: dict[str, Any] = PLAIN | {
    "width": 16, "blocks": 2, "time_state": 4, "relation_state": 4, "max_length": 50, "max_epochs": 1, "device": "cpu",
}  # fmt: skip

RAGGED: list[dict[str, Any]] = [
    {},
    {"norm": "pre", "interval_embedding": True, "calendar_input": True, "relation_state": 16},
    {"layers": "time"},
    {"layers": "relation", "width": 20},
]


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(60, 40, 25)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def drawn(parts: Split, folder: Path, **options: Any) -> SS4Rec:
    """Store the files of a model with widely drawn weights, so that every term matters."""
    model = SS4Rec(SS4RecSettings(**TINY | options))
    if options.get("user_features"):
        users = np.unique(parts.train.user_ids)[::2]
        frame = pd.DataFrame({"user_id": users, "gender": np.where(users % 3 == 0, "F", "M"), "age": 20 + users % 30})
        model.describe_users(frame.assign(occupation=pd.array([None, "writer"] * len(users))[: len(users)]))
    model._take_vocabulary(parts.catalogue, parts.train)
    torch.manual_seed(5)
    model._network = model._untrained().eval()
    with torch.no_grad():
        for name, weight in model._network.named_parameters():
            if (
                "norm" in name
                or name.endswith(("D", "bias", "power"))
                or name.startswith(("items", "traits", "interval_embedding", "calendar"))
            ):
                weight.add_(torch.randn_like(weight) * 0.3)
            if name.startswith(("items", "traits")):
                weight[0] = 0  # padding, and unknown traits of a user
    model.save(folder)
    return model


def recurrent_scores(model: RecurrentSS4Rec, requests: Requests, catalogue: np.ndarray) -> np.ndarray:
    items = np.searchsorted(catalogue, requests.item_ids)
    rows = []
    for row in range(len(requests)):
        span = slice(requests.offsets[row], requests.offsets[row + 1])
        times = np.append(requests.timestamps[span], requests.request_times[row])
        state, hidden = model.start(1), np.zeros((1, 1), np.float32)
        user = [int(requests.user_ids[row])]
        for item, at, until in zip(items[span], times[:-1], times[1:], strict=True):  # one step an event
            hidden = model.advance(state, np.array([item]), np.array([until - at]), np.array([0, 1]), user, np.array([until]))
        rows.append(model.scores(hidden)[0])
    return np.stack(rows)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"interval": "log1p", "two_norms": False},
        {"interval": "learned", "conv_width": 1},
        {"interval": "none", "conv_width": 2, "expand": 1, "blocks": 1},
        {"layers": "time", "interval": "log1p"},
        {"layers": "relation"},
        {"user_features": True, "interval": "log1p"},
        {"norm": "pre", "blocks": 4},
        {"norm": "pre", "two_norms": False, "layers": "time", "interval_embedding": True},
        {"norm": "pre", "layers": "relation", "user_features": True},
        {"interval_embedding": True, "interval": "log1p"},
        {"interval_embedding": True, "interval": "none"},
        {"calendar_input": True},
        {"calendar_input": True, "interval_embedding": True, "norm": "pre", "user_features": True},
    ],
    ids=str,
)
def test_every_network_gives_the_scores_of_its_full_pass_step_by_step(
    parts: Split, tmp_path: Path, options: dict[str, Any]
) -> None:
    model = drawn(parts, tmp_path, **options)
    requests = parts.test.take(np.arange(20))
    full = model.scores(requests).numpy()
    stepped = recurrent_scores(RecurrentSS4Rec.load(tmp_path), requests, parts.catalogue)
    assert np.abs(stepped - full).max() < 1e-4 * max(1.0, np.abs(full).max())


def test_many_events_at_once_and_several_users_at_once_change_nothing(parts: Split, tmp_path: Path) -> None:
    drawn(parts, tmp_path, calendar_input=True)
    model = RecurrentSS4Rec.load(tmp_path)
    rng = np.random.default_rng(0)
    offsets = np.array([0, 7, 7, 20])
    items, intervals, until = rng.integers(0, len(parts.catalogue), 20), rng.integers(0, 5000, 20), rng.integers(0, 10**9, 20)
    together = model.start(3)
    hidden = model.advance(together, items, intervals, offsets, [None] * 3, until)
    assert not hidden[1].any() and not together[1].any()
    for row in (0, 2):
        alone = model.start(1)
        for t in range(offsets[row], offsets[row + 1]):
            now = slice(t, t + 1)
            last = model.advance(alone, items[now], intervals[now], np.array([0, 1]), [None], until[now])
        assert np.array_equal(alone[0], together[row]) and np.array_equal(last[0], hidden[row])


def test_any_interval_leaves_the_state_finite(parts: Split, tmp_path: Path) -> None:
    drawn(parts, tmp_path)
    model = RecurrentSS4Rec.load(tmp_path)
    state = model.start(1)
    intervals = np.array([0, -5, 1, 10**9, 2**40, 0])
    hidden = model.advance(state, np.arange(6), intervals, np.array([0, 6]), [None], intervals)
    assert np.isfinite(state).all() and np.isfinite(hidden).all()


def test_a_model_of_before_a_part_of_the_network_existed_is_loaded_without_that_part(parts: Split, tmp_path: Path) -> None:
    model = drawn(parts, tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["settings"]["interval_embedding"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    assert SS4RecSettings().interval_embedding, "what was not stored has another default now"
    read = SS4Rec.load(tmp_path)
    assert torch.equal(read.scores(parts.test), model.scores(parts.test))
    served = recurrent_scores(RecurrentSS4Rec.load(tmp_path), parts.test.take(np.arange(5)), parts.catalogue)
    assert np.allclose(served, model.scores(parts.test.take(np.arange(5))).numpy(), rtol=1e-4, atol=1e-4)


def test_files_that_do_not_belong_together_are_refused_by_name(parts: Split, tmp_path: Path) -> None:
    drawn(parts, tmp_path)
    vocabulary = pd.read_parquet(tmp_path / "vocabulary.parquet")
    vocabulary[:-1].to_parquet(tmp_path / "vocabulary.parquet")
    with pytest.raises(VersionCorruptError, match=r"vocabulary\.parquet"):
        RecurrentSS4Rec.load(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["settings"]["time_state"] = 5
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(VersionCorruptError, match="should be float32"):
        RecurrentSS4Rec.load(tmp_path)
    config["settings"]["blocks"] = 3
    config["settings"]["time_state"] = 4
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(VersionCorruptError, match=r"lacks 'blocks\.2"):
        RecurrentSS4Rec.load(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(VersionCorruptError, match="readable SS4Rec"):
        RecurrentSS4Rec.load(tmp_path)


def test_traits_are_read_as_training_wrote_them(parts: Split, tmp_path: Path) -> None:
    drawn(parts, tmp_path, user_features=True)
    traits, network = UserTraits.load(tmp_path / "users.parquet"), SS4Rec.load(tmp_path).network
    users = np.unique(parts.train.user_ids)[:9]
    codes = torch.from_numpy(traits.of_users(users))
    expected = sum(table(codes[:, i]) for i, table in enumerate(network.traits)).detach().numpy()
    found = RecurrentSS4Rec.load(tmp_path)._users.vectors([*users.tolist(), None, -1])
    assert np.allclose(found[:-2], expected) and not found[-2:].any()


@settings(max_examples=volume(12, 100), deadline=None)
@given(
    lengths=st.lists(st.one_of(st.just(0), st.integers(1, 5), st.integers(14, 40)), min_size=1, max_size=6),
    cut=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
@pytest.mark.parametrize("options", RAGGED, ids=str)
def test_histories_of_any_lengths_give_what_their_events_give_one_by_one_to_the_last_bit(
    models: dict[str, RecurrentSS4Rec], options: dict[str, Any], lengths: list[int], cut: float, seed: int
) -> None:
    model, rng = models[str(options)], np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    items = rng.integers(0, len(model.cold_scores), offsets[-1])
    intervals = rng.choice([0, 1, 60, 86_400, 10**8], offsets[-1])
    until = rng.integers(0, 10**9, offsets[-1])
    users, start = [None] * len(lengths), rng.normal(size=(len(lengths), model.state_size)).astype(np.float32)
    together = start.copy()
    hidden = model.advance(together, items, intervals, offsets, users, until)
    for row, length in enumerate(lengths):
        for pieces in ([1] * length, [round(cut * length), length - round(cut * length)]):
            alone, begin, last = start[row : row + 1].copy(), int(offsets[row]), np.zeros((1, hidden.shape[1]), np.float32)
            for piece in filter(None, pieces):
                span = slice(begin, begin + piece)
                last = model.advance(alone, items[span], intervals[span], np.array([0, piece]), [None], until[span])
                begin += piece
            assert np.array_equal(alone[0], together[row]) and np.array_equal(last[0], hidden[row])


@pytest.fixture(scope="module")
def models(parts: Split, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RecurrentSS4Rec]:
    """Models by the options of the test above."""
    found = {}
    for options in RAGGED:
        folder = tmp_path_factory.mktemp("drawn")
        drawn(parts, folder, **options)
        found[str(options)] = RecurrentSS4Rec.load(folder)
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"conv_width": 1},
        {"conv_width": 3, "norm": "pre", "interval_embedding": True, "calendar_input": True},
        {"relation_state": 16},
    ],
)
def test_the_compiled_form_equals_the_python_that_it_was_compiled_from(
    parts: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    drawn(parts, tmp_path, width=4, **options)
    model = RecurrentSS4Rec.load(tmp_path)
    items, intervals, offsets = np.array([0, 1, 2, 3]), np.array([0, 5, 3600, 10**8]), np.array([0, 3, 3, 4])
    compiled = model.start(3)
    hidden = model.advance(compiled, items, intervals, offsets, [None] * 3, intervals)
    own = (
        *("_silu", "_normalise", "_read", "_add", "_discretise", "_time_aware", "_convolve", "_keep"),
        *("_select", "_select_any", "_select_common"),
    )
    for name in own:
        monkeypatch.setattr(kernels_step, name, getattr(kernels_step, name).py_func)
    monkeypatch.setattr(kernels_step, "dense", plain_dense)
    monkeypatch.setattr(recurrent, "advance", kernels_step.advance.py_func)
    plain = model.start(3)
    again = model.advance(plain, items, intervals, offsets, [None] * 3, intervals)
    assert np.allclose(again, hidden, rtol=1e-4, atol=1e-5)
    assert np.allclose(plain, compiled, rtol=1e-4, atol=1e-5)


def plain_dense(x: np.ndarray, rows: int, weights: np.ndarray, out: np.ndarray) -> None:
    out[:rows] = x[:rows, : weights.shape[1]] @ np.concatenate(list(weights), axis=1)


@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (4, 16), (20, 36), (64, 100)])
def test_a_row_of_a_dense_product_is_the_same_whatever_rows_are_beside_it(inputs: int, outputs: int) -> None:
    rng = np.random.default_rng(inputs)
    matrix, x = rng.normal(size=(1, outputs, inputs)).astype(np.float32), rng.normal(size=(11, inputs + 3)).astype(np.float32)
    weights = packed(matrix)[0]
    alone = np.full((11, padded(outputs)), np.nan, np.float32)
    for row in range(11):
        dense(x[row : row + 1], 1, weights, alone[row : row + 1])
    assert np.allclose(alone[:, :outputs], x[:, :inputs] @ matrix[0].T, rtol=1e-5, atol=1e-5) and not alone[:, outputs:].any()
    for rows in range(12):
        together = np.full_like(alone, np.nan)
        dense(x, rows, weights, together)
        assert np.array_equal(together[:rows], alone[:rows]) and np.isnan(together[rows:]).all()


@pytest.mark.parametrize("rows", range(10))
def test_products_of_any_number_of_rows_equal_a_matrix_product(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(rows)
    vectors, hidden = rng.normal(size=(37, 20)).astype(np.float32), rng.normal(size=(rows, 20)).astype(np.float32)
    compiled, plain = np.full((2, rows, 37), np.nan, np.float32)
    matrices.products(vectors, hidden, compiled)
    for name in ("one", "two", "three", "four"):
        monkeypatch.setattr(matrices, f"_products_of_{name}", getattr(matrices, f"_products_of_{name}").py_func)
    matrices.products.py_func(vectors, hidden, plain)
    for found in (compiled, plain):
        assert np.allclose(found, hidden @ vectors.T, rtol=1e-5, atol=1e-5)
