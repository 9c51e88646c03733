from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from configs.errors import AlreadyExistsError, DataRefusedError, NotFoundError, SourceError, VersionCorruptError
from configs.settings import ValidationSettings
from infra.storage.local import LocalStore
from tasks.datasets import FileAccount, LandingLog, list_datasets, load_dataset_ref, read_manifest, verify_dataset
from tasks.ingest import build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import validate
from tasks.tables import InteractionModel, ItemModel, UserModel
from tests import synthetic
from tests.tasks.landed import LAX, NAME, NOW, SETTLED, Place, by_file, content, events, random_events, release


def test_a_file_is_added_once_whatever_its_name(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (1, 2, 3, 5), (2, 1, 5, 9)))
    first = place.land()
    account = by_file(first)["a.csv"]
    assert (account.rows, account.accepted, account.duplicates, account.quarantined) == (3, 3, 0, 0)
    assert (account.new_users, account.new_items) == (2, 2)
    before = sorted(place.store.list("datasets/"))
    again = place.land()
    assert again.accounts == () and again.known == 1 and again.dataset == first.dataset and again.number == 1
    place.put("sent-again.csv", events((1, 1, 4, 0), (1, 2, 3, 5), (2, 1, 5, 9)))
    again = place.land()
    copy = by_file(again)["sent-again.csv"]
    assert (copy.status, copy.rows, copy.remarks) == ("copy", 0, "has the same content as a.csv")
    assert again.known == 2 and again.dataset == first.dataset and sorted(place.store.list("datasets/")) == before
    assert place.land().accounts == ()
    table = place.table(first.dataset)
    InteractionModel.validate(table)
    assert table["row"].tolist() == [0, 1, 2]


def test_rows_that_were_in_another_file_are_duplicates_and_make_no_version(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (1, 2, 3, 5)))
    first = place.land()
    place.put("b.csv", events((1, 2, 3, 5), (1, 1, 4, 0)))
    second = place.land()
    account = by_file(second)["b.csv"]
    assert (account.rows, account.accepted, account.duplicates) == (2, 0, 2)
    assert second.dataset == first.dataset and second.number == 2 and len(list_datasets(place.store)) == 1


def test_the_newer_rating_of_a_user_and_movie_counts_even_if_it_arrives_first(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 10), (1, 2, 3, 50), (2, 1, 1, 7)))
    place.land()
    place.put("b.csv", events((1, 1, 2, 20), (1, 2, 5, 40), (2, 1, 3, 7)))
    second = place.land()
    account = by_file(second)["b.csv"]
    # The second row is older than the stored event. The third is of the same second, and its higher rating counts.
    assert (account.accepted, account.duplicates, account.corrections) == (2, 1, 2)
    table = place.table(second.dataset)
    expected = events((1, 1, 2, 20), (1, 2, 3, 50), (2, 1, 3, 7))
    assert_frame_equal(table[list(expected)], expected)
    assert second.dataset.rows == 3 and second.dataset.first == table["timestamp"].min()
    assert second.dataset.parents == (f"{NAME}/{list_datasets(place.store)[0].version}",)
    verify_dataset(place.store, second.dataset)


def test_a_later_delivery_corrects_a_rating_of_the_same_second_in_one_run_and_in_two(tmp_path: Path) -> None:
    found = []
    for name, runs in (("one", 1), ("two", 2), ("compacted", 3)):
        place = Place(tmp_path / name)
        place.put("z.csv", events((1, 1, 5, 10), (2, 1, 2, 10)), modified=SETTLED)
        if runs > 1:
            place.land()
        if runs > 2:
            place.compact()
        place.put("a.csv", events((1, 1, 2, 10), (2, 1, 5, 10)), modified=SETTLED + 60)
        landed = place.land()
        found.append((content(landed.dataset), place.table(landed.dataset)["rating"].tolist()))
        assert by_file(landed)["a.csv"].corrections == (2 if runs > 1 else 0)
    assert len(set(map(str, found))) == 1 and found[0][1] == [2.0, 5.0]


def test_a_landed_rating_corrects_that_of_the_release_in_the_same_second(tmp_path: Path) -> None:
    place = Place(tmp_path, base="newest")
    release(place, events((1, 1, 5, 10), (2, 1, 4, 10)))
    place.put("a.csv", events((1, 1, 2, 10), (2, 1, 4, 10)))
    landed = place.land()
    assert place.table(landed.dataset)["rating"].tolist() == [2.0, 4.0]
    assert (by_file(landed)["a.csv"].corrections, by_file(landed)["a.csv"].duplicates) == (1, 1)


