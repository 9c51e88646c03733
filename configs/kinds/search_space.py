"""The values that a search may choose for one setting of a model."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from configs.base import Settings

__all__ = ["Parameter"]

Value = bool | int | float | str


class Parameter(Settings):
    """Values that a search may use for one setting of a model: one of `choices`, or a number from `low` to `high`."""

    choices: tuple[Value, ...] | None = Field(default=None, min_length=1)
    """Allowed values. If empty, `low` and `high` are required."""
    low: int | float | None = None
    """Smallest allowed number."""
    high: int | float | None = None
    """Largest allowed number."""
    step: int | float | None = Field(default=None, gt=0)
    """Step between allowed numbers: low, low + step, and so on. If empty, whole numbers have a step of 1 and other numbers
    none."""
    log: bool = False
    """Sample uniformly on a logarithmic scale."""

    @model_validator(mode="after")
    def _is_choices_or_range(self) -> Parameter:
        bounds = (self.low, self.high)
        if (self.choices is None) == (bounds == (None, None)):
            raise ValueError("give either choices, or low and high")
        if self.choices is not None and (self.step is not None or self.log):
            raise ValueError("step and log go with low and high, not with choices")
        if self.choices is None:
            if self.low is None or self.high is None or self.low > self.high:
                raise ValueError(f"low ({self.low}) and high ({self.high}) must both be given, with low not above high")
            if self.log and (self.low <= 0 or self.step is not None):
                raise ValueError(f"a logarithmic scale must start above 0 (low is {self.low}) and cannot have a step")
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        """The choices, or the ends of the range. If both ends are allowed, so is every value between them."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None and self.high is not None
        return (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether a search may choose `value`."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None and self.high is not None
        steps = (value - self.low) / self.step if self.step else 0
        return bool(self.low <= value <= self.high and abs(steps - round(steps)) < 1e-8)
