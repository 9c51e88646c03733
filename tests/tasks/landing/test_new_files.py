from __future__ import annotations

import gzip
import io
import json
import os
from pathlib import Path

import pandas as pd
import pytest

from configs.errors import SourceError
from configs.settings import ValidationSettings
from infra.landing_zone import FolderZone, SourceFile
from tasks.datasets import FileAccount, LandingLog
from tasks.landing import Landing
from tests.tasks.landed import NAME, NOW, SETTLED, Place, csv, events, random_events


def by_file(landing: Landing) -> dict[str, FileAccount]:
    return {account.file: account for account in landing.accounts}


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
