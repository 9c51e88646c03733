"""Whether a challenger begins with the champion's weights, and what it learns then."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from configs.settings import RetrainSettings
from infra.erasures import erase_user
from infra.registry import ModelRegistry
from models.loading import load_recommender
from tasks.evaluation import VersionFolder
from tasks.gate import judge_staged, render_markdown, stage_challenger
from tasks.stages import Trained
from tasks.training import Beginning, choose_beginning, learnt_of_version, train_candidate, warm_of_version
from tasks.training.splits import read_split
from tests.tasks.world import NAME, World, evaluated


def warm(world: World, **given: Any) -> RetrainSettings:
    return world.settings.model_copy(
        update={"training": world.settings.training.model_copy(update={"warm_start": True, **given})}
    )


def test_a_warm_start_learns_users_with_new_events_and_a_sample_of_the_others_and_the_record_says_so(world: World) -> None:
    settings = warm(world)
    ss4rec = settings.models.ss4rec.model_copy(update={"max_epochs": 1, "learning_rate": 1e-9, "weight_averaging": 0.0})
    settings = settings.model_copy(update={"models": settings.models.model_copy(update={"ss4rec": ss4rec})})
    chosen = choose_beginning(world.store, world.newer, settings)
    assert chosen.parent == world.first.version
    candidate = train_candidate(world.store, world.newer, "ss4rec", settings, parent=chosen.parent)
    found = candidate.warm
    assert found is not None and (found.parent, found.generation) == (world.first.version, 1)
    assert (found.new_users, found.old_users) == (70, 8), "40 users have more events, 30 are new, and 40 have nothing new"
    assert found.events < found.all_events
    with ModelRegistry(world.store).fetched(world.first) as folder:
        before, after = load_recommender(folder), load_recommender(Path(candidate.folder))
    shared = [item for item in before.catalogue.tolist() if item in set(after.catalogue.tolist())]
    rows = [[each.catalogue.tolist().index(item) for item in shared] for each in (before, after)]
    old, now = (each.item_vectors()[of] for each, of in zip((before, after), rows, strict=True))
    assert shared and (old - now).abs().max() < 1e-6, "with hardly any learning, the champion's items are where they were"

    evaluation, assembled = evaluated(world.store, world.newer, [*world.candidates[:1], candidate], settings)
    assert evaluation.metrics["ss4rec"]
    staged = stage_challenger(world.store, NAME, VersionFolder(assembled.path, assembled.files))
    decision = judge_staged(world.store, staged, "ss4rec", world.newer, settings)
    assert (
        decision.began is not None
        and decision.began.warm == found
        and "It began warm, with the weights of" in render_markdown(decision)
    )
    told = json.loads(json.dumps(decision.to_dict()))["began"]
    assert told["warm"]["parent"] == world.first.version and told["seconds"] == pytest.approx(candidate.seconds)
    assert told["other"]["version"] == world.first.version and told["other"]["seconds"] > 0, "the champion was from scratch"
    assert learnt_of_version(world.store, staged, "ss4rec") == found.events * len(candidate.epochs)
    assert warm_of_version(world.store, staged, "ss4rec") == found and warm_of_version(world.store, world.first, "ss4rec") is None


@pytest.mark.parametrize(
    ("given", "changed", "why"),
    [
        ({"warm_start": False}, {}, "training.warm_start is off"),
        ({"full_every": 1}, {}, "each training is from scratch"),
        ({}, {"challenger": "ncf"}, "the champion is of the kind ss4rec"),
        ({}, {"model_name": "another"}, "there is no champion"),
        ({}, {"evaluation": {"k_core": 3}}, "the champion was trained under loo-exact"),
    ],
)
def test_a_training_that_cannot_be_warm_begins_from_scratch_and_says_why(
    world: World, given: dict[str, Any], changed: dict[str, Any], why: str
) -> None:
    settings = RetrainSettings.model_validate({**warm(world, **given).model_dump(), "baselines": ["popularity"], **changed})
    chosen = choose_beginning(world.store, world.newer, settings)
    assert chosen.parent is None and why in chosen.why


def test_the_record_and_the_page_say_why_a_training_was_from_scratch(world: World) -> None:
    settings = warm(world, full_every=1)
    chosen = choose_beginning(world.store, world.newer, settings)
    trained = Trained(world.candidates).began(chosen)
    assert [each.from_scratch for each in trained.candidates[:-1]] == ["" for _ in trained.candidates[:-1]]
    _, assembled = evaluated(world.store, world.newer, trained.candidates, settings)
    staged = stage_challenger(world.store, NAME, VersionFolder(assembled.path, assembled.files))
    decision = judge_staged(world.store, staged, "ss4rec", world.newer, settings)
    assert decision.began is not None and decision.began.why == chosen.why
    assert "It was trained from scratch, because each training is from scratch" in render_markdown(decision)
    refused = Trained(world.candidates).began(Beginning(world.first.version, "")).challenger.from_scratch
    assert refused.startswith(f"it could not take over the weights of {world.first.version}")


def test_the_weights_of_a_champion_that_has_learnt_from_an_erased_user_do_not_go_on(world: World) -> None:
    users = read_split(world.store, world.older, world.settings.evaluation).train.user_ids
    erase_user(world.store, int(users.max()) + 10**6, reason="another", by="the test", now=datetime.now(UTC))
    assert choose_beginning(world.store, world.newer, warm(world)).parent == world.first.version
    erase_user(world.store, int(users[0]), reason="they asked", by="the test", now=datetime.now(UTC))
    chosen = choose_beginning(world.store, world.newer, warm(world))
    assert chosen.parent is None and chosen.why == "the champion has learnt from a user whose erasure came later"


def test_a_champion_that_has_learnt_what_the_challenger_is_judged_on_is_not_begun_with(world: World) -> None:
    newer = world.seal(world.stage())
    ModelRegistry(world.store).promote(NAME, newer.version, expected=1, reason="for the test", now=datetime.now(UTC))
    chosen = choose_beginning(world.store, world.older, warm(world))
    assert chosen.parent is None and "has learnt" in chosen.why and "judged on" in chosen.why
