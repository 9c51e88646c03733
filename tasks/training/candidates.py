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
from configs.settings import EvaluationSettings, RetrainSettings
from infra.registry import file_digests
from infra.storage import Store, open_store
from models.evaluation import Split, split
from models.loading import make_recommender, placement_of
from models.plugins import blamed, check_fitted, check_saved
from models.recommender import EpochReport, FitReport, OnEpoch, Recommender
from models.training import Replicas, fixed_epochs
from tasks.datasets import DatasetRef, read_table
from tasks.training.subprocess_training import run_apart

__all__ = [
    "Candidate",
    "challenger_of",
    "clear_checkpoints",
    "read_split",
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def challenger_of(candidates: list[Candidate]) -> Candidate:
    """Return the challenger of a run, which is the candidate that it trains last."""
    return candidates[-1]


def read_split(store: Store, dataset: DatasetRef, settings: EvaluationSettings, *, whole: bool = False) -> Split:
    """Load the dataset version and split it under the configured protocol. With `whole`, the train part has all events."""
    columns = list(dataset.properties.with_weight(("user_id", "item_id", "timestamp", "row")))
    if dataset.properties.feedback == "explicit":
        columns.append("rating")
    events = read_table(store, dataset, "interactions", columns)
    return split(events, settings, repeats=dataset.properties.repeats, whole=whole)


def train_candidate(
    store: Store,
    dataset: DatasetRef,
    kind: str,
    settings: RetrainSettings,
    on_epoch: OnEpoch | None = None,
    *,
    refit_epochs: int | None = None,
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
    return _save(*_fit(store, dataset, kind, settings, refit_epochs, on_epoch), _candidate_folder(settings, kind, refit_epochs))


def clear_checkpoints(settings: RetrainSettings) -> None:
    """Delete the checkpoints of a run that has ended."""
    shutil.rmtree(_checkpoints(settings), ignore_errors=True)


def _train_replica(
    dataset: DatasetRef, kind: str, settings: RetrainSettings, refit_epochs: int | None, on_epoch: OnEpoch | None
) -> Candidate | None:
    with blamed(kind, "training"):
        fitted = _fit(open_store(settings.store), dataset, kind, settings, refit_epochs, on_epoch)
        return _save(*fitted, _candidate_folder(settings, kind, refit_epochs)) if Replicas.current().rank == 0 else None


def _fit(
    store: Store,
    dataset: DatasetRef,
    kind: str,
    settings: RetrainSettings,
    refit_epochs: int | None,
    on_epoch: OnEpoch | None,
) -> tuple[Recommender, FitReport]:
    model = make_recommender(kind, settings.models)
    model.prepare()
    model.describe_users(read_table(store, dataset, "users"))
    parts = read_split(store, dataset, settings.evaluation, whole=refit_epochs is not None)
    with nullcontext() if refit_epochs is None else fixed_epochs(refit_epochs):
        report = model.fit(
            parts.train,
            parts.valid,
            parts.catalogue,
            seed=settings.seed,
            mask_seen=parts.masks_seen(model.sequential),
            # The epochs are part of the name, because a checkpoint that has more of them could not be taken back.
            checkpoint_dir=_checkpoints(settings) / (kind if refit_epochs is None else f"{kind}-refit-{refit_epochs}"),
            on_epoch=on_epoch,
        )
    check_fitted(kind, report)
    return model, report


def _save(model: Recommender, report: FitReport, folder: Path) -> Candidate:
    kind = folder.name
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
    )


def _candidate_folder(settings: RetrainSettings, kind: str, refit_epochs: int | None) -> Path:
    """Return where a candidate is saved. The folder of the judged model becomes the version, so a refit has another one."""
    return settings.work_dir / ("candidates" if refit_epochs is None else "refits") / settings.model_name / kind


def _checkpoints(settings: RetrainSettings) -> Path:
    return settings.work_dir / "checkpoints" / settings.model_name
