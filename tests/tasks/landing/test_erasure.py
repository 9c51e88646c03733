"""An erased user is in no new version of a dataset that a release made, and in no later build of the release."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from configs.errors import DataRefusedError
from configs.settings import DataSettings, EtlSettings, LandingSettings, ValidationSettings
from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, external_ids, history_keys, list_datasets, read_table, verify_dataset, write_dataset
from tasks.datasets.histories import remember_histories
from tasks.export.users import ChosenUsers
from tasks.ingest import building, locate
from tasks.landing import Erased, erase_from_datasets
from tests import own_events
from tests.own_events import Shape
from tests.tasks.exported import Made

NOW = 1_780_000_000
LAX = ValidationSettings(min_rows=1, max_quarantined_share=0.5)
RATINGS = "userId,movieId,rating,timestamp\n1,10,4.0,1700000000\n1,11,3.0,1700000100\n2,10,5.0,1700000200\n2,12,2.0,1700000300\n"
BAD = "1,99,9.5,1700000400\n2,13,9.5,1700000500\n"  # no ratings go above 5


def built(folder: Path, data: DataSettings, erased: frozenset[int] = frozenset()) -> DatasetRef:
    engine = EtlSettings(work_dir=folder / "work", memory_rows=50)
    source = locate(data, None, LAX)
    with building(source, LAX, engine, NOW, erased) as release:
        return write_dataset(LocalStore(folder / "store"), "films", release, release.features, source.hashes())


def erased_from(folder: Path, number: int) -> list[Erased]:
    engine = EtlSettings(work_dir=folder / "work", memory_rows=50)
    return erase_from_datasets(LocalStore(folder / "store"), number, LandingSettings(), engine, float(NOW))


def ratings(path: Path, text: str) -> DataSettings:
    path.write_text(text)
    return DataSettings.model_validate({"local_path": str(path)})


def of_shop(folder: Path, shape: Shape) -> DataSettings:
    own_events.write(shape, folder)
    return DataSettings.model_validate({"dataset": "films", "local_path": folder, **shape.data, **shape.tables})


def test_the_new_version_is_that_of_the_release_without_the_user_and_the_old_one_is_named(tmp_path: Path) -> None:
    store, data = LocalStore(tmp_path / "store"), ratings(tmp_path / "ratings.csv", RATINGS + BAD)
    before = built(tmp_path, data)
    remember_histories(store, "films")
    (said,) = erased_from(tmp_path, 1)
    after = list_datasets(store)[-1]
    assert said == Erased("films", f"2 events removed; version {after.version}", (f"films/{before.version}",))
    verify_dataset(store, after)
    assert (after.rows, after.users, after.items, after.parents) == (2, 1, 2, (f"films/{before.version}",))
    assert read_table(store, after, "items")["item_id"].tolist() == [10, 12], "an item that only the user knew is left"
    assert read_table(store, after, "quarantine")["cells"].str.startswith("2 ").tolist() == [True]
    assert history_keys(store, "films") and all(after.version in key for key in history_keys(store, "films"))
    other = ratings(tmp_path / "other.csv", "".join(line + "\n" for line in RATINGS.splitlines() if not line.startswith("1,")))
    fresh = built(tmp_path / "fresh", other)
    for table in ("interactions", "features", "users", "items"):
        found, expected = (
            read_table(LocalStore(place / "store"), ref, table).drop(columns="row", errors="ignore")
            for place, ref in ((tmp_path, after), (tmp_path / "fresh", fresh))
        )
        assert_frame_equal(found, expected)
    assert built(tmp_path, data, frozenset({1})).version == after.version, "the next build brings the user back"
    assert list_datasets(store)[-1].version == after.version
    (again,) = erased_from(tmp_path, 1)
    assert again.done == "has nothing of the user" and again.remains == (f"films/{before.version}",)


def test_a_user_with_a_text_id_goes_with_the_text(tmp_path: Path) -> None:
    store, data = LocalStore(tmp_path / "store"), of_shop(tmp_path / "files", own_events.shop(users=12, items=15))
    before = built(tmp_path, data)
    texts = external_ids(store, before, "user_id")
    assert texts is not None
    number, text = int(texts.index[3]), str(texts.iloc[3])
    erased_from(tmp_path, number)
    after = list_datasets(store)[-1]
    verify_dataset(store, after)
    left = external_ids(store, after, "user_id")
    assert left is not None and text not in set(left) and len(left) == after.users == before.users - 1
    assert built(tmp_path, data, frozenset({number})).version == after.version
    for table in ("interactions", "features", "users"):
        assert number not in set(read_table(store, after, table).get("user_id", pd.Series(dtype=int)))


def test_the_last_user_stays_until_there_is_another(tmp_path: Path) -> None:
    data = ratings(tmp_path / "ratings.csv", RATINGS.replace("\n2,", "\n1,"))
    built(tmp_path, data)
    (said,) = erased_from(tmp_path, 1)
    assert "No event would be left" in said.done
    with pytest.raises(DataRefusedError, match="No event would be left"):
        built(tmp_path / "again", data, frozenset({1}))


def test_an_export_of_an_older_version_leaves_an_erased_user_out(tmp_path: Path) -> None:
    from infra.erasures import erase_user

    made = Made(tmp_path)
    erase_user(made.store, 3, reason="asked", by="me", now=datetime(2026, 11, 24, tzinfo=UTC))
    found = made.export(parts=["top_k"])
    assert found.users == made.dataset.users - 1 and 3 not in set(made.read(found, "top_k")["user_id"])
    some = made.export(parts=["top_k"], users=ChosenUsers(np.array([2, 3]), None))
    assert set(made.read(some, "top_k")["user_id"]) == {2}
