"""The histories that a dataset offers to serving: of its newest version, and without what was removed."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from configs.errors import AlreadyExistsError, NotFoundError, StoreDeniedError, StoreUnavailableError
from infra.storage.local import LocalStore
from models.histories import Histories
from tasks.datasets import LandingLog, LogEntry, Removal, history_keys, remember_histories, store_histories
from tasks.landing import remove, undo_removal
from tests.tasks.landed import NAME, NOW, Place, events


def opened(place: Place) -> Histories:
    (key,) = history_keys(place.store, NAME)
    return Histories.open(place.store.local_file(key) or Path(), key)


def events_of(place: Place, user: int) -> list[tuple[int, int]]:
    history = opened(place).of(user)
    return [] if history is None else list(zip(history.items.tolist(), history.times.tolist(), strict=True))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (1, 2, 3, 5), (2, 1, 5, 9)))
    place.land()
    return place


def test_each_user_has_the_events_of_the_newest_version(place: Place) -> None:
    first, _ = store_histories(place.store, NAME)
    before = events_of(place, 1)
    assert [item for item, _ in before] == [1, 2] and [item for item, _ in events_of(place, 2)] == [1]
    assert store_histories(place.store, NAME)[0] == first, "nothing is new"
    place.put("b.csv", events((1, 7, 4, 20), (3, 1, 1, 30)))
    place.land()
    key, ref = store_histories(place.store, NAME)
    assert history_keys(place.store, NAME) == [key] != [first] and ref.version in key
    assert (
        events_of(place, 1)[:2] == before and [item for item, _ in events_of(place, 1)] == [1, 2, 7] and len(opened(place)) == 3
    )


def test_a_removed_user_is_taken_out_at_once_and_comes_back_if_that_is_undone(place: Place) -> None:
    store_histories(place.store, NAME)
    removal = Removal(reason="asked", by="me", user=1)
    remove(place.store, NAME, removal, place.settings, place.engine.work_dir, NOW)
    assert events_of(place, 1) == [] and len(events_of(place, 2)) == 1
    undone = Removal(reason="typo", by="me", undoes=2)
    undo_removal(place.store, NAME, undone, place.settings, place.engine.work_dir, NOW)
    assert len(events_of(place, 1)) == 2


def take_out(place: Place, user: int) -> None:
    remove(place.store, NAME, Removal(reason="asked", by="me", user=user), place.settings, place.engine.work_dir, NOW)


def test_a_removal_is_recorded_only_after_the_histories_are_gone(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store_histories(place.store, NAME)

    def denied(self: LocalStore, key: str) -> None:
        raise StoreDeniedError(f"{key} may not be deleted")

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", denied)
        with pytest.raises(StoreDeniedError):
            take_out(place, 1)
    assert LandingLog(place.store, NAME).removals() == {} and len(events_of(place, 1)) == 2
    take_out(place, 1)
    assert events_of(place, 1) == [] and len(events_of(place, 2)) == 1


def test_a_removal_that_finds_nothing_renews_histories_that_a_failed_one_had_left(place: Place) -> None:
    key, _ = store_histories(place.store, NAME)
    former = place.store.get(key)
    take_out(place, 1)
    (renewed,) = history_keys(place.store, NAME)
    place.store.delete(renewed)
    place.store.put_new(key, former)
    with pytest.raises(NotFoundError, match="has nothing of user 1"):
        take_out(place, 1)
    assert events_of(place, 1) == [] and len(events_of(place, 2)) == 1


def test_a_removal_that_other_runs_overtake_leaves_histories(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    store_histories(place.store, NAME)

    def overtaken(self: LandingLog, entry: LogEntry) -> None:
        raise AlreadyExistsError(f"{entry.number} is taken")

    with monkeypatch.context() as patch:
        patch.setattr(LandingLog, "append", overtaken)
        with pytest.raises(AlreadyExistsError, match="Other runs added"):
            take_out(place, 1)
    assert len(events_of(place, 1)) == 2


def test_a_removal_whose_run_was_killed_while_it_was_recorded_counts(place: Place) -> None:
    take_out(place, 1)
    head = LandingLog(place.store, NAME).entries()[-1]
    place.store.delete(f"landing/{NAME}/removals/{head.number:08d}.json")
    place.store.delete(f"datasets/{NAME}/{head.version}/manifest.json")
    store_histories(place.store, NAME)
    assert events_of(place, 1) == [] and len(events_of(place, 2)) == 1


def test_a_removal_writes_no_histories_where_there_were_none(place: Place) -> None:
    remove(place.store, NAME, Removal(reason="asked", by="me", user=1), place.settings, place.engine.work_dir, NOW)
    assert history_keys(place.store, NAME) == []


def test_a_file_of_an_older_version_that_was_written_late_is_replaced(place: Place) -> None:
    """A promotion may write its file while a user is removed."""
    key, _ = store_histories(place.store, NAME)
    late = place.store.get(key)
    remove(place.store, NAME, Removal(reason="asked", by="me", user=1), place.settings, place.engine.work_dir, NOW)
    place.store.put_new(key.replace("/00000001-", "/00000009-"), late)
    store_histories(place.store, NAME)
    assert events_of(place, 1) == [] and len(opened(place)) == 1


def test_without_a_version_or_a_store_nothing_depends_on_the_histories(
    place: Place, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match="no version of the dataset other"):
        store_histories(place.store, "other")

    def full(self: LocalStore, key: str, data: bytes | Path) -> None:
        raise StoreUnavailableError("the disk is full")

    monkeypatch.setattr(LocalStore, "put_new", full)
    with caplog.at_level(logging.WARNING, "recsys"):
        remember_histories(place.store, NAME)
    assert "recsys data histories" in caplog.text and history_keys(place.store, NAME) == []
