"""A replay of a team's own events: its slices are delivered under the usual names, and give the events of the file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from configs.errors import ReplayError
from configs.studies import ReplaySettings
from infra.landing_zone import open_zone
from infra.storage import open_store
from tasks.datasets import external_ids, read_table
from tasks.landing import LandingOptions, land
from tasks.replay import deliver, plan_replay, run_settings
from tests.own_events import SHAPES, write


def settings(name: str, folder: Path, **more: object) -> ReplaySettings:
    shape = SHAPES[name]()
    path = write(shape, folder / "delivered")
    data = {**shape.data, **shape.tables, "local_path": str(path.parent), "dataset": name}
    places = {"store": {"url": f"file:{folder}/store"}, "work_dir": str(folder / "work")}
    return ReplaySettings.model_validate({"data": data, **places, "slices": "month", "base_slices": 1, **more})


@pytest.mark.parametrize("name", SHAPES)
def test_the_slices_give_the_events_of_the_file(name: str, tmp_path: Path) -> None:
    replay = settings(name, tmp_path)
    plan = plan_replay(replay)
    run = run_settings(plan, replay)
    store = open_store(run.store)
    for part in plan.slices:
        deliver(part, plan.feed, plan.zone)
        options = LandingOptions(run.validation, run.landing, run.etl, float(part.end), False, run.data)
        found = land(store, open_zone(str(run.data.landing), run.store), name, options).dataset
    shape = SHAPES[name]()
    events = read_table(store, found, "interactions")
    expected = (
        len(shape.events) if shape.data.get("repeats") == "keep" else len(shape.events.drop_duplicates([shape.user, shape.item]))
    )
    assert len(events) == expected and found.users == shape.events[shape.user].nunique()
    assert found.properties.feedback == "implicit" and found.properties.weights == (name == "shop")
    if name == "shop":
        assert set(events["weight"]) == {0.1, 0.5, 1.0}
        assert {"brand", "price"} <= set(read_table(store, found, "items").columns)
    texts = external_ids(store, found, "item_id")
    if texts is not None:
        pairs = pd.Series(shape.events[shape.item].unique())
        assert set(texts) == set(pairs)


def test_a_scenario_that_such_data_cannot_have_is_refused(tmp_path: Path) -> None:
    shift = {"name": "genre-surge", "from_slice": 1}
    with pytest.raises(ReplayError, match="genre-surge cannot be planted into shop: its ids are text"):
        plan_replay(settings("shop", tmp_path / "shop", scenario=shift))
    with pytest.raises(ReplayError, match="rating-scale cannot be planted into music: its events have no rating"):
        plan_replay(settings("music", tmp_path / "music", scenario={"name": "rating-scale", "from_slice": 1}))
