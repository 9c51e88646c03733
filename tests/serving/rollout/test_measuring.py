"""What a worker notes of the answers of both versions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from configs.errors import RequestRefusedError
from infra.measurements import Measured, forget_measured, measured_keys, read_measured, user_number
from infra.registry import Rollout
from infra.storage.local import LocalStore
from serving.engine import Answer, Recommended, RecommendJob, RequestTime
from serving.experiments import Assignment
from serving.rollout import Measuring, MeasuringLoop, Underway

UNDERWAY = Underway("new", Rollout("old", "", (0.5, 1.0), 0, 1000, 7))
NEW, OLD = (next(u for u in range(100) if UNDERWAY.is_new(u, 1000) is new and UNDERWAY.is_measured(u)) for new in (True, False))


def job(user: int, at: int = 2000, **options: Any) -> RecommendJob:
    return RecommendJob(Assignment("champion", canary=user == NEW), 10, RequestTime.of(None, at), user=user, **options)


def answer(version: str, items: list[int], events: int = 3, **options: Any) -> Answer:
    shown = [Recommended(item, "", None, [], None, 0.0, [], "{") for item in items]
    return Answer(version, "state", "", events, None, shown, **options)


def not_asked(job: RecommendJob, then: Callable[[Answer | Exception], None]) -> None:
    """The old version has no time to answer."""


def measured(*batches: tuple[str, RecommendJob, object]) -> Measured:
    measuring = Measuring(UNDERWAY, "w", not_asked)
    for version, asked, result in batches:
        measuring.observe(version, {0: asked}, {0: result}, 0.002)
    return measuring.take() or Measured("w")


def test_the_first_answer_of_each_user_counts_once() -> None:
    found = measured(
        ("new", job(NEW), answer("new", [1, 2])), ("new", job(NEW), answer("new", [3])), ("old", job(OLD), answer("old", [1]))
    )
    assert found.requests == [1, 2] and {(row.user, row.new) for row in found.answers} == {
        (user_number(NEW), True),
        (user_number(OLD), False),
    }
    assert all(row.cpu_s == 0.002 for row in found.answers)


def test_what_nobody_sees_and_what_another_version_answered_is_not_measured() -> None:
    seen = answer("new", [1])
    found = measured(
        ("new", job(NEW, 999), seen),  # before the stage begins
        ("new", job(NEW, preview=True), seen),
        ("new", replace(job(NEW), named=True), seen),
        ("new", replace(job(NEW), time=RequestTime.of(5000, 2000)), seen),
        ("other", job(OLD), answer("other", [1])),  # an arm of an experiment
        ("old", job(NEW), answer("old", [1])),  # the old one answered instead
    )
    assert found.requests == [0, 0] and found.answers == []


def test_errors_empty_lists_and_repeated_ones_are_noted_once_for_each_user() -> None:
    found = measured(
        ("new", job(NEW), RuntimeError("crash")),
        ("new", job(NEW), RuntimeError("crash")),
        ("old", job(OLD), RequestRefusedError("the client's fault")),
        ("old", job(OLD), answer("old", [])),
        ("new", job(NEW), answer("new", [1, 2], events=3)),
        ("new", job(NEW), answer("new", [1, 2], events=3)),  # nothing has happened since
    )
    assert [(row.user, row.new) for row in found.events["errors"]] == [(user_number(NEW), True)]
    assert [row.user for row in found.events["empty"]] == [user_number(OLD)] and found.events["repeated"] == []
    stuck = measured(("new", job(NEW), answer("new", [1, 2], events=3)), ("new", job(NEW), answer("new", [1, 2], events=4)))
    assert [row.user for row in stuck.events["repeated"]] == [user_number(NEW)]
    assert len(measured(("new", job(NEW), answer("new", [1, 1]))).events["repeated"]) == 1


def test_lists_of_one_version_are_compared_in_pairs_and_with_those_of_the_old_version() -> None:
    new = [user for user in range(400) if UNDERWAY.is_new(user, 1000)]

    def old_answers(asked: RecommendJob, then: Callable[[Answer | Exception], None]) -> None:
        then(answer("old", [1, 2]))

    measuring = Measuring(UNDERWAY, "w", old_answers)
    for user in new:
        asked = replace(job(user), assignment=Assignment("champion", canary=True))
        measuring.observe("new", {0: asked}, {0: answer("new", [1, 3])}, 0.0)
    found = measuring.take()
    assert found is not None and sum(row.alike is not None for row in found.answers) == len(new) // 2
    assert {row.alike for row in found.answers} == {None, 1.0} and {row.share for row in found.agreements} == {0.5}
    assert 0.1 < len(found.agreements) / len(new) < 0.3, "one in five is asked"


def test_what_was_measured_reaches_the_store_and_is_forgotten_once_decided(tmp_path: Path) -> None:
    store, clock = LocalStore(tmp_path), [0.0]
    loop = MeasuringLoop(store, "ranker", not_asked, clock=lambda: clock[0])
    loop.follow(UNDERWAY)
    loop.observe("new", {0: job(NEW)}, {0: answer("new", [1])}, 0.002)
    clock[0] = 60.0
    loop.follow(UNDERWAY)
    loop.follow(None)
    loop.observe("new", {0: job(NEW)}, {0: answer("new", [1])}, 0.002)  # the rollout is over
    loop.close(600.0)
    keys = measured_keys(store, "ranker", 7)
    assert [each.requests for each in read_measured(store, keys)] == [[0, 1]]
    forget_measured(store, "ranker", 7)
    assert measured_keys(store, "ranker", 7) == []
