"""Whoever watches a rollout takes the step that the log and the measurements ask for, once, wherever it was killed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from configs.settings import RolloutSettings
from infra.measurements import Event, FirstAnswer, Measured, measured_keys, write_measured
from infra.pages import is_page
from infra.registry import ModelRegistry, Promotion, begin_rollout, freeze, thaw
from infra.storage.local import LocalStore
from tasks.rollout import Standing, Watch, page_key, rejected, render_html, render_markdown, rollout_notice, sentence, worker_rows
from tests.tasks.stored import NAME, NOW, sealed

START = int(NOW.timestamp())
CONTROLS = 4


class Rolling:
    """A store in which the second of two versions is rolled out, and its clock."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self.store, self.now = LocalStore(root / "store"), START
        self.old, self.new = (sealed(self.store, root / f"m{hour}", hour=hour) for hour in range(2))
        ModelRegistry(self.store).promote(NAME, self.old.version, expected=0, reason="first", now=NOW)
        chosen = RolloutSettings.model_validate({"enabled": True, "bake_s": 600, "settle_s": 60, **settings})
        begin_rollout(self.store, self.new, chosen, expected=1, reason="better", now=NOW, decision={})
        self.outcomes: list[tuple[int | str, int]] | None = None

    def watch(self) -> Watch:
        return Watch(self.store, NAME, CONTROLS, self._outcomes, lambda: self.now)

    def _outcomes(self, since: int) -> Iterable[tuple[int | str, int]] | None:
        return self.outcomes

    def standing(self, after_s: int = 0) -> Standing:
        self.now += after_s
        found = self.watch().look()
        assert found is not None
        return found

    def step(self, after_s: int = 0) -> Promotion | None:
        self.now += after_s
        watch = self.watch()
        found = watch.look()
        return None if found is None else watch.step(found)

    def kinds(self) -> list[str]:
        return [entry.kind for entry in ModelRegistry(self.store).history(NAME)]

    def report(self, entry: int, number: int = 1, *, worker: str = "host-1", **found: Any) -> None:
        write_measured(self.store, NAME, entry, Measured(worker, **found), number)


@pytest.fixture
def rolling(tmp_path: Path) -> Rolling:
    return Rolling(tmp_path)


def errors(of_new: int, of_old: int) -> dict[str, list[Event]]:
    every = (of_new + of_old) // of_new
    rows = [Event(user, START + 100, user % every == every - 1) for user in range(of_new + of_old)]
    return {"errors": rows, "empty": [], "repeated": []}


def test_without_traffic_the_rollout_goes_on_and_says_that_nothing_was_known(rolling: Rolling) -> None:
    assert rolling.step() is None and rolling.step(60) is None
    standing = rolling.standing(599)
    assert standing.move == "wait" and "1 s are left" in standing.why
    entry = rolling.step(1)
    assert (
        entry is not None
        and entry.kind == "advance"
        and entry.reason.endswith(
            "Compared: nothing. Not known: errors, empty lists, repeated lists, CPU time, variety, agreement, outcomes."
        )
    )
    page = rolling.store.get(page_key(standing)).decode()
    assert is_page(page_key(standing)) and "nobody reports outcomes" in page and "The rollout goes on by what is known" in page
    assert rolling.step(60 + 600) is not None and rolling.watch().look() is None
    assert rolling.kinds() == ["promote", "promote", "advance", "advance"]


def test_a_worse_version_is_returned_before_the_end_of_the_stage_with_the_reason(rolling: Rolling) -> None:
    rolling.report(2, requests=[9500, 500], events=errors(of_new=5, of_old=0))
    standing = rolling.standing(120)
    assert standing.move == "return" and standing.part < 1
    entry = rolling.watch().step(standing)
    assert entry is not None and (entry.kind, entry.version) == ("return", rolling.old.version)
    assert "errors: 5 of 5 users whose request failed had the new version; 5.0% are expected" in entry.reason
    assert measured_keys(rolling.store, NAME, 2) == [] and rolling.watch().look() is None
    notice = rollout_notice(standing, entry, {"page": "https://host/page"})
    assert notice.event == "recsys.rollout.returned" and "https://host/page" in notice.body and "Not known: " in notice.body
    assert "Returned" in render_markdown(standing) and "5 of 5 users" in sentence(standing)
    assert f"to {rolling.old.version[:16]} for all users (stage 1 of 3)" in sentence(standing)
    assert "✗ worse" in render_markdown(standing) and "1 worker measured 9,500 requests" in render_markdown(standing)


def test_errors_that_both_versions_have_return_nothing(rolling: Rolling) -> None:
    rolling.report(2, requests=[9500, 500], events=errors(of_new=5, of_old=95))
    check = rolling.standing(120).checks[0]
    assert (check.name, check.verdict, check.users) == ("errors", "not worse", (95, 5))