def test_events_later_than_the_watermark_allows_are_accepted_and_counted(tmp_path: Path) -> None:
    place = Place(tmp_path, allowed_lateness_s=100)
    place.put("a.csv", events((1, 1, 4, 1000)))
    first = place.land()
    assert first.watermark == 946_684_800 + 900
    place.put("b.csv", events((1, 2, 4, 899), (1, 3, 4, 901), (2, 1, 4, 10)))
    second = place.land()
    assert by_file(second)["b.csv"].late == 2 and second.dataset.rows == 4
    assert second.watermark == first.watermark and second.dataset.first == 946_684_800 + 10


def test_too_few_events_make_no_dataset_and_are_read_again_by_the_next_run(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (1, 2, 4, 1)))
    with pytest.raises(DataRefusedError, match=r"would have 2 events after 1 new files.*validation\.min_rows = 3"):
        place.land(validation=ValidationSettings(min_rows=3))
    place.put("b.csv", events((2, 1, 4, 0)))
    found = place.land(validation=ValidationSettings(min_rows=3))
    assert found.dataset.rows == 3 and len(found.accounts) == 2


def test_a_zone_without_events_gives_no_dataset(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(SourceError, match="Put event files there"):
        place.land()
    place.put("movies.csv", "movieId,title,genres\n1,Heat (1995),Crime\n")
    place.put("empty.csv", "userId,movieId,rating,timestamp\n")
    with pytest.raises(DataRefusedError, match="would have 0 events"):
        place.land()


def test_a_user_of_many_files_is_new_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for number in range(5):
        place.put(f"{number}.csv", events((1, number, 4, number), (2, 9, 4, number)))
    found = place.land()
    assert sum(account.new_users for account in found.accounts) == found.dataset.users == 2
    assert sum(account.new_items for account in found.accounts) == found.dataset.items == 6


def test_adding_files_to_a_release_keeps_its_order_of_ties(tmp_path: Path) -> None:
    place = Place(tmp_path, base="newest")
    frame = events((3, 2, 4, 5), (1, 2, 3, 5), (1, 1, 5, 5), (2, 4, 1, 8))
    base = release(place, frame)
    place.put("a.csv", events((1, 2, 3, 5), (1, 3, 2, 5), (3, 2, 1, 6)))
    found = place.land()
    assert by_file(found)["a.csv"].duplicates == 1 and by_file(found)["a.csv"].corrections == 1
    assert found.dataset.parents == (f"{NAME}/{base}",)
    table = place.table(found.dataset)
    assert table[["user_id", "item_id", "row"]].to_numpy().tolist() == [[1, 1, 2], [1, 2, 1], [1, 3, 4], [2, 4, 3], [3, 2, 5]]
    items = place.table(found.dataset, "items")
    ItemModel.validate(items)
    UserModel.validate(place.table(found.dataset, "users"))
    assert items["title"].tolist() == ["One", "Two", "", ""]
    compacted = place.compact()
    assert_frame_equal(place.table(compacted), table)
    happened = events((3, 2, 4, 5))  # corrected a second later; it counts for the rows after it
    assert_frame_equal(place.table(found.dataset, "features"), build_features(table, happened))
    verify_dataset(place.store, found.dataset)


def test_the_base_can_be_chosen(tmp_path: Path) -> None:
    place = Place(tmp_path, base="no-such-version")
    place.put("a.csv", events((9, 9, 4, 5)))
    with pytest.raises(NotFoundError, match=r"landing\.base is no-such-version"):
        place.land()
    older = release(place, events((1, 1, 3, 5)))
    release(place, events((1, 1, 3, 5), (2, 1, 3, 6)))
    place.settings = place.settings.model_copy(update={"base": older})
    assert place.land().dataset.rows == 2
    place.settings = place.settings.model_copy(update={"base": "none"})
    place.put("b.csv", events((9, 8, 4, 5)))
    assert place.land().dataset.rows == 3  # the base is chosen once


FILES = [random_events(seed, 25) for seed in range(4)] + [random_events(0, 10), random_events(9, 40, users=3, seconds=3)]
MOVIES = [
    "movieId,title,genres\n1,Old (1990),Drama\n2,Two (1991),\n",
    "movieId,title,genres\n1,New (1990),Crime\n7,Seven (1992),War\n",
]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pd.DataFrame]:
    """The tables after one run over all files."""
    place = Place(tmp_path_factory.mktemp("at-once"))
    deliver(place, range(len(FILES) + len(MOVIES)))
    ref = place.land().dataset
    verify_dataset(place.store, ref)
    tables = {name: place.table(ref, name) for name in ("interactions", "items", "users", "features")}
    return {**tables, "content": pd.DataFrame({"content": [content(ref)]})}


