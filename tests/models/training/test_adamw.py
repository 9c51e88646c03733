"""Our AdamW equals torch's, and it has what a captured training step needs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from models.training import AdamW


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adamw_takes_the_same_steps_as_torchs(weight_decay: float) -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5)), torch.nn.Parameter(torch.randn(2))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    first, second = AdamW(ours, 0.01, weight_decay), torch.optim.AdamW(theirs, lr=0.01, weight_decay=weight_decay)
    for step in range(5):
        for a, b in zip(ours[: 2 + step % 2], theirs, strict=False):  # the last has a gradient now and then
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        first.step()
        second.step()
        first.zero_grad()
        second.zero_grad()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def test_a_skipped_step_changes_neither_weights_nor_state() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = AdamW([weight], 0.1)
    weight.grad = torch.ones(3)
    optimizer.step()
    before = weight.detach().clone()
    state = {name: [value.clone() for value in values] for name, values in optimizer.state_dict().items()}
    weight.grad = torch.full((3,), torch.nan)
    optimizer.step(skip=torch.ones(()))
    assert torch.equal(weight, before)
    assert all(torch.equal(a, b) for name in state for a, b in zip(state[name], optimizer.state_dict()[name], strict=True))


def test_a_loaded_state_continues_the_same_way_and_stays_in_place() -> None:
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    first, second = (AdamW([weight], 0.1) for weight in weights)
    weights[0].grad = torch.ones(3)
    first.step()
    with torch.no_grad():
        weights[1].copy_(weights[0])
    places = [value.data_ptr() for values in second.state_dict().values() for value in values]
    second.load_state_dict(first.state_dict())
    assert places == [value.data_ptr() for values in second.state_dict().values() for value in values]
    for weight, optimizer in zip(weights, (first, second), strict=True):
        weight.grad = torch.full((3,), 2.0)
        optimizer.step()
    assert torch.equal(*weights)


def test_a_step_does_not_import_torchs_compiler() -> None:
    program = (
        "import sys, torch; from models.training.adamw import AdamW; p = torch.nn.Parameter(torch.ones(2)); o = AdamW([p], .1); "
        "p.sum().backward(); o.step(); o.zero_grad(); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
