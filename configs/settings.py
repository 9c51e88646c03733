"""Every setting of the product, with its one default.

The YAML files beside this module hold only what departs from these defaults for one data set or one environment.
A flow takes these models as parameters, so the Prefect UI draws them as a typed form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from configs.base import Settings, Share
from configs.etl import EtlSettings
from configs.landing import LandingSettings
from configs.models import ModelSettings, NCFSettings, PopularitySettings, SS4RecSettings
from configs.monitoring import DriftSettings, MonitoringSettings
from configs.runpod import TrainingPlaceSettings

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
    """Where events come from."""

    source: SourceName = "ml-100k"
    """MovieLens release. ml-100k needs no download: it is read from the files that recbole ships."""
    dataset: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")
    """Name of the dataset that versions are made of; that of the source where empty."""
    local_path: Path | None = None
    """A zip, a folder, or a ratings file of that release (or in one of its formats) to read instead of downloading."""
    landing: str | None = None
    """Folder or s3://<bucket>/<prefix> into which new event files arrive (CSV, CSV.gz, Parquet; movies and users too). Set, the
    dataset is what was made of the source before, if anything, with each file added once (`landing`)."""
    mirror_url: str = "https://files.grouplens.org/datasets/movielens"
    """Address under which `<source>.zip` lies."""
    checksum: str | None = None
    """Expected digest of the zip as `md5:<hex>` or `sha256:<hex>`; the published one is used where it is known."""
    cache_dir: Path = Path(".recsys/downloads")
    """Folder that keeps downloads, so that a broken one resumes and a second run reads nothing from the network."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds without a byte after which a download is tried again."""
    retries: int = Field(default=4, ge=0)
    """Times a broken download is resumed before the run fails."""

    @property
    def dataset_name(self) -> str:
        return self.dataset or self.source


class ValidationSettings(Settings):
    """When bad rows are set aside, and when they stop the run."""

    max_quarantined_share: Share = 0.05
    """Share of rows that may be quarantined; above it the run fails and nothing is stored."""
    min_rows: int = Field(default=1000, ge=1)
    """Fewest valid interactions that make a dataset."""
    min_rating: float = 0.5
    """Least rating that a row may have."""
    max_rating: float = 5.0
    """Greatest rating that a row may have."""
    earliest: int = 789_652_009
    """UTC seconds of the first MovieLens rating (1995-01-09); anything before is no event time."""
    max_future_s: int = Field(default=86_400, ge=0)
    """Seconds that an event may lie ahead of this machine's clock."""


class EvaluationSettings(Settings):
    """How models are compared: full ranking, per-user ranks kept."""

    protocol: ProtocolId = "loo-exact"
    """Protocol that models are trained, compared and gated under. Another protocol has another train part, so a model
    of one is never scored under another: that would leak test events."""
    k_core: int = Field(default=5, ge=0)
    """Users and items with fewer events are dropped, repeatedly; 0 keeps all."""
    ks: tuple[int, ...] = (5, 10, 20)
    """Cut-offs of HR, NDCG and MRR."""
    tie_seed: int = 20_250_208
    """Seed that orders a user's events of one second (`loo-exact`, `temporal`)."""
    temporal_valid_share: Share = 0.1
    """Share of events, the latest but the test part, that `temporal` validates on."""
    temporal_test_share: Share = 0.1
    """Share of events, the latest, that `temporal` tests on."""
    request_time: Literal["target", "last"] = "target"
    """When a request is asked: at its target's time, as offline data has it, or at the user's last event before it. The
    target's time tells a model how long the user stayed away, which nobody knows beforehand."""
    batch_size: int = Field(default=256, ge=1)
    """Requests ranked at once: memory is batch_size x items, never users x items."""

    @property
    def protocol_id(self) -> str:
        """The protocol and every setting that departs from its definition: only numbers of one id compare."""
        return ";".join([self.train_id, *(["request_time=last"] if self.request_time == "last" else [])])

    @property
    def train_id(self) -> str:
        """What of it shapes the train part: a model of one train part is never scored under another, which may hold out
        what it has learnt."""
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
            raise ValueError(f"ks {self.ks} must be distinct, positive, and include 10: models are chosen and gated at 10")
        if self.temporal_valid_share + self.temporal_test_share >= 1:
            raise ValueError(
                f"temporal_valid_share ({self.temporal_valid_share}) and temporal_test_share ({self.temporal_test_share}) "
                "leave no events to train on: their sum must be below 1"
            )
        return self


