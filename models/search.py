"""One trial of a hyperparameter search: train with Optuna's suggested settings and score on the valid part.

A trial gets no test requests, so a search cannot select on them. The test part is first used when the gate judges the one model
that was selected. The gate's p-values therefore hold however many trials there were: they test one model that was fixed before
its test requests were ranked. The best valid value itself is too high, as any maximum of noisy values is. It is never compared
with anything outside the search.

Sampling uses Optuna's multivariate TPE (Bergstra et al. 2011; Falkner et al. 2018, 4.1). A trial that is still running on
another worker counts as a bad one until it ends ("constant liar"), so that workers do not try the same region.

Pruning uses the median rule (Golovin et al. 2017, Vizier, 3.2.2), after a warm-up. In the early epochs, the learning curves of
wide and narrow networks cross, and so do those of averaged and raw weights. Successive halving and Hyperband make most of their
decisions there. They also need one budget that all trials share, while our trials end by early stopping. At worst, the median
rule loses a trial that would have caught up later. It does not need to know how long training takes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch

from configs.base import Settings
from configs.errors import TrainingError
from configs.kinds import ModelSpec, Parameter
from configs.studies import Pruning
from models.evaluation import Split, masks_seen
from models.kinds import recommender_class
from models.plugins import blamed, check_fitted, refuse
from models.recommender import EpochReport, IntArray, OnEpoch, Recommender, Requests, Sequences, TeacherEpoch

__all__ = ["METRIC", "Train", "TrialData", "make_pruner", "make_sampler", "run_trial", "suggest", "train_trial"]

METRIC = "ndcg@10"
Train = Callable[[Settings, OnEpoch], float]


@dataclass(frozen=True, eq=False)
class TrialData:
    """The data that a trial may see: a split without its test requests."""

    train: Sequences
    valid: Requests
    catalogue: IntArray  # (n_items,) raw item ids, ascending
    protocol: str  # as in `Split.id`
    users: pd.DataFrame | None = None  # as for `Recommender.describe_users`
    items: pd.DataFrame | None = None  # as for `Recommender.describe_items`

    @classmethod
    def of(cls, parts: Split, users: pd.DataFrame | None = None, items: pd.DataFrame | None = None) -> TrialData:
        """Return the data of a split."""
        return cls(parts.train, parts.valid, parts.catalogue, parts.id, users, items)


def make_sampler(seed: int, *, worker: int = 0, begun: int = 0) -> optuna.samplers.BaseSampler:
    """Return the sampler of one worker.

    The first 10 trials of a study are random, so workers and runs with the same seed would draw the same settings. Only the
    first worker of the first run therefore uses `seed` itself; the others derive their own seed from it.

    Args:
        seed: Seed of the search.
        worker: Number of this worker in its run.
        begun: Number of trials in the study when the run started.
    """
    if worker or begun:
        seed = int(np.random.SeedSequence([seed, worker, begun]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=10, multivariate=True, constant_liar=True)


def make_pruner(pruning: Pruning | None) -> optuna.pruners.BasePruner:
    """Return the median rule, or a pruner that never prunes if `pruning` is None."""
    if pruning is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=pruning.startup_trials, n_warmup_steps=pruning.warmup_epochs, interval_steps=pruning.interval
    )


def suggest(trial: optuna.Trial, space: Mapping[str, Parameter], spec: ModelSpec) -> dict[str, Any]:
    """Return the trial's value of each parameter.

    Parameters are suggested in the order of `space`, because a seed's draws depend on the order.
    """
    return {
        name: _suggest(trial, name, parameter, spec.settings.model_fields[name].annotation is int)
        for name, parameter in space.items()
    }


def run_trial(
    trial: optuna.Trial,
    space: Mapping[str, Parameter],
    spec: ModelSpec,
    base: Settings,
    train: Train,
    on_epoch: OnEpoch | None = None,
) -> float:
    """Train a model of a kind with the suggested settings on top of `base`, and return its best valid NDCG@10.

    Args:
        trial: The trial, which asks for suggestions.
        space: The parameters.
        spec: The kind.
        base: Its other settings.
        train: Trains a model with these settings, reports each epoch, and returns the best value: such as `train_trial`.
        on_epoch: Called after each epoch.

    Raises:
        optuna.TrialPruned: if the study's pruner stops the trial.
        TrainingError: if training diverges or does not fit into the GPU.
    """
    wanted = spec.settings.model_validate(base.model_dump() | suggest(trial, space, spec))

    def after(epoch: EpochReport) -> None:
        if isinstance(epoch, TeacherEpoch):  # the trial is about what learns from it
            if on_epoch is not None:
                on_epoch(epoch)
            return
        if METRIC not in epoch.valid:
            refuse(spec.kind, f"epoch {epoch.epoch} reports no valid {METRIC}, by which trials are compared")
        trial.report(epoch.valid[METRIC], epoch.epoch)
        if on_epoch is not None:
            on_epoch(epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(f"below the median in epoch {epoch.epoch}")

    return train(wanted, after)


def train_trial(spec: ModelSpec, data: TrialData, seed: int, settings: Settings, on_epoch: OnEpoch | None) -> float:
    """Train a model of a kind, and return its best valid NDCG@10. What `on_epoch` raises ends the training.

    Raises:
        TrainingError: if training diverges or does not fit into the GPU, or the code of a plugin raises an exception.
    """
    model: Recommender | None = None
    try:
        with blamed(spec.kind, "training", but=optuna.TrialPruned):
            model = recommender_class(spec)(settings)
            if data.users is not None:
                model.describe_users(data.users)
            if data.items is not None:
                model.describe_items(data.items)
            masked = masks_seen(data.protocol, model.sequential)
            report = model.fit(data.train, data.valid, data.catalogue, seed=seed, mask_seen=masked, on_epoch=on_epoch)
    except torch.OutOfMemoryError as error:
        raise TrainingError(f"The network and one training step do not fit into the GPU's memory: {error}") from error
    finally:
        del model
        gc.collect()  # the next trial needs the memory, and a captured graph is in a reference cycle
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    check_fitted(spec.kind, report)
    if not report.epochs:
        refuse(spec.kind, f"its fit reported no epoch, so a trial has no valid {METRIC}")
    return float(max(epoch.valid[METRIC] for epoch in report.epochs))


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter, whole: bool) -> Any:
    if parameter.choices is not None:
        return trial.suggest_categorical(name, parameter.choices)
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None and high is not None
    if whole:
        return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=parameter.log)
    return trial.suggest_float(name, low, high, step=step, log=parameter.log)
