"""The steps of an epoch, the average of the weights, and the checks for values that are not finite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from configs.errors import TrainingError
from models.training.adamw import AdamW
from models.training.distributed import Replicas

__all__ = ["EagerEpochs", "Epochs", "Optimizer", "StepRule", "WeightAverage", "describe_nonfinite", "name_first_nonfinite"]


class Optimizer(Protocol):
    """The optimizer interface: `models.training.adamw.AdamW` and torch's own optimizers implement it."""

    def zero_grad(self) -> None: ...
    def step(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


@dataclass(frozen=True)
class StepRule:
    """How a step changes the weights, apart from the optimizer."""

    averaging: float = 0.0
    """Decay per step of the running average of the weights. 0: none."""
    clip_norm: float = 5.0
    """Longest gradient, over all weights. A longer one is shortened to it."""
    rates: Callable[[int], npt.NDArray[np.float64]] | None = None
    """Returns the learning rates (steps,) of an epoch, for `AdamW`. None: the optimizer's own."""


class WeightAverage:
    """Exponential moving average of a network's weights.

    The averaged weights are the ones that are validated and kept. With a decay of 0, the raw weights are used instead. Early in
    training the average forgets faster, so that the initial weights do not linger. All tensors stay on the network's device.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._live = dict(network.named_parameters()) if decay else {}
        self.values = {name: weight.detach().clone() for name, weight in self._live.items()}
        self.steps = torch.zeros((), device=next(network.parameters()).device)

    @torch.no_grad()
    def adopt(self, places: Iterable[tuple[nn.Parameter, torch.Tensor]]) -> None:
        """Keep the averages in tensors of the caller, who updates them and `steps`. `places` has the tensor of each weight."""
        own = dict(places)
        for name, weight in self._live.items():
            own[weight].copy_(self.values[name])
            self.values[name] = own[weight]

    @torch.no_grad()
    def update(self) -> None:
        """Add the current weights to the average, after a step."""
        self.steps += 1
        if not self.values:
            return
        kept = torch.clamp((1 + self.steps) / (10 + self.steps), max=self._decay)
        weight = torch.where(self.steps > 1, 1 - kept, torch.ones_like(kept))
        averages = list(self.values.values())
        change = torch._foreach_sub([value.detach() for value in self._live.values()], averages)
        torch._foreach_mul_(change, weight)
        torch._foreach_add_(averages, change)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the averaged weights into the network, and restore the raw ones on exit."""
        raw = {name: weight.detach().clone() for name, weight in self._live.items()}
        with torch.no_grad():
            for name, value in self.values.items():
                self._live[name].copy_(value)
            try:
                yield
            finally:
                for name, value in raw.items():
                    self._live[name].copy_(value)

    def state(self) -> dict[str, Any]:
        """Return the state to store in a checkpoint."""
        return {"values": self.values, "steps": float(self.steps)}

    @torch.no_grad()
    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state` returned."""
        self.steps.fill_(state["steps"])
        for name, value in state["values"].items():
            self.values[name].copy_(value)


class Epochs(Protocol):
    """Runs the steps of one epoch: in Python (`EagerEpochs`) or as replays of a CUDA graph."""

    average: WeightAverage

    def __call__(self, epoch: int) -> float:
        """Train one epoch and return the mean loss.

        Raises:
            TrainingError: if a loss or gradient is not finite.
        """
        ...


class EagerEpochs:
    """Runs an epoch step by step, in Python.

    `batches(epoch)` yields the arguments of `loss_of`. A non-finite step stops training before it changes a weight.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        batches: Callable[[int], Iterable[Any]],
        loss_of: Callable[[Any], torch.Tensor],
        rule: StepRule = StepRule(),
        *,
        replicas: Replicas = Replicas(),  # noqa: B008
    ) -> None:
        self._network, self._optimizer = network, optimizer
        self._batches, self._loss_of = batches, loss_of
        self._rule, self._replicas = rule, replicas
        if rule.rates is not None and not isinstance(optimizer, AdamW):
            raise TypeError("Only the optimizer AdamW of models.training takes a learning rate for each step.")
        self.average = WeightAverage(network, rule.averaging)

    def __call__(self, epoch: int) -> float:
        network, total, steps = self._network, 0.0, 0
        network.train()
        rates = None if self._rule.rates is None else self._rule.rates(epoch)
        for step, batch in enumerate(self._batches(epoch), start=1):
            if rates is not None and isinstance(self._optimizer, AdamW):
                self._optimizer.learning_rate = float(rates[step - 1])
            loss = self._loss_of(batch)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            loss = loss.detach()
            self._replicas.sum_(loss)
            self._replicas.sum_gradients(network.parameters())
            norm = nn.utils.clip_grad_norm_(network.parameters(), self._rule.clip_norm)
            if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
                given = ((name, p.grad) for name, p in network.named_parameters() if p.grad is not None)
                bad = [name for name, gradient in given if not bool(torch.isfinite(gradient).all())]
                raise TrainingError(describe_nonfinite(network, float(loss), epoch, step, bad))
            self._optimizer.step()
            self.average.update()
            total += float(loss)
            steps += 1
        if steps == 0:
            raise TrainingError("There is nothing to train on: no user has two events in the train part.")
        return total / steps


def describe_nonfinite(network: nn.Module, loss: float, epoch: int, step: int, gradients: list[str]) -> str:
    """Return the error message for a step with a non-finite value. `gradients` names the weights whose gradients are not finite."""
    weights = [n for n, p in network.named_parameters() if not bool(torch.isfinite(p).all())]
    return (
        f"Training diverged in epoch {epoch}, step {step}: loss {loss}; non-finite weights: {weights[:3] or 'none'}; "
        f"non-finite gradients: {gradients[:3] or 'none'}. The weights of this step were not kept. Lower the learning rate, "
        "or run again with the setting debug: true to find the first module whose output is not finite."
    )


def name_first_nonfinite(network: nn.Module) -> list[torch.utils.hooks.RemovableHandle]:
    """Make the forward pass raise TrainingError at the first module with a non-finite output.

    Returns:
        The handles that remove the hooks.
    """

    def check(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            for tensor in output if isinstance(output, tuple) else (output,):
                if isinstance(tensor, torch.Tensor) and not bool(torch.isfinite(tensor).all()):
                    raise TrainingError(f"The output of module {name} ({type(module).__name__}) is not finite.")

        return hook

    return [module.register_forward_hook(check(name)) for name, module in network.named_modules() if name]
