from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from configs.errors import AlreadyExistsError, DataRefusedError, NotFoundError, SourceError, VersionCorruptError
from configs.settings import ValidationSettings
from infra.landing_zone import FolderZone, SourceFile
from infra.storage.local import LocalStore
from tasks.datasets import FileAccount, LandingLog, list_datasets, load_dataset_ref, read_manifest, verify_dataset, write_dataset
from tasks.ingest import ItemModel, UserModel, build_features
from tasks.ingest.movielens import RawTables
from tasks.ingest.validation import InteractionModel, validate
from tasks.landing import Landing, compact
from tests import synthetic
from tests.tasks.landed import LAX, NAME, NOW, SETTLED, Place, content, csv, events, random_events


def by_file(landing: Landing) -> dict[str, FileAccount]:
    return {account.file: account for account in landing.accounts}


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
    assert again.accounts == () and again.known == 2 and sorted(place.store.list("datasets/")) == before
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


def test_the_newer_rating_of_a_user_and_movie_counts_also_when_it_comes_first(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 10), (1, 2, 3, 50), (2, 1, 1, 7)))
    place.land()
    place.put("b.csv", events((1, 1, 2, 20), (1, 2, 5, 40), (2, 1, 3, 7)))
    second = place.land()
    account = by_file(second)["b.csv"]
    # The second row is older than what there is; the third is of the same second, and the higher rating counts.
    assert (account.accepted, account.duplicates, account.corrections) == (2, 1, 2)
    table = place.table(second.dataset)
    expected = events((1, 1, 2, 20), (1, 2, 3, 50), (2, 1, 3, 7))
    assert_frame_equal(table[list(expected)], expected)
    assert second.dataset.rows == 3 and second.dataset.first == table["timestamp"].min()
    assert second.dataset.parents == (f"{NAME}/{list_datasets(place.store)[0].version}",)
    verify_dataset(place.store, second.dataset)


def test_late_events_are_taken_and_counted_against_the_watermark(tmp_path: Path) -> None:
    place = Place(tmp_path, allowed_lateness_s=100)
    place.put("a.csv", events((1, 1, 4, 1000)))
    first = place.land()
    assert first.watermark == 946_684_800 + 900
    place.put("b.csv", events((1, 2, 4, 899), (1, 3, 4, 901), (2, 1, 4, 10)))
    second = place.land()
    assert by_file(second)["b.csv"].late == 2 and second.dataset.rows == 4
    assert second.watermark == first.watermark and second.dataset.first == 946_684_800 + 10


def test_columns_that_are_new_are_told_and_bad_rows_are_set_aside(tmp_path: Path) -> None:
    place = Place(tmp_path)
    frame = events((1, 1, 4, 0), (2, 1, 9, 5), (3, 1, 5, 9)).assign(device="tv")
    path = place.put("a.csv", csv(frame) + "x,1,3,946684900,tv\n")
    found = place.land()
    account = by_file(found)["a.csv"]
    assert (account.rows, account.accepted, account.quarantined) == (4, 2, 2) and account.extra_columns == ("device",)
    assert account.reasons == {"rating is outside 0.5 to 5": 1, "user_id is not a number": 1}
    log = LandingLog(place.store, NAME)
    bad = pd.read_parquet(io.BytesIO(place.store.get(log.quarantine_key(account.sha256))))
    assert bad["row"].tolist() == [1, 3] and len(bad["cells"]) == 2
    stored = json.loads(place.store.get(f"landing/{NAME}/files/{account.sha256}/00000001.json"))
    assert stored["rows"] == stored["accepted"] + stored["duplicates"] + stored["quarantined"] == 4
    assert stored["size"] == path.stat().st_size


