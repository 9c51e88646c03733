"""Opponents of a stored challenger, and what past versions in the store say about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.registry import ModelRegistry
from tasks.datasets import read_table
from tasks.evaluation import overlap_with
from tasks.gate import judge_staged, promote_version, publish
from tasks.gate.inputs import TrainingNoise
from tasks.gate.opponents import Ground, anchor_of, decisions_since, margin_version, noise_of
from tasks.training import read_split
from tests.tasks.world import NAME, World, dataset_of

LATER = datetime.now(UTC) + timedelta(days=91)


def ground_of(world: World) -> Ground:
    parts = read_split(world.store, world.newer, world.settings.evaluation)
    return Ground(world.store, NAME, world.newer, world.settings.evaluation, parts)


@pytest.mark.full
def test_fresh_requests_are_counted_and_those_that_a_version_has_learnt_are_found(world: World, tmp_path: Path) -> None:
    evaluation = world.settings.evaluation
    same = overlap_with(world.store, world.first, world.older, evaluation)
    assert same is not None and (same.seen_share, same.fresh) == (0.0, 0) and not same.learnt.any()
    newer = overlap_with(world.store, world.first, world.newer, evaluation)
    test = read_split(world.store, world.newer, evaluation).test
    known = read_table(world.store, world.older, "interactions", ["user_id", "item_id"])
    pairs = set(zip(known["user_id"], known["item_id"], strict=True))
    new = sum((user, item) not in pairs for user, item in zip(test.user_ids, test.targets, strict=True))
    assert newer is not None and newer.fresh == new > 40 and newer.seen_share == 0 and not newer.learnt.any()

    # A user rates again what the champion was trained on. The time is new, but not the item.
    frame = read_table(world.store, world.older, "interactions", ["user_id", "item_id", "rating", "timestamp"])
    first = frame.sort_values("timestamp").groupby("user_id").head(1).head(12)
    again = first.assign(timestamp=int(frame["timestamp"].max()) + 5000)
    rated = dataset_of(world.store, world.settings, tmp_path / "again", pd.concat([frame, again]))
    found = overlap_with(world.store, world.first, rated, evaluation)
    assert found is not None and found.seen_share == 0 and found.fresh == found.learnt.sum() == 12
    asked = read_split(world.store, rated, evaluation).test
    assert set(asked.user_ids[found.learnt]) == set(again["user_id"])


def test_the_champion_of_a_quarter_ago_is_an_opponent_until_it_is_the_champion_again(world: World) -> None:
    registry, ground = ModelRegistry(world.store), ground_of(world)
    current = registry.champion_ref(NAME)
    assert current is not None and anchor_of(ground, current, 90, LATER) is None, "it is the champion"
    second = world.seal(world.stage())
    registry.promote(NAME, second.version, expected=1, reason="the second", now=datetime.now(UTC) + timedelta(days=60))
    current = registry.champion_ref(NAME)
    assert anchor_of(ground, current, 90, datetime.now(UTC)) is None and anchor_of(ground, current, 0, LATER) is None
    anchor = anchor_of(ground, current, 90, LATER)
    assert anchor is not None and anchor.version == world.first.version and anchor.ranking is not None
    assert np.array_equal(anchor.ranking.targets, ground.parts.test.targets)
    other = replace(ground, evaluation=world.settings.evaluation.model_copy(update={"k_core": 3}))
    refused = anchor_of(other, current, 90, LATER)
    assert refused is not None and refused.ranking is None and "was trained under" in refused.fault


def test_a_promotion_records_from_which_version_a_margin_counts(world: World) -> None:
    settings = world.settings.model_copy(
        update={"promotion": world.settings.promotion.model_copy(update={"rule": "non-inferior", "margin": 0.9})}
    )
    staged = world.stage()
    decision = judge_staged(world.store, staged, "ss4rec", world.newer, settings)
    assert decision.outcome == "promoted" and decision.margin_from == staged.version, "it is shown to be better"
    weaker = replace(decision, margin_from=world.first.version)
    ref = publish(world.store, staged, weaker, world.candidates[-1], world.evaluation, settings)
    entry = promote_version(world.store, ref, weaker, settings.promotion).promotion
    assert entry is not None and entry.decision["margin_from"] == world.first.version
    found = margin_version(ground_of(world), ModelRegistry(world.store).champion_ref(NAME))
    assert found is not None and found.version == world.first.version and found.ranking is not None


def test_an_entry_without_a_record_lets_the_margin_count_from_its_own_version(world: World) -> None:
    assert margin_version(ground_of(world), ModelRegistry(world.store).champion_ref(NAME)) is None
    assert margin_version(ground_of(world), None) is None


def test_past_retrainings_of_the_recipe_correct_the_noise_and_others_do_not(world: World) -> None:
    registry, ground = ModelRegistry(world.store), ground_of(world)
    models = world.settings.models
    staged = world.stage()
    assert noise_of(ground, "ss4rec", models, staged.version, 0.04) == TrainingNoise(0.04, 0), "another recipe made the first"
    sealed = world.seal(staged)
    assert noise_of(ground, "ss4rec", models, "none", 0.04) == TrainingNoise(0.04, 0), "one version makes no pair"
    assert noise_of(ground, "ss4rec", models, "none", 0.0) == TrainingNoise(0.0)
    assert decisions_since(registry, staged, datetime.now(UTC)) == 1 and sealed.version != world.first.version
    assert decisions_since(registry, staged, datetime.now(UTC) + timedelta(days=400)) == 0
    # The same recipe once more, with other ranks.
    ranks = pd.read_parquet(world.folder / "ranks.parquet")
    changed = ranks["rank_ss4rec"].sample(frac=1.0, random_state=1).to_numpy()
    ranks.assign(rank_ss4rec=changed).to_parquet(world.folder / "ranks.parquet", index=False)
    world.seal(world.stage(evaluated_again=True))
    learnt = noise_of(ground, "ss4rec", models, "none", 0.04)
    assert learnt.retrainings == 1 and learnt.relative >= 0.04
