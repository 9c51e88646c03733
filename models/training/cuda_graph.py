"""Epochs as replays of one CUDA graph.

A whole training step needs no kernel launch from Python and no copy from the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from configs.errors import TrainingError
from models.training.adamw import AdamW
from models.training.distributed import Replicas
from models.training.epochs import StepRule, WeightAverage, describe_nonfinite

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
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._total = torch.zeros((), device=device)
        # The first step that was not finite: its number or -1, its loss, and the norm of each gradient.
        self._first_bad = torch.full((), -1, dtype=torch.int64, device=device)
        self._bad_loss = torch.zeros((), device=device)
        self._bad_norms = torch.zeros(sum(1 for _ in network.parameters()), device=device)
        self._rates: torch.Tensor | None = None  # (room,) of the epoch's steps
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, epoch: int) -> float:
        self._network.train()
        steps = self._begin(epoch)
        if steps == 0:
            raise TrainingError("There is nothing to train on: no user has two events in the train part.")
        if self._rule.rates is not None:
            self._write_rates(self._rule.rates(epoch))
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
        names = [name for name, _ in self._network.named_parameters()]
        gradients = [name for name, norm in zip(names, self._bad_norms.tolist(), strict=True) if not math.isfinite(norm)]
        raise TrainingError(describe_nonfinite(self._network, float(self._bad_loss), epoch, bad + 1, gradients))

    def _write_rates(self, rates: npt.NDArray[np.float64]) -> None:
        if self._rates is None:
            self._rates = torch.zeros(int(1.2 * len(rates)) + 8, device=self._step.device)
            self._optimizer.learning_rate = torch.zeros_like(self._total)  # the captured step always reads these addresses
        self._rates[: len(rates)] = torch.from_numpy(rates).to(self._rates)

    def _run_step(self) -> None:
        parameters = list(self._network.parameters())
        if self._rates is not None and isinstance(self._optimizer.learning_rate, torch.Tensor):
            self._optimizer.learning_rate.copy_(self._rates.index_select(0, self._step.view(1))[0])
        loss = self._loss_of(self._step)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        self._replicas.sum_(loss)
        self._replicas.sum_gradients(parameters)
        norms = self._norms(parameters)
        norm = torch.linalg.vector_norm(norms)
        nn.utils.clip_grads_with_norm_(parameters, self._rule.clip_norm, norm, foreach=True)
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        first = bad & (self._first_bad < 0)
        self._first_bad.copy_(torch.where(first, self._step, self._first_bad))
        self._bad_loss.copy_(torch.where(first, loss, self._bad_loss))
        self._bad_norms.copy_(torch.where(first, norms, self._bad_norms))
        self._optimizer.step(skip=(self._first_bad >= 0).float())
        self.average.update()
        self._total += loss
        self._step += 1

    def _norms(self, parameters: list[nn.Parameter]) -> torch.Tensor:
        """Return the norm (P,) of each gradient, and 0 for a weight without one."""
        given = [parameter.grad for parameter in parameters if parameter.grad is not None]
        found = iter(torch._foreach_norm(given))
        return torch.stack([self._total.new_zeros(()) if p.grad is None else next(found) for p in parameters])

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
