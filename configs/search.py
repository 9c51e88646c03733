"""Settings of a search for SS4Rec's settings, and the space that it searches by default."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from configs.base import Settings
from configs.settings import RetrainSettings, SearchOrigin, SS4RecSettings

__all__ = ["DEFAULT_SPACE", "Parameter", "Pruning", "SearchOptions", "SearchSettings"]

Value = bool | int | float | str


class Parameter(Settings):
    """What a search may set one setting of SS4Rec to: one of `choices`, or a number from `low` to `high`."""

    choices: tuple[Value, ...] | None = Field(default=None, min_length=1)
    """What it may be, one by one."""
    low: int | float | None = None
    """Least number."""
    high: int | float | None = None
    """Greatest number."""
    step: int | float | None = Field(default=None, gt=0)
    """Numbers are low, low + step, ...; whole numbers have a step of 1 by default."""
    log: bool = False
    """Draw evenly on a logarithmic scale."""

    @model_validator(mode="after")
    def _is_choices_or_range(self) -> Parameter:
        bounds = (self.low, self.high)
        if (self.choices is None) == (bounds == (None, None)):
            raise ValueError("give either choices, or low and high")
        if self.choices is not None and (self.step is not None or self.log):
            raise ValueError("step and log go with low and high, not with choices")
        if self.choices is None:
            if self.low is None or self.high is None or self.low > self.high:
                raise ValueError(f"low ({self.low}) and high ({self.high}) must both be given, low not above high")
            if self.log and (self.low <= 0 or self.step is not None):
                raise ValueError(f"a logarithmic scale begins above 0 (low is {self.low}) and has no step")
        return self

    @property
    def ends(self) -> tuple[Value, ...]:
        """The choices, or the ends of the range: where these are allowed, all between is."""
        if self.choices is not None:
            return self.choices
        assert self.low is not None and self.high is not None
        return (self.low, self.high)

    def holds(self, value: Any) -> bool:
        """Whether a search may come to `value`."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None and self.high is not None
        steps = (value - self.low) / self.step if self.step else 0
        return bool(self.low <= value <= self.high and abs(steps - round(steps)) < 1e-8)


DEFAULT_SPACE: dict[str, Parameter] = {
    "width": Parameter(choices=(64, 128, 192, 256)),
    "blocks": Parameter(low=1, high=3),
    "time_state": Parameter(choices=(16, 32, 64)),
    "relation_state": Parameter(choices=(8, 16, 32)),
    "dropout": Parameter(low=0.1, high=0.6, step=0.05),
    "embedding_dropout": Parameter(low=0.0, high=0.5, step=0.05),
    "two_norms": Parameter(choices=(True, False)),
    "interval": Parameter(choices=("seconds", "log1p", "learned")),
    "loss": Parameter(choices=("cross_entropy", "sampled_softmax", "gbce")),
    "label_smoothing": Parameter(low=0.0, high=0.2, step=0.05),
    "weight_averaging": Parameter(choices=(0.0, 0.99, 0.995, 0.998)),
    "learning_rate": Parameter(low=1e-3, high=1e-2, log=True),
    "batch_tokens": Parameter(choices=(1024, 2048, 4096, 8192, 16384, 32768)),
}
"""Holds the defaults of SS4RecSettings, so that a search begins with them and what it finds is at least as good."""


def _default_space() -> dict[str, Parameter | None]:
    return {**DEFAULT_SPACE}


class Pruning(Settings):
    """When a trial is cut off: at an epoch where its best valid NDCG@10 so far is below the median of the others' at that epoch."""

    warmup_epochs: int = Field(default=8, ge=0)
    """Epochs that every trial may run: wide networks and averaged weights begin slowly."""
    interval: int = Field(default=4, ge=1)
    """Epochs from one look to the next."""
    startup_trials: int = Field(default=5, ge=0)
    """Trials that must have run to their end before one is cut off."""


