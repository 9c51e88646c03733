"""kill -9 at random moments of a run over a landing zone, each followed by a plain re-run."""

from __future__ import annotations

import random
import shutil
from functools import partial
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, list_datasets, verify_dataset
from tasks.landing import compact
from tests.doubles.random_kills import killed_after, seconds_of
from tests.tasks.landed import NAME, NOW, Place, csv, random_events
from tests.volume import volume

KILLS = volume(12, 50)
TABLES = ("interactions", "items", "users", "features")


def deliver(folder: Path) -> Place:
    """Return a dataset of two runs, and a zone with new files of all kinds."""
    place = Place(folder, compact_parts=2)
    place.put("0.csv", random_events(0, 20_000, users=900, movies=300, seconds=10**6))
    place.land()
    place.put("1.csv", random_events(1, 5000, users=900, movies=300, seconds=10**6))
    place.land()
    for number in range(2, 6):
        place.put(
            f"{number}.csv", csv(random_events(number, 8000, users=1000, movies=320, seconds=10**6)) + "x,1,3,946684900\n" * 5
        )
    place.put("movies.csv", "movieId,title,genres\n" + "".join(f"{movie},Film {movie} (1990),Drama\n" for movie in range(1, 300)))
    return place


def run(place: Place) -> DatasetRef:
    """Do what `recsys etl --landing` does."""
    place.land()
    return compact(place.store, NAME, place.settings, place.engine.work_dir, NOW)


@pytest.mark.full
def test_whenever_a_run_is_killed_a_plain_rerun_gives_the_same_as_an_undisturbed_run(tmp_path: Path) -> None:
    made = deliver(tmp_path / "made")
    undisturbed = beside(made, tmp_path / "undisturbed")
    seconds = seconds_of(partial(run, undisturbed))
    wanted = run(undisturbed)
    tables = {table: undisturbed.table(wanted, table) for table in TABLES}
    ledger = sorted(undisturbed.store.list(f"landing/{NAME}/files/"))
    draw = random.Random(5)
    kills = left_undone = 0
    for attempt in range(20 * KILLS):
        place = beside(made, tmp_path / f"run-{attempt}")
        if killed_after(draw.uniform(0, seconds), partial(run, place)):
            kills += 1
            left_undone += len(list_datasets(place.store)) < len(list_datasets(undisturbed.store))
            found = run(place)
            assert found == wanted.__class__(**{**wanted.__dict__, "uri": found.uri})
            assert sorted(place.store.list(f"landing/{NAME}/files/")) == ledger
            verify_dataset(place.store, found)
            for table in TABLES:
                assert_frame_equal(place.table(found, table), tables[table])
        shutil.rmtree(place.store.folder.parent)
        if kills == KILLS:
            break
    assert kills == KILLS and left_undone, f"{kills} kills met a run under way, {left_undone} left it undone"


def beside(made: Place, folder: Path) -> Place:
    """Return the same zone, with a copy of the store."""
    shutil.copytree(made.store.folder, folder / "store")
    place = Place.__new__(Place)
    engine = made.engine.model_copy(update={"work_dir": folder / "work"})
    place.__dict__ = {**made.__dict__, "store": LocalStore(folder / "store"), "engine": engine}
    return place
