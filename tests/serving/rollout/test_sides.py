"""Which users get the new version of a rollout."""

from __future__ import annotations

from configs.serving import ExperimentFile
from infra.registry import Rollout
from serving.experiments import Experiments
from serving.rollout import Underway

USERS = range(40_000)


def at(stage: int, version: str = "new") -> Underway:
    return Underway(version, Rollout("old", "", (0.05, 0.25, 1.0), stage, 1000, 2))


def test_each_stage_serves_its_share_of_the_users_and_keeps_those_of_the_stage_before() -> None:
    stages = [{user for user in USERS if at(stage).is_new(user, 1000)} for stage in range(3)]
    for found, share in zip(stages, (0.05, 0.25, 1.0), strict=True):
        assert abs(len(found) / len(USERS) - share) < 0.01
    assert stages[0] < stages[1] < stages[2]


def test_servers_change_over_at_one_time_whenever_they_read_the_log() -> None:
    """A server that has read the entry of the next stage still serves the stage before until that begins."""
    ahead, behind = at(1), at(0)
    assert all(ahead.is_new(user, 999) == behind.is_new(user, 1000) for user in USERS[:2000])
    assert not any(behind.is_new(user, 999) for user in USERS[:2000])


def test_a_rollout_mixes_the_users_of_other_rollouts_and_of_each_arm_of_an_experiment() -> None:
    new = [user for user in USERS if at(1).is_new(user, 1000)]
    again = sum(at(1, "newer").is_new(user, 1000) for user in new) / len(new)
    assert abs(again - 0.25) < 0.02
    arms = ({"name": "control", "version": "champion"}, {"name": "other", "version": "champion"})
    experiments = Experiments(ExperimentFile.model_validate({"experiments": [{"name": "ab", "arms": arms}]}))
    control = sum(experiments.assign(user, 0).arm == "control" for user in new) / len(new)
    assert abs(control - 0.5) < 0.02


def test_all_users_of_the_new_version_are_measured_and_four_times_as_many_of_the_old_one() -> None:
    measured = [user for user in USERS if at(0).is_measured(user)]
    new = [user for user in USERS if at(0).is_new(user, 1000)]
    assert {*new} <= {*measured} and abs(len(measured) / len(USERS) - 0.25) < 0.01
    assert at(1).measured_share == 1.0
