"""Which trainings are warm and which from scratch: by count, by calendar, and the same in production and in a replay."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from configs.settings import DueSettings, RetrainSettings, StoreSettings
from configs.studies import ReplaySettings
from configs.training_place import TrainingPlaceSettings
from infra.registry import Lineage, ModelRegistry
from infra.storage.local import LocalStore
from tasks.replay import ReplayPlan, Slice, run_settings
from tasks.retraining import Facts, Standing, decide
from tasks.retraining.answer import Position
from tasks.training import Earlier, Past, choose_beginning, next_start, past_of, reach_of
from tests.tasks.landed import Place, random_events

DAY_S = 86_400
START = 946_684_800


def keep(store: LocalStore, folder: Path, model: str, dataset: str, *, warm: bool, at: int) -> None:
    """Seal a held version with the record of its training, as a retraining leaves it."""
    folder.mkdir(parents=True)
    found = {"parent": "v", "generation": 1, "new_users": 1, "old_users": 0, "events": 9, "all_events": 99} if warm else None
    training = {"popularity": {"seconds": 3.0 if warm else 30.0, "warm": found}}
    (folder / "evaluation.json").write_text(json.dumps({"training": training}))
    made = Lineage("popularity", dataset, "loo-exact", 0, {}, {}, 1.0, 0.25 if warm else 2.5, None, "3", {}, {})
    now = datetime.fromtimestamp(at, UTC)
    registry = ModelRegistry(store)
    registry.seal(registry.stage(model, folder, now), {"outcome": "held", "reasons": []}, made, now)


def test_one_of_n_trainings_is_from_scratch_and_also_one_that_the_calendar_asks_for() -> None:
    place = TrainingPlaceSettings(warm_start=True, full_every=4)
    old = Earlier("v", 0, 30.0, None)
    turns = [next_start(place, Past(warm_starts, old), DAY_S).warm for warm_starts in range(5)]
    assert turns == [True, True, True, False, False]
    dated = place.model_copy(update={"full_days": 2.0})
    assert next_start(dated, Past(0, old), 2 * DAY_S - 1).warm
    late = next_start(dated, Past(0, old), 2 * DAY_S)
    assert not late.warm and "2.0 days ago (training.full_days: 2)" in late.why
    assert not next_start(place.model_copy(update={"full_every": 1}), Past(), 0).warm
    assert not next_start(TrainingPlaceSettings(), Past(0, old), 0).warm


def test_held_trainings_count_and_the_newest_of_each_kind_is_told_with_its_cost(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    for number, warm in enumerate([False, True, False, True, True]):
        keep(store, tmp_path / str(number), "shop", "small/abc", warm=warm, at=START + number * DAY_S)
    names = ModelRegistry(store).version_names("shop")
    past = past_of(store, "shop")
    assert past.scratch is not None and past.warm is not None and past.warm_starts == 2
    assert (past.scratch.version, past.scratch.seconds, past.scratch.usd) == (names[2], 30.0, 2.5)
    assert (past.warm.version, past.warm.seconds, past.warm.usd) == (names[4], 3.0, 0.25)
    assert past.warm.at == START + 4 * DAY_S, "its dataset is gone, so the version's own time counts"
    before = past_of(store, "shop", before=names[2])
    assert (before.warm_starts, before.warm and before.warm.version) == (1, names[1])


@pytest.mark.parametrize("seed", range(2))
def test_monitoring_retrainings_and_replays_say_the_same_of_the_next_training(seed: int, tmp_path: Path) -> None:
    draw = np.random.default_rng(seed)
    training = TrainingPlaceSettings(warm_start=True, full_every=4, full_days=20)
    place = Place(tmp_path / "zone")
    plan = ReplayPlan(
        "id", "shop", {}, (Slice(0, START, START + 1, 1),), 9, str(tmp_path), StoreSettings(url=f"file:{tmp_path}/replay"), {}
    )
    played = {"p": {"every": "week", "warm_start": True, "full_every": 4, "full_days": 20}}
    own = run_settings(plan, ReplaySettings.model_validate({"policies": played}), "p")
    turns = []
    at = START
    for number in range(9):
        more = random_events(seed * 100 + number, 30, users=20, movies=20)
        place.put(f"{number}.csv", more.assign(timestamp=np.linspace(at, at + DAY_S, len(more)).astype(int)), modified=at + DAY_S)
        dataset = place.land(now=at + 2 * DAY_S).dataset
        monitored = next_start(training, past_of(place.store, "ranker"), reach_of(dataset))
        answer = decide(
            DueSettings(),
            Position(Standing(at, 1, "a"), at),
            Facts(at, 1, "a"),
            model_name="ranker",
            dataset="d",
            start=monitored,
        )
        production = RetrainSettings(model_name="ranker", training=training)
        whys = [choose_beginning(place.store, dataset, settings).why for settings in (production, own)]
        expected = "there is no champion to begin with" if monitored.warm else monitored.why
        assert whys == [expected, expected], number
        assert f"begins {'warm' if monitored.warm else 'from scratch'}: {monitored.why}." in answer.message
        turns.append(monitored.warm)
        for model in ("ranker", own.model_name):
            keep(
                place.store, tmp_path / f"{model}-{number}", model, f"{dataset.name}/{dataset.version}", warm=monitored.warm and number > 0,
                at=at,
            )  # fmt: skip
        at += int(draw.integers(2, 9)) * DAY_S
    assert {True, False} == set(turns)
