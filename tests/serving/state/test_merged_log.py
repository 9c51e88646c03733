"""A user's events in the dataset and the reported ones are one history, in which no event counts twice."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.histories import History
from serving.state import MergedLog, UserLog, UserState, entry, key_of, merge_logs
from serving.state.user_log import append, new_epoch

Event = tuple[int, int]


def base_of(events: list[Event], count: int | None = None) -> History:
    events = sorted(events, key=lambda event: event[1])
    items, times = (np.array([event[place] for event in events], np.int64) for place in (0, 1))
    return History(items, times, len(events) if count is None else count)


def log_of(events: list[Event], before: bytes | None = None, limit: int = 1000) -> bytes:
    content = before
    for item, time in events:
        content, _ = append(content, entry(item, time, key_of(None, item, time)), limit, new_epoch())
    return content or b""


def merged(base: list[Event], reported: list[Event], **options: int | bool) -> MergedLog:
    given: dict[str, int | bool] = {"limit": 1000, "tolerance_s": 0, "newest": False} | options
    return merge_logs("h", base_of(base), UserLog.read(log_of(reported)), **given)  # type: ignore[arg-type]


def listed(log: UserLog) -> list[Event]:
    return list(zip(log.items.tolist(), log.times.tolist(), strict=True))


def test_later_events_follow_those_of_the_dataset() -> None:
    found = merged([(1, 10), (2, 20)], [(3, 30), (1, 40)])
    assert listed(found) == [(1, 10), (2, 20), (3, 30), (1, 40)] and found.count == 4


def test_an_event_that_was_reported_and_delivered_counts_once() -> None:
    assert listed(merged([(1, 10), (2, 20)], [(1, 10), (2, 20), (3, 30)])) == [(1, 10), (2, 20), (3, 30)]
    assert listed(merged([(1, 10), (2, 20)], [(1, 12), (2, 23), (2, 40)], tolerance_s=5)) == [(1, 10), (2, 20), (2, 40)]
    assert listed(merged([(1, 10), (2, 20)], [(2, 23)], tolerance_s=2)) == [(1, 10), (2, 20), (2, 23)]


def test_each_event_of_the_dataset_stands_for_one_reported_event() -> None:
    """Kinds of event, such as a view and a purchase of the same product within seconds."""
    found = merged([(1, 10), (1, 12)], [(1, 10), (1, 12), (1, 13)], tolerance_s=5)
    assert listed(found) == [(1, 10), (1, 12), (1, 13)] and found.count == 3
    assert listed(merged([(1, 10), (1, 11)], [(1, 11), (1, 12)], tolerance_s=5)) == [(1, 10), (1, 11)]


def test_an_event_that_the_dataset_lacks_is_inserted_at_its_time() -> None:
    found = merged([(1, 10), (2, 20)], [(9, 15), (3, 30)])
    assert listed(found) == [(1, 10), (9, 15), (2, 20), (3, 30)] and found.count == 4


def test_where_only_the_newest_event_of_an_item_counts_an_older_reported_one_is_superseded() -> None:
    assert listed(merged([(1, 50)], [(1, 10), (2, 20)], newest=True)) == [(2, 20), (1, 50)]
    assert listed(merged([(1, 50)], [(1, 10), (2, 20)])) == [(1, 10), (2, 20), (1, 50)]
    assert listed(merged([(1, 50)], [(1, 90)], newest=True)) == [(1, 50), (1, 90)]
    both = merged([(7, 100)], [(7, 50), (7, 100)], newest=True)
    assert listed(both) == [(7, 100)] and both.count == 1, "the newest one was reported, too"
    assert listed(merged([(7, 100)], [(7, 50), (7, 102)], newest=True, tolerance_s=5)) == [(7, 100)]


def test_the_count_is_that_of_all_events_although_only_the_latest_are_kept() -> None:
    found = merge_logs(
        "h", base_of([(1, 10), (2, 20)], count=70), UserLog.read(log_of([(3, 30)])), limit=2, tolerance_s=0, newest=True
    )
    assert listed(found) == [(2, 20), (3, 30)] and found.count == 71


@pytest.mark.parametrize("other", ["base", "name"])
def test_logs_of_other_content_have_other_epochs(other: str) -> None:
    reported = UserLog.read(log_of([(9, 15), (3, 30)]))
    rest = {"limit": 9, "tolerance_s": 0, "newest": False}
    one = merge_logs("h", base_of([(1, 10), (2, 20)]), reported, **rest)  # type: ignore[arg-type]
    changed = base_of([(1, 10), (9, 15), (2, 20)] if other == "base" else [(1, 10), (2, 20)])
    assert one.epoch != merge_logs("i" if other == "name" else "h", changed, reported, **rest).epoch  # type: ignore[arg-type]


EVENTS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 30)), max_size=12)


@settings(max_examples=300, deadline=None)
@given(EVENTS.filter(bool), EVENTS, EVENTS, st.integers(0, 3), st.booleans(), st.sampled_from([3, 6, 1000]))
@example([(1, 0), (2, 2)], [(1, 0), (1, 1), (1, 2)], [(2, 2)], 0, False, 3)  # the limit pushes out what the dataset has too
def test_a_state_is_only_continued_through_events_that_were_appended(
    base: list[Event], before: list[Event], after: list[Event], tolerance_s: int, newest: bool, limit: int
) -> None:
    """What a state has read must be the beginning of what it continues to, whatever was reported between the two."""
    rest = {"limit": limit, "tolerance_s": tolerance_s, "newest": newest}
    content = log_of(before, limit=limit)
    one = merge_logs("h", base_of(base), UserLog.read(content), **rest)  # type: ignore[arg-type]
    two = merge_logs("h", base_of(base), UserLog.read(log_of(after, content, limit)), **rest)  # type: ignore[arg-type]
    state = UserState.read(UserState(one.epoch, one.count, 0, 0, np.zeros(1, np.float32), one.guard).to_bytes(), 1)
    assert state is not None and state.guard == one.guard
    if content and two.continues(state):
        new = two.count - one.count
        shared = min(len(two) - new, len(one))
        assert new >= 0
        assert shared <= 0 or listed(two)[: len(two) - new][-shared:] == listed(one)[-shared:]
    if content and len(after) == 1 and after[0][1] > 40 + tolerance_s:
        assert two.continues(state)


@settings(max_examples=100, deadline=None)
@given(EVENTS.filter(bool), EVENTS)
def test_events_later_than_the_dataset_always_continue_the_state(base: list[Event], before: list[Event]) -> None:
    rest = {"limit": 1000, "tolerance_s": 2, "newest": True}
    content = log_of([*before, (1, 40)])
    one = merge_logs("h", base_of(base), UserLog.read(content), **rest)  # type: ignore[arg-type]
    two = merge_logs("h", base_of(base), UserLog.read(log_of([(2, 50)], content)), **rest)  # type: ignore[arg-type]
    assert two.continues(UserState(one.epoch, one.count, 0, 0, np.zeros(1, np.float32), one.guard)) and two.count == one.count + 1
