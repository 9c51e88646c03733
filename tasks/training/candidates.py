"""Train one candidate model on a dataset version and save it to a local folder."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from configs.cores import threads_of_each
from configs.kinds import place_of
from configs.settings import RetrainSettings
from infra.registry import file_digests
from infra.storage import Store, open_store
from models.loading import make_recommender, placement_of
from models.plugins import blamed, check_fitted, check_saved
from models.recommender import EpochReport, FitReport, OnEpoch, Recommender
from models.training import Replicas, fixed_epochs
from tasks.datasets import DatasetRef, read_table
from tasks.training.cadence import Warm
from tasks.training.splits import read_split
from tasks.training.subprocess_training import run_apart
from tasks.training.warm_start import begin_warm

__all__ = [
    "Candidate",
    "challenger_of",
    "clear_checkpoints",
    "train_candidate",
]


@dataclass(frozen=True)
class Candidate:
    """A trained model in a local folder, with a record of its training."""

    kind: str
    folder: str
    epochs: list[EpochReport]
    best_epoch: int
    resumed_from: int | None
    parameters: int
    device: str
    seconds: float
    files: dict[str, str]  # name -> sha256 when saved
    replicas: int = 1  # processes that trained it jointly
    threads: int | None = None  # of each; None in a record of an earlier version
    collapsed: str = ""  # one sentence if its training never learnt more than popularity
    warm: Warm | None = None  # how warm its training was; None: from scratch
    from_scratch: str = ""  # why, as a clause, although warm starts are on; empty if they are off, or the training was warm
    events: int = 0  # learnt in each epoch; 0 in a record of an earlier version

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, eq=False)
class Fitted:
    """A trained model in memory, and what its training was."""

    model: Recommender
    report: FitReport
    warm: Warm | None
    events: int  # learnt in each epoch


def challenger_of(candidates: list[Candidate]) -> Candidate:
    """Return the challenger of a run, which is the candidate that it trains last."""
    return candidates[-1]


def train_candidate(
    store: Store,
    dataset: DatasetRef,
    kind: str,
    settings: RetrainSettings,
    on_epoch: OnEpoch | None = None,
    *,
    refit_epochs: int | None = None,
    parent: str | None = None,
) -> Candidate:
    """Train one model. If an earlier run was killed, training resumes from its last epoch.

    If the settings ask for several replicas, each one is a separate process that ends with this one and reads the dataset from
    `settings.store`.

    Args:
        store: Store of the dataset.
        dataset: Dataset version to train on.
        kind: Kind of the model.
        settings: Settings of the run.
        on_epoch: Called after each epoch.
        refit_epochs: Train on all events of the dataset, for exactly this many epochs if the kind has epochs. None: train on the train
            part of the protocol.
        parent: Version of `settings.model_name` to begin with (`training.warm_start`). None: from scratch.

    Raises:
        TrainingError: Training cannot start, or it diverges.
    """
    placement = placement_of(kind, settings.models)
    replicated = placement.replicas > 1
    threads = threads_of_each(placement.replicas)
    plugin = place_of(kind) is not None
    if replicated or plugin:
        candidate = run_apart(
            _train_replica,
            dataset,
            kind,
            settings,
            refit_epochs,
            parent,
            trains=f"{kind} of {settings.model_name}",
            on_epoch=on_epoch,
            threads=threads,
            if_killed=f"Lower {f'models.{kind}.replicas or ' if replicated else ''}the model's batch, and run again: training resumes from "
            "the last epoch.",
            placement=placement,
            silence_s=settings.models.plugin_silence_s if plugin else None,
        )
        assert candidate is not None  # of the first replica
        return candidate
    torch.set_num_threads(threads)
    fitted = _fit(store, dataset, kind, settings, refit_epochs, parent, on_epoch)
    return _save(fitted, _candidate_folder(settings, kind, refit_epochs))


def clear_checkpoints(settings: RetrainSettings) -> None:
    """Delete the checkpoints of a run that has ended."""
    shutil.rmtree(_checkpoints(settings), ignore_errors=True)


def _train_replica(
    dataset: DatasetRef,
    kind: str,
    settings: RetrainSettings,
    refit_epochs: int | None,
    parent: str | None,
    on_epoch: OnEpoch | None,
) -> Candidate | None:
    with blamed(kind, "training"):
        fitted = _fit(open_store(settings.store), dataset, kind, settings, refit_epochs, parent, on_epoch)
        return _save(fitted, _candidate_folder(settings, kind, refit_epochs)) if Replicas.current().rank == 0 else None


def _fit(
    store: Store,
    dataset: DatasetRef,
    kind: str,
    settings: RetrainSettings,
    refit_epochs: int | None,
    parent: str | None,
    on_epoch: OnEpoch | None,
) -> Fitted:
    model = make_recommender(kind, settings.models)
    model.prepare()
    model.describe_users(read_table(store, dataset, "users"))
    model.describe_items(read_table(store, dataset, "items"))
    parts = read_split(store, dataset, settings.evaluation, whole=refit_epochs is not None)
    warm = None if parent is None else begin_warm(store, parent, model, parts, settings)
    with nullcontext() if refit_epochs is None else fixed_epochs(refit_epochs):
        report = model.fit(
            parts.train,
            parts.valid,
            parts.catalogue,
            seed=settings.seed,
            mask_seen=parts.masks_seen(model.sequential),
            checkpoint_dir=_checkpoints(settings) / _checkpoint_name(kind, refit_epochs, warm),
            on_epoch=on_epoch,
        )
    check_fitted(kind, report)
    return Fitted(model, report, warm, len(parts.train.item_ids) if warm is None else warm.events)


def _save(fitted: Fitted, folder: Path) -> Candidate:
    model, report, kind = fitted.model, fitted.report, folder.name
    if folder.exists():
        shutil.rmtree(folder)
    model.save(folder)
    check_saved(kind, folder)
    return Candidate(
        kind=kind,
        folder=str(folder),
        epochs=report.epochs,
        best_epoch=report.best_epoch,
        resumed_from=report.resumed_from,
        parameters=report.parameters,
        device=report.device,
        seconds=report.seconds,
        files=file_digests(folder),
        replicas=Replicas.current().count,
        threads=torch.get_num_threads(),
        collapsed=report.collapsed,
        warm=fitted.warm,
        events=fitted.events,
    )


def _checkpoint_name(kind: str, refit_epochs: int | None, warm: Warm | None) -> str:
    """Return the name of a training's folder, which says what its checkpoints do not: where it began, and when it must end."""
    began = "" if warm is None else f"-from-{warm.parent}-{warm.events}"
    return f"{kind}{began}" if refit_epochs is None else f"{kind}{began}-refit-{refit_epochs}"


def _candidate_folder(settings: RetrainSettings, kind: str, refit_epochs: int | None) -> Path:
    """Return where a candidate is saved. The folder of the judged model becomes the version, so a refit has another one."""
    return settings.work_dir / ("candidates" if refit_epochs is None else "refits") / settings.model_name / kind


def _checkpoints(settings: RetrainSettings) -> Path:
    return settings.work_dir / "checkpoints" / settings.model_name
