"""Events that a later one supersedes have no row, but they stay: the features of later rows need them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.datasets import list_datasets, read_manifest, verify_dataset, write_dataset
from tasks.ingest import build_features, validate
from tasks.ingest.movielens import RawTables
from tests.tasks.landed import LAX, NAME, NOW, Place, content, events, random_events


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """The features of all events if they come in one release."""
    validated = validate(RawTables(frame, None, None, ()), LAX.model_copy(update={"max_quarantined_share": 1.0}), int(NOW))
    return build_features(validated.interactions, validated.superseded)


@pytest.mark.full
@given(st.integers(0, 10**6), st.lists(st.integers(1, 30), min_size=1, max_size=4), st.booleans(), st.booleans())
@settings(max_examples=8, deadline=None)
def test_features_are_the_same_however_events_arrive(seed: int, sizes: list[int], release: bool, compacted: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder), base="newest" if release else "none")
        frame, start = random_events(seed, sum(sizes), users=4, movies=4, seconds=9000), 0
        for number, size in enumerate(sizes):
            part = frame.iloc[start : start + size]
            start += size
            if release and number == 0:
                tables = RawTables(part.reset_index(drop=True), None, None, ())
                first = validate(tables, LAX.model_copy(update={"max_quarantined_share": 1.0}), int(NOW))
                features = build_features(first.interactions, first.superseded)
                dataset = write_dataset(place.store, NAME, first, features, {})
                continue
            place.put(f"{number}.csv", part)
            dataset = place.land().dataset
            if compacted:
                dataset = place.compact()
        pd.testing.assert_frame_equal(place.table(dataset, "features"), whole(frame), check_dtype=False)
        verify_dataset(place.store, dataset)


def test_an_older_event_that_arrives_late_counts_in_features_and_changes_no_interaction(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 9000), (1, 2, 3, 3000)))
    first = place.land()
    place.put("b.csv", events((1, 1, 2, 1000)))
    second = place.land()
    assert content(second.dataset) == content(first.dataset) and second.dataset.version != first.dataset.version
    pd.testing.assert_frame_equal(place.table(second.dataset), place.table(first.dataset))
    assert place.table(first.dataset, "features")["gap_s"].tolist() == [-1, 6000]
    assert place.table(second.dataset, "features")["gap_s"].tolist() == [2000, 6000]
    place.put("c.csv", events((1, 1, 2, 1000), (1, 2, 3, 3000)))
    assert place.land().dataset == second.dataset, "events that are known already make no version"


def test_a_version_without_superseded_events_has_the_name_that_it_always_had(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.put("a.csv", events((1, 1, 4, 10), (1, 2, 3, 50)))
    landed = place.land().dataset
    assert "superseded" not in read_manifest(place.store, NAME, landed.version)["layout"]
    tables = RawTables(events((1, 1, 4, 10), (1, 2, 3, 50)), None, None, ())
    plain = validate(tables, LAX, int(NOW))
    release = write_dataset(place.store, "plain", plain, build_features(plain.interactions, plain.superseded), {})
    assert not any("superseded" in name for name in read_manifest(place.store, "plain", release.version)["files"])
    repeated = validate(
        RawTables(events((1, 1, 3, 5), (1, 1, 4, 10), (1, 2, 3, 50)), None, None, ()),
        LAX.model_copy(update={"max_quarantined_share": 1.0}),
        int(NOW),
    )
    other = write_dataset(place.store, "plain", repeated, build_features(repeated.interactions, repeated.superseded), {})
    assert other.version != release.version, "its features differ"
    for dataset in list_datasets(place.store):
        verify_dataset(place.store, dataset)
