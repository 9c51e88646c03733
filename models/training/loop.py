"""The training loop for gradient models: early stopping, a checkpoint per epoch, and resuming.

A run that is killed and started again ends with the same weights. All randomness in an epoch comes from the seed and the
epoch's number, or from generator states stored in the checkpoint.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace

import torch
from torch import nn

from models.evaluation import metrics, rank_requests
from models.recommender import EpochReport, FitReport, OnEpoch, Recommender, Requests
from models.training.checkpoint import Checkpoints, Learner, Progress
from models.training.collapse import collapse_of, has_learnt

__all__ = ["Schedule", "asked_epochs", "fixed_epochs", "judged_once", "train"]

logger = logging.getLogger(__name__)
_epochs: ContextVar[int | None] = ContextVar("_epochs", default=None)


@dataclass(frozen=True)
class Schedule:
    """When training stops."""

    max_epochs: int
    patience: int
    metric: str = "ndcg@10"
    popularity: float | None = None
    """The valid metric of a ranking by popularity. A training that stays there has collapsed. None: it is not known."""


@contextmanager
def fixed_epochs(epochs: int) -> Iterator[None]:
    """Make each `train` in the block run exactly this many epochs, and keep the weights of the last one.

    It is for a training whose valid requests are among the events that it learns, so that they can choose no epoch. The schedule of
    the learning rate stays that of the settings.
    """
    before = _epochs.set(epochs)
    try:
        yield
    finally:
        _epochs.reset(before)


def asked_epochs() -> int | None:
    """Return how many epochs a training must run exactly, or None if it chooses the epoch itself. A loop of its own must ask for it."""
    return _epochs.get()


def train(
    learner: Learner,
    validate: Callable[[], dict[str, float]],
    schedule: Schedule,
    *,
    seed: int,
    checkpoints: Checkpoints | None = None,
    on_epoch: OnEpoch | None = None,
) -> FitReport:
    """Run epochs until the valid metric stops improving, then restore the best weights.

    Training stops after `patience` epochs without an improvement, or after `max_epochs`. Within `fixed_epochs`, it runs exactly that
    number of epochs, and the last weights are kept.

    Args:
        learner: What to train.
        validate: Returns the valid metrics of the network's current weights.
        schedule: When training stops.
        seed: Seed of the random numbers. Replicas draw different ones.
        checkpoints: Where to write the checkpoint of each epoch, and from where to resume. None: nowhere.
        on_epoch: Called after each epoch.

    Raises:
        TrainingError: if training diverges, or the replicas do not share the folder of the checkpoints.
    """
    started = time.perf_counter()
    network, device, exactly = learner.network, learner.device, asked_epochs()
    if exactly is not None:
        schedule = replace(schedule, max_epochs=exactly, patience=exactly)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed + 1_000_003 * learner.replicas.rank)
        resumed = checkpoints.resume(learner) if checkpoints is not None else None
        progress = resumed or Progress()
        resumed_from = resumed.epoch if resumed is not None else None
        with checkpoints.saving() if checkpoints is not None else nullcontext() as save:
            while progress.epoch < schedule.max_epochs and progress.epoch - progress.best_epoch < schedule.patience:
                report = _run_epoch(learner, validate, schedule, progress, latest=exactly is not None)
                if report.warning and on_epoch is None and not any(before.warning for before in progress.reports[-2:-1]):
                    logger.warning("%s", report.warning)  # once, when it begins
                if save is not None:
                    save(learner, progress)
                if on_epoch is not None:
                    on_epoch(report)
    network.load_state_dict(progress.best_weights)
    network.eval()
    told = next((report.warning for report in reversed(progress.reports) if report.warning), "")
    if exactly is not None:  # the last weights are kept, whatever the valid metric was before
        told, learnt = progress.reports[-1].warning, False
    else:
        learnt = has_learnt(progress.best, schedule.popularity)
    return FitReport(
        epochs=progress.reports,
        collapsed="" if learnt else told,
        best_epoch=progress.best_epoch,
        resumed_from=resumed_from,
        parameters=sum(p.numel() for p in network.parameters()),
        device=str(device),
        seconds=time.perf_counter() - started,
    )


def judged_once(
    model: Recommender, valid: Requests, started: float, *, mask_seen: bool, on_epoch: OnEpoch | None = None
) -> FitReport:
    """Return the report of a model that is made at once, without epochs. Its only epoch has the valid metrics.

    Args:
        model: The model, ready to rank.
        valid: The valid requests.
        started: `time.perf_counter()` when the fit began.
        mask_seen: As given to `Recommender.fit`.
        on_epoch: Called with the epoch.
    """
    trained = time.perf_counter() - started
    ranking = rank_requests(model, valid, model.catalogue, mask_seen=mask_seen, batch_size=256)
    seconds = time.perf_counter() - started
    report = EpochReport(1, 1, 0.0, metrics(ranking.ranks, (10,)), seconds, 1, trained)
    if on_epoch is not None:
        on_epoch(report)
    return FitReport([report], best_epoch=1, seconds=seconds)


def _run_epoch(
    learner: Learner, validate: Callable[[], dict[str, float]], schedule: Schedule, progress: Progress, *, latest: bool
) -> EpochReport:
    """Train and validate one epoch, and record it in `progress`. With `latest`, its weights are kept even if they are not the best."""
    epoch, started = progress.epoch + 1, time.perf_counter()
    loss = learner.epochs(epoch)
    trained = time.perf_counter() - started
    learner.network.eval()
    with torch.no_grad(), learner.epochs.average.in_place():
        valid = validate()
        if latest or valid[schedule.metric] > progress.best:
            progress.best, progress.best_epoch = valid[schedule.metric], epoch
            progress.best_weights = _copy(learner.network)
    progress.epoch = epoch
    seconds = time.perf_counter() - started
    report = EpochReport(epoch, schedule.max_epochs, loss, valid, seconds, progress.best_epoch, trained)
    warning = collapse_of([*progress.reports, report], schedule.metric, schedule.popularity)
    report = replace(report, warning=warning)
    progress.reports.append(report)
    return report


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}
