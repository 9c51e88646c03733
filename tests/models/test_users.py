"""User features, from the users' table to the scores, the recurrent state and the stored version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, SS4RecSettings
from models.evaluation import Split, split
from models.loading import load_recommender
from models.recommender import Requests
from models.ss4rec import SS4Rec, SS4RecNetwork
from models.users import UserTraits
from models.windows import Batching, Segments, TrainingBatches
from tests import synthetic
from tests.plain_ss4rec import PLAIN

TOLD = SS4RecSettings(
    **PLAIN, width=16, blocks=2, time_state=4, relation_state=4, max_length=12, batch_tokens=96, max_epochs=2, device="cpu", user_features=True
)  # fmt: skip


def people(count: int = 40) -> pd.DataFrame:
    ids = np.arange(1, count + 1)
    return pd.DataFrame(
        {
            "user_id": ids,
            "gender": pd.array(np.where(ids % 2, "F", "M"), dtype="string"),
            "age": pd.array(ids + 10, dtype="Int64"),
            "occupation": pd.array([f"work {i % 5}" for i in ids], dtype="string"),
            "zip_code": pd.array(["x"] * count, dtype="string"),
        }
    )


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(40, 40, 20)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def fitted(parts: Split, users: pd.DataFrame, settings: SS4RecSettings = TOLD, folder: Path | None = None) -> SS4Rec:
    model = SS4Rec(settings)
    model.describe_users(users)
    model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True, checkpoint_dir=folder)
    return model


def test_traits_are_numbered_and_unknown_ones_are_0(tmp_path: Path) -> None:
    table = people(8).assign(age=pd.array([17, 18, 24, 25, 56, 99, None, 0], dtype="Int64"))
    table.loc[2, "gender"] = pd.NA
    traits = UserTraits.of(table.sample(frac=1, random_state=0))
    assert traits.values[0] == ("F", "M") and traits.values[1] == ("01", "18", "25", "56") and traits.sizes == [2, 4, 5]
    assert traits.of_users(np.arange(1, 9))[:, 1].tolist() == [1, 2, 2, 3, 4, 4, 0, 0]
    assert traits.of_users(np.arange(1, 9))[:, 0].tolist() == [1, 2, 0, 2, 1, 2, 1, 2]
    assert traits.of_users(np.array([99, 1, -5, 1])).tolist() == [[0, 0, 0], [1, 1, 2], [0, 0, 0], [1, 1, 2]]
    traits.save(tmp_path / "users.parquet")
    again = UserTraits.load(tmp_path / "users.parquet")
    assert again.values == traits.values and np.array_equal(again.codes, traits.codes)
    assert set(pd.read_parquet(tmp_path / "users.parquet")) == {"user_id", "gender", "age", "occupation"}  # no zip code


def test_a_users_table_without_any_trait_is_refused(parts: Split) -> None:
    nothing = people().assign(gender=pd.NA, age=pd.array([pd.NA] * 40, dtype="Int64"), occupation=pd.NA)
    for table in (nothing, nothing[["user_id"]]):
        with pytest.raises(TrainingError, match="user_features to false"):
            SS4Rec(TOLD).describe_users(table)
    with pytest.raises(TrainingError, match="describe_users"):
        SS4Rec(TOLD).fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)


def test_batches_of_either_layout_say_whose_window_it_is(parts: Split) -> None:
    model = SS4Rec(TOLD)
    model._take_vocabulary(parts.catalogue, parts.train)
    row_of_user = np.stack([parts.train.user_ids, parts.train.user_ids * 3], axis=1)  # a trait that identifies the user
    batching = Batching(max_length=7, tokens=40, seed=1)
    batches = TrainingBatches(parts.train, model._vocabulary, batching, device=torch.device("cpu"), who=row_of_user)
    users_of = {}
    for row, user in enumerate(parts.train.user_ids):
        items = parts.train.item_ids[parts.train.offsets[row] : parts.train.offsets[row + 1]]
        users_of[int(user)] = set(model._vocabulary.indices(items).tolist())
    met = set()
    for batch in [*batches.eager(1), *(batches.fixed(torch.tensor(step)) for step in range(batches.begin(1)))]:
        assert batch.who is not None and len(batch.who) == len(batch.segments)
        for window, who in zip(
            torch.split(batch.items, torch.diff(batch.segments.offsets).tolist()), batch.who.tolist(), strict=True
        ):
            assert who[1] == 3 * who[0]
            if who[0]:
                assert len(window) and set(window.tolist()) <= users_of[who[0]]
                met.add(who[0])
            else:
                assert not window.any()
    assert met == set(users_of)


def test_steps_use_the_users_traits_as_the_full_pass_does() -> None:
    torch.manual_seed(0)
    network = SS4RecNetwork(20, TOLD, [2, 3]).eval()
    items, gaps = torch.randint(1, 21, (3, 6)), torch.rand(3, 6) * 5000
    who, spans = torch.tensor([[1, 3], [2, 0], [0, 0]]), Segments.of(torch.tensor([0, 6, 12, 18]), 18)
    whole = network(items.reshape(-1), gaps.reshape(-1), spans, "cpu", who).view(3, 6, -1)
    state = network.start(3, who)
    for t in range(6):
        state, hidden = network.step(state, items[:, t], gaps[:, t], "cpu")
        torch.testing.assert_close(hidden, whole[:, t], rtol=1e-4, atol=1e-5)
    assert torch.equal(state.values[:, :2], who.float())
    nobody = network(items.reshape(-1), gaps.reshape(-1), spans, "cpu").view(3, 6, -1)
    torch.testing.assert_close(nobody[2], whole[2])
    assert not torch.allclose(nobody[0], whole[0]) and not torch.allclose(nobody[1], whole[1])


def test_the_user_matters_even_after_the_model_was_stored(parts: Split, tmp_path: Path) -> None:
    model = fitted(parts, people())
    model.save(tmp_path)
    loaded = load_recommender(tmp_path)
    scores = model.scores(parts.test)
    assert torch.equal(loaded.scores(parts.test), scores)
    others = {"user_ids": np.full(len(parts.test), 10_000)}
    names = ("offsets", "item_ids", "timestamps", "request_times", "targets")
    strangers = Requests(**others, **{name: getattr(parts.test, name) for name in names})
    assert not torch.allclose(model.scores(strangers), scores, atol=1e-4) and torch.isfinite(model.scores(strangers)).all()
    assert model.network.traits[0].weight[1:].std() > 0 and not model.network.traits[0].weight[0].any()


def test_a_run_with_other_users_is_not_resumed(parts: Split, tmp_path: Path) -> None:
    first = fitted(parts, people(), folder=tmp_path).network.state_dict()
    other = people().assign(gender=lambda table: table["gender"].str.replace("F", "M"))
    model = SS4Rec(TOLD)
    model.describe_users(other)
    report = model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True, checkpoint_dir=tmp_path)
    assert report.resumed_from is None and model.network.state_dict()["traits.0.weight"].shape != first["traits.0.weight"].shape


def test_user_features_that_are_switched_off_leave_no_trace(parts: Split, tmp_path: Path) -> None:
    off = TOLD.model_copy(update={"user_features": False})
    model = SS4Rec(off)
    model.describe_users(people())
    model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    model.save(tmp_path)
    assert not (tmp_path / "users.parquet").exists() and not any("traits" in name for name in model.network.state_dict())
    plain = SS4Rec(off)
    plain.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    assert torch.equal(plain.scores(parts.test), model.scores(parts.test))
