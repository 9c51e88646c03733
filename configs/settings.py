"""Every setting of the product, with its one default.

The YAML files beside this module hold only what departs from these defaults for one data set or one environment.
A flow takes these models as parameters, so the Prefect UI draws them as a typed form.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

__all__ = [
    "DataSettings",
    "DriftSettings",
    "EvaluationSettings",
    "FloorSettings",
    "ModelSettings",
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
    "ValidationSettings",
    "ValueSettings",
]

ProtocolId = Literal["loo-exact", "loo-recbole", "temporal"]
SourceName = Literal["ml-100k", "ml-1m", "ml-20m", "ml-25m", "ml-32m", "ml-latest-small", "ml-latest"]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class DataSettings(_Settings):
    """Where events come from."""

    source: SourceName = "ml-100k"
    """MovieLens release. ml-100k needs no download: it is read from the files that recbole ships."""
    local_path: Path | None = None
    """A zip, a folder, or a ratings file of that release (or in one of its formats) to read instead of downloading."""
    mirror_url: str = "https://files.grouplens.org/datasets/movielens"
    """Address under which <source>.zip lies."""
    checksum: str | None = None
    """Expected digest of the zip as `md5:<hex>` or `sha256:<hex>`; the published one is used where it is known."""
    cache_dir: Path = Path(".recsys/downloads")
    """Folder that keeps downloads, so that a broken one resumes and a second run reads nothing from the network."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Seconds without a byte after which a download is tried again."""
    retries: int = Field(default=4, ge=0)
    """Times a broken download is resumed before the run fails."""


class ValidationSettings(_Settings):
    """When bad rows are set aside, and when they stop the run."""

    max_quarantined_share: Share = 0.05
    """Share of rows that may be quarantined; above it the run fails and nothing is stored."""
    min_rows: int = Field(default=1000, ge=1)
    """Fewest valid interactions that make a dataset."""
    min_rating: float = 0.5
    max_rating: float = 5.0
    earliest: int = 789_652_009
    """UTC seconds of the first MovieLens rating (1995-01-09); anything before is no event time."""
    max_future_s: int = Field(default=86_400, ge=0)
    """Seconds that an event may lie ahead of this machine's clock."""


class EvaluationSettings(_Settings):
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


class SS4RecSettings(_Settings):
    """SS4Rec (arXiv 2502.08132): a time-aware (S5) and a relation-aware (Mamba) state space layer in each block."""

    width: int = Field(default=64, ge=4)
    """Channels of embeddings and layers."""
    blocks: int = Field(default=2, ge=1)
    time_state: int = Field(default=32, ge=1)
    """Complex states of the time-aware layer."""
    relation_state: int = Field(default=16, ge=1)
    """States per channel of the relation-aware layer."""
    conv_width: int = Field(default=4, ge=1, le=4)
    expand: int = Field(default=2, ge=1)
    dropout: float = Field(default=0.4, ge=0.0, lt=1.0)
    embedding_dropout: float = Field(default=0.3, ge=0.0, lt=1.0)
    two_norms: bool = True
    """One LayerNorm after each layer; off, one is shared by both places as in the authors' code."""
    step_min: float = Field(default=0.001, gt=0)
    """Least learned step of the time-aware layer at initialisation, per second of interval."""
    step_max: float = Field(default=0.1, gt=0)
    interval: Literal["seconds", "log1p", "learned", "none"] = "seconds"
    """What the time-aware layer sees of an interval; `learned` lies between seconds and log1p, `none` sees no time."""
    user_features: bool = False
    """Add embeddings of the user's gender, age group and occupation to each event's; the dataset's users must have some."""
    layers: Literal["both", "time", "relation"] = "both"
    """Layers of a block; one kind alone is for ablations."""
    max_length: int = Field(default=100, ge=2)
    """Events of a user that one window holds."""
    batch_tokens: int = Field(default=1024, ge=2)
    """Events per training step (at least one whole window), shared among the GPUs that train together."""
    shuffle_ties: bool = True
    """Draw the order of a user's events of one second anew each epoch, where the protocol drew it (not loo-recbole)."""
    loss: Literal["cross_entropy", "sampled_softmax", "gbce"] = "cross_entropy"
    """Over the whole catalogue, or over sampled negatives: softmax, or gSASRec's calibrated binary cross-entropy."""
    negatives: int = Field(default=256, ge=1)
    """Negatives of the sampled losses: shared by a step (sampled_softmax), or of each event (gbce)."""
    calibration: float = Field(default=0.75, ge=0.0, le=1.0)
    """gbce's t: 0 is plain binary cross-entropy, 1 gives calibrated probabilities."""
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    weight_averaging: float = Field(default=0.99, ge=0.0, lt=1.0)
    """Decay per step of the running average of the weights that is validated and kept; 0 keeps the raw weights."""
    max_epochs: int = Field(default=14, ge=1)
    patience: int = Field(default=4, ge=1)
    """Evaluations without a better valid NDCG@10 after which training stops."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    scan: Literal["auto", "reference", "compiled", "mamba-ssm"] = "auto"
    """Backend of the recurrences; auto is compiled: numba on the CPU, Triton on CUDA. mamba-ssm needs that package."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products and activations while training; auto is bfloat16 on CUDA. Weights and recurrences stay float32."""
    debug: bool = False
    """Check every module's output for non-finite values and name the first that has one."""

    @model_validator(mode="after")
    def _steps_are_ordered(self) -> SS4RecSettings:
        if self.step_min >= self.step_max:
            raise ValueError(f"step_min ({self.step_min}) must be below step_max ({self.step_max})")
        return self