class SearchOptions(Settings):
    """How the space is searched, and what is done with the best."""

    study: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Name of the study. A run of the same name goes on with it, or joins it while it runs. By default it is named after the
    model and the dataset version, so that newer data begin a new one."""
    storage: SecretStr | None = None
    """URL of the study's database, SQLite or PostgreSQL (`postgresql://user@host/name`, with the extra `postgres`); by default
    a SQLite file in work_dir. Several machines can work on one study in PostgreSQL; its password may also lie in ~/.pgpass."""
    trials: int = Field(default=40, ge=1)
    """Trials of the study, over all runs and workers."""
    seconds: float | None = Field(default=None, gt=0)
    """No trial begins later than this many seconds after the run began."""
    workers: int = Field(default=1, ge=1)
    """Processes of this run that train trials side by side. One worker gives the same trials each time."""
    seed: int = Field(default=90, ge=0)
    """Of what is sampled, and of every trial's training. Best not a seed that results are reported for, nor the `seed` that the
    chosen settings are trained with, so that a search does not choose one seed's luck."""
    pruning: Pruning | None = Pruning()
    """Null: every trial runs to its end."""
    space: dict[str, Parameter | None] = Field(default_factory=_default_space)
    """Settings of SS4Rec by name. What is given replaces or adds to the default space; null keeps a setting as it is."""
    enter_gate: bool = True
    """The best settings are trained anew and the model is judged by the gate like any challenger; off, they are only reported."""
    gate_wait_s: float = Field(default=3600.0, ge=0)
    """Seconds to wait for another run of the model to end before the best enters the gate."""
    lost_after_s: int = Field(default=60, ge=1)
    """Seconds without a sign of life after which a trial's worker counts as lost and its trial is begun again."""
    retries: int = Field(default=1, ge=0)
    """Times that a trial of a lost worker is begun again, with the same parameters."""

    @field_validator("space", mode="before")
    @classmethod
    def _over_the_default(cls, given: Any) -> Any:
        return {**DEFAULT_SPACE, **given} if isinstance(given, Mapping) else given

    @property
    def parameters(self) -> dict[str, Parameter]:
        """What is searched."""
        return {name: parameter for name, parameter in self.space.items() if parameter is not None}


class SearchSettings(RetrainSettings):
    """A retraining whose SS4Rec settings are searched for: everything else is as the best one will be trained and judged.

    `models.ss4rec` holds what the space leaves out, such as max_epochs and patience of each trial.
    """

    search: SearchOptions = SearchOptions()

    @model_validator(mode="after")
    def _space_is_of_ss4rec(self) -> SearchSettings:
        base, parameters = self.models.ss4rec.model_dump(), self.search.parameters
        if not parameters:
            raise ValueError("search.space leaves nothing to search: every parameter is null")
        for name, parameter in parameters.items():
            _refuse_unknown(name)
            _refuse_range_of_no_number(name, parameter)
            for value in parameter.ends:
                if said := _refusal(base | {name: value}):
                    raise ValueError(f"search.space.{name} cannot be {value!r}: {said}")
        for (one, its), (two, others) in combinations(parameters.items(), 2):
            for a, b in product(its.ends, others.ends):
                if said := _refusal(base | {one: a, two: b}):
                    raise ValueError(f"search.space lets {one} be {a!r} with {two} {b!r}: {said}")
        return self

    def with_parameters(self, parameters: Mapping[str, Any], origin: SearchOrigin) -> RetrainSettings:
        """The retraining with these settings of SS4Rec, and where they come from. Holds nothing of the search's database."""
        values = self.model_dump(exclude={"search"})
        values["models"]["ss4rec"] |= dict(parameters)
        return RetrainSettings.model_validate({**values, "searched": origin.model_dump()})


def _refusal(values: dict[str, Any]) -> str | None:
    """Why SS4Rec cannot have these settings, or None."""
    try:
        SS4RecSettings.model_validate(values)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return None


def _refuse_unknown(name: str) -> None:
    from difflib import get_close_matches

    if name == "replicas":
        raise ValueError(
            "search.space.replicas is not searched: it says where a model is trained and not what it learns, and a trial has one. "
            "models.ss4rec.replicas is what the best is trained with"
        )
    known = list(SS4RecSettings.model_fields)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
        raise ValueError(f"search.space.{name} is no setting of SS4Rec{hint}")


def _refuse_range_of_no_number(name: str, parameter: Parameter) -> None:
    kind = SS4RecSettings.model_fields[name].annotation
    if parameter.choices is None and kind not in (int, float):
        raise ValueError(f"search.space.{name} has low and high, but {name} is no number: give its choices")
    if kind is int and parameter.step is not None and parameter.step != int(parameter.step):
        raise ValueError(f"search.space.{name} has a step of {parameter.step}, but {name} is a whole number")
