"""How models are evaluated."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.base import Settings, Share

__all__ = ["EvaluationSettings", "ProtocolId"]

ProtocolId = Literal["loo-exact", "loo-recbole", "loo-stable", "temporal"]


class EvaluationSettings(Settings):
    """How models are evaluated: full ranking, with the rank of every user's target kept."""

    protocol: ProtocolId = "loo-exact"
    """Evaluation protocol for training, comparison and the gate. Each protocol has its own train part, so a model is never scored
    under another protocol: that would leak test events."""
    k_core: int = Field(default=5, ge=0)
    """Minimum number of events of each user and item. Users and items with fewer events are dropped repeatedly. 0 keeps all."""
    ks: tuple[Annotated[int, Field(ge=1)], ...] = (5, 10, 20)
    """Cut-offs k of HR, NDCG and MRR. They must include 10."""
    tie_seed: int = Field(default=20_250_208, ge=0)
    """Seed for the order of a user's events that share the same second (`loo-exact`, `temporal`)."""
    temporal_valid_share: Share = 0.1
    """Share of events in the valid part of `temporal`: the latest events before the test part."""
    temporal_test_share: Share = 0.1
    """Share of events in the test part of `temporal`: the latest events."""
    temporal_target: Literal["first", "last", "successive"] = "first"
    """Which of a user's events after the cut of `temporal` are targets: the first, the last, or each one. With `last` and `successive`, a
    request knows all earlier events of the user, also those after the cut, as a server does that has just been told of them. The model
    is trained on events before the cut in any case. The gate refuses `successive`, whose requests are not independent."""
    query_time: Literal["target", "last"] = "target"
    """Time of an evaluation request. `target`: the time of its target event, as in offline data. `last`: the time of the user's
    last event before the target. The target's time reveals how long the user was away, which is unknown in production."""
    new_items: bool = False
    """Also rank the items of the dataset's table that have no event in the train part. Those that are targets form the slice `new items`.
    Only models that know more of an item than its events can recommend them (`models.ss4rec.item_attributes`)."""
    slices: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    """Attributes of items or users by which requests are reported and gated separately, beside new users, tail items and others. Each
    of the five most frequent values forms a slice, or the lowest and the highest quarter of a number."""
    batch_size: int = Field(default=256, ge=1)
    """Number of requests ranked at once. Memory use is batch_size x items, never users x items."""

    @property
    def protocol_id(self) -> str:
        """The protocol and every setting that differs from its definition. Only metrics with the same id are comparable.

        Stored versions contain it. So it says `request_time`, the former name of `query_time`.
        """
        target = self.protocol == "temporal" and self.temporal_target != "first"
        asked = [f"temporal_target={self.temporal_target}"] if target else []
        ranked = ["new_items=True"] if self.new_items else []
        return ";".join([self.train_id, *asked, *(["request_time=last"] if self.query_time == "last" else []), *ranked])

    def protocol_id_for(self, repeats: Literal["newest", "keep"]) -> str:
        """Return the id for a dataset that keeps repeats, or that does not (`data.repeats`).

        If repeats are kept, a target may be an item that the user has seen before, so seen items are never left out of a ranking.
        """
        return f"{self.protocol_id};repeats=keep" if repeats == "keep" else self.protocol_id

    @property
    def train_id(self) -> str:
        """The protocol and the settings that determine the train part.

        A model is never scored under another train part, because that split may hold out events that the model has learnt.
        """
        fields = ["k_core"]
        if self.protocol not in ("loo-recbole", "loo-stable"):
            fields.append("tie_seed")
        if self.protocol == "temporal":
            fields += ["temporal_valid_share", "temporal_test_share"]
        defaults = {name: type(self).model_fields[name].default for name in fields}
        overrides = [f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default]
        return ";".join([self.protocol, *overrides])

    @model_validator(mode="after")
    def _can_be_judged(self) -> EvaluationSettings:
        if 10 not in self.ks or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks {self.ks} must be distinct and include 10: model selection and the gate use 10")
        if self.temporal_valid_share + self.temporal_test_share >= 1:
            raise ValueError(
                f"temporal_valid_share ({self.temporal_valid_share}) and temporal_test_share ({self.temporal_test_share}) "
                "leave no events to train on: their sum must be below 1"
            )
        return self
