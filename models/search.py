"""One trial of a search: settings that Optuna suggests, trained on the train part, valued on the valid part.

A trial is given no test requests, so a search cannot choose by them: the test part is first looked at when the gate judges
the one model that was chosen. That is why its p-values hold however many trials there were: they are tests of one model that
was fixed before its test requests were ranked. The best valid value itself is too high, as any maximum of noisy values is,
and is never compared with anything outside of the search.

Sampling is by Optuna's multivariate TPE (Bergstra et al. 2011; Falkner et al. 2018, 4.1), in which a trial that another
worker is running counts as a bad one until it ends, so that workers do not try the same place ("constant liar"). Pruning is by the
median rule (Golovin et al. 2017, Vizier, 3.2.2), after a warm-up: learning curves of wide and narrow networks, and of
averaged and raw weights, cross in the early epochs, which is where successive halving and Hyperband decide most. Those
also need one budget that all trials share, while ours end by early stopping. The rule costs at most a trial that would have
come from behind; it needs no knowledge of how long training takes.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch

from configs.errors import TrainingError
from configs.search import Parameter, Pruning
from configs.settings import SS4RecSettings
from models.protocol import Split
from models.recommender import EpochReport, IntArray, OnEpoch, Requests, Sequences
from models.ss4rec.recommender import SS4Rec

__all__ = ["METRIC", "TrialData", "make_pruner", "make_sampler", "run_trial", "suggest"]

METRIC = "ndcg@10"


@dataclass(frozen=True, eq=False)
class TrialData:
    """What a trial may see of a split: all but its test requests."""

    train: Sequences
    valid: Requests
    catalogue: IntArray  # (n_items,) raw item ids, ascending
    mask_seen: bool
    users: pd.DataFrame | None = None  # as `Recommender.describe_users` takes it

    @classmethod
    def of(cls, parts: Split, users: pd.DataFrame | None = None) -> TrialData:
        return cls(parts.train, parts.valid, parts.catalogue, parts.masks_seen(SS4Rec.sequential), users)


def make_sampler(seed: int, *, worker: int = 0, begun: int = 0) -> optuna.samplers.BaseSampler:
    """The sampler of a worker of a run that began when the study had `begun` trials; the first of all draws from `seed` itself.

    The first 10 trials of a study are random, so workers and runs with one seed would draw the same.
    """
    if worker or begun:
        seed = int(np.random.SeedSequence([seed, worker, begun]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=10, multivariate=True, constant_liar=True)


def make_pruner(pruning: Pruning | None) -> optuna.pruners.BasePruner:
    """The median rule, or none."""
    if pruning is None:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=pruning.startup_trials, n_warmup_steps=pruning.warmup_epochs, interval_steps=pruning.interval
    )


def suggest(trial: optuna.Trial, space: Mapping[str, Parameter]) -> dict[str, Any]:
    """The trial's value of each parameter, asked for in the order of `space`: a seed's draws depend on it."""
    return {name: _suggest(trial, name, parameter) for name, parameter in space.items()}


def run_trial(
    trial: optuna.Trial,
    space: Mapping[str, Parameter],
    base: SS4RecSettings,
    data: TrialData,
    seed: int,
    on_epoch: OnEpoch | None = None,
) -> float:
    """Train SS4Rec with the suggested settings over `base`; its best valid NDCG@10.

    Raises optuna.TrialPruned where the study's pruner cuts it off, TrainingError where it diverges or does not fit into the GPU.
    """
    model = SS4Rec(SS4RecSettings.model_validate(base.model_dump() | suggest(trial, space)))
    if data.users is not None:
        model.describe_users(data.users)

    def after(epoch: EpochReport) -> None:
        trial.report(epoch.valid[METRIC], epoch.epoch)
        if on_epoch is not None:
            on_epoch(epoch)
        if trial.should_prune():
            raise optuna.TrialPruned(f"below the median in epoch {epoch.epoch}")

    try:
        report = model.fit(data.train, data.valid, data.catalogue, seed=seed, mask_seen=data.mask_seen, on_epoch=after)
    except torch.OutOfMemoryError as error:
        raise TrainingError(f"The network and a step of its training do not fit into the GPU: {error}") from error
    finally:
        del model
        gc.collect()  # the next trial needs the memory, and a captured graph holds itself in a cycle
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    return float(max(epoch.valid[METRIC] for epoch in report.epochs))


def _suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    if parameter.choices is not None:
        return trial.suggest_categorical(name, parameter.choices)
    low, high, step = parameter.low, parameter.high, parameter.step
    assert low is not None and high is not None
    if SS4RecSettings.model_fields[name].annotation is int:
        return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=parameter.log)
    return trial.suggest_float(name, low, high, step=step, log=parameter.log)
