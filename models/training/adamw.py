"""AdamW (arXiv 1711.05101) and Adam (arXiv 1412.6980) in one fused kernel, on CPU and CUDA.

torch's own classes compute the same results with the same kernels (`fused=True`). However, their base class imports torch's compiler
at the first step. That takes seconds in every training process, which is longer than an epoch takes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from models.training.flat import BETAS, EPSILON, FlatWeights

__all__ = ["AdamW"]


class AdamW:
    """AdamW with all of its state on the parameters' device, including the step counts.

    A CUDA graph can therefore capture a step. Only matrices decay: no biases, scales of norms, or other vectors, and no parameter
    that its layer marks with `_no_weight_decay`, as mamba-ssm marks the rates of a state space.

    With `coupled`, this is Adam: the decay is part of the gradient, and all parameters decay.
    """

    learning_rate: float | torch.Tensor
    """The rate of the next step. A captured step reads it from a scalar tensor on the device."""

    def __init__(
        self, parameters: Iterable[torch.nn.Parameter], learning_rate: float, weight_decay: float = 0.0, *, coupled: bool = False
    ) -> None:
        self._parameters = list(parameters)
        self.learning_rate = learning_rate
        self._update = torch._fused_adam_ if coupled else torch._fused_adamw_
        self._decays = [weight_decay if coupled or _is_matrix(p) else 0.0 for p in self._parameters]
        self._means = [torch.zeros_like(p) for p in self._parameters]
        self._squares = [torch.zeros_like(p) for p in self._parameters]
        self._steps = [torch.zeros((), device=p.device) for p in self._parameters]

    @property
    def weight_decay(self) -> float:
        """The decay of the weights that decay."""
        return max(self._decays, default=0.0)

    @property
    def steps(self) -> torch.Tensor:
        """The number of steps taken, of weights that are one vector."""
        return self._steps[0]

    def flatten(self, *, averaged: bool) -> FlatWeights:
        """Make the weights one vector, with the state as its means and squares. `FlatWeights.take_step` then replaces `step`."""
        flat = FlatWeights(self._parameters, [decay > 0 for decay in self._decays], averaged=averaged)
        means, squares = (dict(flat.places(vector)) for vector in (flat.means, flat.squares))
        for i, parameter in enumerate(self._parameters):
            means[parameter].copy_(self._means[i])
            squares[parameter].copy_(self._squares[i])
        self._means = [means[parameter] for parameter in self._parameters]
        self._squares = [squares[parameter] for parameter in self._parameters]
        self._steps = [self._steps[0]] * len(self._parameters)
        return flat

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, skip: torch.Tensor | None = None) -> None:
        """Update the parameters that have a gradient.

        `skip` is a float scalar on the device. If it is 1, nothing is updated.
        """
        gradients = {i: parameter.grad for i, parameter in enumerate(self._parameters) if parameter.grad is not None}
        if not gradients:
            return
        steps = [self._steps[i] for i in gradients]
        torch._foreach_add_(steps, 1)
        for weight_decay in dict.fromkeys(self._decays[i] for i in gradients):
            rows = [i for i in gradients if self._decays[i] == weight_decay]
            self._update(
                [self._parameters[i] for i in rows],
                [gradients[i] for i in rows],
                [self._means[i] for i in rows],
                [self._squares[i] for i in rows],
                [],
                [self._steps[i] for i in rows],
                lr=self.learning_rate,  # type: ignore[arg-type]  # both overloads
                beta1=BETAS[0],
                beta2=BETAS[1],
                weight_decay=weight_decay,
                eps=EPSILON,
                amsgrad=False,
                maximize=False,
                grad_scale=None,
                found_inf=skip,
            )
        if skip is not None:
            torch._foreach_sub_(steps, [skip] * len(steps))

    def state_dict(self) -> dict[str, Any]:
        """Return the state's own tensors, not copies."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy `state` into the existing tensors, because a captured step reads them at their current addresses."""
        with torch.no_grad():
            for own, given in zip((self._means, self._squares, self._steps), state.values(), strict=True):
                for target, source in zip(own, given, strict=True):
                    target.copy_(source)


def _is_matrix(parameter: torch.nn.Parameter) -> bool:
    return parameter.dim() > 1 and not getattr(parameter, "_no_weight_decay", False)
