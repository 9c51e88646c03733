"""All settings of a retraining and their defaults.

The YAML files in this folder contain only the settings of one dataset or environment that differ from these defaults. Flows take
these models as parameters, so the Prefect UI shows them as a typed form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from configs.base import Settings, Share
from configs.runpod import TrainingPlaceSettings
from configs.settings.etl import EtlSettings
from configs.settings.landing import LandingSettings
from configs.settings.models import ModelSettings, NCFSettings, PopularitySettings, SS4RecSettings
from configs.settings.monitoring import DriftSettings, MonitoringSettings

__all__ = [
    "DataSettings",
    "DriftSettings",
    "EtlSettings",
    "EvaluationSettings",
    "FloorSettings",
    "LandingSettings",
    "ModelSettings",
    "MonitoringSettings",
    "NCFSettings",
    "PopularitySettings",
    "PromotionSettings",
    "ProtocolId",
    "ReportSettings",
    "RetrainSettings",
    "SS4RecSettings",
    "SearchOrigin",
    "SourceName",
    "StoreSettings",
    "TrackingSettings",
    "TrainingPlaceSettings",
    "ValidationSettings",
    "ValueSettings",
]

ProtocolId = Literal["loo-exact", "loo-recbole", "temporal"]
SourceName = Literal["ml-100k", "ml-1m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest"]


class DataSettings(Settings):
    """Source of the events."""

    source: SourceName = "ml-100k"
    """MovieLens release. ml-100k needs no download: it is read from the files that recbole ships."""
    dataset: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """Name of the dataset that versions are stored under. If empty, the name of the source is used."""
    local_path: Path | None = None
    """A zip, a folder, or a ratings file of that release (or in one of its formats) to read instead of downloading. If empty, the
    release is downloaded."""
    landing: str | None = None
    """Landing zone: a folder or s3://<bucket>/<prefix> for new event files (CSV, CSV.gz, Parquet; also movies and users). If set,
    each file is added once to the existing dataset, if there is one (see `landing`). If empty, the dataset is built from the
    source."""
    mirror_url: str = "https://files.grouplens.org/datasets/movielens"
    """Base URL of `<source>.zip`."""
    checksum: str | None = None
    """Expected digest of the zip, as `md5:<hex>` or `sha256:<hex>`. If empty, the published digest is used if it is known."""
    cache_dir: Path = Path(".recsys/downloads")
    """Folder for downloads. An interrupted download resumes from it, and a second run does not download again."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds without a byte received after which a download is retried."""
    retries: int = Field(default=4, ge=0)
    """Number of times that an interrupted download is resumed before the run fails."""

    @property
    def dataset_name(self) -> str:
        """Name of the dataset: `dataset`, or the source if it is empty."""
        return self.dataset or self.source


class ValidationSettings(Settings):
    """When bad rows are quarantined, and when they fail the run."""

    max_quarantined_share: Share = 0.05
    """Maximum share of rows that may be quarantined. Above it, the run fails and nothing is stored."""
    min_rows: int = Field(default=1000, ge=1)
    """Minimum number of valid interactions in a dataset."""
    min_rating: float = 0.5
    """Lowest valid rating."""
    max_rating: float = 5.0
    """Highest valid rating."""
    earliest: int = 789_652_009
    """Earliest valid event time in UTC seconds. The default is the first MovieLens rating (1995-01-09)."""
    max_future_s: int = Field(default=86_400, ge=0)
    """Maximum number of seconds that an event may be ahead of this machine's clock."""


class EvaluationSettings(Settings):
    """How models are evaluated: full ranking, with the rank of every user's target kept."""

    protocol: ProtocolId = "loo-exact"
    """Evaluation protocol for training, comparison and the gate. Each protocol has its own train part, so a model is never scored
    under another protocol: that would leak test events."""
    k_core: int = Field(default=5, ge=0)
    """Minimum number of events of each user and item. Users and items with fewer events are dropped repeatedly. 0 keeps all."""
    ks: tuple[int, ...] = (5, 10, 20)
    """Cut-offs k of HR, NDCG and MRR. They must include 10."""
    tie_seed: int = 20_250_208
    """Seed for the order of a user's events that share the same second (`loo-exact`, `temporal`)."""
    temporal_valid_share: Share = 0.1
    """Share of events in the valid part of `temporal`: the latest events before the test part."""
    temporal_test_share: Share = 0.1
    """Share of events in the test part of `temporal`: the latest events."""
    request_time: Literal["target", "last"] = "target"
    """Time of an evaluation request. `target`: the time of its target event, as in offline data. `last`: the time of the user's
    last event before the target. The target's time reveals how long the user was away, which is unknown in production."""
    batch_size: int = Field(default=256, ge=1)
    """Number of requests ranked at once. Memory use is batch_size x items, never users x items."""

    @property
    def protocol_id(self) -> str:
        """The protocol and every setting that differs from its definition. Only metrics with the same id are comparable."""
        return ";".join([self.train_id, *(["request_time=last"] if self.request_time == "last" else [])])

    @property
    def train_id(self) -> str:
        """The protocol and the settings that determine the train part.

        A model is never scored under another train part, because that split may hold out events that the model has learnt.
        """
        fields = ["k_core"]
        if self.protocol != "loo-recbole":
            fields.append("tie_seed")
        if self.protocol == "temporal":
            fields += ["temporal_valid_share", "temporal_test_share"]
        defaults = {name: type(self).model_fields[name].default for name in fields}
        departing = [f"{name}={getattr(self, name)}" for name, default in defaults.items() if getattr(self, name) != default]
        return ";".join([self.protocol, *departing])

    @model_validator(mode="after")
    def _can_be_judged(self) -> EvaluationSettings:
        if 10 not in self.ks or min(self.ks) < 1 or len(set(self.ks)) < len(self.ks):
            raise ValueError(f"ks {self.ks} must be distinct, positive, and include 10: model selection and the gate use 10")
        if self.temporal_valid_share + self.temporal_test_share >= 1:
            raise ValueError(
                f"temporal_valid_share ({self.temporal_valid_share}) and temporal_test_share ({self.temporal_test_share}) "
                "leave no events to train on: their sum must be below 1"
            )
        return self


