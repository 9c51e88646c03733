"""What users are shown is logged with the probability of showing it: over arms, with exploration, and with shadows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from infra.storage.local import LocalStore
from serving.api.app import create_app
from serving.experiments import Exposure
from tests.serving.versions import draw, promote_version, publish, settings_of, wait_until_served


class Collected:
    """Exposures in memory."""

    dropped = 0

    def __init__(self) -> None:
        self.all: list[Exposure] = []

    def write(self, exposure: Exposure) -> None:
        self.all.append(exposure)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Return a folder with a champion and another version, and their names."""
    root = tmp_path_factory.mktemp("showing")
    store = LocalStore(root / "store")
    names = []
    for number in (1, 2):
        draw(root / f"v{number}", number)
        names.append(publish(store, root / f"v{number}").version)
    promote_version(store, names[0])
    return root, *names


def shown(root: Path, experiments: str, users: int, served: int = 2, **body: Any) -> tuple[list[Exposure], list[Any]]:
    (root / "experiments.yaml").write_text(experiments)
    sink, answers = Collected(), []
    with TestClient(create_app(settings_of(root, experiments=str(root / "experiments.yaml")), sink)) as client:
        wait_until_served(client, served)
        for user in range(users):
            answers.append(client.post("/v1/recommendations", json={"user_id": user, "k": 4} | body).json())
    return sink.all, answers


def test_the_probability_over_all_arms_is_logged(root: tuple[Path, str, str]) -> None:
    folder, first, second = root
    text = f"experiments: [{{name: two, propensities: true, arms: [{{name: a, share: 3}}, {{name: b, version: {second}}}]}}]"
    exposures, answers = shown(folder, text, 12)
    lists: dict[str, list[Any]] = {each.version: list(each.items) for each in exposures}  # of users of whom nothing is known
    assert lists.keys() == {first, second} and {len(each.items) for each in exposures} == {4}
    for each, answer in zip(exposures, answers, strict=True):
        assert [item["item_id"] for item in answer["items"]] == list(each.items)
        known = dict(each.others) | dict(zip(each.items, each.propensities or [1.0] * 4, strict=True))
        expected = {
            item: 0.75 * (item in lists[first]) + 0.25 * (item in lists[second]) for item in {*lists[first], *lists[second]}
        }
        assert known == pytest.approx(expected)


def test_exploration_draws_a_share_of_the_lists_and_logs_what_else_could_have_been_shown(root: tuple[Path, str, str]) -> None:
    folder, _, second = root
    text = f"exploration: {{share: 0.5, pool: 8}}\nshadow: [{{version: {second}}}]"
    exposures, answers = shown(folder, text, 30)
    own, shadows = ([each for each in exposures if each.shadow is shadow] for shadow in (False, True))
    assert len(own) == len(shadows) == 30 and all(len(each.items) == 4 for each in exposures)
    assert all(answer["items"] == [] or len(answer["items"]) == 4 for answer in answers)
    pools = {frozenset(each.items) | {item for item, _ in each.others} for each in own}
    assert len(pools) == 1 and len(next(iter(pools))) == 8
    assert {tuple(each.items) for each in own}.__len__() > 5  # about fifteen are drawn
    for each in own:
        assert sum(each.propensities or []) + sum(chance for _, chance in each.others) == pytest.approx(4)
        assert set(each.propensities or []) <= {0.75, 0.25}
    assert all(each.propensities is None and not each.others for each in shadows)


def test_a_preview_and_a_named_version_are_not_explored(root: tuple[Path, str, str]) -> None:
    folder, first, _ = root
    text = "exploration: {share: 1, pool: 30}"
    exposures, previews = shown(folder, text, 6, 1, preview=True)
    assert not exposures and len({str(each["items"]) for each in previews}) == 1
    exposures, _ = shown(folder, text, 6, 1, version=first)
    assert {each.propensities for each in exposures} == {None} and len({tuple(each.items) for each in exposures}) == 1


def test_interleaved_lists_name_the_arm_that_drafted_each_item(root: tuple[Path, str, str]) -> None:
    folder, first, second = root
    arms = f"[{{name: a, version: {first}}}, {{name: b, version: {second}}}]"
    text = f"experiments: [{{name: both, kind: interleaving, arms: {arms}}}]"
    exposures, answers = shown(folder, text, 8)
    assert {each.version for each in exposures} == {f"{first}+{second}"} and {each.arm for each in exposures} == {"interleaved"}
    for each, answer in zip(exposures, answers, strict=True):
        assert [item["item_id"] for item in answer["items"]] == list(each.items) and len(set(each.items)) == 4
        assert sorted(each.teams) == ["a", "a", "b", "b"] and answer["arm"] == "interleaved" and answer["version"] == first
    exposures, answers = shown(folder, text, 3, preview=True)
    assert not exposures and {answer["experiment"] for answer in answers} == {"both"}
    exposures, answers = shown(folder, text.replace(second, "20200101T000000Z-0"), 3, 1)  # one cannot answer
    assert {(each.version, each.experiment) for each in exposures} == {(first, None)} and not any(
        each.teams for each in exposures
    )
