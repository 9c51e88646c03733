"""Assignment is sticky, even, and independent between experiments. It depends only on the file and the time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from configs.errors import SettingsError
from configs.serving import Experiment, ExperimentFile
from serving.experiments import Assignment, Experiments
from serving.experiments.assignment import place_of
from tests.serving.live import START, experiment

USERS = range(4000)


def of(*experiments: Experiment, **rest: Any) -> Experiments:
    return Experiments(ExperimentFile(experiments=experiments, **rest))


def arms(found: Experiments, now: int = START) -> np.ndarray:
    return np.array([str(found.assign(user, now).arm) for user in USERS])


def test_a_user_stays_in_one_arm_whether_the_id_is_a_number_or_text() -> None:
    once, again = of(experiment()), of(experiment())
    assert [once.assign(user, START) for user in USERS] == [again.assign(user, START + 10**6) for user in USERS]
    assert once.assign(17, START) == once.assign("17", START)
    # This value never changes: another hash would move every user of every running experiment.
    assert place_of("users", 1) == pytest.approx(0.3757802511, abs=1e-9)


def test_users_fall_into_arms_by_share() -> None:
    found = arms(of(experiment(arms=[{"name": "a", "share": 7}, {"name": "b", "share": 2}, {"name": "c", "share": 1}])))
    counts = [int((found == name).sum()) for name in "abc"]
    assert stats.chisquare(counts, np.array([0.7, 0.2, 0.1]) * len(USERS)).pvalue > 0.001


def test_arms_of_one_experiment_are_mixed_evenly_in_another_on_the_same_users() -> None:
    one, other = arms(of(experiment())), arms(of(experiment(name="other")))
    table = [[int(((one == a) & (other == b)).sum()) for b in ("control", "challenger")] for a in ("control", "challenger")]
    assert stats.chi2_contingency(table).pvalue > 0.001
    # A name may change while the salt keeps everybody in place.
    assert (arms(of(experiment(name="renamed", salt="longer"))) == one).all()


def test_experiments_share_the_traffic_and_nobody_is_in_two() -> None:
    found = of(experiment(users=[0, 0.25]), experiment(name="second", users=[0.25, 0.5], arms=[{"name": "x"}, {"name": "y"}]))
    inside = [found.assign(user, START).experiment for user in USERS]
    assert inside.count("longer") == pytest.approx(1000, abs=120) and inside.count("second") == pytest.approx(1000, abs=120)
    assert found.assign(next(u for u in USERS if inside[u] is None), START) == Assignment("champion")
    assert found.versions == {"v2"}


def test_an_experiment_assigns_nobody_outside_of_its_period_or_while_it_is_switched_off() -> None:
    timed = experiment(during={"start": "2025-06-01T00:00:00Z", "end": "2025-07-01T00:00:00+02:00"})
    start, end = 1_748_736_000, 1_751_320_800
    found = [of(timed).assign(5, now).experiment for now in (start - 1, start, end - 1, end)]
    assert found == [None, "longer", "longer", None]
    off = of(experiment(active=False))
    assert off.assign(5, START) == Assignment("champion") and off.versions == frozenset()


def test_shadows_answer_for_their_share_and_change_nothing_else() -> None:
    found = of(experiment(), shadow=[{"version": "v9", "share": 0.3}, {"version": "v8", "share": 0}])
    plain = of(experiment())
    counted = 0
    for user in USERS:
        one = found.assign(user, START)
        counted += one.shadow == ("v9",)
        assert (one.arm, one.version) == (plain.assign(user, START).arm, plain.assign(user, START).version)
    assert counted == pytest.approx(1200, abs=130)
    assert found.versions == {"v2", "v8", "v9"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"experiments": [{"name": "a", "arms": [{"name": "x"}]}]}, "arms"),
        ({"experiments": [{"name": "a", "arms": [{"name": "x"}, {"name": "x"}]}]}, "two arms with the same name"),
        ({"experiments": [{"name": "a", "arms": [{"name": "x"}, {"name": "y", "share": 0}]}]}, "greater than 0"),
        ({"experiments": [{"name": "a", "users": [0.5, 0.5], "arms": [{"name": "x"}, {"name": "y"}]}]}, "this slice contains nobody"),
        ({"experiments": [{"name": "a", "arms": [{"name": "x"}, {"name": "y"}]} for _ in "ab"]}, "two experiments have the same name"),
        (
            {"experiments": [{"name": n, "users": u, "arms": [{"name": "x"}, {"name": "y"}]} for n, u in (("a", [0, 0.6]), ("b", [0.5, 1]))]},
            "a and b can run at the same time and share users",
        ),
        ({"experiments": [{"name": "a", "during": {"start": "2026-02-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}, "arms": [{"name": "x"}, {"name": "y"}]}]}, "end .* must come after"),
        ({"shadows": []}, "did you mean shadow"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_run_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SettingsError, match=said) as caught:
        Experiments.load(path)
    assert str(path) in str(caught.value)


def test_experiments_that_follow_each_other_may_share_users() -> None:
    before = experiment(during={"end": "2025-06-01T00:00:00Z"})
    after = experiment(name="after", during={"start": "2025-06-01T00:00:00Z"})
    assert [of(before, after).assign(1, now).experiment for now in (1_748_735_999, 1_748_736_000)] == ["longer", "after"]


def test_only_changes_of_who_gets_what_make_another_revision() -> None:
    base = experiment().revision
    assert experiment(users=[0, 0.1], during={"end": "2030-01-01T00:00:00Z"}, analysis={"alpha": 0.01}).revision == base
    arms_ = [{"name": "control"}, {"name": "challenger", "version": "v2", "share": 2}]
    assert len({base, experiment(arms=arms_).revision, experiment(salt="s").revision}) == 3


def test_changes_of_the_file_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text("{}")
    watched = Experiments.watch(path, settled_s=0)
    assert watched.current().assign(3, START).experiment is None
    path.write_text(yaml.safe_dump({"experiments": [experiment().model_dump(mode="json")]}))
    assert watched.look() and watched.look()
    assert watched.current().assign(3, START).experiment == "longer"
    assert watched.reloads == 1