class FloorSettings(Settings):
    """Minimum test metrics under the gate's protocol."""

    hr_at_10: Share = 0.10
    """Minimum HR@10. A challenger below it is held."""
    ndcg_at_10: Share = 0.05
    """Minimum NDCG@10. A challenger below it is held."""


class PromotionSettings(Settings):
    """The rules of the gate."""

    floors: FloorSettings = FloorSettings()
    baselines: tuple[Literal["popularity", "ncf"], ...] = ("popularity", "ncf")
    """Baselines of the same run that a challenger must beat on NDCG@10."""
    approval: Literal["automatic", "manual"] = "automatic"
    """`automatic`: a challenger that passes every rule is promoted. `manual`: a person must also approve it, in the run
    (`approval_wait_s`) or later with `recsys promote`."""
    approval_wait_s: int = Field(default=0, ge=0)
    """Seconds that a run with `manual` approval stays paused in the Prefect UI, with a form to approve or reject. 0 does not
    wait. If nobody answers, the version stays stored and is not promoted."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Significance level of every test."""
    rule: Literal["better", "non-inferior"] = "better"
    """Comparison with the champion. `better`: the challenger's NDCG@10 must be higher with p < alpha. `non-inferior`: it must not
    be lower by the margin."""
    margin: Share = 0.02
    """Relative loss of NDCG@10 that `non-inferior` allows."""
    slice_margin: Share = 0.10
    """Relative loss of NDCG@10 that is tolerated in each slice (Holm-corrected over the slices)."""
    min_slice_requests: int = Field(default=50, ge=2)
    """Minimum number of requests of a slice. A smaller slice is reported but not judged."""
    resamples: int = Field(default=10_000, ge=100)
    """Number of bootstrap resamples."""
    seed: int = 17
    """Seed of the bootstrap and of the choice of sample requests."""
    races: int = Field(default=3, ge=1)
    """Maximum number of attempts to promote a challenger. It is judged again if another version was promoted in the meantime."""
    max_seen_share: Share = 0.01
    """Maximum share of test events that the champion was trained or selected on. Above it, the champion would be scored on events
    that it has already learnt."""
    min_known_targets: Share = 0.99
    """Minimum share of the targets in the catalogue that the challenger can recommend."""
    min_coverage: Share = 0.02
    """Minimum share of the catalogue that appears in any top 10."""
    max_gini: Share = 0.99
    """Maximum Gini index of the recommendation counts in the top 10."""
    max_load_s: float = Field(default=60.0, gt=0)
    """Maximum number of seconds for a clean process to load the version and answer the sample requests."""
    max_request_s: float = Field(default=1.0, gt=0)
    """Maximum number of seconds for one sample request in that process."""
    sample_requests: int = Field(default=32, ge=1)
    """Number of holdout requests that the clean process answers."""


class ReportSettings(Settings):
    """Evidently's page of the recommendations. It is informational and affects no decision."""

    recommendations: bool = True
    """Create `recsys_report.html` (3.8 MB) next to the version. It takes seconds on any dataset, because it shows a sample."""
    requests: int = Field(default=1000, ge=1)
    """Number of test requests on the page, sampled at random."""
    train_events: int = Field(default=1_000_000, ge=1)
    """Maximum number of train events from which the page computes popularity. If there are more, they are sampled at random."""


