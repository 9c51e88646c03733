"""Data parallelism: every replica holds the whole network and a share of each batch (`torchrun`, NCCL or gloo).

The networks here have well under a million weights beside the embedding, so one all-reduce of all gradients after the
backward pass costs no more than DistributedDataParallel's overlapped buckets, and it can be captured in a CUDA graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

__all__ = ["Replicas", "joined_replicas"]


@dataclass(frozen=True)
class Replicas:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> Replicas:
        """The default process group's, or one replica alone."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    def sum_(self, tensor: torch.Tensor) -> None:
        """Replace `tensor` by its sum over the replicas."""
        if self.count > 1:
            dist.all_reduce(tensor)

    def sum_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace each gradient by its sum over the replicas; all of them, in one message.

        A replica whose share of a step is empty has no gradient of some weights: it sends zeros, as messages must agree in length.
        """
        if self.count == 1:
            return
        gradients = []
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(gradient) for part, gradient in zip(parts, gradients, strict=True)])

    def gather(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Every replica's `tensor`, in the order of their ranks; all of one shape."""
        if self.count == 1:
            return [tensor]
        every = [torch.empty_like(tensor) for _ in range(self.count)]
        dist.all_gather(every, tensor)
        return every

    def adopt_first(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every replica the first one's values."""
        if self.count > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


@contextmanager
def joined_replicas(device: str) -> Iterator[Replicas]:
    """Join the replicas that torchrun started (its environment says so); alone, there is nothing to join."""
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
