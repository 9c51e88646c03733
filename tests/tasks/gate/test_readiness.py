"""A gate that could not judge says so before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from configs.errors import DataRefusedError, GateError, SettingsError
from configs.settings import RetrainSettings
from infra.registry import ModelRegistry
from tasks.gate import publish, readiness, refuse_unjudgeable, stage_challenger
from tasks.training import read_split
from tests.tasks.world import NAME, World


def changed(world: World, **sections: dict[str, Any]) -> RetrainSettings:
    found = world.settings.model_dump()
    return RetrainSettings.model_validate({**found, **{name: {**found[name], **fields} for name, fields in sections.items()}})


@pytest.mark.full
def test_with_enough_requests_the_gate_can_judge(world: World) -> None:
    assert refuse_unjudgeable(world.store, world.newer, world.settings) >= 75
    nameless = world.settings.model_copy(update={"model_name": "another"})
    assert refuse_unjudgeable(world.store, world.newer, nameless) == 110, "the requests of all users, without a champion"


def test_too_few_requests_are_refused_with_the_remedies(world: World) -> None:
    settings = changed(world, promotion={"min_requests": 200})
    with pytest.raises(GateError) as refused:
        refuse_unjudgeable(world.store, world.newer, settings)
    assert str(refused.value) == (
        f"The gate could not judge a model of {world.newer.name}/{world.newer.version}, so nothing was trained: the last event of each user "
        "is a request, and 110 users have enough events, but promotion.min_requests asks for 200 requests. Collect the events of 90 more "
        "users, lower promotion.min_requests (a gain that is found may then be luck), or train without the gate with `recsys model train`."
    )


def test_users_that_the_k_core_dropped_are_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = read_split(world.store, world.newer, world.settings.evaluation)
    monkeypatch.setattr(readiness, "read_split", lambda *_: replace(parts, counts={**parts.counts, "dropped_users": 12}))
    with pytest.raises(GateError, match=r"90 more users, lower evaluation\.k_core \(5 dropped 12 users\), lower promotion"):
        refuse_unjudgeable(world.store, world.newer, changed(world, promotion={"min_requests": 200}))


def test_under_the_temporal_protocol_the_test_part_can_be_made_longer(world: World) -> None:
    settings = changed(world, promotion={"min_requests": 200}, evaluation={"protocol": "temporal"})
    with pytest.raises(GateError, match=r"the latest 10% of all events, but .*Raise evaluation\.temporal_test_share"):
        refuse_unjudgeable(world.store, world.newer, settings.model_copy(update={"model_name": "another"}))


def test_a_protocol_that_leaves_nothing_is_refused(world: World) -> None:
    with pytest.raises(DataRefusedError, match=r"The 100-core leaves nothing .* lower evaluation\.k_core"):
        refuse_unjudgeable(world.store, world.newer, changed(world, evaluation={"k_core": 100}))


def test_a_slice_by_an_attribute_that_there_is_not_is_refused(world: World) -> None:
    with pytest.raises(SettingsError, match=r"evaluation\.slices names brand, which is not an attribute"):
        refuse_unjudgeable(world.store, world.newer, changed(world, evaluation={"slices": ("brand",)}))


def test_a_champion_of_newer_data_or_of_another_protocol_is_refused(world: World) -> None:
    staged = stage_challenger(world.store, NAME, world.assembled)
    second = publish(world.store, staged, None, world.candidates[-1], world.evaluation, world.settings)
    ModelRegistry(world.store).promote(NAME, second.version, expected=1, reason="newer", now=datetime.now(UTC))
    with pytest.raises(
        GateError, match=rf"nothing was trained: the champion {second.version} has learnt .*train on a newer version"
    ):
        refuse_unjudgeable(world.store, world.older, world.settings)
    lenient = changed(world, promotion={"max_seen_share": 1.0})
    with pytest.raises(GateError, match=r"the user and item of 40 of 80 requests, which leaves 40, and promotion\.min_requests"):
        refuse_unjudgeable(world.store, world.older, lenient)
    with pytest.raises(GateError, match=r"was trained under loo-exact, but this run evaluates under temporal"):
        refuse_unjudgeable(
            world.store, world.newer, changed(world, evaluation={"protocol": "temporal"}, promotion={"min_requests": 20})
        )
