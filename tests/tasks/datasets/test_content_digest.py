from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.datasets import EventDigest
from tests.tasks.landed import random_events


@given(st.integers(0, 10**6), st.integers(0, 60))
def test_the_digest_ignores_order_and_follows_added_and_removed_events(seed: int, cut: int) -> None:
    frame = random_events(seed, 60)
    whole = EventDigest.of(frame)
    shuffled = frame.sample(frac=1, random_state=seed)
    assert EventDigest.of(shuffled) == whole
    head, tail = EventDigest.of(shuffled[:cut]), EventDigest.of(shuffled[cut:])
    assert head + tail == whole and whole - tail == head and whole - whole == EventDigest()


@given(st.integers(0, 10**6), st.sampled_from(["user_id", "item_id", "rating", "timestamp"]), st.integers(0, 39))
def test_any_change_of_an_event_changes_the_digest(seed: int, column: str, row: int) -> None:
    frame = random_events(seed, 40)
    other = frame.copy()
    other.loc[row, column] += 1
    assert EventDigest.of(other) != EventDigest.of(frame)


def test_values_that_swap_columns_or_rows_change_the_digest() -> None:
    frame = random_events(1, 40)
    swapped = frame.rename(columns={"user_id": "item_id", "item_id": "user_id"})
    assert EventDigest.of(swapped) != EventDigest.of(frame)
    crossed = frame.assign(rating=np.roll(frame["rating"], 1))
    assert EventDigest.of(crossed) != EventDigest.of(frame)


def test_different_events_have_different_digests() -> None:
    frame = random_events(2, 3000, users=10**6, movies=10**6, seconds=10**8)
    assert len({EventDigest.of(frame.iloc[row : row + 1]) for row in range(len(frame))}) == len(frame)