class NCFSettings(_Settings):
    """RecBole's NeuMF (arXiv 1708.05031), the baseline without order or time."""

    mf_width: int = Field(default=32, ge=1)
    mlp_width: int = Field(default=16, ge=1)
    mlp_hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(32, 16), min_length=1)
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    negatives: int = Field(default=4, ge=1)
    """Sampled negatives per interaction."""
    learning_rate: float = Field(default=5e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    batch_size: int = Field(default=4096, ge=1)
    """Interactions per training step, each with its negatives."""
    max_epochs: int = Field(default=40, ge=1)
    patience: int = Field(default=5, ge=1)
    """Epochs without a better valid NDCG@10 after which training stops. NeuMF first ranks by popularity for some epochs; a
    shorter patience can stop it there, and the gate would compare with a baseline that has not learnt."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


class PopularitySettings(_Settings):
    """Most interacted items first: the floor that every model must beat."""


class ModelSettings(_Settings):
    """The candidates of a run. A baseline set to null is not trained."""

    ss4rec: SS4RecSettings = SS4RecSettings()
    ncf: NCFSettings | None = NCFSettings()
    popularity: PopularitySettings = PopularitySettings()


class DriftSettings(_Settings):
    """Drift of the newest slice of events against the reference sample."""

    slice_share: float = Field(default=0.1, gt=0, lt=1)
    """Share of events, the latest, that are the newest slice."""
    sample_rows: int = Field(default=10_000, ge=100)
    """Rows of the reference sample kept with a model version, and the most that are compared."""
    min_rows: int = Field(default=200, ge=2)
    """A slice smaller than this is reported as too small to judge."""
    max_column_distance: float = Field(default=0.1, gt=0)
    """Distance (normed Wasserstein or Jensen-Shannon) above which a column has drifted, if chance alone does not reach it."""
    max_single_distance: float = Field(default=0.5, gt=0)
    """Distance of any one column above which the slice has drifted: another unit, a clock that stands still."""
    max_drifted_share: Share = 0.5
    """Share of drifted columns above which the slice has drifted."""
    max_unseen_item_share: Share = 0.2
    """Share of events on items that the reference never saw above which the slice has drifted."""


class FloorSettings(_Settings):
    """Least test metrics under the gate's protocol."""

    hr_at_10: Share = 0.10
    ndcg_at_10: Share = 0.05


class PromotionSettings(_Settings):
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


class ReportSettings(_Settings):
    """Evidently's page of the recommendations, for people; nothing is decided by it."""

    recommendations: bool = True
    """Draw `recsys_report.html` (3.8 MB) beside the version: seconds on any data set, as it shows a sample."""
    requests: int = Field(default=1000, ge=1)
    """Test requests that the page shows, drawn at random."""
    train_events: int = Field(default=1_000_000, ge=1)
    """Train events that the page counts popularity in, drawn at random where there are more."""


class ValueSettings(_Settings):
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
    currency: str = "USD"
    requests_per_month: int = Field(default=1_000_000, ge=0)

    @property
    def click_through_by_position(self) -> tuple[float, ...]:
        """Click-through of a relevant film at each shown rank, from 1."""
        return self.click_through_at or tuple(self.click_through * self.patience**place for place in range(self.positions))


class StoreSettings(_Settings):
    """Where datasets, models and promotions live."""

    url: str = "file:.recsys/store"
    """`file:<folder>` or `s3://<bucket>/<prefix>`."""
    endpoint_url: str | None = None
    """Address of an S3 server other than AWS."""
    region: str | None = None
    access_key_id: str | None = None
    """Left empty, boto3's own chain (environment, profile, instance role) finds the credentials."""
    secret_access_key: SecretStr | None = None
    timeout_s: float = Field(default=20.0, gt=0)
    attempts: int = Field(default=4, ge=1)
    """Tries of a request that failed in a way that may pass."""


class SearchOrigin(_Settings):
    """The search that chose SS4Rec's settings by its valid part; `recsys search` fills it in."""

    study: str
    record: str
    """Key of the search's record in the store."""
    dataset: str
    """Version name/version that the trials were trained on."""
    trials: int = Field(ge=1)
    """Trials that the best was chosen from."""
    best_trial: int = Field(ge=0)
    valid_ndcg_at_10: Share


class TrackingSettings(_Settings):
    """Weights & Biases, beside the run's own JSON. A tracker that fails is told of once and never fails a run."""

    mode: Literal["offline", "online", "off"] = "offline"
    """`offline` writes under work_dir/wandb, for `wandb sync`; `online` sends, with WANDB_API_KEY or wandb's own login.
    Without the package wandb nothing is tracked."""
    project: str = Field(default="movielens-recsys", min_length=1)
    entity: str | None = None
    """User or team that owns the project; wandb's default where empty."""
    tags: tuple[str, ...] = ()
    timeout_s: float = Field(default=15.0, gt=0)
    """Seconds after a run's end in which the tracker must be done; then it is stopped, and off for the rest of the process."""


class RetrainSettings(_Settings):
    """One scheduled retraining, from events to the gate's verdict."""

    model_name: str = Field(default="movie-ranker", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    """Name under which versions are registered; each name has its own champion."""
    seed: int = Field(default=2025, ge=0)
    data: DataSettings = DataSettings()
    validation: ValidationSettings = ValidationSettings()
    drift: DriftSettings = DriftSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    models: ModelSettings = ModelSettings()
    promotion: PromotionSettings = PromotionSettings()
    report: ReportSettings = ReportSettings()
    value: ValueSettings = ValueSettings()
    store: StoreSettings = StoreSettings()
    tracking: TrackingSettings = TrackingSettings()
    work_dir: Path = Path(".recsys/work")
    """Folder of checkpoints and models of runs that have not ended."""
    searched: SearchOrigin | None = None
    """Where models.ss4rec comes from, kept in a version's lineage; nothing else depends on it."""

    @model_validator(mode="after")
    def _baselines_are_trained(self) -> RetrainSettings:
        if "ncf" in self.promotion.baselines and self.models.ncf is None:
            raise ValueError("promotion.baselines names ncf, but models.ncf is null: train it, or take it off the list")
        return self
