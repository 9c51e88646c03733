"""Epochs as replays of one CUDA graph.

A whole training step needs no kernel launch from Python and no copy from the host.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from configs.errors import TrainingError
from models.training.adamw import AdamW
from models.training.distributed import Replicas
from models.training.epochs import StepRule, WeightAverage, describe_nonfinite
from models.training.flat import StepChange, StepCounts

__all__ = ["GraphedEpochs"]

WARM_UP_STEPS = 2
STEPS_BETWEEN_LOOKS = 16


class GraphedEpochs:
    """Runs an epoch as replays of one captured training step.

    `begin(epoch)` prepares the epoch's steps on the device and returns their number. `loss_of(step)` returns the loss of step
    `step`, an int64 scalar on the device. Its operations must have fixed shapes.

    A non-finite step changes no weight, because the optimizer skips it and all steps after it. The host looks for one every few
    steps, which are the only times that it waits, and the error describes that step.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: AdamW,
        begin: Callable[[int], int],
        loss_of: Callable[[torch.Tensor], torch.Tensor],
        rule: StepRule = StepRule(),  # noqa: B008
        *,
        replicas: Replicas = Replicas(),  # noqa: B008
    ) -> None:
        device = next(network.parameters()).device
        self._network, self._optimizer = network, optimizer
        self._begin, self._loss_of = begin, loss_of
        self._rule, self._replicas = rule, replicas
        self.average = WeightAverage(network, rule.averaging)
        self._flat = optimizer.flatten(averaged=rule.averaging > 0)
        if self._flat.averages is not None:
            self.average.adopt(self._flat.places(self._flat.averages))
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._total = torch.zeros((), device=device)
        # The first step that was not finite: its number or -1, and its loss.
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._bad_loss = torch.zeros((), device=device)
        self._rates = torch.zeros(1, device=device)  # (room,) of the epoch's steps; a captured step always reads these addresses
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, epoch: int) -> float:
        self._network.train()
        steps = self._begin(epoch)
        if steps == 0:
            raise TrainingError("There is nothing to train on: no user has two events in the train part.")
        self._write_rates(np.full(steps, self._optimizer.learning_rate) if self._rule.rates is None else self._rule.rates(epoch))
        if self._graph is None:
            self._graph = self._capture()
        self._step.zero_()
        self._total.zero_()
        self._first_bad.fill_(-1)
        for step in range(1, steps + 1):
            self._graph.replay()
            if step % STEPS_BETWEEN_LOOKS == 0 or step == steps:
                self._refuse_bad(epoch)
        return float(self._total) / steps

    def _refuse_bad(self, epoch: int) -> None:
        bad = int(self._first_bad)
        if bad < 0:
            return
        found = self._flat.bad_parameters()
        gradients = [name for name, weight in self._network.named_parameters() if weight in found]
        raise TrainingError(describe_nonfinite(self._network, float(self._bad_loss), epoch, bad + 1, gradients))

    def _write_rates(self, rates: npt.NDArray[np.float64]) -> None:
        if self._graph is None:
            self._rates = torch.zeros(int(1.2 * len(rates)) + 8, device=self._step.device)
        self._rates[: len(rates)] = torch.from_numpy(rates).to(self._rates)

    def _run_step(self) -> None:
        loss = self._loss_of(self._step)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        self._replicas.sum_(loss)
        self._replicas.sum_gradients(self._network.parameters())
        counts = StepCounts(
            self._rates,
            self._step,
            self._total,
            self._optimizer.steps,
            self.average.steps,
            self._first_bad,
            self._bad_loss,
        )
        rule = self._rule
        self._flat.take_step(loss, counts, StepChange(rule.clip_norm, self._optimizer.weight_decay, rule.averaging))

    def _capture(self) -> torch.cuda.CUDAGraph:
        """Capture one training step.

        The effects of the warm-up steps are undone: weights, optimizer, average and random numbers.
        """
        network, optimizer = self._network, self._optimizer
        device = self._step.device
        weights = {name: value.clone() for name, value in network.state_dict().items()}
        moments = {name: [value.clone() for value in values] for name, values in optimizer.state_dict().items()}
        average, random = self.average.state(), torch.cuda.get_rng_state(device)
        average = {"values": {name: value.clone() for name, value in average["values"].items()}, "steps": average["steps"]}
        side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_STEPS):
                optimizer.zero_grad()
                self._step.zero_()
                self._run_step()
        torch.cuda.current_stream(device).wait_stream(side)
        optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._run_step()
        with torch.no_grad():
            network.load_state_dict(weights)
        optimizer.load_state_dict(moments)
        self.average.restore(average)
        torch.cuda.set_rng_state(random, device)
        return graph
