"""The end of a captured training step, on all weights as one vector: norm, clipping, AdamW and the running average.

A network has some sixty weights, most of them small. One kernel over a vector of all of them takes as long as the kernel of a few.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

__all__ = ["BETAS", "EPSILON", "FlatVector", "FlatWeights", "StepChange", "StepCounts"]

BETAS, EPSILON = (0.9, 0.999), 1e-8  # of AdamW

BLOCK = 2048  # values of a program; each weight starts a block


@dataclass(frozen=True, eq=False)
class StepCounts:
    """Scalars on the device that a step reads and adds to."""

    rates: torch.Tensor  # (room,) learning rates of the epoch's steps
    step: torch.Tensor  # int64, in the epoch
    total: torch.Tensor  # of the epoch's losses
    steps: torch.Tensor  # of AdamW
    averaged: torch.Tensor  # steps in the average
    first_bad: torch.Tensor  # int64: the first step whose loss or gradients were not finite, or -1
    bad_loss: torch.Tensor  # its loss


@dataclass(frozen=True)
class StepChange:
    """How a step changes the weights."""

    clip_norm: float
    """Longest gradient, over all weights."""
    weight_decay: float
    """Of the weights that decay."""
    averaging: float
    """Decay per step of the average."""


class FlatVector:
    """A vector that holds a value for each value of some weights."""

    def __init__(self, weights: Sequence[torch.Tensor]) -> None:
        sizes = [-(-weight.numel() // BLOCK) * BLOCK for weight in weights]
        self.values = torch.zeros(sum(sizes), device=weights[0].device)
        parts = zip(torch.split(self.values, sizes), weights, strict=True)
        self.views = [part[: weight.numel()].view(weight.shape) for part, weight in parts]

    def copy_(self, tensors: Sequence[torch.Tensor | None]) -> None:
        """Copy a tensor for each weight. A weight without one keeps what it has."""
        given = [(view, tensor) for view, tensor in zip(self.views, tensors, strict=True) if tensor is not None]
        torch._foreach_copy_([view for view, _ in given], [tensor for _, tensor in given])


class FlatWeights:
    """The weights of a network as one vector, and what belongs to each of them: gradient, AdamW's means, and average.

    The weights that decay come first. The network's weights become views of the vector.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], decayed: Sequence[bool], *, averaged: bool) -> None:
        order = sorted(range(len(parameters)), key=lambda i: not decayed[i])
        self.parameters = [parameters[i] for i in order]
        self.weights, self.gradients = FlatVector(self.parameters), FlatVector(self.parameters)
        self.means, self.squares = FlatVector(self.parameters), FlatVector(self.parameters)
        self.averages = FlatVector(self.parameters) if averaged else None
        self.decayed = sum(-(-p.numel() // BLOCK) * BLOCK for p, decays in zip(parameters, decayed, strict=True) if decays)
        with torch.no_grad():
            self.weights.copy_([parameter.detach() for parameter in self.parameters])
        for parameter, view in zip(self.parameters, self.weights.views, strict=True):
            parameter.data = view
        device = self.weights.values.device
        blocks = len(self.weights.values) // BLOCK
        self.bad = torch.zeros(blocks, device=device)  # 1 for each block of the first bad step's gradients that is not finite
        self.sums = torch.zeros(blocks, device=device)
        self.factors = torch.zeros(7, device=device)

    def places(self, vector: FlatVector) -> Iterator[tuple[torch.nn.Parameter, torch.Tensor]]:
        """Return the parameters and their views of a vector."""
        return zip(self.parameters, vector.views, strict=True)

    def bad_parameters(self) -> set[torch.nn.Parameter]:
        """Return the weights whose gradients were not finite in the first step that was left out."""
        parts = torch.split(self.bad, [-(-parameter.numel() // BLOCK) for parameter in self.parameters])
        return {parameter for parameter, part in zip(self.parameters, parts, strict=True) if bool(part.any())}

    @torch.no_grad()
    def take_step(self, loss: torch.Tensor, counts: StepCounts, change: StepChange) -> None:
        """Update the weights from the gradients of the parameters, and the counts. Everything stays on the device.

        Nothing is updated from the first step on whose loss or gradients are not finite.
        """
        self.gradients.copy_([parameter.grad for parameter in self.parameters])
        if self.weights.values.is_cuda:
            take_step_with_kernels(self, loss, counts, change)
        else:
            take_step_in_torch(self, loss, counts, change)


def take_step_with_kernels(flat: FlatWeights, loss: torch.Tensor, counts: StepCounts, change: StepChange) -> None:
    """Take the step that `flat.gradients` ask for, in three kernels."""
    from models.training import flat_cuda

    count, grid = len(flat.weights.values), (len(flat.sums),)
    averages = flat.weights if flat.averages is None else flat.averages
    flat_cuda.sum_of_squares[grid](flat.gradients.values, flat.sums, count, BLOCK=BLOCK)
    flat_cuda.decide[(1,)](
        flat.sums, len(flat.sums), loss, counts.rates, counts.step, counts.total, counts.first_bad, counts.bad_loss,
        counts.steps, counts.averaged, flat.factors, change.averaging, change.clip_norm,
        LOG_BETA_1=math.log(BETAS[0]), LOG_BETA_2=math.log(BETAS[1]), BLOCK=1024,
    )  # fmt: skip
    flat_cuda.update[grid](
        flat.weights.values, flat.gradients.values, flat.means.values, flat.squares.values, averages.values, flat.bad,
        flat.factors, count, flat.decayed, change.weight_decay,
        BETA_1=BETAS[0], BETA_2=BETAS[1], EPSILON=EPSILON, BLOCK=BLOCK, AVERAGE=flat.averages is not None, num_warps=8,
    )  # fmt: skip


def take_step_in_torch(flat: FlatWeights, loss: torch.Tensor, counts: StepCounts, change: StepChange) -> None:
    """Take the same step where Triton has no device. It reads values back, so no graph can capture it."""
    gradients = flat.gradients.values
    norm = gradients.norm()
    if not bool(torch.isfinite(loss) & torch.isfinite(norm)) and int(counts.first_bad) < 0:
        counts.first_bad.copy_(counts.step)
        counts.bad_loss.copy_(loss)
        flat.bad.copy_((~torch.isfinite(gradients)).view(-1, BLOCK).any(1))
    counts.averaged.add_(1)
    if int(counts.first_bad) < 0:
        counts.steps.add_(1)
        for part, weight_decay in ((slice(0, flat.decayed), change.weight_decay), (slice(flat.decayed, None), 0.0)):
            torch._fused_adamw_(
                [flat.weights.values[part]],
                [gradients[part]],
                [flat.means.values[part]],
                [flat.squares.values[part]],
                [],
                [counts.steps.clone()],
                lr=float(counts.rates[int(counts.step)]),
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=weight_decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
                grad_scale=torch.clamp((norm + 1e-6) / change.clip_norm, min=1.0),
                found_inf=None,
            )
        if flat.averages is not None:
            kept = torch.clamp((1 + counts.averaged) / (10 + counts.averaged), max=change.averaging)
            share = torch.where(counts.averaged > 1, 1 - kept, torch.ones_like(kept))
            flat.averages.values.lerp_(flat.weights.values, share)
    counts.total.add_(loss)
    counts.step.add_(1)