def deliver(place: Place, numbers: range | list[int]) -> None:
    for number in numbers:
        if number < len(FILES):
            place.put(f"{number}.csv", FILES[number])
        else:
            place.put(f"movies-{number}.csv", MOVIES[number - len(FILES)], modified=SETTLED + number)


@pytest.mark.full
@given(data=st.data())
@settings(max_examples=15)
def test_neither_order_nor_batches_nor_compactions_change_the_content(
    expected: dict[str, pd.DataFrame], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    place = Place(tmp_path_factory.mktemp("any-order"))
    order = data.draw(st.permutations(range(len(FILES) + len(MOVIES))).filter(lambda found: found[0] < len(FILES)))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(order) - 1), max_size=4)))
    ref = None
    for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True):
        deliver(place, order[start:end])
        found = place.land()
        for account in found.accounts:
            assert account.rows == account.accepted + account.duplicates + account.quarantined
        ref = found.dataset
        if data.draw(st.booleans()):
            compacted = place.compact()
            assert content(compacted) == content(ref) and compacted.rows == ref.rows
            assert_frame_equal(place.table(compacted), place.table(ref))
            ref = compacted
    assert ref is not None and content(ref) == expected["content"].iloc[0, 0]
    for name in ("interactions", "items", "users", "features"):
        assert_frame_equal(place.table(ref, name), expected[name])
    facts = place.table(ref)
    assert (ref.rows, ref.users, ref.items) == (len(facts), facts["user_id"].nunique(), facts["item_id"].nunique())
    assert (ref.first, ref.last) == (facts["timestamp"].min(), facts["timestamp"].max())


@pytest.mark.full
@given(order=st.permutations(range(4)), cut=st.integers(1, 3))
@settings(max_examples=8)
def test_corrections_of_one_second_do_not_depend_on_the_order_of_the_runs(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], cut: int
) -> None:
    files = [random_events(seed, 40, seconds=3).assign(rating=(5 - seed) / 2) for seed in range(4)]  # later ones are lower
    place = Place(tmp_path_factory.mktemp("times"))
    for numbers in (order[:cut], order[cut:]):
        for number in numbers:
            place.put(f"{number}.csv", files[number], modified=SETTLED + number)
        found = place.land().dataset
    rule = pd.concat([frame.assign(file=number) for number, frame in enumerate(files)]).sort_values(["timestamp", "file"])
    rule = rule.groupby(["user_id", "item_id"], as_index=False).last().sort_values(["user_id", "timestamp", "item_id"])
    columns = ["user_id", "item_id", "rating", "timestamp"]
    assert_frame_equal(place.table(found)[columns], rule[columns].reset_index(drop=True))


def test_the_content_is_that_of_the_newest_event_of_each_user_and_movie(expected: dict[str, pd.DataFrame]) -> None:
    """The content is compared with the rule as it is documented, in plain pandas."""
    rule = pd.concat(FILES).sort_values(["timestamp", "rating"]).groupby(["user_id", "item_id"], as_index=False).last()
    rule = rule.sort_values(["user_id", "timestamp", "item_id"], ignore_index=True)
    columns = ["user_id", "item_id", "rating", "timestamp"]
    assert_frame_equal(expected["interactions"][columns], rule[columns])