def test_a_file_that_is_mostly_bad_is_quarantined_as_a_whole_and_can_be_read_again(tmp_path: Path) -> None:
    place = Place(tmp_path, refuse_from_rows=3)
    place.put("good.csv", events((1, 1, 4, 0)))
    milliseconds = events(*[(user, 2, 4, user) for user in range(1, 6)])
    milliseconds.loc[1:, "timestamp"] *= 1000
    place.put("bad.csv", milliseconds)
    found = place.land()
    account = by_file(found)["bad.csv"]
    assert (account.status, account.rows, account.accepted, account.quarantined) == ("quarantined", 5, 0, 5)
    assert "4 of 5 rows are bad (80.0%)" in account.why and "milliseconds" in account.why
    assert found.dataset.rows == 1 and place.land().known == 2
    lenient = ValidationSettings(min_rows=1, max_quarantined_share=0.9)
    assert place.land(validation=lenient).accounts == ()
    again = place.land(validation=lenient, retry_quarantined=True)
    assert list(by_file(again)) == ["bad.csv"] and again.dataset.rows == 2
    assert place.land(validation=lenient, retry_quarantined=True).accounts == ()


def test_a_small_file_with_a_bad_row_keeps_its_good_ones(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", csv(events((1, 1, 4, 0))) + "2,1,9,946684900\n")
    assert by_file(place.land())["a.csv"].accepted == 1


def test_a_file_that_may_still_grow_waits(tmp_path: Path) -> None:
    place = Place(tmp_path, settle_s=30)
    place.put("a.csv", events((1, 1, 4, 0)), modified=NOW - 10)
    for hidden in ("b.csv.tmp", "b.csv.part", ".b.csv", "_staging/b.csv"):
        place.put(hidden, events((2, 1, 4, 0)))
    with pytest.raises(SourceError, match=r"has no file that is ready.*a\.csv: it was written 10 s ago and may still grow"):
        place.land()
    found = place.land(now=NOW + 30)
    assert [account.file for account in found.accounts] == ["a.csv"] and found.waiting == {}


def test_a_file_from_a_clock_that_is_ahead_waits_as_long_as_any_other(tmp_path: Path) -> None:
    place = Place(tmp_path, settle_s=30)
    place.put("a.csv", events((1, 1, 4, 0)), modified=NOW + 86_400)
    for later in (0, 20):
        with pytest.raises(SourceError, match=rf"written {later} s ago"):
            place.land(now=NOW + later)
    place.put("a.csv", events((1, 1, 4, 0), (2, 1, 4, 0)), modified=NOW + 86_401)
    with pytest.raises(SourceError, match=r"written 0 s ago"):
        place.land(now=NOW + 25)
    assert place.land(now=NOW + 56).dataset.rows == 2


class Growing(FolderZone):
    """A zone whose writer goes on while a run reads."""

    def unchanged(self, file: SourceFile) -> bool:
        with (self.folder / file.name).open("a") as growing:
            growing.write("2,1,4,946684900\n")
        os.utime(self.folder / file.name, (SETTLED + 1, SETTLED + 1))
        return super().unchanged(file)


def test_a_file_that_grows_while_it_is_read_is_left_for_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    monkeypatch.setattr("tests.tasks.landed.FolderZone", Growing)
    with pytest.raises(SourceError, match=r"a\.csv: it changed while it was being read"):
        place.land()
    monkeypatch.undo()
    assert by_file(place.land())["a.csv"].accepted == 2


def test_a_file_that_is_gone_when_its_turn_comes_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    listed = FolderZone.files

    def with_a_ghost(self: FolderZone) -> list[SourceFile]:
        return [*listed(self), SourceFile("ghost.csv", 10, 0)]

    monkeypatch.setattr(FolderZone, "files", with_a_ghost)
    found = place.land()
    assert found.waiting == {"ghost.csv": "it was removed while it was being read"} and len(found.accounts) == 1


@pytest.mark.parametrize("kind", ["gzip", "parquet", "unknown"])
def test_a_file_that_cannot_be_read_waits_and_is_quarantined_when_it_stays_so(kind: str, tmp_path: Path) -> None:
    place = Place(tmp_path, give_up_s=7200)
    place.put("a.csv", events((1, 1, 4, 0)))
    frame = random_events(0, 2000, users=900)
    if kind == "gzip":
        name, whole = "b.csv.gz", gzip.compress(csv(frame).encode(), mtime=0)
    elif kind == "parquet":
        buffer = io.BytesIO()
        frame.to_parquet(buffer)
        name, whole = "b.parquet", buffer.getvalue()
    else:
        name, whole = "b.csv", b"tag,when\nnice,2001\n"
    place.put(name, whole[: len(whole) // 2] if kind != "unknown" else whole)
    found = place.land()
    assert name in found.waiting and found.dataset.rows == 1
    if kind == "unknown":
        assert "lacks the column" in found.waiting[name]
    else:
        place.put(name, whole)  # its writer was slow
        assert by_file(place.land())[name].rows == 2000
        place.put(name, whole[: len(whole) // 3], modified=SETTLED - 60)
    given_up = place.land(now=NOW + 7200)
    account = by_file(given_up)[name]
    assert (account.kind, account.status, account.rows) == ("unreadable", "quarantined", 0) and name in account.why
    assert place.land(now=NOW + 7200).accounts == ()


def test_too_few_events_are_no_dataset_and_are_taken_up_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (1, 2, 4, 1)))
    with pytest.raises(DataRefusedError, match=r"would have 2 events after 1 new files.*validation\.min_rows = 3"):
        place.land(validation=ValidationSettings(min_rows=3))
    place.put("b.csv", events((2, 1, 4, 0)))
    found = place.land(validation=ValidationSettings(min_rows=3))
    assert found.dataset.rows == 3 and len(found.accounts) == 2


def test_without_an_event_there_is_no_dataset(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with pytest.raises(SourceError, match="Put event files there"):
        place.land()
    place.put("movies.csv", "movieId,title,genres\n1,Heat (1995),Crime\n")
    place.put("empty.csv", "userId,movieId,rating,timestamp\n")
    with pytest.raises(DataRefusedError, match="would have 0 events"):
        place.land()


def release(place: Place, frame: pd.DataFrame) -> str:
    items = pd.DataFrame({"movie_id": [1, 2], "title": ["One", "Two"], "year": [1990, 1991], "genres": ["Drama", ""]})
    validated = validate(RawTables(frame, items, None, ()), LAX, int(NOW))
    return write_dataset(place.store, NAME, validated, build_features(validated.interactions), {}).version


def test_files_are_added_to_a_release_whose_order_of_ties_stays(tmp_path: Path) -> None:
    place = Place(tmp_path, base="newest")
    frame = events((3, 2, 4, 5), (1, 2, 3, 5), (1, 1, 5, 5), (2, 4, 1, 8))
    base = release(place, frame)
    place.put("a.csv", events((1, 2, 3, 5), (1, 3, 2, 5), (3, 2, 1, 6)))
    found = place.land()
    assert by_file(found)["a.csv"].duplicates == 1 and by_file(found)["a.csv"].corrections == 1
    assert found.dataset.parents == (f"{NAME}/{base}",)
    table = place.table(found.dataset)
    assert table[["user_id", "movie_id", "row"]].to_numpy().tolist() == [[1, 1, 2], [1, 2, 1], [1, 3, 4], [2, 4, 3], [3, 2, 5]]
    items = place.table(found.dataset, "items")
    ItemModel.validate(items)
    UserModel.validate(place.table(found.dataset, "users"))
    assert items["title"].tolist() == ["One", "Two", "", ""]
    compacted = place.compact()
    assert_frame_equal(place.table(compacted), table)
    assert_frame_equal(place.table(found.dataset, "features"), build_features(table))
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
    """All files in one run."""
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
    assert (ref.rows, ref.users, ref.items) == (len(facts), facts["user_id"].nunique(), facts["movie_id"].nunique())
    assert (ref.first, ref.last) == (facts["timestamp"].min(), facts["timestamp"].max())


def test_the_content_is_that_of_the_newest_event_of_each_user_and_movie(expected: dict[str, pd.DataFrame]) -> None:
    """Against the rule as it is written, in plain pandas."""
    last_of_file = [frame.groupby(["user_id", "movie_id", "timestamp"], as_index=False).last() for frame in FILES]
    rule = pd.concat(last_of_file).sort_values(["timestamp", "rating"]).groupby(["user_id", "movie_id"], as_index=False).last()
    rule = rule.sort_values(["user_id", "timestamp", "movie_id"], ignore_index=True)
    columns = ["user_id", "movie_id", "rating", "timestamp"]
    assert_frame_equal(expected["interactions"][columns], rule[columns])


def test_of_two_racing_runs_one_begins_anew(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.land()
    place.put("b.csv", events((2, 1, 4, 0)))
    place.put("c.csv", events((2, 1, 4, 0), (2, 2, 4, 0)))

    class Racing(LocalStore):
        """Another run commits first."""

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
    place.settings = place.settings.model_copy(update={"races": 1})
    place.put("d.csv", events((3, 1, 4, 0)))
    Racing.raced = False
    with pytest.raises(AlreadyExistsError, match=r"Other runs added files to small 1 times"):
        place.land()
    assert load_dataset_ref(place.store, NAME, other.land().dataset.version).rows == 4


def test_an_account_that_does_not_close_is_a_defect() -> None:
    with pytest.raises(ValueError, match="does not close"):
        FileAccount("a.csv", "ab", "events", 0, 1, "accepted", rows=2, accepted=1)


def test_compaction_is_due_when_parts_are_many_or_large(tmp_path: Path) -> None:
    place = Place(tmp_path, compact_parts=2, compact_share=0.5)
    with pytest.raises(NotFoundError, match="nothing to compact"):
        place.compact()
    place.put("0.csv", random_events(0, 100, users=50))
    for number in range(1, 4):
        ref = place.land().dataset
        assert compact(place.store, NAME, place.settings, tmp_path / "work", NOW) == ref
        place.put(f"{number}.csv", events((100 + number, 1, 4, 0)))
    ref = place.land().dataset
    compacted = compact(place.store, NAME, place.settings, tmp_path / "work", NOW)
    assert compacted.parents == (f"{NAME}/{ref.version}",) and content(compacted) == content(ref)
    assert len(read_manifest(place.store, NAME, compacted.version)["layout"]["parts"]) == 1
    assert place.compact() == compacted
    place.put("large.csv", random_events(1, 300, users=500))
    ref = place.land().dataset
    assert compact(place.store, NAME, place.settings, tmp_path / "work", NOW) != ref
    assert list_datasets(place.store)[-1].version != ref.version


def test_a_compaction_that_a_run_outpaces_begins_anew(tmp_path: Path) -> None:
    place = Place(tmp_path, races=2)
    for number in range(2):
        place.put(f"{number}.csv", events((number, 1, 4, 0)))
        place.land()
    outpaced: list[str] = []

    class Outpaced(LocalStore):
        """Files are added while it compacts, `left` times."""

        left = 1

        def put_new(self, key: str, data: bytes | Path) -> None:
            if "/log/" in key and len(outpaced) < self.left:
                outpaced.append(key)
                other.put(f"more-{len(outpaced)}.csv", events((10 + len(outpaced), 1, 4, 0)))
                other.land()
            super().put_new(key, data)

    other = Place.__new__(Place)
    other.__dict__ = dict(place.__dict__)
    place.store = Outpaced(place.store.folder)
    compacted = place.compact()
    assert (compacted.rows, compacted.number) == (3, 4) and len(outpaced) == 1
    other.put("last.csv", events((9, 1, 4, 0)))
    other.land()
    Outpaced.left = 3
    with pytest.raises(AlreadyExistsError, match="Other runs added to small 2 times while it was compacted"):
        place.compact()


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
    place.store.put(key, b"{")
    assert place.land().known == 1 and json.loads(place.store.get(key))["files"] == listed


def test_a_synthetic_release_as_a_file_is_the_release(tmp_path: Path) -> None:
    frame = synthetic.interactions(40, 30, 12)
    validated = validate(RawTables(frame, None, None, ()), LAX, int(NOW))
    place = Place(tmp_path)
    place.put("ratings.csv", frame)
    table = place.table(place.land().dataset)
    columns = ["user_id", "movie_id", "rating", "timestamp"]
    assert_frame_equal(table[columns], validated.interactions[columns])
    assert np.array_equal(table["row"], np.arange(len(table)))
