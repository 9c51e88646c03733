"""The training loop for gradient models: early stopping, a checkpoint per epoch, resuming and non-finite checks.

A run that is killed and started again ends with the same weights. All randomness in an epoch comes from the seed and the
epoch's number, or from generator states stored in the checkpoint.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from configs.errors import TrainingError
from models.recommender import EpochReport, FitReport, OnEpoch
from models.training.distributed import Replicas

__all__ = [
    "EagerEpochs",
    "Epochs",
    "Optimizer",
    "Schedule",
    "WeightAverage",
    "describe_nonfinite",
    "name_first_nonfinite",
    "train",
]

CHECKPOINT = "checkpoint.pt"


class Optimizer(Protocol):
    """The optimizer interface: `models.training.adamw.AdamW` and torch's own optimizers implement it."""

    def zero_grad(self) -> None: ...
    def step(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


@dataclass(frozen=True)
class Schedule:
    """When training stops."""

    max_epochs: int
    patience: int
    metric: str = "ndcg@10"


class WeightAverage:
    """Exponential moving average of a network's weights.

    The averaged weights are the ones that are validated and kept. With a decay of 0, the raw weights are used instead. Early in
    training the average forgets faster, so that the initial weights do not linger. All tensors stay on the network's device.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = dict(network.named_parameters()) if decay else {}
        self.values = {name: weight.detach().clone() for name, weight in self._live.items()}
        self.steps = torch.zeros((), device=next(network.parameters()).device)

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average, after a step."""
        self.steps += 1
        if not self.values:
            return
        kept = torch.clamp((1 + self.steps) / (10 + self.steps), max=self._decay)
        weight = torch.where(self.steps > 1, 1 - kept, torch.ones_like(kept))
        averages = list(self.values.values())
        change = torch._foreach_sub([value.detach() for value in self._live.values()], averages)
        torch._foreach_mul_(change, weight)
        torch._foreach_add_(averages, change)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averaged weights into the network, and restore the raw ones on exit."""
        raw = {name: weight.detach().clone() for name, weight in self._live.items()}
        with torch.no_grad():
            for name, value in self.values.items():
                self._live[name].copy_(value)
            try:
                yield
            finally:
                for name, value in raw.items():
                    self._live[name].copy_(value)

    def state(self) -> dict[str, Any]:
        """Return the state to store in a checkpoint."""
        return {"values": self.values, "steps": float(self.steps)}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self.steps.fill_(state["steps"])
        for name, value in state["values"].items():
            self.values[name].copy_(value)


class Epochs(Protocol):
    """Runs the steps of one epoch: in Python (`EagerEpochs`) or as replays of a CUDA graph."""

    average: WeightAverage

    def __call__(self, epoch: int) -> float:
        """Train one epoch and return the mean loss.

        Raises:
            TrainingError: if a loss or gradient is not finite.
        """
        ...


class EagerEpochs:
    """Runs an epoch step by step, in Python.

    `batches(epoch)` yields the arguments of `loss_of`. A non-finite step stops training before it changes a weight.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        batches: Callable[[int], Iterable[Any]],
        loss_of: Callable[[Any], torch.Tensor],
        *,
        averaging: float = 0.0,
        clip_norm: float = 5.0,
        replicas: Replicas = Replicas(),  # noqa: B008
    ) -> None:
        self._network, self._optimizer = network, optimizer
        self._batches, self._loss_of = batches, loss_of
        self._clip_norm, self._replicas = clip_norm, replicas
        self.average = WeightAverage(network, averaging)

    def __call__(self, epoch: int) -> float:
        network, total, steps = self._network, 0.0, 0
        network.train()
        for step, batch in enumerate(self._batches(epoch), start=1):
            loss = self._loss_of(batch)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
            self._replicas.sum_(loss)
            self._replicas.sum_gradients(network.parameters())
            norm = nn.utils.clip_grad_norm_(network.parameters(), self._clip_norm)
            if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
                raise TrainingError(describe_nonfinite(network, float(loss), epoch, step))
            self._optimizer.step()
            self.average.update()
            total += float(loss)
            steps += 1
        if steps == 0:
            raise TrainingError("There is nothing to train on: no user has two events in the train part.")
        return total / steps


@dataclass
class _Progress:
    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    reports: list[EpochReport] = field(default_factory=list)