class FloorSettings(Settings):
    """Least test metrics under the gate's protocol."""

    hr_at_10: Share = 0.10
    """HR@10 below which a challenger is held."""
    ndcg_at_10: Share = 0.05
    """NDCG@10 below which a challenger is held."""


class PromotionSettings(Settings):
    """The gate's rules."""

    floors: FloorSettings = FloorSettings()
    baselines: tuple[Literal["popularity", "ncf"], ...] = ("popularity", "ncf")
    """Models of the same run that a challenger must beat on NDCG@10."""
    approval: Literal["automatic", "manual"] = "automatic"
    """`manual`: a challenger that passes every rule is promoted when a person says so, in the run (`approval_wait_s`) or later
    by `recsys promote`."""
    approval_wait_s: int = Field(default=0, ge=0)
    """Seconds that a run with `manual` approval stands paused in the Prefect UI, with a form to approve or reject; 0 does not
    wait. Nobody answering leaves the version stored and unpromoted."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Level of every test."""
    rule: Literal["better", "non-inferior"] = "better"
    """`better`: the challenger's NDCG@10 is above the champion's with p < alpha; `non-inferior`: not below by the margin."""
    margin: Share = 0.02
    """Relative loss of NDCG@10 that `non-inferior` allows."""
    slice_margin: Share = 0.10
    """Relative loss of NDCG@10 that any slice may show before it counts (Holm-corrected)."""
    min_slice_requests: int = Field(default=50, ge=2)
    """A smaller slice is reported and not judged."""
    resamples: int = Field(default=10_000, ge=100)
    """Bootstrap resamples."""
    seed: int = 17
    """Seed of the bootstrap, and of the sample requests."""
    races: int = Field(default=3, ge=1)
    """Times that a challenger is judged anew because another one was promoted meanwhile."""
    max_seen_share: Share = 0.01
    """Greatest share of the test events that the champion was trained or chosen on: it would be ranked on what it has learnt."""
    min_known_targets: Share = 0.99
    """Least share of the targets, among those in the catalogue, that the challenger can recommend at all."""
    min_coverage: Share = 0.02
    """Least share of the catalogue that appears in any top 10."""
    max_gini: Share = 0.99
    """Greatest Gini index of recommendation counts in the top 10."""
    max_load_s: float = Field(default=60.0, gt=0)
    """Seconds in which a clean process must load the version and answer the sample requests."""
    max_request_s: float = Field(default=1.0, gt=0)
    """Seconds in which one sample request must be answered, in that process."""
    sample_requests: int = Field(default=32, ge=1)
    """Requests of the holdout that the clean process answers."""


class ReportSettings(Settings):
    """Evidently's page of the recommendations, for people; nothing is decided by it."""

    recommendations: bool = True
    """Draw `recsys_report.html` (3.8 MB) beside the version: seconds on any data set, as it shows a sample."""
    requests: int = Field(default=1000, ge=1)
    """Test requests that the page shows, drawn at random."""
    train_events: int = Field(default=1_000_000, ge=1)
    """Train events that the page counts popularity in, drawn at random where there are more."""


