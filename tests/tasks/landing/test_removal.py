"""What is taken out of a dataset stays out, whatever lands, until the removal is undone."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from configs.errors import DataRefusedError, NotFoundError
from infra.erasures import erase_user
from tasks.datasets import (
    DatasetRef,
    LandingLog,
    LogEntry,
    Removal,
    list_datasets,
    plan_prune,
    prune_versions,
    verify_dataset,
)
from tasks.landing import remove, undo_removal
from tests.tasks.landed import NAME, NOW, SETTLED, Place, by_file, content, events, release


def removed(place: Place, **what: object) -> tuple[DatasetRef, LogEntry]:
    removal = Removal(reason="asked", by="me", **what)  # type: ignore[arg-type]
    found = remove(place.store, NAME, removal, place.settings, place.engine.work_dir, NOW)
    verify_dataset(place.store, found[0])
    return found


def undone(place: Place, number: int) -> tuple[DatasetRef, LogEntry]:
    removal = Removal(reason="typo", by="me", undoes=number)
    found = undo_removal(place.store, NAME, removal, place.settings, place.engine.work_dir, NOW)
    verify_dataset(place.store, found[0])
    return found


def pairs(place: Place, ref: DatasetRef) -> list[list[int]]:
    return place.table(ref)[["user_id", "item_id", "rating"]].astype(int).to_numpy().tolist()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (1, 2, 3, 5), (2, 1, 5, 9)))
    place.put("users.csv", "userId,age\n1,30\n2,40\n")
    place.land()
    return place


def test_a_user_is_taken_out_and_stays_out(place: Place) -> None:
    before = list_datasets(place.store)[-1]
    ref, entry = removed(place, user=1)
    assert pairs(place, ref) == [[2, 1, 5]] and place.table(ref, "users")["user_id"].tolist() == [2]
    assert (ref.rows, ref.users, ref.items, entry.number) == (1, 1, 1, 2) and ref.parents == (f"{NAME}/{before.version}",)
    assert entry.removal is not None and (entry.removal.events, entry.removal.reason) == (2, "asked")
    assert pairs(place, before) == [[1, 1, 4], [1, 2, 3], [2, 1, 5]], "an older version is left as it is"
    assert place.land().accounts == ()
    place.put("again.csv", events((1, 1, 4, 0), (1, 9, 4, 99), (3, 1, 4, 0)))
    place.put("users2.csv", "userId,age\n1,31\n3,50\n")
    found = place.land()
    account = by_file(found)["again.csv"]
    assert (account.rows, account.accepted, account.duplicates, account.quarantined, account.removed) == (3, 1, 0, 0, 2)
    assert by_file(found)["users2.csv"].removed == 1
    assert pairs(place, found.dataset) == [[2, 1, 5], [3, 1, 4]]
    assert place.compact().rows == 2
    with pytest.raises(NotFoundError, match="has nothing of user 77"):
        removed(place, user=77)


def test_an_erased_user_neither_lands_nor_comes_back_with_an_undone_removal(place: Place) -> None:
    place.put("more.csv", events((2, 3, 4, 20)))
    place.land()
    _, entry = removed(place, item=1)  # of users 1 and 2
    erase_user(place.store, 1, reason="asked", by="me", now=datetime(2026, 11, 24, tzinfo=UTC))
    removed(place, user=1)
    ref, _ = undone(place, entry.number)
    assert pairs(place, ref) == [[2, 1, 5], [2, 3, 4]] and place.table(ref, "users")["user_id"].tolist() == [2]
    place.put("late.csv", events((1, 7, 4, 50), (3, 7, 4, 51)))
    place.put("users2.csv", "userId,age\n1,31\n3,50\n")
    found = place.land()
    assert pairs(place, found.dataset) == [[2, 1, 5], [2, 3, 4], [3, 7, 4]] and by_file(found)["late.csv"].removed == 1
    assert by_file(found)["users2.csv"].removed == 1


def test_an_event_is_taken_out_and_the_one_that_it_had_superseded_comes_back(place: Place) -> None:
    place.put("b.csv", events((1, 1, 1, 50)))
    assert pairs(place, place.land().dataset) == [[1, 2, 3], [1, 1, 1], [2, 1, 5]]
    ref, _ = removed(place, user=1, item=1, time=946_684_850)
    assert pairs(place, ref) == [[1, 2, 3], [2, 1, 5]]
    found = place.land()
    assert pairs(place, found.dataset) == [[1, 1, 4], [1, 2, 3], [2, 1, 5]]
    assert by_file(found)["b.csv"].removed == 1 and by_file(found)["a.csv"].accepted == 1
    assert place.land().accounts == ()


def test_a_removal_can_be_undone(place: Place) -> None:
    first = list_datasets(place.store)[-1]
    _, entry = removed(place, user=1)
    with pytest.raises(NotFoundError, match=r"no removal 1 that could be undone. Current removals: 2 \(user 1\)"):
        undone(place, 1)
    place.put("more.csv", events((1, 7, 4, 7)))
    assert by_file(place.land())["more.csv"].removed == 1
    ref, undo = undone(place, entry.number)
    assert undo.number == 4 and LandingLog(place.store, NAME).removals() == {}
    assert content(ref) == content(first) and undo.removal is not None and undo.removal.events == 2
    assert pairs(place, place.land().dataset) == [[1, 1, 4], [1, 2, 3], [1, 7, 4], [2, 1, 5]]
    assert place.land().accounts == ()


def test_what_was_removed_from_a_release_comes_back_as_it_was(tmp_path: Path) -> None:
    place = Place(tmp_path, base="newest")
    release(place, events((2, 2, 4, 0), (1, 1, 4, 0), (1, 2, 4, 0)))
    place.put("a.csv", events((3, 1, 4, 0)))
    place.put("users.csv", "userId,age\n1,30\n")
    first = place.land().dataset
    _, entry = removed(place, user=1)
    (place.zone / "a.csv").unlink()
    place.put("b.csv", events((1, 1, 5, 90)))
    place.land()
    ref, _ = undone(place, entry.number)
    assert content(ref) == content(first) and place.table(ref).equals(place.table(first))
    assert place.table(ref, "users").equals(place.table(first, "users"))
    assert pairs(place, place.land().dataset) == [[1, 2, 4], [1, 1, 5], [2, 2, 4], [3, 1, 4]]


def test_after_a_pruning_the_files_of_the_zone_bring_back_what_was_removed(place: Place) -> None:
    first = list_datasets(place.store)[-1]
    _, entry = removed(place, user=1)
    place.compact()
    prune_versions(place.store, plan_prune(place.store, 1))
    ref, undo = undone(place, entry.number)
    assert ref.rows == 1 and undo.removal is not None and undo.removal.events == 0
    assert content(place.land().dataset) == content(first)


@pytest.mark.parametrize("compacted", [False, True])
def test_a_file_is_taken_out_and_what_it_had_changed_comes_back(place: Place, compacted: bool) -> None:
    first = list_datasets(place.store)[-1]
    place.put("bad.csv", events((1, 1, 1, 50), (5, 5, 1, 50)), modified=SETTLED + 5)
    place.put("more.csv", events((5, 6, 1, 50)), modified=SETTLED + 5)
    place.put("old.csv", events((5, 5, 2, 10)), modified=SETTLED + 5)
    place.put("traits.csv", "userId,age\n1,99\n", modified=SETTLED + 5)
    place.land()
    if compacted:
        place.compact()
    ref, _ = removed(place, file="bad.csv")
    assert pairs(place, ref) == [[1, 2, 3], [2, 1, 5], [5, 6, 1]]
    removed(place, file="traits.csv")
    found = place.land()
    assert pairs(place, found.dataset) == [[1, 1, 4], [1, 2, 3], [2, 1, 5], [5, 5, 2], [5, 6, 1]]
    assert place.table(found.dataset, "users")["age"].tolist()[:2] == [30, 40]
    removed(place, file="more.csv")
    removed(place, file="old.csv")
    assert content(place.land().dataset) == content(first)
    place.put("renamed.csv", events((5, 6, 1, 50)))
    assert content(place.land().dataset) == content(first), "the same content under another name stays out, too"
    with pytest.raises(NotFoundError, match=r"No file none\.csv has landed"):
        removed(place, file="none.csv")


def test_a_description_of_the_release_comes_back_with_the_file_that_changed_it(tmp_path: Path) -> None:
    place = Place(tmp_path, base="newest")
    release(place, events((1, 1, 4, 0), (2, 2, 4, 0)))
    place.put("a.csv", events((3, 1, 4, 0)))
    place.put("titles.csv", "movieId,title\n1,Wrong\n9,Nine\n")
    assert place.table(place.land().dataset, "items")["title"].tolist() == ["Wrong", "Two", "Nine"]
    ref, _ = removed(place, file="titles.csv")
    assert place.table(ref, "items")["title"].tolist() == ["One", "Two"]
    assert place.table(place.land().dataset, "items")["title"].tolist() == ["One", "Two"]


def test_a_wild_time_that_is_taken_out_moves_the_watermark_back(tmp_path: Path) -> None:
    place = Place(tmp_path, allowed_lateness_s=100)
    place.put("a.csv", events((1, 1, 4, 1000), (2, 1, 4, 999_999)))
    place.land()
    before = list_datasets(place.store)[-1]
    ref, entry = removed(place, user=2, item=1)
    assert entry.watermark == 946_684_800 + 900 and ref.horizon == 946_684_800 + 1000
    place.put("b.csv", events((1, 2, 4, 1100)))
    assert place.land().watermark == 946_684_800 + 1000, "the event that was taken out moved the watermark again"
    undone(place, entry.number)
    found = place.land()
    assert found.dataset.horizon == before.horizon and found.watermark == 946_684_800 + 999_999 - 100


def test_a_future_event_does_not_keep_the_watermark_up_after_a_wild_time_is_taken_out(tmp_path: Path) -> None:
    place = Place(tmp_path, allowed_lateness_s=100)
    place.put("a.csv", events((1, 1, 4, 1000), (2, 1, 4, 999_999), (3, 1, 4, int(NOW) - 946_684_800 + 50)))
    place.land()
    _, entry = removed(place, user=2, item=1)
    assert entry.watermark == place.land().watermark == 946_684_800 + 900


def test_removing_the_last_event_or_anything_from_a_release_is_refused(tmp_path: Path) -> None:
    place = Place(tmp_path)
    release(place, events((1, 1, 4, 0)))
    with pytest.raises(NotFoundError, match="is made of a release"):
        removed(place, user=1)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.land()
    with pytest.raises(DataRefusedError, match="would have no event left"):
        removed(place, user=1)


def test_removing_a_file_that_an_earlier_version_landed_is_refused(place: Place) -> None:
    log = LandingLog(place.store, NAME)
    entry = log.entries()[0]
    key = f"landing/{NAME}/log/{entry.number:08d}.json"
    place.store.put(key, place.store.get(key).replace(b'"ordinal": 0', b'"ordinal": -1'))
    with pytest.raises(DataRefusedError, match="landed before the product recorded the file"):
        removed(place, file="a.csv")


def test_a_removal_whose_run_was_killed_is_completed(place: Place) -> None:
    _, entry = removed(place, user=1)
    place.store.delete(f"landing/{NAME}/removals/{entry.number:08d}.json")
    place.store.delete(f"datasets/{NAME}/{entry.version}/manifest.json")
    place.put("again.csv", events((1, 1, 4, 0), (3, 1, 4, 0)))
    assert pairs(place, place.land().dataset) == [[2, 1, 5], [3, 1, 4]]


def test_files_that_are_read_again_keep_their_times_even_if_they_were_touched(place: Place) -> None:
    place.put("b.csv", events((1, 1, 2, 0)), modified=SETTLED + 60)
    place.put("users2.csv", "userId,age\n1,31\n", modified=SETTLED + 60)
    first = place.land().dataset
    for number, name in enumerate(("b.csv", "users2.csv", "a.csv", "users.csv")):
        os.utime(place.zone / name, (SETTLED + 100 + number, SETTLED + 100 + number))
    place.land()
    _, entry = removed(place, file="b.csv")
    undone(place, entry.number)
    found = place.land()
    assert content(found.dataset) == content(first) and len(found.accounts) == 4
    assert place.table(found.dataset, "users")["age"].tolist() == [31, 40]
