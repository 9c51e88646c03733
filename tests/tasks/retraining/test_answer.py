"""Today's answer: why, why not, what it costs, and when the next retraining is expected."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from configs.settings import DueSettings, PolicySettings
from tasks.retraining import Answer, Facts, Standing, decide
from tasks.retraining.answer import Position

DAY_S = 86_400
TODAY = int(datetime(2026, 3, 10, 2, 30, tzinfo=UTC).timestamp())  # a Tuesday
LAST = Standing(TODAY - 8 * DAY_S, 10_000, "a")


def asked(settings: DueSettings, now: Facts | None = None, where: Position | None = None) -> Answer:
    place = where or Position(LAST, LAST.at)
    return decide(settings, place, now or Facts(TODAY, 10_500, "b"), model_name="ranker", dataset="shop/b", champion="v1")


def test_without_a_policy_only_drift_that_training_can_help_with_starts_a_retraining() -> None:
    assert not asked(DueSettings()).retrain
    drifted = asked(DueSettings(), Facts(TODAY, 10_500, "b", drifted=True))
    assert drifted.retrain and drifted.why == "A retraining starts: drift."
    assert not asked(DueSettings(), Facts(TODAY, 10_000, "a", drifted=True)).retrain, (
        "the champion was trained on the same events"
    )


def test_without_a_version_only_drift_starts_a_retraining_as_nobody_has_asked_for_the_first_one() -> None:
    first = Position(None, None)
    calm = asked(DueSettings(policy=PolicySettings(every="week")), where=first)
    assert not calm.retrain and "`recsys retrain` trains the first version" in calm.why
    assert asked(DueSettings(), Facts(TODAY, 10, "b", drifted=True), first).retrain


@pytest.mark.parametrize(
    ("policy", "day", "why"),
    [
        ({"every": "week", "least_days": 10}, "2026-03-12", "a new week"),  # the week is new, the ten days are not over
        ({"every": "month", "least_days": 30}, "2026-04-01", "a new month"),
        ({"volume": 0.1}, "2026-03-18", "about 1,000 new events"),
        ({"most_days": 20}, "2026-03-22", "20 days since the last training"),
        ({"most_days": 20, "volume": 0.1}, "2026-03-18", "about 1,000 new events"),
    ],
)
def test_the_answer_says_when_the_next_retraining_is_expected(policy: dict[str, Any], day: str, why: str) -> None:
    answer = asked(DueSettings(policy=PolicySettings(**policy)))
    assert not answer.retrain and answer.outlook == f"The next one is expected on {day}: {why}."


def test_nothing_is_promised_that_nobody_can_know() -> None:
    assert asked(DueSettings()).outlook == "Nothing that can be foreseen will start one."


def test_the_budget_of_the_month_holds_back_a_retraining_that_would_exceed_it() -> None:
    weekly = PolicySettings(every="week")
    spent = Position(LAST, LAST.at, spent_usd=48.2, training_usd=3.1)
    held = asked(DueSettings(policy=weekly, budget_usd_month=50), where=spent)
    assert not held.retrain and held.cause == "a new week"
    assert held.why == (
        "A retraining is due (a new week), but this month's trainings cost $48.20 of $50.00, and another one would cost about "
        "$3.10. Raise when.budget_usd_month to allow it."
    )
    assert held.outlook == "The next one is expected on 2026-04-01: a new month's budget."
    assert asked(DueSettings(policy=weekly, budget_usd_month=51.4), where=spent).retrain
    assert asked(DueSettings(policy=weekly), where=spent).retrain, "without a budget there is no limit"


def test_people_are_alerted_before_the_promised_age_is_reached_and_after_it() -> None:
    def aged(days: float) -> Answer:
        return asked(DueSettings(max_age_s=10 * DAY_S), where=Position(LAST, round(TODAY - days * DAY_S)))

    fresh, soon, late = aged(9), aged(9.1), aged(11)
    assert (fresh.stale, soon.stale, late.stale) == (False, True, True)
    assert soon.freshness == "The champion is 9.1 days old, and will soon break the promised maximum of 10.0 days."
    assert late.freshness == "The champion is 11.0 days old, and the promised maximum of 10.0 days is broken."
    assert not asked(DueSettings(max_age_s=1), where=Position(LAST, None)).stale, "without a champion nothing ages"
