from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from configs.settings import PolicySettings
from tasks.retraining import Facts, Standing, described, due
from tasks.retraining.policies import foreseen

DAY_S = 86_400
POLICIES = st.builds(
    PolicySettings,
    every=st.sampled_from([None, "week", "month"]),
    on_drift=st.booleans(),
    volume=st.one_of(st.none(), st.floats(0.01, 2)),
    decay=st.one_of(st.none(), st.floats(0.01, 1)),
    most_days=st.one_of(st.none(), st.floats(0.1, 100)),
    least_days=st.floats(0, 60),
)
LAST = st.builds(Standing, at=st.integers(0, 2_000_000_000), rows=st.integers(1, 10**6), content=st.just("a"))
NOW: Any = {
    "days": st.integers(1, 400),
    "more": st.integers(0, 10**6),
    "content": st.sampled_from("ab"),
    "drifted": st.booleans(),
}


def asked(policy: PolicySettings, last: Standing, days: int, more: int, content: str, drifted: bool) -> str | None:
    return due(policy, last, Facts(last.at + days * DAY_S, (last.rows or 0) + more, content, drifted=drifted))


def at(year: int, month: int, day: int) -> int:
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


@given(LAST, st.fixed_dictionaries(NOW))
def test_a_policy_without_a_cause_never_retrains(last: Standing, now: dict[str, Any]) -> None:
    assert asked(PolicySettings(), last, **now) is None


@given(POLICIES, LAST, st.fixed_dictionaries(NOW))
def test_nothing_is_trained_twice_on_the_same_events_nor_too_soon(
    policy: PolicySettings, last: Standing, now: dict[str, Any]
) -> None:
    if asked(policy, last, **now) is not None:
        assert now["content"] != last.content and now["days"] >= policy.least_days


@given(POLICIES, LAST, st.fixed_dictionaries(NOW))
def test_a_further_cause_never_keeps_a_policy_from_retraining(
    policy: PolicySettings, last: Standing, now: dict[str, Any]
) -> None:
    more = policy.model_copy(update={"on_drift": True})
    if asked(policy, last, **now) is not None:
        assert asked(more, last, **now) is not None
    if now["drifted"] and now["content"] != last.content and now["days"] >= policy.least_days:
        assert asked(more, last, **now) == "drift"


@given(st.integers(0, 3 * 365), st.integers(1, 12))
def test_a_monthly_policy_retrains_once_in_each_month_that_slices_end_in(begin: int, weeks: int) -> None:
    policy, trained, months = PolicySettings(every="month"), [], set()
    last = Standing(at(2000, 1, 1) + begin * DAY_S, 10, "0")
    start = datetime.fromtimestamp(last.at - 1, UTC)
    for number in range(1, 40):
        end = at(2000, 1, 1) + (begin + number * weeks) * DAY_S
        moment = datetime.fromtimestamp(end - 1, UTC)
        if (moment.year, moment.month) != (start.year, start.month):
            months.add((moment.year, moment.month))
        if due(policy, last, Facts(end, 10, str(number))):
            trained.append((moment.year, moment.month))
            last = Standing(end, 10, str(number))
    assert sorted(months) == trained


def test_a_slice_that_ends_with_the_month_belongs_to_it() -> None:
    policy, last = PolicySettings(every="month"), Standing(at(2001, 1, 8), 10, "0")
    assert due(policy, last, Facts(at(2001, 2, 1), 10, "1")) is None
    assert due(policy, last, Facts(at(2001, 2, 1) + 1, 10, "1")) == "a new month"
    weekly = PolicySettings(every="week")
    assert due(weekly, last, Facts(at(2001, 1, 15), 10, "1")) == "a new week"


def test_volume_is_counted_from_the_last_training() -> None:
    policy, last = PolicySettings(volume=0.25), Standing(0, 1000, "0")
    assert due(policy, last, Facts(DAY_S, 1249, "1", drifted=True)) is None
    assert due(policy, last, Facts(DAY_S, 1250, "1")) == "250 new events"


def test_a_policy_is_described_in_words() -> None:
    assert described(PolicySettings()) == "never"
    assert described(PolicySettings(least_days=7)) == "never"
    both = PolicySettings(on_drift=True, every="month", volume=0.5, least_days=7)
    assert described(both) == "on drift or each month or after 50% new events, at least 7 days apart"


def test_decay_counts_only_beyond_chance_and_from_the_share_on_that_the_policy_names() -> None:
    policy, last = PolicySettings(decay=0.1), Standing(0, 1000, "0")
    assert due(policy, last, Facts(DAY_S, 1001, "1", decay=None)) is None
    assert due(policy, last, Facts(DAY_S, 1001, "1", decay=0.09)) is None
    assert due(policy, last, Facts(DAY_S, 1001, "1", decay=0.1)) == "live NDCG@10 10% below the holdout's"
    assert due(PolicySettings(), last, Facts(DAY_S, 1001, "1", decay=0.5)) is None


@given(POLICIES, LAST, st.fixed_dictionaries(NOW))
def test_what_is_foreseen_comes_true_if_events_go_on_arriving(
    policy: PolicySettings, last: Standing, now: dict[str, Any]
) -> None:
    here = Facts(last.at + now["days"] * DAY_S, (last.rows or 0) + now["more"], "b")
    ahead = foreseen(policy, last, here)
    if ahead is None:
        assert policy.every is None and policy.most_days is None
        return
    when, _ = ahead
    assert when >= here.at
    pace = now["more"] / (here.at - last.at)
    rows = (last.rows or 0) + round(pace * (when + 60 - last.at)) + 1
    assert due(policy, last, Facts(when + 60, rows, "c")) is not None
