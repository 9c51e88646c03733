from __future__ import annotations

import json
from pathlib import Path

from infra.storage.local import LocalStore
from tasks.datasets import DatasetRef, Quarantine, quarantined
from tests.tasks.landed import LAX, NOW, Place, events, random_events


def test_quarantined_rows_of_landed_files_are_counted_even_if_no_version_was_made(tmp_path: Path) -> None:
    place = Place(tmp_path, refuse_from_rows=10)
    place.put("good.csv", random_events(1, 30))
    first = place.land().dataset
    assert quarantined(place.store, first) == Quarantine(30, 0)
    place.put("some.csv", events((1, 99, 4.0, 5), (2, 98, 77.0, 5)))
    second = place.land(NOW + 100).dataset
    assert quarantined(place.store, second) == Quarantine(32, 1)
    assert quarantined(place.store, second, after=first.number) == Quarantine(2, 1)
    assert quarantined(place.store, second, since=int(NOW) + 50) == Quarantine(2, 1)
    assert quarantined(place.store, first) == Quarantine(30, 0)
    assert quarantined(place.store, second, after=second.number) is None
    place.put("whole.csv", random_events(2, 40).assign(rating=50.0))
    third = place.land(NOW + 200).dataset
    assert third.version == second.version
    assert quarantined(place.store, third, after=second.number) == Quarantine(40, 40)
    place.put("items.csv", "movieId,title,genres\n1,Heat (1995),Action\n")
    assert quarantined(place.store, place.land(NOW + 300).dataset, after=second.number) == Quarantine(40, 40)


def test_a_file_that_is_read_again_counts_by_its_last_reading(tmp_path: Path) -> None:
    place = Place(tmp_path, refuse_from_rows=10)
    place.put("good.csv", random_events(1, 60))
    first = place.land().dataset
    place.put("halves.csv", random_events(2, 40).assign(rating=lambda rows: rows["rating"] * 2))
    assert quarantined(place.store, place.land(NOW + 100).dataset) == Quarantine(100, 40)
    mended = LAX.model_copy(update={"max_rating": 10.0})
    again = place.land(NOW + 200, validation=mended, retry_quarantined=True).dataset
    assert quarantined(place.store, again) == Quarantine(100, 0)
    assert quarantined(place.store, again, after=first.number) == Quarantine(40, 0)
    assert quarantined(place.store, again, since=int(NOW) + 150) == Quarantine(40, 0)


def test_repeats_that_an_earlier_version_counted_as_quarantined_are_duplicates(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    reasons = {"rating is outside 0.5 to 5": 3, "repeats a user and movie of a later event": 20}
    stored = {"rows": 100, "accepted": 77, "quarantined": 23, "reasons": reasons}
    for table, rows in ((stored, 3), ({**stored, "quarantined": 3, "duplicates": 20, "reasons": {}}, 3)):
        manifest = {"format": 1, "name": "x", "version": "abc", "validation": {"tables": {"interactions": table}}}
        store.put("datasets/x/abc/manifest.json", json.dumps(manifest).encode())
        assert quarantined(store, DatasetRef("x", "abc", "", "", 77, 1, 1, 0, 1)) == Quarantine(100, rows)
