"""Checkpoints of a training: written after each epoch, and read by a run that resumes it."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from configs.errors import TrainingError
from models.recommender import EpochReport, Recommender, Requests, Sequences
from models.training.distributed import Replicas
from models.training.epochs import Epochs, Optimizer

__all__ = ["Checkpoints", "Learner", "Progress", "fingerprint_of"]

CHECKPOINT = "checkpoint.pt"
RandomStates = dict[str, list[torch.Tensor]]


@dataclass(frozen=True, eq=False)
class Learner:
    """What learns: a network, its optimizer, and the steps of an epoch. With several replicas, this is one of them."""

    network: nn.Module
    optimizer: Optimizer
    epochs: Epochs
    replicas: Replicas = field(default_factory=Replicas)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device


@dataclass
class Progress:
    """How far a training has come."""

    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    reports: list[EpochReport] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoint of a run, in a folder that all replicas share.

    Replicas draw different random numbers. The first replica writes the checkpoint, which holds the random states of all
    replicas, and every replica reads it. A checkpoint from a different number of replicas can be resumed, but without its random
    states.
    """

    folder: Path
    fingerprint: str
    """Identifies data, settings and seed. A checkpoint with another fingerprint is not resumed."""

    @classmethod
    def of(
        cls,
        folder: Path | None,
        model: Recommender,
        train: Sequences,
        valid: Requests,
        seed: int,
        *,
        mask_seen: bool | None = None,
    ) -> Self | None:
        """Return the checkpoints of a model's training, or None without a folder.

        Args:
            folder: As given to `Recommender.fit`.
            model: Its name, settings and catalogue are part of the fingerprint.
            train: The events that it is trained on.
            valid: The requests that choose the epoch.
            seed: The seed of the training.
            mask_seen: As given to `Recommender.fit`. It changes the ranks that choose the epoch.
        """
        if folder is None:
            return None
        words = json.dumps([model.name, model.settings(), seed, mask_seen], sort_keys=True)
        return cls(folder, fingerprint_of(words, train, valid, model.catalogue))

    @contextmanager
    def saving(self) -> Iterator[Callable[[Learner, Progress], None]]:
        """Provide the function that replaces the checkpoint. All replicas must call it.

        It copies the state and returns; a thread writes it. Checkpoints are written in their order, at most one waits, and the last
        one is on the disk when the context ends. A process that is killed leaves a whole checkpoint, which may be one epoch older.

        Raises:
            OSError: if a checkpoint could not be written.
        """
        written: Future[None] | None = None
        with ThreadPoolExecutor(1, thread_name_prefix="checkpoint") as thread:

            def save(learner: Learner, progress: Progress) -> None:
                nonlocal written
                state = self._state(learner, progress)
                if state is None:
                    return
                if written is not None:
                    written.result()
                written = thread.submit(self._write, state)

            yield save
            if written is not None:
                written.result()

    def _state(self, learner: Learner, progress: Progress) -> dict[str, Any] | None:
        """Return a copy of the whole state, or None for replicas that write nothing."""
        random = _random_states(learner.device, learner.replicas)
        if learner.replicas.rank > 0:
            return None
        copied: dict[str, Any] = _copied(
            {
                "fingerprint": self.fingerprint,
                "network": dict(learner.network.state_dict()),
                "optimizer": learner.optimizer.state_dict(),
                "random": random,
                "epoch": progress.epoch,
                "best": progress.best,
                "best_epoch": progress.best_epoch,
                "best_weights": progress.best_weights,
                "average": learner.epochs.average.state(),
                "reports": json.dumps([asdict(report) for report in progress.reports]),
            }
        )
        return copied

    def _write(self, state: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save(state, buffer)
        temporary = self.folder / f".{CHECKPOINT}.{os.getpid()}"
        with temporary.open("wb") as file:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / CHECKPOINT)

    def resume(self, learner: Learner) -> Progress | None:
        """Continue from the checkpoint: load the learner's state and return the progress. Returns None if there is no checkpoint.

        Raises:
            TrainingError: if the replicas do not share the folder.
        """
        path, device, replicas = self.folder / CHECKPOINT, learner.device, learner.replicas
        kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {}
        found = torch.tensor(float(kept.get("fingerprint") == self.fingerprint), device=device)
        replicas.sum_(found)
        if int(found) == 0:
            return None
        if int(found) < replicas.count:
            raise TrainingError(
                f"Only {int(found)} of {replicas.count} replicas found the run's checkpoint in {self.folder}. All replicas must share "
                "this folder: put work_dir on storage that all of them can read, or delete the checkpoint to start from scratch."
            )
        learner.network.load_state_dict(kept["network"])
        learner.optimizer.load_state_dict(kept["optimizer"])
        random: RandomStates = kept["random"]
        if len(random["cpu"]) == replicas.count:
            torch.set_rng_state(random["cpu"][replicas.rank])
            if device.type == "cuda" and "cuda" in random:
                torch.cuda.set_rng_state(random["cuda"][replicas.rank], device)
        learner.epochs.average.restore(kept["average"])
        return Progress(
            kept["epoch"],
            kept["best"],
            kept["best_epoch"],
            {name: weight.to(device) for name, weight in kept["best_weights"].items()},
            [EpochReport(**report) for report in json.loads(kept["reports"])],
        )


def fingerprint_of(words: str, train: Sequences, valid: Requests, *others: npt.NDArray[Any] | None) -> str:
    """Return a digest of what a training depends on.

    Args:
        words: Its kind, settings and seed.
        train: The events that it is trained on.
        valid: The requests that choose the epoch.
        others: Further arrays, such as the catalogue.
    """
    digest = hashlib.sha256(words.encode())
    arrays = [getattr(part, field.name) for part in (train, valid) for field in fields(part)]
    for array in (*arrays, *others):
        given = None if array is None else np.ascontiguousarray(array)
        digest.update(b"none" if given is None else f"{given.dtype.str} {given.shape}".encode())
        digest.update(b"" if given is None else given.tobytes())
    return digest.hexdigest()


def _copied(value: Any) -> Any:
    """Copy all tensors to the host: training changes them while they are written."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_copied(part) for part in value]
    return value


def _random_states(device: torch.device, replicas: Replicas) -> RandomStates:
    """Return the states of torch's generators: for each kind, one state per replica."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    return {kind: [state.cpu() for state in replicas.gather(value.to(device))] for kind, value in own.items()}
