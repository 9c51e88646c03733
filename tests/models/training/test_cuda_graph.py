"""Epochs of captured steps, as far as a CPU can test them: the step itself, and what surrounds its replays.

A graph's replay repeats what was captured; here the step runs again instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from configs.errors import TrainingError
from configs.settings import EvaluationSettings, SS4RecSettings
from models.evaluation import Split, split
from models.losses import NextItemLoss
from models.sequences import Vocabulary
from models.ss4rec import SS4Rec
from models.training import AdamW, EagerEpochs, GraphedEpochs, Rates, StepRule
from models.windows import Batching, TrainingBatches
from tests import synthetic
from tests.plain_ss4rec import PLAIN

STEADY = SS4RecSettings(
    **PLAIN | {"dropout": 0.0, "embedding_dropout": 0.0}, width=8, blocks=1, time_state=4, relation_state=4, max_length=10, batch_tokens=80, device="cpu",
)  # fmt: skip


class AgainByHand:
    """A stand-in for a captured graph: `replay` runs the step."""

    def __init__(self, epochs: GraphedEpochs) -> None:
        self._epochs = epochs

    def replay(self) -> None:
        self._epochs._optimizer.zero_grad()  # as a graph overwrites its gradients
        self._epochs._run_step()


class HandEpochs(GraphedEpochs):
    def _capture(self) -> Any:
        return AgainByHand(self)


@pytest.fixture(scope="module")
def parts() -> Split:
    frame = synthetic.interactions(25, 30, 15)
    return split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))


def two_epochs(parts: Split, *, graphed: bool, changes: dict[str, Any]) -> tuple[SS4Rec, Any, list[float]]:
    """Train an almost untrained model for two epochs, with captured or with eager steps."""
    settings = STEADY.model_copy(update={"max_epochs": 1, **changes})
    model = SS4Rec(settings.model_copy(update={"learning_rate": 1e-8}))
    model.fit(parts.train, parts.valid, parts.catalogue, seed=1, mask_seen=True)
    network = model.network
    optimizer = AdamW(network.parameters(), settings.learning_rate, settings.weight_decay)
    batching = Batching(max_length=10, tokens=80, seed=1)
    batches = TrainingBatches(parts.train, Vocabulary(parts.catalogue), batching, device=torch.device("cpu"))
    rates = Rates(settings.learning_rate, 2, settings.warm_up, settings.schedule)
    rule = StepRule(0.9, 1.0, (lambda epoch: rates.of_epoch(epoch, batches.steps(epoch))) if rates.vary else None)
    loss = NextItemLoss.of(settings)
    epochs: Any
    if graphed:
        epochs = HandEpochs(network, optimizer, batches.begin, lambda step: model._loss(batches.fixed(step), loss), rule)
    else:
        epochs = EagerEpochs(network, optimizer, batches.eager, lambda batch: model._loss(batch, loss), rule)
    return model, epochs, [epochs(1), epochs(2)]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"warm_up": 0.3, "schedule": "cosine", "weight_decay": 0.1, "norm": "pre", "interval_embedding": True, "blocks": 2},
        {"calendar_input": True},
    ],
    ids=str,
)
def test_steps_of_fixed_shape_learn_what_eager_steps_learn(changes: dict[str, Any], parts: Split) -> None:
    (captured, epochs, losses), (eager, others, wanted) = (
        two_epochs(parts, graphed=graphed, changes=changes) for graphed in (True, False)
    )
    assert losses == pytest.approx(wanted, rel=1e-5) and losses[1] < losses[0]
    for name, weight in eager.network.state_dict().items():
        torch.testing.assert_close(captured.network.state_dict()[name], weight, rtol=1e-3, atol=2e-4)
    assert float(epochs.average.steps) == float(others.average.steps) > 0
    for name, value in others.average.values.items():
        torch.testing.assert_close(epochs.average.values[name], value, rtol=1e-3, atol=2e-4)


def test_a_step_that_is_not_finite_ends_the_epoch_and_the_error_describes_it() -> None:
    torch.manual_seed(0)
    network, taken = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Linear(1, 1)), []
    factors = torch.tensor([1.0, torch.inf, *[torch.nan] * 200])

    def loss(step: torch.Tensor) -> torch.Tensor:
        taken.append([weight.detach().clone() for weight in network.parameters()])
        if int(step) == 1:
            return network[1].bias.sum() * factors[step]  # only this weight's gradient is not finite
        return network(torch.ones(1, 2)).sum() * factors[step]

    epochs = HandEpochs(network, AdamW(network.parameters(), 0.1), lambda epoch: len(factors), loss)
    with pytest.raises(
        TrainingError, match=r"epoch 4, step 2: loss -?inf; non-finite weights: none; non-finite gradients: \['1.bias'\]"
    ):
        epochs(4)
    assert len(taken) < 40, "the epoch ran on"
    after = list(network.parameters())
    assert not all(torch.equal(*pair) for pair in zip(taken[0], taken[1], strict=True))  # step 1 was taken
    assert all(torch.equal(*pair) for pair in zip(taken[1], after, strict=True))  # and no other


def test_the_error_says_that_there_is_nothing_to_train_on() -> None:
    network = torch.nn.Linear(2, 1)
    epochs = HandEpochs(network, AdamW(network.parameters(), 0.1), lambda epoch: 0, lambda step: network.weight.sum())
    with pytest.raises(TrainingError, match="nothing to train on"):
        epochs(1)
