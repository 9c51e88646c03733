"""Take over a policy that did well in a replay: what it was worth, and the settings for production."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from configs.errors import NotFoundError, VersionCorruptError
from configs.settings import PolicySettings, StoreSettings
from configs.studies import PlayedPolicySettings
from infra.registry import MOST_JSON, read_json
from infra.storage import Store, open_store
from tasks.replay.plan import OF_TRAINING
from tasks.replay.report import FIGURES
from tasks.retraining import described

__all__ = ["Adopted", "adopted_policy"]

PLAN = "replay/plan.json"


@dataclass(frozen=True)
class Adopted:
    """A policy of a replay."""

    replay: str
    name: str
    policy: PolicySettings  # when it retrains
    training: dict[str, Any]  # how it trained, where it said so: `training.refit`, `training.warm_start` and its cadence
    worth: str  # in sentences; empty if the replay has not ended

    @property
    def rule(self) -> str:
        """When it retrains, in words."""
        return described(self.policy)

    def environment(self) -> dict[str, Any]:
        """Return the settings file for `recsys setup` that lets monitoring decide by the policy, and retrainings serve what it served."""
        when = {"policy": self.policy.model_dump(exclude_defaults=True)}
        training = {"training": self.training} if self.training else {}
        return {"retraining": {"when": when, **training}}


def adopted_policy(store: StoreSettings, replay: str, name: str) -> Adopted:
    """Find a policy in a replay's plan.

    Args:
        store: The store that the replay was made in.
        replay: Id of the replay.
        name: Name of the policy.

    Raises:
        NotFoundError: There is no such replay, or it has no such policy. The message names those that exist.
        VersionCorruptError: The plan was edited.
    """
    place = open_store(store)
    prefix = f"replays/{replay}"
    known = sorted({key.split("/")[1] for key in place.list("replays/") if key.endswith(f"/{PLAN}")})
    if replay not in known:
        there = f"It has {', '.join(known)}." if known else "It has none yet. `recsys study replay` makes one."
        raise NotFoundError(f"{place.uri('')} has no replay {replay}. {there}")
    plan = read_json(place.get(f"{prefix}/{PLAN}", MOST_JSON), place.uri(f"{prefix}/{PLAN}"))
    policies: dict[str, Any] = plan["settings"]["policies"]
    if name not in policies:
        raise NotFoundError(f"The replay {replay} has no policy {name}. It has {', '.join(policies)}.")
    try:
        played = PlayedPolicySettings.model_validate(policies[name])
    except ValidationError as error:
        raise VersionCorruptError(
            f"The policy {name} in {place.uri(f'{prefix}/{PLAN}')} cannot be used: {error.errors()[0]['msg']}. Run the replay again "
            "under another id."
        ) from error
    policy = PolicySettings.model_validate(played.model_dump(include=set(PolicySettings.model_fields)))
    training = {own: said for own in OF_TRAINING if (said := getattr(played, own)) is not None}
    return Adopted(replay, name, policy, training, _worth(place, prefix, name))


def _worth(store: Store, prefix: str, name: str) -> str:
    """Say what the policy was worth in the replay, or nothing if there is no report yet."""
    try:
        found = json.loads(store.get(f"{prefix}/{FIGURES}"))
    except NotFoundError:
        return ""
    figures = {each["name"]: each for each in found["policies"]}
    own, best = figures[name], max(figures.values(), key=lambda each: float(each["ndcg"]["mean"]))
    said = (
        f"In the replay of {found['source']}, {name} had a live NDCG@10 of {own['ndcg']['mean']:.4f} ({own['ndcg']['low']:.4f} to "
        f"{own['ndcg']['high']:.4f}) with {len(own['trainings'])} trainings."
    )
    if best["name"] == name:
        return f"{said} No policy had more."
    return f"{said} {best['name']} had {best['ndcg']['mean']:.4f} with {len(best['trainings'])}."
