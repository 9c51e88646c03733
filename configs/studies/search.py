"""Settings of a hyperparameter search for SS4Rec, and its default search space."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator

from configs.base import Seed, Settings
from configs.settings import RetrainSettings, SearchOrigin, SS4RecSettings

__all__ = ["DEFAULT_SPACE", "Parameter", "Pruning", "SearchOptions", "SearchSettings"]

Value = bool | int | float | str


class Parameter(Settings):
    """Values that a search may use for one setting of SS4Rec: one of `choices`, or a number from `low` to `high`."""

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
"""Default search space. It contains the defaults of SS4RecSettings: a search tries them first, so its best is at least as
good."""


def _default_space() -> dict[str, Parameter | None]:
    return {**DEFAULT_SPACE}


class Pruning(Settings):
    """A trial is pruned at an epoch if its best valid NDCG@10 so far is below the median of the other trials at that epoch."""

    warmup_epochs: int = Field(default=8, ge=0)
    """Number of epochs before a trial can be pruned. Wide networks and averaged weights start slowly."""
    interval: int = Field(default=4, ge=1)
    """Number of epochs between two pruning checks."""
    startup_trials: int = Field(default=5, ge=0)
    """Number of trials that must be complete before any trial is pruned."""


class SearchOptions(Settings):
    """How the space is searched, and what happens with the best settings."""

    study: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    """Name of the study. A run with the same name resumes the study, or joins it while it is running. If empty, the study is
    named after the model and the dataset version, so newer data start a new study."""
    storage: SecretStr | None = None
    """URL of the study's database: SQLite, or PostgreSQL (`postgresql://user@host/name`, extra `postgres`). If empty, a SQLite
    file in work_dir is used. With PostgreSQL, several machines can work on one study; its password may also be in ~/.pgpass."""
    trials: int = Field(default=40, ge=1)
    """Number of trials of the study, over all runs and workers."""
    seconds: float | None = Field(default=None, gt=0)
    """No trial starts later than this number of seconds after the start of the run. If empty, there is no time limit."""
    workers: int = Field(default=1, ge=1)
    """Number of processes of this run that train trials in parallel. With one worker, the trials are reproducible."""
    seed: Seed = 90
    """Seed of the sampler and of every trial's training. Use neither a seed that results are reported for nor the `seed` that the
    chosen settings are trained with, so that the search does not select settings for one seed's luck."""
    pruning: Pruning | None = Pruning()
    """Pruning of weak trials. If null, every trial runs to its end."""
    space: dict[str, Parameter | None] = Field(default_factory=_default_space)
    """Search space, by the name of the SS4Rec setting. Entries replace or extend the default space. Null removes a setting from
    the search."""
    enter_gate: bool = True
    """Train a model with the best settings and send it through the gate like any challenger. If off, the best settings are only
    reported."""
    gate_wait_s: float = Field(default=3600.0, ge=0)
    """Maximum number of seconds to wait for another run of the model before the best settings enter the gate."""
    lost_after_s: int = Field(default=60, ge=1)
    """Seconds without a heartbeat after which a trial's worker counts as lost and its trial is restarted."""
    retries: int = Field(default=1, ge=0)
    """Number of times that the trial of a lost worker is restarted, with the same parameters."""

    @field_validator("space", mode="before")
    @classmethod
    def _over_the_default(cls, given: Any) -> Any:
        return {**DEFAULT_SPACE, **given} if isinstance(given, Mapping) else given

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The settings that are searched, by name."""
        return {name: parameter for name, parameter in self.space.items() if parameter is not None}


class SearchSettings(RetrainSettings):
    """A retraining with searched SS4Rec settings. All other settings apply to training and judging the best model.

    `models.ss4rec` provides the settings that are not in the search space, such as max_epochs and patience of each trial.
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
                    raise ValueError(f"search.space allows {one} {a!r} together with {two} {b!r}: {said}")
        return self

    def with_parameters(self, parameters: Mapping[str, Any], origin: SearchOrigin) -> RetrainSettings:
        """Return the settings of a retraining with these SS4Rec settings and their origin.

        The result contains nothing about the search's database.
        """
        values = self.model_dump(exclude={"search"})
        values["models"]["ss4rec"] |= dict(parameters)
        return RetrainSettings.model_validate({**values, "searched": origin.model_dump()})


def _refusal(values: dict[str, Any]) -> str | None:
    """Return the reason why SS4Rec does not accept these settings, or None if it does."""
    try:
        SS4RecSettings.model_validate(values)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return None


def _refuse_unknown(name: str) -> None:
    from difflib import get_close_matches

    if name == "replicas":
        raise ValueError(
            "search.space.replicas cannot be searched: replicas sets where a model is trained, not what it learns, and a trial "
            "always has one. To train the best model with several, set models.ss4rec.replicas"
        )
    known = list(SS4RecSettings.model_fields)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; the settings are {', '.join(known)}"
        raise ValueError(f"search.space.{name} is not a setting of SS4Rec{hint}")


def _refuse_range_of_no_number(name: str, parameter: Parameter) -> None:
    kind = SS4RecSettings.model_fields[name].annotation
    if parameter.choices is None and kind not in (int, float):
        raise ValueError(f"search.space.{name} has low and high, but {name} is not a number: give choices instead")
    if kind is int and parameter.step is not None and parameter.step != int(parameter.step):
        raise ValueError(f"search.space.{name} has a step of {parameter.step}, but {name} is a whole number")
