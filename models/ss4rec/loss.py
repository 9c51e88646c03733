"""Cross-entropy over the whole catalogue without an autograd graph of the (targets x items) logits."""

from __future__ import annotations

from typing import Any

import torch

__all__ = ["catalogue_cross_entropy"]

CHUNK_ELEMENTS = 1 << 20  # logits held at once


def catalogue_cross_entropy(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Mean cross-entropy of `hidden @ weight.T` against `targets`, with label smoothing as in torch.

    `hidden` (T, H), `weight` (n_items, H), `targets` (T,) int64. Both gradients are taken in the forward pass, chunk by
    chunk and in place, so memory is one chunk of logits and each chunk is read while it is in the cache.
    """
    loss: torch.Tensor = _CatalogueCrossEntropy.apply(hidden, weight, targets, smoothing)  # type: ignore[no-untyped-call]
    return loss


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, smoothing: float) -> torch.Tensor:
        count, items = len(hidden), len(weight)
        rows = max(1, min(count, CHUNK_ELEMENTS // items))
        buffer = hidden.new_empty(rows, items)
        grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        total = hidden.new_zeros(())
        for start in range(0, count, rows):
            part, wanted = hidden[start : start + rows], targets[start : start + rows, None]
            logits = torch.mm(part, weight.T, out=buffer[: len(part)])
            target_logits, mean_logits = logits.gather(1, wanted)[:, 0], logits.mean(dim=1)
            highest = logits.amax(dim=1, keepdim=True)
            exponents = logits.sub_(highest).exp_()
            sums = exponents.sum(dim=1, keepdim=True)
            log_sums = (sums.log() + highest)[:, 0]
            total += (log_sums - (1 - smoothing) * target_logits - smoothing * mean_logits).sum()
            grads = exponents.mul_(1 / (sums * count))
            grads.sub_(smoothing / (items * count))
            grads.scatter_add_(1, wanted, torch.full_like(grads[:, :1], -(1 - smoothing) / count))
            torch.mm(grads, weight, out=grad_hidden[start : start + rows])
            grad_weight.addmm_(grads.T, part)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total / count

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0], grad_weight * grads[0], None, None
