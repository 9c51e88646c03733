"""Settings of a hyperparameter search. The default search space belongs to the spec of a kind of model."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations, product
from typing import Any

from pydantic import Field, SecretStr, ValidationError, model_validator

from configs.base import Seed, Settings
from configs.kinds import ModelSpec, Parameter, spec_of
from configs.settings import RetrainSettings, SearchOrigin

__all__ = ["Pruning", "SearchOptions", "SearchSettings"]


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
    space: dict[str, Parameter | None] = Field(default_factory=dict)
    """Search space, by the name of the challenger's setting. Entries replace or extend the space of its kind. Null removes a setting
    from the search."""
    enter_gate: bool = True
    """Train a model with the best settings and send it through the gate like any challenger. If off, the best settings are only
    reported."""
    gate_wait_s: float = Field(default=3600.0, ge=0)
    """Maximum number of seconds to wait for another run of the model before the best settings enter the gate."""
    lost_after_s: int = Field(default=60, ge=1)
    """Seconds without a heartbeat after which a trial's worker counts as lost and its trial is restarted."""
    retries: int = Field(default=1, ge=0)
    """Number of times that the trial of a lost worker is restarted, with the same parameters."""


class SearchSettings(RetrainSettings):
    """A retraining with searched settings of the challenger. All other settings apply to training and judging the best model.

    The challenger's section of `models` provides the settings that are not in the search space, such as max_epochs and patience of
    each trial.
    """

    search: SearchOptions = SearchOptions()

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The settings that are searched, by name: the space of the challenger's kind, changed by `search.space`."""
        space = {**spec_of(self.challenger).space, **self.search.space}
        return {name: parameter for name, parameter in space.items() if parameter is not None}

    @model_validator(mode="after")
    def _space_is_of_the_challenger(self) -> SearchSettings:
        spec, parameters = spec_of(self.challenger), self.parameters
        base = self.models.of(spec.kind).model_dump()
        if not parameters and not self.search.space:
            raise ValueError(f"{spec.name} has no search space of its own: give one in search.space")
        if not parameters:
            raise ValueError("search.space leaves nothing to search: every parameter is null")
        for name, parameter in parameters.items():
            _refuse_unknown(name, spec)
            _refuse_range_of_no_number(name, parameter, spec)
            for value in parameter.ends:
                if said := _refusal(spec, base | {name: value}):
                    raise ValueError(f"search.space.{name} cannot be {value!r}: {said}")
        for (one, its), (two, others) in combinations(parameters.items(), 2):
            for a, b in product(its.ends, others.ends):
                if said := _refusal(spec, base | {one: a, two: b}):
                    raise ValueError(f"search.space allows {one} {a!r} together with {two} {b!r}: {said}")
        return self

    def with_parameters(self, parameters: Mapping[str, Any], origin: SearchOrigin) -> RetrainSettings:
        """Return the settings of a retraining with these settings of the challenger and their origin.

        The result contains nothing about the search's database.
        """
        values = self.model_dump(exclude={"search"})
        values["models"][self.challenger] |= dict(parameters)
        return RetrainSettings.model_validate({**values, "searched": origin.model_dump()})


def _refusal(spec: ModelSpec, values: dict[str, Any]) -> str | None:
    """Return the reason why a kind does not accept these settings, or None if it does."""
    try:
        spec.settings.model_validate(values)
    except ValidationError as error:
        return error.errors()[0]["msg"].removeprefix("Value error, ")
    return None


def _refuse_unknown(name: str, spec: ModelSpec) -> None:
    from difflib import get_close_matches

    if name in spec.not_searched:
        raise ValueError(f"search.space.{name} cannot be searched: {spec.not_searched[name]}")
    known = list(spec.settings.model_fields)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f"; the settings are {', '.join(known)}"
        raise ValueError(f"search.space.{name} is not a setting of {spec.name}{hint}")


def _refuse_range_of_no_number(name: str, parameter: Parameter, spec: ModelSpec) -> None:
    kind = spec.settings.model_fields[name].annotation
    if parameter.choices is None and kind not in (int, float):
        raise ValueError(f"search.space.{name} has low and high, but {name} is not a number: give choices instead")
    if kind is int and parameter.step is not None and parameter.step != int(parameter.step):
        raise ValueError(f"search.space.{name} has a step of {parameter.step}, but {name} is a whole number")
