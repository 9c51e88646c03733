"""Epochs as replays of one CUDA graph.

A whole training step needs no kernel launch from Python and no copy from the host.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from configs.errors import TrainingError
from models.training.adamw import AdamW
from models.training.distributed import Replicas
from models.training.epochs import WeightAverage, describe_nonfinite

__all__ = ["GraphedEpochs"]

WARM_UP_STEPS = 2


class GraphedEpochs:
    """Runs an epoch as replays of one captured training step.

    `begin(epoch)` prepares the epoch's steps on the device and returns their number. `loss_of(step)` returns the loss of step
    `step`, an int64 scalar on the device. Its operations must have fixed shapes.

    A non-finite step changes no weight, because the optimizer skips it. It is reported at the end of the epoch, which is the
    only time that the host waits.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: AdamW,
        begin: Callable[[int], int],
        loss_of: Callable[[torch.Tensor], torch.Tensor],
        *,
        averaging: float = 0.0,
        clip_norm: float = 5.0,
        replicas: Replicas = Replicas(),  # noqa: B008
    ) -> None:
        device = next(network.parameters()).device
        self._network, self._optimizer = network, optimizer
        self._begin, self._loss_of = begin, loss_of
        self._clip_norm, self._replicas = clip_norm, replicas
        self.average = WeightAverage(network, averaging)
        self._step = torch.zeros((), dtype=torch.int64, device=device)
        self._total = torch.zeros((), device=device)
        self._first_bad = torch.zeros((), dtype=torch.int64, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, epoch: int) -> float:
        self._network.train()
        steps = self._begin(epoch)
        if steps == 0:
            raise TrainingError("There is nothing to train on: no user has two events in the train part.")
        if self._graph is None:
            self._graph = self._capture()
        self._step.zero_()
        self._total.zero_()
        self._first_bad.fill_(-1)
        for _ in range(steps):
            self._graph.replay()
        bad, loss = int(self._first_bad), float(self._total) / steps
        if bad >= 0:
            raise TrainingError(describe_nonfinite(self._network, loss, epoch, bad + 1))
        return loss

    def _run_step(self) -> None:
        parameters = list(self._network.parameters())
        loss = self._loss_of(self._step)
        loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        self._replicas.sum_(loss)
        self._replicas.sum_gradients(parameters)
        norm = nn.utils.clip_grad_norm_(parameters, self._clip_norm, foreach=True)
        bad = ~(torch.isfinite(loss) & torch.isfinite(norm))
        self._optimizer.step(skip=bad.float())
        self.average.update()
        self._total += loss
        self._first_bad.copy_(torch.where(bad & (self._first_bad < 0), self._step, self._first_bad))
        self._step += 1

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