@pytest.mark.parametrize("killed", ["before the entry", "after the entry"])
def test_a_step_that_was_killed_is_taken_once_by_the_next_one(
    killed: str, rolling: Rolling, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for stage in range(2):
        with monkeypatch.context() as patch:
            at = "tasks.rollout.watching." + ("advance_rollout" if killed == "before the entry" else "forget_measured")
            patch.setattr(at, die)
            with pytest.raises(KeyboardInterrupt):
                rolling.step(660)
        rolling.step()  # another process
        rolling.step()
        assert rolling.kinds() == ["promote", "promote", *["advance"] * (stage + 1)]
    assert rolling.watch().look() is None


def test_two_that_watch_write_one_log(rolling: Rolling) -> None:
    one, other = rolling.watch(), rolling.watch()
    rolling.now += 660
    first, second = one.look(), other.look()
    assert first is not None and second is not None
    assert one.step(first) is not None and other.step(second) is None
    assert rolling.kinds() == ["promote", "promote", "advance"]


def test_a_server_that_cannot_serve_the_new_version_returns_it_at_the_end_of_the_stage(rolling: Rolling) -> None:
    rolling.report(2, requests=[10, 0], refused="The package torch is missing.")
    assert rolling.standing(120).move == "wait", "it may work in a moment"
    entry = rolling.step(540)
    assert entry is not None and entry.kind == "return" and "The package torch is missing." in entry.reason


def test_each_worker_is_named_with_what_it_answered_and_why_it_does_not_serve_the_new_version(rolling: Rolling) -> None:
    assert rolling.standing(60).workers == []
    rolling.report(2, worker="b", requests=[1000, 50])
    rolling.report(2, 2, worker="b", requests=[200, 10])
    rolling.report(2, 3, worker="a", requests=[40, 0], refused="The package torch is missing.")
    rolling.report(2, 4, worker="c", requests=[3, 0])
    standing = rolling.standing(60)
    assert [list(row.values()) for row in worker_rows(standing)] == [
        ["a", "✗ refused: The package torch is missing.", "40", "0"],
        ["b", "✓ serves it", "1,200", "60"],
        ["c", "… not asked yet", "3", "0"],
    ]
    assert "- a does not serve the new version: The package torch is missing" in render_markdown(standing)
    page = render_html(standing).decode()
    assert "Every worker" in page and "✗ refused: The package torch is missing." in page
    rolling.report(2, 5, worker="a", requests=[10, 2])
    assert [each.refused for each in rolling.standing(1).workers] == ["", "", ""], "it has loaded the version by now"


def test_a_frozen_rollout_waits_and_goes_on_when_thawed_and_a_worse_one_returns_all_the_same(rolling: Rolling) -> None:
    freeze(rolling.store, NAME, reason="checkout is broken", now=NOW)
    standing = rolling.standing(660)
    assert standing.move == "wait" and "frozen: checkout is broken" in standing.why
    thaw(rolling.store, NAME, reason="works again", now=NOW)
    assert rolling.step() is not None
    freeze(rolling.store, NAME, reason="again", now=NOW)
    rolling.report(5, requests=[9500, 500], events=errors(of_new=9, of_old=0))
    back = rolling.step(60)
    assert back is not None and back.kind == "return"


def test_a_person_approves_or_rejects_the_last_stage(tmp_path: Path) -> None:
    rolling = Rolling(tmp_path, approval="manual")
    assert rolling.step(660) is not None, "the first stages need no approval"
    standing = rolling.standing(660)
    assert standing.move == "ask" and rolling.watch().step(standing) is None
    refused = rejected(standing, "Ada", "too soon")
    assert refused.move == "return" and refused.why == "Ada rejected it: too soon"
    entry = rolling.watch().step(standing, approved="Ada")
    assert entry is not None and entry.rolling_out is None and entry.reason.endswith("Approved by Ada.")


def test_outcomes_count_for_users_who_asked_before_and_fewer_of_them_return_the_version(rolling: Rolling) -> None:
    from infra.measurements import user_number

    answers = [FirstAnswer(user_number(user), START + 70, user % 5 == 0, 0.002, None) for user in range(4000)]
    rolling.report(2, requests=[3200, 800], answers=answers)
    rolling.outcomes = [(user, START + 200) for user in range(4000) if user % 5]  # none of the new version's
    check = rolling.standing(300).checks[-1]
    assert (check.verdict, check.users) == ("worse", (3200, 0))
    rolling.outcomes = [(user, START + 10) for user in range(4000) if user % 5]  # before they asked
    assert rolling.standing().checks[-1].said == "no outcomes came"
    rolling.outcomes = [(user, START + 200) for user in range(4000)]
    assert rolling.standing().checks[-1].verdict == "not worse"


def test_a_reason_from_outside_cannot_add_markup(rolling: Rolling) -> None:
    rolling.report(2, requests=[10, 0], refused="<script>alert(1)</script> [x](http://evil)")
    standing = rolling.standing(660)
    rolling.watch().write_page(standing)
    assert b"<script>alert" not in rolling.store.get(page_key(standing)) and "<script>" not in render_markdown(standing)


def test_the_time_of_an_entry_is_that_of_the_watch(rolling: Rolling) -> None:
    entry = rolling.step(660)
    assert entry is not None and entry.when == datetime.fromtimestamp(START + 660, UTC).isoformat(timespec="seconds")
