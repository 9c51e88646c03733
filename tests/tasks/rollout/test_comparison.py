"""What a comparison of two versions says about single checks."""

from __future__ import annotations

from configs.settings import RolloutSettings
from infra.measurements import Agreement
from infra.registry import Rollout
from tasks.rollout import Evidence, compare_versions

START = 1_790_000_000


def test_lists_that_have_nothing_in_common_are_told_once_enough_users_were_compared() -> None:
    settings = RolloutSettings(enabled=True, min_users=100)
    rollout = Rollout("old", "", settings.stages, 0, START, 2, settings.model_dump(mode="json"))
    found = Evidence(agreements={user: Agreement(user, START + user, 0.0) for user in range(150)}, requests=[2850, 150])
    (agreement,) = [check for check in compare_versions(found, rollout, settings, 0.25) if check.name == "agreement"]
    assert (agreement.verdict, agreement.new, agreement.at) == ("worse", 0.0, START + 99)
