"""Data parallelism: every replica holds the whole network and a share of each batch (`torchrun`, NCCL or gloo).

Apart from the embedding, the networks here have well under a million weights. One all-reduce of all gradients after the
backward pass therefore costs no more than DistributedDataParallel's overlapped buckets, and a CUDA graph can capture it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist

from configs.errors import LostReplicaError, TrainingError

__all__ = ["Device", "Placement", "Replicas", "joined_replicas", "place", "resolve_device"]

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Placement:
    """The device of a training run, and its number of processes."""

    device: Device = "cpu"
    replicas: int = 1


def resolve_device(wanted: Literal["auto", "cpu", "cuda"]) -> Device:
    """Resolve `auto` to CUDA if torch finds a GPU, else to the CPU.

    Raises:
        TrainingError: if CUDA is requested and there is no GPU.
    """
    seen = wanted != "cpu" and torch.cuda.is_available()
    if wanted == "cuda" and not seen:
        raise TrainingError("The setting device: cuda needs a GPU, but torch does not see one. Set device: auto or cpu.")
    return "cuda" if seen else "cpu"


def place(device: Literal["auto", "cpu", "cuda"], replicas: int | Literal["auto"], kind: str) -> Placement:
    """Resolve the settings `device` and `replicas` of a kind of model on this machine.

    `auto` means one replica per GPU, or one replica on the CPU.

    Raises:
        TrainingError: if there are fewer GPUs than replicas.
    """
    found = resolve_device(device)
    gpus = torch.cuda.device_count() if found == "cuda" else 0
    count = max(gpus, 1) if replicas == "auto" else replicas
    if found == "cuda" and count > gpus:
        raise TrainingError(
            f"The setting models.{kind}.replicas is {count}, and torch sees {gpus} GPU{'' if gpus == 1 else 's'}: each replica "
            "needs its own. Set it to at most that number, or to auto; CUDA_VISIBLE_DEVICES may hide GPUs."
        )
    return Placement(found, count)


@dataclass(frozen=True)
class Replicas:
    """This process among the replicas that train together."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Replicas:
        """Return the replicas of the default process group, or a single one if there is no group."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def sum_(self, tensor: torch.Tensor) -> None:
        """Replace `tensor` with its sum over the replicas."""
        if self.count > 1:
            with _all_there():
                dist.all_reduce(tensor)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient with its sum over the replicas, in one message for all gradients.

        A replica whose share of a step is empty has no gradient for some weights. It sends zeros, because all messages must
        have the same length.
        """
        if self.count == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with _all_there():
            dist.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return every replica's `tensor`, in the order of their ranks. All must have the same shape."""
        if self.count == 1:
            return [tensor]
        every = [torch.empty_like(tensor) for _ in range(self.count)]
        with _all_there():
            dist.all_gather(every, tensor)
        return every

    def adopt_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Copy the values of the first replica to every replica."""
        if self.count > 1:
            with _all_there():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)


@contextmanager
def _all_there() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # the errors of gloo and NCCL have no narrower common class
        raise LostReplicaError(
            f"A replica could not exchange its share with the others, usually because one of them has ended: {error}"
        ) from error


@contextmanager
def joined_replicas(device: Device) -> Iterator[Replicas]:
    """Join the replicas that torchrun started, as set in its environment. A single process joins nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Replicas()
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Replicas.current()
    finally:
        dist.destroy_process_group()
