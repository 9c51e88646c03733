"""Where `retrain` trains its candidates: in the run itself, or on a machine that is rented for it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from configs.base import Settings, Share

__all__ = ["TrainingPlaceSettings"]


class TrainingPlaceSettings(Settings):
    """Where the candidates of a run are trained, with which weights they begin, and which weights are served."""

    where: Literal["inline", "deployment"] = "inline"
    """Place of training. `inline`: in the run itself. `deployment`: as a run of `deployment`, on a work pool with GPUs. Data and
    models are then passed through the store, which both runs must be able to reach."""
    deployment: str = Field(default="train/gpu", pattern=r"^[^/]+/[^/]+$")
    """Deployment of the flow `train`, as flow/name."""
    pods_have_plugins: bool = False
    """Whether the image of the pods contains the packages of the plugins that are trained (`RUN pip install` in
    `infra/docker/train.Dockerfile`). Without it, a training of a plugin's model is refused before a pod is rented."""
    attempts: int = Field(default=2, ge=1)
    """Maximum number of runs that are started one after the other if they crash, for example because a host is lost or a pod does
    not start. A run that fails is not repeated."""
    poll_s: float = Field(default=5.0, gt=0)
    """Seconds between two checks of the run's state."""
    cost_wait_s: float = Field(default=90.0, ge=0)
    """Maximum number of seconds that sealing a version waits for the final cost of a pod."""
    refit: bool = False
    """Train a challenger that the gate accepts once more, on all events, also those that the evaluation held out, for as many epochs as
    it needed. These weights are served if they pass their checks. The metrics stay those of the judged weights."""
    refit_min_agreement: Share = 0.2
    """Least share of the top ten that the refit model must have in common with the judged one, on average over `refit_users`. Below it,
    the judged weights are served."""
    refit_users: int = Field(default=1000, ge=1)
    """Maximum number of users, drawn at random, whose top ten of both models are compared."""
    warm_start: bool = False
    """Begin the challenger's training with the champion's weights instead of random ones, if its kind allows it. It then learns only the
    users with new events and a sample of the others, which takes less time. If a warm start is impossible, it is trained from scratch and
    the run says why."""
    full_every: int = Field(default=10, ge=1)
    """With `warm_start`: one of so many trainings is from scratch, as a control, whether they are promoted or held. With 1, each one is."""
    full_days: float | None = Field(default=None, gt=0)
    """With `warm_start`: a training is from scratch if the events of the last one from scratch end so many days before those of now. If
    empty, only `full_every` counts."""
    old_share: Share = 0.2
    """With `warm_start`: share of the users without new events whose events are learnt again, so that they are not forgotten."""
