"""Losses over the catalogue without an autograd graph of the (targets x items) logits."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

__all__ = ["catalogue_cross_entropy", "gbce", "sampled_softmax"]

CPU_ELEMENTS = 1 << 20  # logits in memory at once: they stay in the cache
CUDA_ELEMENTS = 1 << 28


def catalogue_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    smoothing: float = 0.0,
    total: torch.Tensor | None = None,
    factors: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the cross-entropy of `hidden @ weight.T` against `targets`, with label smoothing as in torch.

    The losses are summed and divided by `total` (a scalar on the device; None means the number of targets). `hidden` is (T, H),
    `weight` (n_items, H) and `targets` (T,) int64; targets below 0 are ignored. `factors` (T,) multiply the losses. Both gradients are computed in the forward
    pass, chunk by chunk and in place. The memory is therefore one chunk of logits, in the type of `hidden`.
    """
    if total is None:
        total = torch.full((), len(targets), dtype=torch.float32, device=hidden.device)
    if not hidden.is_cuda:
        hidden = hidden.to(weight.dtype)  # half precision saves nothing on the CPU
    loss: torch.Tensor = _CatalogueCrossEntropy.apply(hidden, weight, targets, smoothing, total, factors)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    negatives: torch.Tensor,
    total: torch.Tensor,
    factors: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the softmax loss over the target and `negatives` (S,), which all targets share.

    Negatives are drawn uniformly from the catalogue. Negatives that equal the target are left out. Each negative stands for its
    share of the catalogue (logQ correction, constant for uniform draws).
    """
    positive = (hidden * weight[targets.clamp_min(0)]).sum(-1, keepdim=True).float()
    others = (hidden @ weight[negatives].T).float() + math.log(len(weight) / len(negatives))
    others = others.masked_fill(negatives == targets[:, None], -torch.inf)
    losses = torch.cat([positive, others], dim=1).logsumexp(1) - positive[:, 0]
    return _mean(losses, targets, total, factors)


def gbce(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    negatives: torch.Tensor,
    total: torch.Tensor,
    calibration: float,
    factors: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the generalised binary cross-entropy with negatives (T, S), S for each target.

    See gSASRec, arXiv 2308.07192, equation 12. The positive's probability is raised to

        beta = alpha (t (1 - 1 / alpha) + 1 / alpha)

    where alpha is the sampling rate and t is the `calibration`: 0 is plain BCE, 1 gives calibrated probabilities.
    """
    alpha = negatives.shape[1] / max(len(weight) - 1, 1)
    beta = alpha * (calibration * (1 - 1 / alpha) + 1 / alpha)
    positive = (hidden * weight[targets.clamp_min(0)]).sum(-1).float()
    others = torch.einsum("th,tsh->ts", hidden, weight[negatives]).float()
    others = others.masked_fill(negatives == targets[:, None], -torch.inf)
    losses = -beta * F.logsigmoid(positive) + F.softplus(others).sum(1)
    return _mean(losses, targets, total, factors)


def _mean(losses: torch.Tensor, targets: torch.Tensor, total: torch.Tensor, factors: torch.Tensor | None) -> torch.Tensor:
    counted = losses * (targets >= 0)
    return (counted if factors is None else counted * factors).sum() / total


class _CatalogueCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        targets: torch.Tensor,
        smoothing: float,
        total: torch.Tensor,
        factors: torch.Tensor | None,
    ) -> torch.Tensor:
        chunked = _on_cuda if hidden.is_cuda else _on_cpu
        loss, grad_hidden, grad_weight = chunked(hidden, weight, targets, smoothing, total, factors)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * grads[0], grad_weight * grads[0], None, None, None, None


Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _on_cpu(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    smoothing: float,
    total: torch.Tensor,
    factors: torch.Tensor | None,
) -> Triple:
    count, items = len(hidden), len(weight)
    divisor = float(total)
    rows = max(1, min(count, CPU_ELEMENTS // items))
    buffer = hidden.new_empty(rows, items)
    grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight)
    loss = hidden.new_zeros(())
    for start in range(0, count, rows):
        part, wanted = hidden[start : start + rows], targets[start : start + rows, None]
        share = (wanted >= 0).to(hidden.dtype) / divisor  # weight in the mean; 0 if there is no target
        if factors is not None:
            share *= factors[start : start + rows, None]
        wanted = wanted.clamp_min(0)
        logits = torch.mm(part, weight.T, out=buffer[: len(part)])
        target_logits, mean_logits = logits.gather(1, wanted)[:, 0], logits.mean(dim=1)
        highest = logits.amax(dim=1, keepdim=True)
        exponents = logits.sub_(highest).exp_()
        sums = exponents.sum(dim=1, keepdim=True)
        log_sums = (sums.log() + highest)[:, 0]
        loss += (log_sums - (1 - smoothing) * target_logits - smoothing * mean_logits) @ share[:, 0]
        grads = exponents.mul_(share / sums)
        grads.sub_(share * (smoothing / items))
        grads.scatter_add_(1, wanted, share * (smoothing - 1))
        torch.mm(grads, weight, out=grad_hidden[start : start + rows])
        grad_weight.addmm_(grads.T, part)
    return loss, grad_hidden, grad_weight


def _on_cuda(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    targets: torch.Tensor,
    smoothing: float,
    total: torch.Tensor,
    factors: torch.Tensor | None,
) -> Triple:
    import triton

    from models.losses.catalogue_cuda import softmax_gradient

    count, items = len(hidden), len(weight)
    rows = max(1, min(count, CUDA_ELEMENTS // items))
    cast = weight.to(hidden.dtype)
    grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight)
    losses = torch.empty(count, dtype=torch.float32, device=hidden.device)
    scale = 1 / total
    for start in range(0, count, rows):
        part = hidden[start : start + rows]
        logits = part @ cast.T
        softmax_gradient[(len(part),)](
            logits, targets[start : start + rows], losses[start : start + rows], scale, items, smoothing,
            BLOCK=min(4096, triton.next_power_of_2(items)), num_warps=8,
        )  # fmt: skip
        if factors is not None:
            logits *= factors[start : start + rows, None]
        torch.mm(logits, cast, out=grad_hidden[start : start + rows])
        grad_weight += logits.T @ part
    return (losses if factors is None else losses * factors).sum() / total, grad_hidden, grad_weight
