from __future__ import annotations

from pathlib import Path

import pytest

from configs.errors import AlreadyExistsError, NotFoundError
from infra.storage.local import LocalStore
from tasks.datasets import list_datasets, read_manifest
from tasks.landing import compact
from tests.tasks.landed import NAME, NOW, Place, content, events, random_events


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


def test_a_compaction_that_another_run_overtakes_starts_again(tmp_path: Path) -> None:
    place = Place(tmp_path, max_retries_on_conflict=2)
    for number in range(2):
        place.put(f"{number}.csv", events((number, 1, 4, 0)))
        place.land()
    outpaced: list[str] = []

    class Outpaced(LocalStore):
        """A store to which another run adds files during the compaction, `left` times."""

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
