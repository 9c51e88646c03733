"""kill -9 at every write of a landing, a compaction and a pruning: a plain re-run ends as if nothing had happened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

from tasks.datasets import LandingLog, list_datasets, plan_prune, prune_versions, verify_dataset
from tasks.landing import Landing
from tests.doubles.kill_points import killed_at_each_write
from tests.tasks.landed import NAME, Place, at, compact_in, content, csv, events, land_in, prune_in, random_events
from tests.volume import volume


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A dataset of two files, and a zone with three new ones: events, bad rows, descriptions."""
    place = Place(tmp_path_factory.mktemp("crash"))
    place.put("a.csv", random_events(0, 30))
    place.land()
    place.put("b.csv", random_events(1, 30))
    place.land()
    place.put("c.csv", csv(random_events(2, 30)) + "x,1,3,946684900\n")
    place.put("d.csv", events((9, 9, 3, 5)))
    place.put("movies.csv", "movieId,title,genres\n1,One (1990),Drama\n")
    return place


def copies(made: Place, tmp_path: Path) -> Callable[[int], Path]:
    return lambda number: Path(shutil.copytree(made.store.folder, tmp_path / f"store{number}"))


def accounts(place: Place) -> list[str]:
    return sorted(key for key in place.store.list(f"landing/{NAME}/files/"))


@pytest.mark.full
def test_a_plain_rerun_after_a_kill_at_any_write_ends_as_an_undisturbed_run(made: Place, tmp_path: Path) -> None:
    undisturbed = at(made, copies(made, tmp_path)(0))
    wanted = undisturbed.land()
    seen = []
    for folder in killed_at_each_write(partial(land_in, made), copies(made, tmp_path), step=volume(3, 1)):
        place = at(made, folder)
        before = list_datasets(place.store)
        assert len(before) in (2, 3) and all(place.table(ref).shape[0] == ref.rows for ref in before)
        again = place.land()
        seen.append(len(again.accounts))
        check_same(again, place, wanted, undisturbed)
        shutil.rmtree(folder)
        shutil.rmtree(place.engine.work_dir, ignore_errors=True)
    assert set(seen) == {0, 3} and seen == sorted(seen, reverse=True) and len(seen) > volume(20, 60)


def check_same(found: Landing, place: Place, wanted: Landing, undisturbed: Place) -> None:
    assert found.dataset.version == wanted.dataset.version and found.number == wanted.number == 3
    assert found.watermark == wanted.watermark
    assert accounts(place) == accounts(undisturbed) and len(list_datasets(place.store)) == 3
    verify_dataset(place.store, found.dataset)
    for table in ("interactions", "items", "users"):
        assert_frame_equal(place.table(found.dataset, table), undisturbed.table(wanted.dataset, table))


@pytest.mark.full
def test_a_compaction_killed_at_any_write_has_happened_completely_or_not_at_all(made: Place, tmp_path: Path) -> None:
    before = list_datasets(made.store)[-1]
    seen = []
    for folder in killed_at_each_write(partial(compact_in, made), copies(made, tmp_path)):
        place = at(made, folder)
        head = LandingLog(place.store, NAME).head()
        assert head is not None and head.version.startswith(content(before))
        seen.append(head.kind)
        place.compact()
        newest = list_datasets(place.store)[-1]
        assert newest.number == 3 and newest.parents == (f"{NAME}/{before.version}",)
        assert_frame_equal(place.table(newest), made.table(before))
        assert place.land().dataset.rows > newest.rows
        shutil.rmtree(folder)
    assert set(seen) == {"ingest", "compact"} and seen == sorted(seen, reverse=True)


def test_a_pruning_killed_at_any_write_is_completed_by_the_next(made: Place, tmp_path: Path) -> None:
    whole = at(made, copies(made, tmp_path)(0))
    whole.compact()
    prune_versions(whole.store, plan_prune(whole.store, 1))
    wanted = sorted(whole.store.list())
    assert len(list_datasets(whole.store)) == 1
    ready = at(made, copies(made, tmp_path)(-1))
    ready.compact()

    killed = 0
    for folder in killed_at_each_write(prune_in, copies(ready, tmp_path)):
        place = at(made, folder)
        for ref in list_datasets(place.store):
            assert len(place.table(ref)) == ref.rows
        prune_versions(place.store, plan_prune(place.store, 1))
        assert sorted(place.store.list()) == wanted
        shutil.rmtree(folder)
        killed += 1
    assert killed > 5
