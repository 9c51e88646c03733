from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from configs.errors import DataRefusedError, VersionCorruptError
from configs.settings import DriftSettings
from tasks.drift import Reference, detect_drift, newest_slice, reference_of
from tasks.features import build_features
from tests import synthetic

SETTINGS = DriftSettings()


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    frame = synthetic.interactions(700, 60, 40)
    popular = np.random.default_rng(0).random(len(frame)) < 6 / (frame["movie_id"] - 94)  # a head and a long tail
    frame = frame[popular]
    return build_features(frame.sort_values(["user_id", "timestamp", "movie_id"]).reset_index(drop=True))


@pytest.fixture(scope="module")
def items(features: pd.DataFrame) -> pd.DataFrame:
    return synthetic.movies(features)


def halves(features: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    first = features.sample(frac=0.5, random_state=3)
    return first, features.drop(first.index)


@pytest.mark.parametrize("rows", [400, 1000, 6000])
def test_two_halves_of_one_distribution_are_stable(rows: int, features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features.sample(rows, random_state=0))
    report = detect_drift(reference_of(older, items, SETTINGS, 0), current, items, SETTINGS)
    assert report.result.verdict == "stable" and report.result.reasons == []
    assert {c.column for c in report.result.columns} == {"rating", "log_gap", "log_popularity", "genre", "hour", "weekday"}
    json.dumps(report.result.to_dict())


def test_planted_shifts_are_found_and_named(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features)
    moved = current.assign(rating=current["rating"] * 2, gap_s=np.where(current["gap_s"] < 0, -1, 1), rating_hour=3)
    moved["movie_id"] = items["movie_id"].iloc[1]  # one film: its genre and popularity
    report = detect_drift(reference_of(older, items, SETTINGS, 0), moved, items, SETTINGS)
    assert report.result.verdict == "drifted"
    assert {c.column for c in report.result.columns if c.drifted} == {"rating", "log_gap", "log_popularity", "genre", "hour"}
    assert any("rating has moved" in reason for reason in report.result.reasons)
    assert report.html is not None and b"log_popularity" in report.html


def test_one_column_far_off_is_a_drift(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features)
    reference = reference_of(older, items, SETTINGS, 0)
    doubled = detect_drift(reference, current.assign(rating=current["rating"] * 2), items, SETTINGS).result
    assert doubled.verdict == "drifted" and [c.column for c in doubled.columns if c.drifted] == ["rating"]
    assert doubled.reasons[-1] == "rating moved further than any column may (0.5)."
    tolerant = DriftSettings(max_single_distance=10)
    assert detect_drift(reference, current.assign(rating=current["rating"] * 2), items, tolerant).result.verdict == "stable"


def test_a_wave_of_a_genre_that_is_never_listed_first_is_seen(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features)
    wave = items.assign(genres=items["genres"].where(items["movie_id"] % 2 == 0, items["genres"] + "|War|Western"))
    before = reference_of(older, items, SETTINGS, 0)
    found = {c.column: c for c in detect_drift(before, current, wave, SETTINGS).result.columns}
    assert found["genre"].drifted and not found["rating"].drifted


def test_unseen_items_and_users_are_a_drift_of_their_own(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features)
    known = older["movie_id"] < 110
    report = detect_drift(reference_of(older[known], items, SETTINGS, 0), current.assign(user_id=10**6), items, SETTINGS)
    assert report.result.verdict == "drifted" and report.result.unseen_user_share == 1.0
    assert any("items that the reference never saw" in reason for reason in report.result.reasons)


def test_items_that_a_small_reference_had_to_miss_are_no_drift(features: pd.DataFrame) -> None:
    """Where most items occur once, another sample of the same catalogue consists of new ones mostly."""
    rng = np.random.default_rng(0)
    many = features.head(1200).assign(movie_id=rng.integers(1, 2000, 1200))
    items = pd.DataFrame({"movie_id": np.arange(1, 2000), "genres": "Drama"})
    older, current = halves(many)
    result = detect_drift(reference_of(older, items, SETTINGS, 0), current, items, SETTINGS).result
    assert result.unseen_item_share > 0.6 and abs(result.unseen_item_share - result.expected_unseen_item_share) < 0.1
    assert result.verdict == "stable"


def test_concentration_does_not_depend_on_how_many_events_each_side_has(features: pd.DataFrame) -> None:
    tail = features.assign(movie_id=np.random.default_rng(0).zipf(1.3, len(features)) % 3000)  # far from all seen in 800 events
    items = pd.DataFrame({"movie_id": np.arange(3000), "genres": "Drama"})
    current = tail.sample(800, random_state=1)
    reference = reference_of(tail.drop(current.index), items, SETTINGS, 0)
    result = detect_drift(reference, current, items, SETTINGS).result
    assert result.current_gini == pytest.approx(result.reference_gini, abs=0.03)
    assert result.current_top_share == pytest.approx(result.reference_top_share, abs=0.05)
    one_film = detect_drift(reference, current.assign(movie_id=1), items, SETTINGS).result
    assert one_film.current_top_share == 1.0 and one_film.reference_top_share < 0.5


def test_one_outlier_hides_nothing_and_makes_nothing(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features)
    with_outlier = current.copy()
    with_outlier.iloc[5, with_outlier.columns.get_loc("gap_s")] = 10**9  # type: ignore[index]
    assert detect_drift(reference_of(older, items, SETTINGS, 0), with_outlier, items, SETTINGS).result.verdict == "stable"
    bots = with_outlier.assign(gap_s=np.where(with_outlier["gap_s"] > 10**8, with_outlier["gap_s"], 1))
    found = detect_drift(reference_of(older, items, SETTINGS, 0), bots, items, SETTINGS).result
    assert "log_gap" in {c.column for c in found.columns if c.drifted}


def test_a_small_slice_is_not_judged(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features)
    report = detect_drift(reference_of(older, items, SETTINGS, 0), current.head(50), items, SETTINGS)
    assert report.result.verdict == "too small to judge" and report.html is None and report.result.columns == []
    assert "50 rows" in report.result.reasons[0]
    nothing = detect_drift(reference_of(older, items, SETTINGS, 0), current.head(0), items, SETTINGS).result
    assert nothing.verdict == "too small to judge" and nothing.current_gini == 0.0 and nothing.current_median_gap_s == 0.0


@pytest.mark.parametrize("fault", ["missing", "empty", "infinite"])
def test_a_column_that_cannot_be_compared_is_named(fault: str, features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features)
    reference = reference_of(older, items, SETTINGS, 0)
    broken = (
        current.drop(columns="rating") if fault == "missing" else current.assign(rating=np.nan if fault == "empty" else np.inf)
    )
    with pytest.raises(DataRefusedError, match="column rating"):
        detect_drift(reference, broken, items, SETTINGS)


def test_the_first_value_that_is_no_number_is_shown(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features)
    words = current.assign(rating=current["rating"].astype(object))
    words.iloc[7, words.columns.get_loc("rating")] = "five"  # type: ignore[index]
    with pytest.raises(DataRefusedError, match=r"has 1 of \d+ values that are no finite number, the first in row 7 \('five'\)"):
        detect_drift(reference_of(older, items, SETTINGS, 0), words, items, SETTINGS)


def test_a_column_without_spread_has_no_drift_or_all(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, current = halves(features.assign(rating=3.0))
    reference = reference_of(older, items, SETTINGS, 0)
    same = detect_drift(reference, current, items, SETTINGS).result
    other = detect_drift(reference, current.assign(rating=4.0), items, SETTINGS).result
    assert [c.drifted for result in (same, other) for c in result.columns if c.column == "rating"] == [False, True]


def test_first_events_alone_have_no_gaps_to_compare(features: pd.DataFrame, items: pd.DataFrame) -> None:
    older, _ = halves(features)
    first = features[features["gap_s"] < 0]
    result = detect_drift(reference_of(older, items, SETTINGS, 0), first, items, SETTINGS).result
    assert "log_gap" not in {c.column for c in result.columns} and result.verdict != "too small to judge"


def test_the_reference_survives_its_files(features: pd.DataFrame, items: pd.DataFrame, tmp_path: Path) -> None:
    reference = reference_of(features, items, DriftSettings(sample_rows=500), 0)
    reference.save(tmp_path)
    again = Reference.load(tmp_path)
    assert len(again.sample) == 500 and again.item_events.sum() == again.user_events.sum() == len(features)
    assert again.item_events.to_dict() == reference.item_events.to_dict()
    pd.testing.assert_frame_equal(again.sample, reference.sample)


def test_the_newest_slice_is_cut_in_time(features: pd.DataFrame) -> None:
    older, newest = newest_slice(features, SETTINGS)
    assert older["timestamp"].max() < newest["timestamp"].min()
    assert len(older) + len(newest) == len(features) and abs(len(newest) / len(features) - 0.1) < 0.02


def test_no_events_have_no_newest_slice(features: pd.DataFrame) -> None:
    with pytest.raises(DataRefusedError, match="no events"):
        newest_slice(features.head(0), SETTINGS)


def test_a_version_without_a_reference_says_so(features: pd.DataFrame, items: pd.DataFrame, tmp_path: Path) -> None:
    reference_of(features, items, SETTINGS, 0).save(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"reference_sample.parquet", "reference_counts.parquet"}
    (tmp_path / "reference_counts.parquet").unlink()
    with pytest.raises(VersionCorruptError, match=r"no reference_counts\.parquet"):
        Reference.load(tmp_path)
