"""Soft targets: a loss against the items that trained networks predict, beside the item that came next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from models.windows import Batch

__all__ = ["Predictor", "SoftTargets"]

CPU_ELEMENTS = 1 << 20  # probabilities in memory at once
CUDA_ELEMENTS = 1 << 26

Predictor = Callable[[Batch], tuple[torch.Tensor, torch.Tensor]]
"""Returns a trained network's states (T, H) after each event of a batch, and its item vectors (n_items, H). H is its own."""


@dataclass(frozen=True)
class SoftTargets:
    """Replaces a share of the target probability by the mean of what several networks predict (Hinton et al., arXiv 1503.02531)."""

    predictors: Sequence[Predictor]
    share: float

    def __call__(self, hidden: torch.Tensor, weight: torch.Tensor, batch: Batch, smoothing: float) -> torch.Tensor:
        """Return the change of this replica's share of the cross-entropy, a scalar.

        A cross-entropy is the logarithm of a sum, which does not depend on the targets, minus the mean of the logits over the targets.
        So only the difference of two means is left, which are products of a state and a mean of item vectors.

        Args:
            hidden: (T, H) after each event of the batch.
            weight: (n_items, H) of the catalogue.
            batch: Has the targets (T,).
            smoothing: The label smoothing of the cross-entropy.
        """
        if not hidden.is_cuda:
            hidden = hidden.to(weight.dtype)
        with torch.no_grad():
            given = [
                (states.to(hidden.dtype), vectors.to(hidden.dtype)) for states, vectors in (p(batch) for p in self.predictors)
            ]
            share = self.share * (batch.targets >= 0).float() / batch.total
            if batch.weights is not None:
                share = share * batch.weights
        added: torch.Tensor = _Difference.apply(hidden, weight, batch.targets, share, smoothing, given)  # type: ignore[no-untyped-call]
        return added


class _Difference(torch.autograd.Function):
    """The sum over the targets of `share` times the logit of the smoothed target minus the mean logit of the predicted items."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        share: torch.Tensor,
        smoothing: float,
        given: list[tuple[torch.Tensor, torch.Tensor]],
    ) -> torch.Tensor:
        count, items = len(hidden), len(weight)
        rows = max(1, min(count, (CUDA_ELEMENTS if hidden.is_cuda else CPU_ELEMENTS) // items))
        cast = weight.to(hidden.dtype)
        grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        total = torch.zeros((), device=hidden.device)
        for start in range(0, count, rows):
            part = slice(start, start + rows)
            # The smoothed target minus the prediction: one number for each item. Products sum the gradients in a fixed order.
            difference = _mean_probabilities(given, part).neg_().add_(smoothing / items)
            difference.scatter_add_(1, targets[part].clamp_min(0)[:, None], torch.full_like(difference[:, :1], 1 - smoothing))
            factors, difference = share[part, None], difference.to(hidden.dtype)
            wanted = factors * (difference @ cast)
            total += (hidden[part].float() * wanted).sum()
            grad_hidden[part] = wanted.to(hidden.dtype)
            grad_weight += difference.T @ (factors * hidden[part]).to(hidden.dtype)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0], grad_weight * grads[0], None, None, None, None


def _mean_probabilities(given: list[tuple[torch.Tensor, torch.Tensor]], part: slice) -> torch.Tensor:
    """Return the mean over the networks of the probabilities of all items, float32 (rows, n_items)."""
    mean = torch.zeros(())
    for number, (states, vectors) in enumerate(given):
        predicted = torch.softmax((states[part] @ vectors.T).float(), dim=-1)
        mean = predicted if number == 0 else mean.add_(predicted)
    return mean.div_(len(given))