class ValueSettings(Settings):
    """Assumptions about the value of a rank. None of them is measured here. Replace them with your own figures.

    The defaults are round numbers of a plausible size, so that the table is readable before you have your own.
    """

    positions: int = Field(default=10, ge=1)
    """Number of films that a request shows."""
    click_through: Share = 0.3
    """Probability that a relevant film at rank 1 is clicked."""
    patience: Share = 0.8
    """Probability that a user who has looked at one position also looks at the next. The click-through at rank r is
    click_through x patience ^ (r - 1). It is the persistence of rank-biased precision (Moffat and Zobel, TOIS 2008)."""
    click_through_at: tuple[Share, ...] = ()
    """Measured click-through of a relevant film at rank 1, 2, ... If set, it replaces the three settings above."""
    watch_rate: Share = 0.5
    """Share of clicks that lead to a watch."""
    revenue_per_watch: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """Revenue of one watch, in `currency`."""
    currency: str = "USD"
    """Name of the currency, as shown."""
    requests_per_month: int = Field(default=1_000_000, ge=0)
    """Number of requests that the monthly value is computed for."""

    @property
    def click_through_by_position(self) -> tuple[float, ...]:
        """Click-through of a relevant film at each shown rank, starting with rank 1."""
        return self.click_through_at or tuple(self.click_through * self.patience**place for place in range(self.positions))


class StoreSettings(Settings):
    """The store of datasets, models and promotions."""

    url: str = "file:.recsys/store"
    """Address of the store: `file:<folder>` or `s3://<bucket>/<prefix>`."""
    endpoint_url: str | None = None
    """URL of an S3-compatible server. If empty, AWS is used."""
    region: str | None = None
    """Region of the bucket. If empty, boto3's default region is used."""
    access_key_id: str | None = None
    """Access key id. If empty, boto3's credential chain (environment, profile, instance role) is used."""
    secret_access_key: SecretStr | None = None
    """Secret access key, for runs on this machine only. It cannot be passed to a deployment, because everyone who can see the
    server can read a deployment's parameters."""
    timeout_s: float = Field(default=20.0, gt=0)
    """Seconds without a response after which a request fails."""
    attempts: int = Field(default=4, ge=1)
    """Maximum number of attempts for a request that fails with a transient error."""
    part_mb: int = Field(default=32, ge=5, le=4096)
    """Size in megabytes of one part of an upload to S3. A larger file is sent in parts, so that a broken connection costs one
    part only."""


class SearchOrigin(Settings):
    """The search that selected SS4Rec's settings on the valid part. `recsys search` fills it in."""

    study: str
    """Name of the study."""
    record: str
    """Key of the search's record in the store."""
    dataset: str
    """Dataset version that the trials were trained on, as name/version."""
    trials: int = Field(ge=1)
    """Number of trials that the best one was selected from."""
    best_trial: int = Field(ge=0)
    """Number of the best trial."""
    valid_ndcg_at_10: Share
    """NDCG@10 of the best trial on the valid part."""


class TrackingSettings(Settings):
    """Tracking with Weights & Biases, in addition to the run's own JSON. A tracking failure is logged once and never fails a
    run."""

    mode: Literal["offline", "online", "off"] = "offline"
    """`offline` writes to work_dir/wandb, for `wandb sync`. `online` uploads, with WANDB_API_KEY or wandb's own login. Without
    the package wandb, nothing is tracked."""
    project: str = Field(default="movielens-recsys", min_length=1)
    """W&B project of the runs."""
    entity: str | None = None
    """User or team that owns the project. If empty, wandb's default is used."""
    tags: tuple[str, ...] = ()
    """Tags of each run in W&B."""
    timeout_s: float = Field(default=15.0, gt=0)
    """Seconds that the tracker may take to finish after the end of a run. After that it is stopped, and tracking is off for the
    rest of the process."""


class RetrainSettings(Settings):
    """One scheduled retraining, from events to the gate's verdict."""

    model_name: str = Field(default="movie-ranker", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Name that versions are registered under. Each name has its own champion."""
    seed: int = Field(default=2025, ge=0)
    """Training seed. The same seed, data and settings give the same model on the same kind of machine."""
    data: DataSettings = DataSettings()
    landing: LandingSettings = LandingSettings()
    validation: ValidationSettings = ValidationSettings()
    etl: EtlSettings = EtlSettings()
    drift: DriftSettings = DriftSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    models: ModelSettings = ModelSettings()
    promotion: PromotionSettings = PromotionSettings()
    report: ReportSettings = ReportSettings()
    value: ValueSettings = ValueSettings()
    store: StoreSettings = StoreSettings()
    tracking: TrackingSettings = TrackingSettings()
    training: TrainingPlaceSettings = TrainingPlaceSettings()
    work_dir: Path = Path(".recsys/work")
    """Folder for the checkpoints and models of unfinished runs."""
    searched: SearchOrigin | None = None
    """Origin of models.ss4rec, recorded in a version's lineage. Nothing else depends on it."""

    @model_validator(mode="after")
    def _baselines_are_trained(self) -> RetrainSettings:
        if "ncf" in self.promotion.baselines and self.models.ncf is None:
            raise ValueError("promotion.baselines names ncf, but models.ncf is null: train it, or remove it from the list")
        return self