def test_of_two_racing_runs_one_starts_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.land()
    place.put("b.csv", events((2, 1, 4, 0)))
    place.put("c.csv", events((2, 1, 4, 0), (2, 2, 4, 0)))

    class Racing(LocalStore):
        """A store in which another run commits first."""

        raced = False

        def put_new(self, key: str, data: bytes | Path) -> None:
            if "/log/" in key and not Racing.raced:
                Racing.raced = True
                Place.land(other)
            super().put_new(key, data)

    other = Place.__new__(Place)
    other.__dict__ = dict(place.__dict__)
    place.store = Racing(place.store.folder)
    found = place.land()
    assert Racing.raced and found.accounts == () and found.known == 3 and found.number == 2
    assert found.dataset.rows == 3 and len(LandingLog(place.store, NAME).entries()) == 2
    place.settings = place.settings.model_copy(update={"max_retries_on_conflict": 1})
    place.put("d.csv", events((3, 1, 4, 0)))
    Racing.raced = False
    with pytest.raises(AlreadyExistsError, match=r"Other runs added files to small 1 times"):
        place.land()
    assert load_dataset_ref(place.store, NAME, other.land().dataset.version).rows == 4


def test_an_account_whose_rows_do_not_add_up_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not close"):
        FileAccount("a.csv", "ab", "events", 0, 1, "accepted", rows=2, accepted=1)


def test_a_part_that_was_changed_is_noticed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", random_events(0, 50))
    place.land()
    place.put("b.csv", random_events(1, 50))
    ref = place.land().dataset
    part = read_manifest(place.store, NAME, ref.version)["layout"]["parts"][1]["events"]["key"]
    whole = place.store.get(part)
    place.store.put(part, whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(VersionCorruptError, match=r"events-.*differs from its manifest"):
        place.table(ref)
    place.put("c.csv", random_events(2, 50))
    with pytest.raises(VersionCorruptError, match="differs from its manifest"):
        place.land()
    place.store.delete(part)
    with pytest.raises(NotFoundError, match="is part of a dataset version"):
        place.table(ref)
    place.store.put(part, whole)
    assert place.land().dataset.rows > 0


def test_a_part_that_was_replaced_together_with_the_manifest_is_noticed(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", random_events(0, 50))
    ref = place.land().dataset
    verify_dataset(place.store, ref)
    manifest = read_manifest(place.store, NAME, ref.version)
    other = Place(tmp_path / "other")
    other.put("a.csv", random_events(1, 50, movies=9))
    foreign = read_manifest(other.store, NAME, other.land().dataset.version)
    for table in ("events", "items"):
        edited = json.loads(json.dumps(manifest))
        if table == "events":
            edited["layout"]["parts"] = foreign["layout"]["parts"]
        else:
            edited["layout"]["items"] = foreign["layout"]["items"]
        for key in other.store.list(f"datasets/{NAME}/parts/"):
            place.store.put(key, other.store.get(key))
        place.store.put(f"{ref.prefix}/manifest.json", json.dumps(edited).encode())
        with pytest.raises(VersionCorruptError, match="do not match the version's name"):
            verify_dataset(place.store, ref)


@pytest.mark.parametrize("content", [b"{", b'{"format": 7}', b'{"format": 1, "accounts": []}', b"[]"])
def test_a_log_entry_that_was_changed_is_noticed(content: bytes, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", random_events(0, 20))
    place.land()
    place.store.put(f"landing/{NAME}/log/00000001.json", content)
    with pytest.raises(VersionCorruptError, match=r"00000001\.json is not a landing log entry"):
        place.land()


def test_a_damaged_or_lost_listing_only_costs_time(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", random_events(0, 20))
    first = place.land()
    key = LandingLog(place.store, NAME).listing_key(str(place.zone))
    listed = json.loads(place.store.get(key))["files"]
    assert listed[0][0] == "a.csv" and listed[0][4] == first.accounts[0].sha256
    without_tags = {"files": [[*entry[:3], "", entry[4]] for entry in listed], "waiting": []}
    place.store.put(key, json.dumps(without_tags).encode())  # as an earlier version wrote it
    assert place.land().known == 1 and json.loads(place.store.get(key))["files"] == listed
    place.store.put(key, b"{")
    assert place.land().known == 1 and json.loads(place.store.get(key))["files"] == listed


def test_a_release_that_lands_as_a_file_gives_the_same_events(tmp_path: Path) -> None:
    frame = synthetic.interactions(40, 30, 12)
    validated = validate(RawTables(frame, None, None, ()), LAX, int(NOW))
    place = Place(tmp_path)
    place.put("ratings.csv", frame)
    table = place.table(place.land().dataset)
    columns = ["user_id", "item_id", "rating", "timestamp"]
    assert_frame_equal(table[columns], validated.interactions[columns])
    assert np.array_equal(table["row"], np.arange(len(table)))
