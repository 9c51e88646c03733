"""Settings of a comparison: which models with which settings, on what data, and where their runs are done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from configs.base import Settings
from configs.errors import SettingsError
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

__all__ = ["CompareSettings", "EntrySettings"]

NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Kind = Literal["ss4rec", "ncf", "popularity"]


class EntrySettings(Settings):
    """One contender: a kind of model with its settings."""

    name: str = Field(pattern=NAME)
    """Its name in the report."""
    kind: Kind
    """The model."""
    preset: str | None = None
    """Name of a shipped configuration whose settings of that model are taken, for example `paper`; the defaults where empty."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of that model that depart from the preset."""

    @property
    def models(self) -> ModelSettings:
        """The kind's settings: defaults, then preset, then what departs."""
        below = load_settings(RetrainSettings, self.preset).models
        values = getattr(below, self.kind).model_dump() | self.settings
        return ModelSettings.model_validate({self.kind: values})

    @model_validator(mode="after")
    def _can_be_made(self) -> EntrySettings:
        if self.preset is not None and self.preset not in named_configs(RetrainSettings):
            raise ValueError(f"the preset {self.preset} of {self.name} is none of {', '.join(named_configs(RetrainSettings))}")
        try:
            self.models  # noqa: B018 - raises
        except ValidationError as error:
            raise ValueError(
                f"settings of {self.name}: {'; '.join(_fault(fault, self.kind) for fault in error.errors())}"
            ) from error
        except (SettingsError, AttributeError) as error:
            raise ValueError(f"the preset {self.preset} of {self.name} cannot be used: {error}") from error
        return self


class CompareSettings(Settings):
    """Several models, each trained with several seeds, on one dataset version under one protocol."""

    id: str | None = Field(default=None, pattern=NAME)
    """Name of the comparison in the store. Empty, it is made of the data, protocol, entries and code, so the same comparison
    goes on where it ended."""
    entries: tuple[EntrySettings, ...] = (
        EntrySettings(name="popularity", kind="popularity"),
        EntrySettings(name="ncf", kind="ncf"),
        EntrySettings(name="ss4rec", kind="ss4rec"),
    )
    reference: str = "ss4rec"
    """Entry that the report tells each other one's difference from."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(default=(1, 2, 3), min_length=1)
    """Seeds of each entry; popularity draws nothing, so it runs with the first only."""
    dataset: str | None = Field(default=None, pattern=r"^[^/]+/[^/]+$")
    """Dataset version name/version. Empty, the newest of the source, which is made where there is none."""
    data: DataSettings = DataSettings()
    validation: ValidationSettings = ValidationSettings()
    etl: EtlSettings = EtlSettings()
    landing: LandingSettings = LandingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    runner: Literal["threads", "dask", "deployments"] = "threads"
    """`threads`: on this machine; `dask`: on a Dask cluster, a local one where dask_address is empty; `deployments`: each run
    is a run of a deployment on its own work pool."""
    max_parallel: int = Field(default=1, ge=1)
    """Runs at once (with dask_address, as many as its workers take). Runs that share a machine share its cores."""
    threads: int | None = Field(default=None, ge=1)
    """Cores of one run; empty, its share of the machine's cores less one."""
    dask_address: str | None = None
    """Address of a Dask scheduler whose workers have this product and reach the store."""
    deployment: str = "compare-run/compare-run"
    """Deployment that the runner `deployments` runs."""
    hourly_price: float | None = Field(default=None, ge=0)
    """USD for an hour of the machine of a run; with it the report tells cost."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Level of the tests, for all of the matrix together (Holm)."""
    resamples: int = Field(default=10_000, ge=100)
    """Bootstrap resamples."""
    bootstrap_seed: int = Field(default=17, ge=0)
    """Seed of the bootstrap."""
    store: StoreSettings = StoreSettings()
    tracking: TrackingSettings = TrackingSettings()
    work_dir: Path = Path(".recsys/work")
    """Folder of checkpoints of runs that have not ended."""

    def entry(self, name: str) -> EntrySettings:
        """The entry of that name. Raises SettingsError."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise SettingsError(f"entries has no {name}; it has {', '.join(entry.name for entry in self.entries)}.")

    def seeds_of(self, entry: EntrySettings) -> tuple[int, ...]:
        """Seeds that the entry is trained with."""
        return self.seeds[:1] if entry.kind == "popularity" else self.seeds

    @model_validator(mode="after")
    def _can_be_compared(self) -> CompareSettings:
        names = [entry.name for entry in self.entries]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError(f"entries must be two or more with distinct names, found {', '.join(names) or 'none'}")
        if self.reference not in names:
            raise ValueError(f"reference is {self.reference}, which is none of the entries {', '.join(names)}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} must be distinct")
        cells = len(names) * (len(names) - 1)
        if cells / (self.resamples + 1) > self.alpha:
            raise ValueError(
                f"with {self.resamples} resamples no p-value is below {1 / (self.resamples + 1):.2g}, so of {cells} tests none could be "
                f"shown at {self.alpha}: raise resamples above {int(cells / self.alpha)}"
            )
        if self.runner == "deployments" and self.store.secret_access_key is not None:
            raise ValueError(
                "store.secret_access_key cannot be handed to deployment runs: their parameters are readable by everyone who can "
                "see the Prefect server. Leave it out, and give the workers their credentials in their environment"
            )
        return self


def _fault(fault: Any, kind: Kind) -> str:
    key = ".".join(map(str, fault["loc"][1:]))
    if fault["type"] == "extra_forbidden":
        return f"{key} is no setting of {kind}"
    return f"{key}: {fault['msg']}, given {fault['input']!r}"
