"""Our AdamW and Adam equal torch's, and it has what a captured training step needs."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from configs.settings import SS4RecSettings
from models.ss4rec import SS4RecNetwork
from models.training import AdamW


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_it_takes_the_same_steps_as_torchs(weight_decay: float, coupled: bool) -> None:
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(4, 3)), torch.nn.Parameter(torch.randn(5)), torch.nn.Parameter(torch.randn(2))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    groups = [{"params": theirs[:1]}, {"params": theirs[1:], "weight_decay": 0.0}]  # only matrices decay
    first = AdamW(ours, 0.01, weight_decay, coupled=coupled)
    second: torch.optim.Optimizer = torch.optim.AdamW(groups, lr=0.01, weight_decay=weight_decay)
    if coupled:
        second = torch.optim.Adam(theirs, lr=0.01, weight_decay=weight_decay)
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


def test_rates_steps_biases_and_norms_of_the_network_do_not_decay() -> None:
    network = SS4RecNetwork(5, SS4RecSettings(width=16, blocks=1, interval="learned"))
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    AdamW(network.parameters(), 0.1, weight_decay=0.5).step()
    decayed = {name for name, weight in network.named_parameters() if not torch.equal(weight, before[name])}
    layers = {"blocks.0.time_aware": "BC", "blocks.0.relation_aware": ("in_proj", "conv1d", "x_proj", "dt_proj", "out_proj")}
    wanted = {f"{layer}.{name}" for layer, names in layers.items() for name in names}
    assert {name.removesuffix(".weight") for name in decayed} == wanted | {"items", "interval_embedding.vectors"}


def test_the_learning_rate_can_be_a_tensor_that_a_captured_step_reads() -> None:
    weights = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    for weight, rate in zip(weights, (0.25, torch.tensor(0.25)), strict=True):
        optimizer, weight.grad = AdamW([weight], 0.1), torch.ones(3)
        optimizer.learning_rate = rate
        optimizer.step()
    assert torch.equal(*weights) and float(weights[0].detach()[0]) == pytest.approx(0.75)


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


@pytest.mark.full
def test_a_step_does_not_import_torchs_compiler() -> None:
    program = (
        "import sys, torch; from models.training.adamw import AdamW; p = torch.nn.Parameter(torch.ones(2)); o = AdamW([p], .1); "
        "p.sum().backward(); o.step(); o.zero_grad(); assert 'torch._dynamo' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