class ValueSettings(Settings):
    """What a rank is worth: assumptions, none of them measured here. Replace them by your own figures.

    The defaults are round numbers of a plausible size, so that the table can be read before you have any.
    """

    positions: int = Field(default=10, ge=1)
    """Films that a request shows."""
    click_through: Share = 0.3
    """Probability that a relevant film at rank 1 is clicked."""
    patience: Share = 0.8
    """Probability that a user who has looked at one position looks at the next, so that click-through at rank r is
    click_through x patience ^ (r - 1) (rank-biased precision, Moffat and Zobel, TOIS 2008, whose persistence it is)."""
    click_through_at: tuple[Share, ...] = ()
    """Measured click-through of a relevant film at rank 1, 2, ...; takes the place of the three settings above."""
    watch_rate: Share = 0.5
    """Share of clicks that become a watch."""
    revenue_per_watch: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    """What one watch brings, in `currency`."""
    currency: str = "USD"
    """Its name, as it is shown."""
    requests_per_month: int = Field(default=1_000_000, ge=0)
    """Requests that the monthly value is told for."""

    @property
    def click_through_by_position(self) -> tuple[float, ...]:
        """Click-through of a relevant film at each shown rank, from 1."""
        return self.click_through_at or tuple(self.click_through * self.patience**place for place in range(self.positions))


class StoreSettings(Settings):
    """Where datasets, models and promotions live."""

    url: str = "file:.recsys/store"
    """`file:<folder>` or `s3://<bucket>/<prefix>`."""
    endpoint_url: str | None = None
    """Address of an S3 server other than AWS."""
    region: str | None = None
    """Region of the bucket; boto3's own where empty."""
    access_key_id: str | None = None
    """Left empty, boto3's own chain (environment, profile, instance role) finds the credentials."""
    secret_access_key: SecretStr | None = None
    """For runs on this machine only: it cannot be handed to a deployment, whose parameters are readable by all who see the server."""
    timeout_s: float = Field(default=20.0, gt=0)
    """Seconds without an answer after which a request has failed."""
    attempts: int = Field(default=4, ge=1)
    """Tries of a request that failed in a way that may pass."""
    part_mb: int = Field(default=32, ge=5, le=4096)
    """Megabytes of one part of an upload to S3: what is larger is sent in parts, and a broken connection costs one of them."""


class SearchOrigin(Settings):
    """The search that chose SS4Rec's settings by its valid part; `recsys search` fills it in."""

    study: str
    """Name of the study."""
    record: str
    """Key of the search's record in the store."""
    dataset: str
    """Version name/version that the trials were trained on."""
    trials: int = Field(ge=1)
    """Trials that the best was chosen from."""
    best_trial: int = Field(ge=0)
    """Number of the best trial."""
    valid_ndcg_at_10: Share
    """NDCG@10 of the best trial on the valid part."""


class TrackingSettings(Settings):
    """Weights & Biases, beside the run's own JSON. A tracker that fails is told of once and never fails a run."""

    mode: Literal["offline", "online", "off"] = "offline"
    """`offline` writes under work_dir/wandb, for `wandb sync`; `online` sends, with WANDB_API_KEY or wandb's own login.
    Without the package wandb nothing is tracked."""
    project: str = Field(default="movielens-recsys", min_length=1)
    """Project of wandb that runs are filed under."""
    entity: str | None = None
    """User or team that owns the project; wandb's default where empty."""
    tags: tuple[str, ...] = ()
    """Tags of each run in wandb."""
    timeout_s: float = Field(default=15.0, gt=0)
    """Seconds after a run's end in which the tracker must be done; then it is stopped, and off for the rest of the process."""


class RetrainSettings(Settings):
    """One scheduled retraining, from events to the gate's verdict."""

    model_name: str = Field(default="movie-ranker", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Name under which versions are registered; each name has its own champion."""
    seed: int = Field(default=2025, ge=0)
    """Seed of training; the same seed, data and settings give the same model on the same kind of machine."""
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
    """Folder of checkpoints and models of runs that have not ended."""
    searched: SearchOrigin | None = None
    """Where models.ss4rec comes from, kept in a version's lineage; nothing else depends on it."""

    @model_validator(mode="after")
    def _baselines_are_trained(self) -> RetrainSettings:
        if "ncf" in self.promotion.baselines and self.models.ncf is None:
            raise ValueError("promotion.baselines names ncf, but models.ncf is null: train it, or take it off the list")
        return self
