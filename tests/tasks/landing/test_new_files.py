from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import SourceError
from configs.settings import DataSettings, ValidationSettings
from infra.landing_zone import FolderZone, SourceFile
from tasks.datasets import LandingLog
from tests.tasks.landed import NAME, NOW, SETTLED, Place, by_file, csv, events, random_events


def test_extra_columns_are_named_and_bad_rows_are_quarantined(tmp_path: Path) -> None:
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
    place.data = DataSettings(timestamp_format="s")
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


def test_bad_rows_of_a_mostly_good_file_are_read_again_and_each_row_counts_once(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (2, 1, 8, 5), (3, 1, 9, 5)))
    place.put("always-bad.csv", csv(events((7, 1, 4, 0))) + "x,1,3,946684900\n")
    assert by_file(place.land())["a.csv"].accepted == 1
    assert place.land(retry_quarantined=True).accounts == ()
    mended = ValidationSettings(min_rows=1, max_rating=8.0)
    assert place.land(validation=mended).accounts == ()
    again = place.land(validation=mended, retry_quarantined=True)
    account = by_file(again)["a.csv"]
    assert list(by_file(again)) == ["a.csv"] and again.dataset.rows == 3
    assert (account.rows, account.accepted, account.duplicates, account.quarantined) == (3, 1, 1, 1)
    assert place.land(validation=mended, retry_quarantined=True).accounts == ()
    key = LandingLog(place.store, NAME).quarantine_key(account.sha256)
    assert pd.read_parquet(io.BytesIO(place.store.get(key)))["row"].tolist() == [2]
    whole = place.land(validation=ValidationSettings(min_rows=1, max_rating=10.0), retry_quarantined=True)
    assert whole.dataset.rows == 4 and by_file(whole)["a.csv"].quarantined == 0
    assert pd.read_parquet(io.BytesIO(place.store.get(key))).empty


def test_a_machine_whose_clock_was_behind_loses_no_rows(tmp_path: Path) -> None:
    place = Place(tmp_path)
    late = events((1, 1, 4, 0), (2, 1, 4, 0)).assign(timestamp=[int(NOW) - 90_000, int(NOW)])
    place.put("a.csv", late, modified=NOW - 5 * 86_400)
    assert by_file(place.land(NOW - 3 * 86_400 + 90_000))["a.csv"].quarantined == 1
    again = by_file(place.land(NOW, retry_quarantined=True))["a.csv"]
    assert (again.accepted, again.duplicates, again.quarantined) == (1, 1, 0)


def test_bad_descriptions_are_read_again(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0), (2, 2, 4, 0)))
    place.put("movies.csv", f"movieId,title,updated_at\n1,Heat,5\n2,Two,{int(NOW) + 200_000}\n")
    place.land()
    again = place.land(NOW + 200_000, retry_quarantined=True)
    account = by_file(again)["movies.csv"]
    assert (account.accepted, account.duplicates) == (1, 1)
    assert place.table(again.dataset, "items")["title"].tolist() == ["Heat", "Two"]


def test_the_reasons_of_a_refused_file_are_stated_once(tmp_path: Path) -> None:
    place = Place(tmp_path, refuse_from_rows=2)
    place.put("good.csv", events((1, 1, 4, 0)))
    place.put("bad.csv", events((1, 1, 9, 0), (1, 2, 9, 0)))
    assert by_file(place.land())["bad.csv"].remarks.count("rating is outside") == 1


def test_a_replacement_of_the_same_size_and_time_is_read(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.land()
    place.put("a.csv", events((1, 2, 5, 0)))
    found = place.land()
    assert by_file(found)["a.csv"].accepted == 1 and found.dataset.rows == 2


def test_a_zone_that_was_copied_without_file_times_changes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    place.put("b.csv", "movieId,title\n1,Old\n", modified=SETTLED)
    place.put("c.csv", "movieId,title\n1,New\n", modified=SETTLED + 60)
    first = place.land().dataset
    for number, name in enumerate(("c.csv", "a.csv", "b.csv")):
        os.utime(place.zone / name, (SETTLED + 100 + number, SETTLED + 100 + number))
    found = place.land()
    assert found.dataset == first and {account.status for account in found.accounts} == {"copy"}
    assert place.table(found.dataset, "items")["title"].tolist() == ["New"]
    assert place.land().accounts == ()


def test_a_copy_that_lands_with_its_original_has_its_own_account(tmp_path: Path) -> None:
    place = Place(tmp_path)
    for name in ("a.csv", "copy of a.csv"):
        place.put(name, events((1, 1, 4, 0)))
    found = by_file(place.land())
    assert found["a.csv"].accepted == 1 and found["copy of a.csv"].remarks == "has the same content as a.csv"
    assert place.land().accounts == ()


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
    """A zone in which a file grows while a run reads it."""

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


def test_a_file_that_is_gone_when_its_turn_comes_is_not_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 0)))
    listed = FolderZone.files

    def with_a_ghost(self: FolderZone) -> list[SourceFile]:
        return [*listed(self), SourceFile("ghost.csv", 10, 0)]

    monkeypatch.setattr(FolderZone, "files", with_a_ghost)
    found = place.land()
    assert found.waiting == {"ghost.csv": "it was removed while it was being read"} and len(found.accounts) == 1


@pytest.mark.parametrize("kind", ["gzip", "parquet", "unknown"])
def test_a_file_that_cannot_be_read_waits_and_is_quarantined_if_it_stays_unreadable(kind: str, tmp_path: Path) -> None:
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
