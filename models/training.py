"""The training loop of gradient models: early stopping, a checkpoint each epoch, resume, a stop at the first non-finite.

A run that is killed and started again ends with the same weights: everything random in an epoch is drawn from the seed
and the epoch's number, or from generator states kept in the checkpoint.
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
from typing import Any

import torch
from torch import nn

from configs.errors import TrainingError
from models.recommender import EpochReport, FitReport, OnEpoch

__all__ = ["Schedule", "name_first_nonfinite", "train"]

CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True)
class Schedule:
    """When training stops."""

    max_epochs: int
    patience: int
    metric: str = "ndcg@10"
    averaging: float = 0.0  # decay of the running average of the weights that is validated and kept; 0 keeps the raw ones


@dataclass
class _Progress:
    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    steps: int = 0
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    average: dict[str, torch.Tensor] = field(default_factory=dict)
    reports: list[EpochReport] = field(default_factory=list)


def train(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Callable[[int], Iterable[Any]],
    loss_of: Callable[[Any], torch.Tensor],
    validate: Callable[[], dict[str, float]],
    schedule: Schedule,
    *,
    seed: int,
    fingerprint: str,
    checkpoint_dir: Path | None = None,
    on_epoch: OnEpoch | None = None,
    clip_norm: float = 5.0,
) -> FitReport:
    """Run epochs until the valid metric has not improved `patience` times, then restore the best weights.

    `batches(epoch)` yields what `loss_of` takes. `fingerprint` names data, settings and seed: a checkpoint of another
    fingerprint is not resumed. Raises TrainingError at the first non-finite loss or gradient.
    """
    started = time.perf_counter()
    device = next(network.parameters()).device
    progress = _Progress()
    resumed_from = None
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        if checkpoint_dir is not None and _resume(checkpoint_dir, fingerprint, network, optimizer, progress, device):
            resumed_from = progress.epoch
        while progress.epoch < schedule.max_epochs and progress.epoch - progress.best_epoch < schedule.patience:
            epoch, epoch_started = progress.epoch + 1, time.perf_counter()
            loss = _run_epoch(network, optimizer, batches(epoch), loss_of, progress, schedule.averaging, clip_norm)
            network.eval()
            with torch.no_grad(), _averaged(network, progress.average):
                valid = validate()
                if valid[schedule.metric] > progress.best:
                    progress.best, progress.best_epoch = valid[schedule.metric], epoch
                    progress.best_weights = _copy(network)
            progress.epoch = epoch
            report = EpochReport(
                epoch, schedule.max_epochs, loss, valid, time.perf_counter() - epoch_started, progress.best_epoch
            )
            progress.reports.append(report)
            if checkpoint_dir is not None:
                _save(checkpoint_dir, fingerprint, network, optimizer, progress, device)
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


def _run_epoch(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Any],
    loss_of: Callable[[Any], torch.Tensor],
    progress: _Progress,
    averaging: float,
    clip_norm: float,
) -> float:
    network.train()
    total, steps = 0.0, 0
    for step, batch in enumerate(batches, start=1):
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(network.parameters(), clip_norm)
        if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
            raise TrainingError(_describe_nonfinite(network, float(loss), progress.epoch + 1, step))
        optimizer.step()
        progress.steps += 1
        if averaging:
            _update_average(progress, network, averaging)
        total += float(loss.detach())
        steps += 1
    if steps == 0:
        raise TrainingError("There is nothing to train on: no user has two events in the train part.")
    return total / steps


def _copy(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in network.state_dict().items()}


def _update_average(progress: _Progress, network: nn.Module, decay: float) -> None:
    """Exponential moving average of the weights; early on it forgets faster, so that the start does not linger."""
    if not progress.average:
        progress.average = _copy(network)
        return
    weight = 1 - min(decay, (1 + progress.steps) / (10 + progress.steps))
    for name, value in network.state_dict().items():
        progress.average[name].lerp_(value.detach(), weight)


@contextmanager
def _averaged(network: nn.Module, average: dict[str, torch.Tensor]) -> Iterator[None]:
    """The network with its averaged weights, if there are any."""
    if not average:
        yield
        return
    raw = _copy(network)
    network.load_state_dict(average)
    try:
        yield
    finally:
        network.load_state_dict(raw)


def _describe_nonfinite(network: nn.Module, loss: float, epoch: int, step: int) -> str:
    weights = [n for n, p in network.named_parameters() if not bool(torch.isfinite(p).all())]
    gradients = [n for n, p in network.named_parameters() if p.grad is not None and not bool(torch.isfinite(p.grad).all())]
    return (
        f"Training diverged in epoch {epoch}, step {step}: loss {loss}; non-finite weights: {weights[:3] or 'none'}; "
        f"non-finite gradients: {gradients[:3] or 'none'}. No weights of this step were kept. Lower the learning rate, or "
        "run again with the setting debug: true, which names the first module whose output is not finite."
    )


def name_first_nonfinite(network: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
    """Make the forward pass raise TrainingError in the first module that puts out a non-finite value."""

    def check(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in output if isinstance(output, tuple) else (output,):
                if isinstance(tensor, torch.Tensor) and not bool(torch.isfinite(tensor).all()):
                    raise TrainingError(f"The output of module {name} ({type(module).__name__}) is not finite.")

        return hook

    return [module.register_forward_hook(check(name)) for name, module in network.named_modules() if name]


def _save(
    folder: Path,
    fingerprint: str,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: _Progress,
    device: torch.device,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    torch.save(
        {
            "fingerprint": fingerprint,
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "epoch": progress.epoch,
            "best": progress.best,
            "best_epoch": progress.best_epoch,
            "best_weights": progress.best_weights,
            "average": progress.average,
            "steps": progress.steps,
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
    optimizer: torch.optim.Optimizer,
    progress: _Progress,
    device: torch.device,
) -> bool:
    path = folder / CHECKPOINT
    if not path.exists():
        return False
    kept = torch.load(path, map_location="cpu", weights_only=True)
    if kept["fingerprint"] != fingerprint:
        return False
    network.load_state_dict(kept["network"])
    optimizer.load_state_dict(kept["optimizer"])
    torch.set_rng_state(kept["rng"])
    if kept["cuda_rng"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(kept["cuda_rng"], device)
    progress.epoch, progress.best, progress.best_epoch = kept["epoch"], kept["best"], kept["best_epoch"]
    progress.best_weights = {name: weight.to(device) for name, weight in kept["best_weights"].items()}
    progress.average = {name: weight.to(device) for name, weight in kept["average"].items()}
    progress.steps = kept["steps"]
    progress.reports = [EpochReport(**report) for report in json.loads(kept["reports"])]
    return True
