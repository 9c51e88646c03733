"""The loss against the items that trained networks predict."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from models.losses import NextItemLoss, SoftTargets
from models.losses import soft_targets as module

T, ITEMS, H, SMOOTHING = 13, 7, 5, 0.1


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("share", [0.3, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("elements", [1, 1 << 20], ids=["row by row", "at once"])
def test_the_loss_and_its_gradients_are_those_of_torchs_cross_entropy_with_mixed_targets(
    share: float, weighted: bool, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CPU_ELEMENTS", elements)
    torch.manual_seed(3)
    hidden, weight = draw(T, H).requires_grad_(), draw(ITEMS, H).requires_grad_()
    targets = torch.randint(-1, ITEMS, (T,))
    weights = torch.rand(T, dtype=torch.float64) if weighted else None
    batch: Any = SimpleNamespace(targets=targets, weights=weights, total=torch.tensor(9.0, dtype=torch.float64))
    teachers = [(draw(T, width), draw(ITEMS, width)) for width in (3, 6)]
    soft = SoftTargets([lambda _, each=each: each for each in teachers], share)
    NextItemLoss("cross_entropy", 1, 0.0, SMOOTHING, soft)(hidden, weight, batch).backward()
    found = hidden.grad, weight.grad
    hidden.grad = weight.grad = None

    predicted = torch.stack([torch.softmax(states @ vectors.T, -1) for states, vectors in teachers]).mean(0)
    hard = F.one_hot(targets.clamp_min(0), ITEMS) * (1 - SMOOTHING) + SMOOTHING / ITEMS
    losses = F.cross_entropy(hidden @ weight.T, share * predicted + (1 - share) * hard, reduction="none")
    counted = losses * (targets >= 0) * (1.0 if weights is None else weights)
    (counted.sum() / batch.total).backward()
    torch.testing.assert_close(found, (hidden.grad, weight.grad))


def test_the_value_is_that_of_torchs_cross_entropy_with_mixed_targets() -> None:
    torch.manual_seed(4)
    hidden, weight, targets = draw(T, H), draw(ITEMS, H), torch.randint(0, ITEMS, (T,))
    batch: Any = SimpleNamespace(targets=targets, weights=None, total=torch.tensor(float(T), dtype=torch.float64))
    states, vectors = draw(T, 4), draw(ITEMS, 4)
    loss = NextItemLoss("cross_entropy", 1, 0.0, SMOOTHING, SoftTargets([lambda _: (states, vectors)], 0.5))
    mixed = 0.5 * torch.softmax(states @ vectors.T, -1) + 0.5 * F.one_hot(targets, ITEMS) * 0.9 + 0.5 * SMOOTHING / ITEMS
    torch.testing.assert_close(loss(hidden, weight, batch), F.cross_entropy(hidden @ weight.T, mixed))