def train(
    network: nn.Module,
    optimizer: Optimizer,
    epochs: Epochs,
    validate: Callable[[], dict[str, float]],
    schedule: Schedule,
    *,
    seed: int,
    fingerprint: str,
    checkpoint_dir: Path | None = None,
    on_epoch: OnEpoch | None = None,
    replicas: Replicas = Replicas(),  # noqa: B008
) -> FitReport:
    """Run epochs until the valid metric stops improving, then restore the best weights.

    Training stops after `patience` epochs without an improvement, or after `max_epochs`.

    Replicas draw different random numbers. The first replica writes the checkpoints, which hold the random states of all
    replicas, and every replica reads them. A checkpoint from a different number of replicas can be resumed, but without its
    random states.

    Args:
        fingerprint: Identifies data, settings and seed. A checkpoint with another fingerprint is not resumed.
        checkpoint_dir: A folder that all replicas share.

    Raises:
        TrainingError: if training diverges, or the replicas do not share `checkpoint_dir`.
    """
    started = time.perf_counter()
    device = next(network.parameters()).device
    progress = _Progress()
    resumed_from = None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed + 1_000_003 * replicas.rank)
        if checkpoint_dir is not None and _resume(
            checkpoint_dir, fingerprint, network, optimizer, epochs, progress, device, replicas
        ):
            resumed_from = progress.epoch
        while progress.epoch < schedule.max_epochs and progress.epoch - progress.best_epoch < schedule.patience:
            epoch, epoch_started = progress.epoch + 1, time.perf_counter()
            loss = epochs(epoch)
            trained = time.perf_counter() - epoch_started
            network.eval()
            with torch.no_grad(), epochs.average.in_place():
                valid = validate()
                if valid[schedule.metric] > progress.best:
                    progress.best, progress.best_epoch = valid[schedule.metric], epoch
                    progress.best_weights = _copy(network)
            progress.epoch = epoch
            seconds = time.perf_counter() - epoch_started
            report = EpochReport(epoch, schedule.max_epochs, loss, valid, seconds, progress.best_epoch, trained)
            progress.reports.append(report)
            if checkpoint_dir is not None:
                random = _random_states(device, replicas)
                if replicas.rank == 0:
                    _save(checkpoint_dir, fingerprint, network, optimizer, epochs, progress, random)
            if on_epoch is not None:
                on_epoch(report)
    network.load_state_dict(progress.best_weights)
    network.eval()
    return FitReport(
        epochs=progress.reports,
        best_epoch=progress.best_epoch,
        resumed_from=resumed_from,
        parameters=sum(p.numel() for p in network.parameters()),
        device=str(device),
        seconds=time.perf_counter() - started,
    )


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}


def describe_nonfinite(network: nn.Module, loss: float, epoch: int, step: int) -> str:
    """Return the error message for a step with a non-finite value."""
    weights = [n for n, p in network.named_parameters() if not bool(torch.isfinite(p).all())]
    gradients = [n for n, p in network.named_parameters() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    return (
        f"Training diverged in epoch {epoch}, step {step}: loss {loss}; non-finite weights: {weights[:3] or 'none'}; "
        f"non-finite gradients: {gradients[:3] or 'none'}. The weights of this step were not kept. Lower the learning rate, "
        "or run again with the setting debug: true to find the first module whose output is not finite."
    )


def name_first_nonfinite(network: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
    """Make the forward pass raise TrainingError at the first module with a non-finite output.

    Returns:
        The handles that remove the hooks.
    """

    def check(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in output if isinstance(output, tuple) else (output,):
                if isinstance(tensor, torch.Tensor) and not bool(torch.isfinite(tensor).all()):
                    raise TrainingError(f"The output of module {name} ({type(module).__name__}) is not finite.")

        return hook

    return [module.register_forward_hook(check(name)) for name, module in network.named_modules() if name]


RandomStates = dict[str, list[torch.Tensor]]


def _random_states(device: torch.device, replicas: Replicas) -> RandomStates:
    """Return the states of torch's generators: for each kind, one state per replica."""
    own = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        own["cuda"] = torch.cuda.get_rng_state(device)
    return {kind: [state.cpu() for state in replicas.gather(value.to(device))] for kind, value in own.items()}


def _save(
    folder: Path,
    fingerprint: str,
    network: nn.Module,
    optimizer: Optimizer,
    epochs: Epochs,
    progress: _Progress,
    random: RandomStates,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(
        {
            "fingerprint": fingerprint,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": random,
            "epoch": progress.epoch,
            "best": progress.best,
            "best_epoch": progress.best_epoch,
            "best_weights": progress.best_weights,
            "average": epochs.average.state(),
            "reports": json.dumps([asdict(report) for report in progress.reports]),
        },
        buffer,
    )
    temporary = folder / f".{CHECKPOINT}.{os.getpid()}"
    with temporary.open("wb") as file:
        file.write(buffer.getvalue())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / CHECKPOINT)


def _resume(
    folder: Path,
    fingerprint: str,
    network: nn.Module,
    optimizer: Optimizer,
    epochs: Epochs,
    progress: _Progress,
    device: torch.device,
    replicas: Replicas,
) -> bool:
    path = folder / CHECKPOINT
    kept: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True) if path.exists() else {}
    found = torch.tensor(float(kept.get("fingerprint") == fingerprint), device=device)
    replicas.sum_(found)
    if int(found) == 0:
        return False
    if int(found) < replicas.count:
        raise TrainingError(
            f"Only {int(found)} of {replicas.count} replicas found the run's checkpoint in {folder}. All replicas must share "
            "this folder: put work_dir on storage that all of them can read, or delete the checkpoint to start from scratch."
        )
    network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    random: RandomStates = kept["random"]
    if len(random["cpu"]) == replicas.count:
        torch.set_rng_state(random["cpu"][replicas.rank])
        if device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"][replicas.rank], device)
    progress.epoch, progress.best, progress.best_epoch = kept["epoch"], kept["best"], kept["best_epoch"]
    progress.best_weights = {name: weight.to(device) for name, weight in kept["best_weights"].items()}
    epochs.average.restore(kept["average"])
    progress.reports = [EpochReport(**report) for report in json.loads(kept["reports"])]
    return True
