"""Settings of a comparison: its models and their settings, its data, and where its runs are executed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from configs.addresses import PublicAddress
from configs.base import Seed, Settings
from configs.errors import SettingsError
from configs.kinds import register, spec_of
from configs.loading import load_settings, named_configs
from configs.settings import (
    DataSettings,
    EtlSettings,
    EvaluationSettings,
    LandingSettings,
    ModelSettings,
    RetrainSettings,
    StoreSettings,
    TrackingSettings,
    ValidationSettings,
)
from configs.significance import HourlyPrice, StatisticsSettings, least_resamples

__all__ = ["CompareSettings", "EntrySettings"]

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"


class EntrySettings(Settings):
    """One entry of a comparison: a kind of model and its settings."""

    name: str = Field(pattern=NAME)
    """Name of the entry in the report."""
    kind: str
    """Kind of model: one built in, or one of a plugin."""
    plugin: str | None = None
    """Spec of the model, as in `models.plugins`, if its package has no entry point."""
    preset: str | None = None
    """Name of a shipped configuration, for example `paper`, from which the model's settings are taken. If empty, the defaults
    apply."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the model that override the preset."""

    @property
    def _plugins(self) -> tuple[str, ...]:
        return (self.plugin,) if self.plugin else ()

    @property
    def models(self) -> ModelSettings:
        """The settings of the model: the defaults, overridden by the preset, overridden by `settings`."""
        register(self._plugins)
        below = load_settings(RetrainSettings, self.preset).models
        values = below.of(self.kind).model_dump() | self.settings
        return ModelSettings.model_validate({"plugins": [*below.plugins, *self._plugins], self.kind: values})

    @model_validator(mode="after")
    def _can_be_made(self) -> EntrySettings:
        if self.preset is not None and self.preset not in named_configs(RetrainSettings):
            raise ValueError(f"the preset {self.preset} of {self.name} is not one of {', '.join(named_configs(RetrainSettings))}")
        try:
            register(self._plugins)
            spec_of(self.kind)
        except SettingsError as error:
            raise ValueError(f"the entry {self.name} cannot be used: {str(error).removesuffix('.')}") from error
        try:
            self.models  # noqa: B018 - raises
        except ValidationError as error:
            raise ValueError(
                f"settings of {self.name}: {'; '.join(_fault(fault, self.kind) for fault in error.errors())}"
            ) from error
        except (SettingsError, AttributeError) as error:
            raise ValueError(f"the preset {self.preset} of {self.name} cannot be used: {error}") from error
        return self


class CompareSettings(StatisticsSettings):
    """Several models, each trained with several seeds, on one dataset version under one protocol."""

    id: str | None = Field(default=None, pattern=NAME)
    """Name of the comparison in the store. If empty, the name is derived from the data, protocol, entries and code, so running
    the same comparison again resumes it."""
    entries: tuple[EntrySettings, ...] = (
        EntrySettings(name="popularity", kind="popularity"),
        EntrySettings(name="ncf", kind="ncf"),
        EntrySettings(name="ss4rec", kind="ss4rec"),
    )
    """Models to compare. At least two, with distinct names."""
    reference: str = "ss4rec"
    """Name of the entry that every other entry is compared with in the report."""
    seeds: tuple[Seed, ...] = Field(default=(1, 2, 3), min_length=1)
    """Training seeds of each entry. A model that does not depend on the seed, such as popularity, runs with the first one only."""
    dataset: str | None = Field(default=None, pattern=r"^([^/]+/)?[^/]+$")
    """Dataset version to use, as name/version or its beginning, or `latest` or `previous`. If empty, the newest version of the source is used; it is created if there is
    none."""
    data: DataSettings = DataSettings()
    validation: ValidationSettings = ValidationSettings()
    etl: EtlSettings = EtlSettings()
    landing: LandingSettings = LandingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    runner: Literal["threads", "dask", "deployments"] = "threads"
    """Where the runs are executed. `threads`: on this machine. `dask`: on a Dask cluster, or on a local one if dask_address is
    empty. `deployments`: each run is a run of a deployment on its own work pool."""
    max_parallel: int = Field(default=1, ge=1)
    """Maximum number of concurrent runs. With dask_address, the cluster's workers set the limit instead. Runs on the same machine
    share its cores."""
    threads: int | None = Field(default=None, ge=1)
    """CPU cores of one run. If empty, a run gets its share of the machine's cores minus one."""
    dask_address: PublicAddress | None = None
    """Address of a Dask scheduler. Its workers need this package installed and access to the store."""
    deployment: str = "compare-run/compare-run"
    """Deployment that the runner `deployments` starts for each run."""
    hourly_price: HourlyPrice | None = None
    """Price of one machine hour in USD. If it is set, the report includes costs."""
    store: StoreSettings = StoreSettings()
    tracking: TrackingSettings = TrackingSettings()
    work_dir: Path = Path(".recsys/work")
    """Folder for the checkpoints of unfinished runs."""

    def entry(self, name: str) -> EntrySettings:
        """Return the entry with that name.

        Raises:
            SettingsError: There is no such entry.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise SettingsError(f"There is no entry {name}. The entries are {', '.join(entry.name for entry in self.entries)}.")

    def seeds_of(self, entry: EntrySettings) -> tuple[int, ...]:
        """Return the seeds that the entry is trained with."""
        return self.seeds if spec_of(entry.kind).seeded else self.seeds[:1]

    @model_validator(mode="after")
    def _can_be_compared(self) -> CompareSettings:
        names = [entry.name for entry in self.entries]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"entries must be two or more with distinct names, found {', '.join(names) or 'none'}")
        if self.reference not in names:
            raise ValueError(f"reference is {self.reference}, which is not one of the entries {', '.join(names)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} must be distinct")
        cells = len(names) * (len(names) - 1)
        least = least_resamples(self.alpha, cells) if cells else 0
        if self.resamples < least:
            raise ValueError(
                f"with {self.resamples} resamples no p-value is below {1 / (self.resamples + 1):.2g}, so none of {cells} tests "
                f"could be significant at {self.alpha}: raise resamples to at least {least}"
            )
        if self.runner == "deployments" and self.store.secret_access_key is not None:
            raise ValueError(
                "store.secret_access_key cannot be passed to deployment runs: everyone who can see the Prefect server can read "
                "their parameters. Leave it out, and provide the credentials in the workers' environment"
            )
        return self


def _fault(fault: Any, kind: str) -> str:
    key = ".".join(map(str, fault["loc"][1:]))
    if fault["type"] == "extra_forbidden":
        return f"{key} is not a setting of {kind}"
    return f"{key}: {fault['msg']}, given {fault['input']!r}"
