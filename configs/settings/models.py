"""Settings of each model and their defaults."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, GetJsonSchemaHandler, ValidationError, create_model, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from configs.base import Settings, in_order
from configs.errors import SettingsError
from configs.kinds import label_of, register, registered_kinds, spec_of

__all__ = ["ModelSettings", "NCFSettings", "PopularitySettings", "SS4RecSettings"]

logger = logging.getLogger(__name__)


class SS4RecSettings(Settings):
    """SS4Rec (arXiv 2502.08132): a time-aware (S5) and a relation-aware (Mamba) state space layer in each block."""

    width: int = Field(default=64, ge=4)
    """Number of channels of the embeddings and layers."""
    blocks: int = Field(default=2, ge=1)
    """Number of stacked blocks."""
    time_state: int = Field(default=32, ge=1)
    """Number of complex states of the time-aware layer."""
    relation_state: int = Field(default=16, ge=1)
    """Number of states per channel of the relation-aware layer."""
    conv_width: int = Field(default=4, ge=1, le=4)
    """Kernel width of the relation-aware layer's convolution, in events."""
    expand: int = Field(default=2, ge=1)
    """Inner channels of the relation-aware layer, as a multiple of width."""
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)
    """Share of activations dropped in each layer during training."""
    embedding_dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of embeddings dropped during training."""
    two_norms: bool = True
    """Use a separate LayerNorm after each layer. If off, both places share one LayerNorm, as in the authors' code."""
    norm: Literal["post", "pre"] = "post"
    """Whether LayerNorm comes after each layer, as in the authors' code, or before it. Deep stacks (more than three blocks) train
    better with `pre`, whose layers also start with smaller outputs."""
    step_min: float = Field(default=1e-7, gt=0)
    """Smallest learned step of the time-aware layer at initialisation, per second of interval. With 1e-7, some states last for months."""
    step_max: float = Field(default=0.1, gt=0)
    """Largest learned step of the time-aware layer at initialisation, per second of interval."""
    interval: Literal["seconds", "log1p", "learned", "none"] = "seconds"
    """Scale of the time intervals that the time-aware layer sees. `learned` lies between `seconds` and `log1p`. `none` hides
    time."""
    interval_embedding: bool = True
    """Add to each event a learnt vector for the length of the interval after it, in 64 buckets from a second to ten years. Has no
    effect with interval none."""
    calendar_input: bool = False
    """Add to each event learnt vectors for the hour of the day and the weekday of the next event or the request, in UTC. Suits data
    of users in one region, whose habits follow the clock."""
    item_attributes: bool = False
    """Add to the vector of each item one of its genres, year, words of the title and categories, so that items without train events can
    be recommended (`evaluation.new_items`). Such a model is always trained from scratch."""
    identity_dropout: float = Field(default=0.2, ge=0.0, lt=1.0)
    """Share of the items that have only the vector of their attributes in each training step, as new items have. Applies with
    item_attributes."""
    user_features: bool = False
    """Add embeddings of the user's gender, age group and occupation to each event. The dataset must have such user data."""
    layers: Literal["both", "time", "relation"] = "both"
    """Layers of a block. A single kind is meant for ablations."""
    rating_head: bool = False
    """Also predict ratings, by a linear model that is fitted after the training. The ranking stays the same to the last digit."""
    max_length: int = Field(default=100, ge=2)
    """Maximum number of a user's events in one window."""
    batch_tokens: int = Field(default=1024, ge=2)
    """Events per training step (at least one full window), split among the GPUs that train together."""
    full_batches: bool = False
    """Fill each training step up to `batch_tokens`. If off, a step leaves room for one of the longest windows, so an epoch has more
    steps, and on a GPU takes longer."""
    shuffle_ties: bool = True
    """Shuffle a user's events that share the same second again in each epoch. Applies to protocols that draw this order (all
    except loo-recbole)."""
    loss: Literal["cross_entropy", "sampled_softmax", "gbce"] = "cross_entropy"
    """Training loss: cross-entropy over the full catalogue, or a loss over sampled negatives: softmax, or gSASRec's calibrated
    binary cross-entropy (gbce)."""
    negatives: int = Field(default=256, ge=1)
    """Number of sampled negatives: per step for sampled_softmax, per event for gbce."""
    calibration: float = Field(default=0.75, ge=0.0, le=1.0)
    """Calibration parameter t of gbce: 0 is plain binary cross-entropy, 1 gives calibrated probabilities."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Step size of the optimizer, after the warm-up."""
    warm_up: float = Field(default=0.05, ge=0.0, lt=1.0)
    """Share of max_epochs in which the learning rate rises from 0 to its value."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: it stays, or falls like half a cosine to 0 at the end of max_epochs."""
    clip_norm: float = Field(default=5.0, gt=0)
    """Longest gradient of a step, over all weights. A longer one is shortened to it."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the weights per step, as a multiple of the learning rate. Biases, norms, and the rates and steps of the state spaces
    do not decay."""
    label_smoothing: float = Field(default=0.1, ge=0.0, lt=1.0)
    """Share of the target probability that is spread over all items. Applies to `cross_entropy`."""
    weight_averaging: float = Field(default=0.99, ge=0.0, lt=1.0)
    """Decay per step of the running average of the weights. The averaged weights are validated and kept. With 0, the raw weights
    are."""
    teachers: int = Field(default=0, ge=0, le=16)
    """Number of networks that are trained first, with the same settings and other seeds. The network then also learns the mean of what
    they predict, which ranks better than one network alone. Training takes longer by more than this factor, and always begins from
    scratch. Applies to `cross_entropy`."""
    teacher_share: float = Field(default=0.8, gt=0.0, le=1.0)
    """Share of the target probability that the teachers predict. The rest belongs to the event that came next."""
    student_dropout: float = Field(default=0.6, ge=0.0, le=1.0)
    """Dropout of the network that learns from teachers, as a share of theirs."""
    max_epochs: int = Field(default=8, ge=1)
    """Maximum number of passes over the train part."""
    patience: int = Field(default=4, ge=1)
    """Training stops after this number of evaluations without a better valid NDCG@10."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for training. `auto` uses a GPU if there is one."""
    replicas: Annotated[int, Field(ge=1)] | Literal["auto"] = 1
    """Number of processes on this machine that train the network together, each on a share of every step. Each process has its
    own GPU, or on the CPU a share of the cores. `auto` uses every GPU that torch sees, or 1 process on the CPU. Each run of a
    comparison uses the same number. Trials of a search and retraining for an audit always use one."""
    scan: Literal["auto", "reference", "compiled", "mamba-ssm"] = "auto"
    """Backend of the recurrences. `auto` is `compiled`: numba on the CPU, Triton on CUDA. `mamba-ssm` needs the package of that
    name."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of matrix products and activations during training. `auto` is bfloat16 on CUDA. Weights and recurrences stay
    float32."""
    debug: bool = False
    """Check the output of every module for non-finite values, and report the first module that has one."""

    @field_validator("replicas", mode="before")
    @classmethod
    def _is_a_number_or_auto(cls, given: Any) -> Any:  # one message instead of one for each type in the union
        if given != "auto" and (isinstance(given, bool) or not isinstance(given, int) or given < 1):
            raise ValueError("the value must be auto, or a whole number of at least 1")
        return given

    @property
    def embeds_intervals(self) -> bool:
        """Whether the network has an embedding of the interval after an event."""
        return self.interval_embedding and self.interval != "none"

    @model_validator(mode="after")
    def _steps_are_ordered(self) -> SS4RecSettings:
        if self.step_min >= self.step_max:
            raise ValueError(f"step_min ({self.step_min}) must be below step_max ({self.step_max})")
        return self

    @model_validator(mode="after")
    def _teachers_fit(self) -> SS4RecSettings:
        if self.teachers and self.item_attributes:
            raise ValueError(
                "teachers and item_attributes cannot be used together: set teachers to 0, or item_attributes to false"
            )
        return self


class NCFSettings(Settings):
    """RecBole's NeuMF (arXiv 1708.05031), the baseline that ignores order and time."""

    mf_width: int = Field(default=32, ge=1)
    """Width of the embeddings of the matrix factorisation part."""
    mlp_width: int = Field(default=16, ge=1)
    """Width of the embeddings of the multi-layer perceptron part."""
    mlp_hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(32, 16), min_length=1)
    """Widths of the hidden layers."""
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of activations dropped during training."""
    negatives: int = Field(default=4, ge=1)
    """Number of sampled negatives per interaction."""
    rating_head: bool = False
    """Also predict ratings, by a linear model that is fitted after the training. The ranking stays the same to the last digit."""
    learning_rate: float = Field(default=5e-3, gt=0)
    """Step size of the optimizer."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decay of the weights, added to the gradient."""
    batch_size: int = Field(default=4096, ge=1)
    """Interactions per training step, each with its negatives."""
    max_epochs: int = Field(default=40, ge=1)
    """Maximum number of passes over the train part."""
    patience: int = Field(default=5, ge=1)
    """Training stops after this number of epochs without a better valid NDCG@10. NeuMF ranks by popularity for its first epochs.
    A lower value can stop it there, and the gate would then compare with a baseline that has not learnt."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for training. `auto` uses a GPU if there is one."""


class PopularitySettings(Settings):
    """Ranks the items with the most interactions first. Every model must beat this baseline."""


class ModelSettings(Settings):
    """Settings of each kind of model. Which kinds a run trains is in `challenger` and `baselines`."""

    model_config = ConfigDict(extra="allow")

    plugins: tuple[str, ...] = ()
    """Specs of models from other packages, as `package.module:NAME`. Packages with an entry point in the group `recsys.models` are
    found without it. Only processes that can import the package can use the model: also those on other machines."""
    plugin_silence_s: int = Field(default=7200, ge=1)
    """Seconds without a finished epoch after which the training of a plugin's model is ended. Such a model is trained in a process of
    its own, so that it harms nothing if it hangs or crashes."""
    ss4rec: SS4RecSettings = SS4RecSettings()
    ncf: NCFSettings = NCFSettings()
    popularity: PopularitySettings = PopularitySettings()

    def of(self, kind: str) -> Settings:
        """Return the settings of a kind: those given, or its defaults.

        Raises:
            SettingsError: Nothing has this kind, or its plugin is broken.
        """
        found = getattr(self, kind, None) if kind in type(self).model_fields else (self.__pydantic_extra__ or {}).get(kind)
        return found if isinstance(found, Settings) else spec_of(kind).settings()

    @classmethod
    def of_version(cls, stored: Mapping[str, Any]) -> ModelSettings:
        """Read the settings that are stored with a version.

        Nothing that a store names is imported: a kind that this process does not know is left out. So is a setting that a kind no
        longer has or allows, as after an update of its plugin.
        """
        known = {*cls.model_fields, *registered_kinds()} - {"plugins"}
        return cls.model_validate({name: _still_valid(name, given) for name, given in stored.items() if name in known})

    @classmethod
    def further_sections(cls) -> dict[str, type[Settings]]:
        """Return the settings of the registered kinds that have no field of their own here."""
        return {kind: spec.settings for kind, spec in registered_kinds().items() if kind not in cls.model_fields}

    @model_validator(mode="before")
    @classmethod
    def _has_settings_of_known_kinds(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        read = {name: value for name, value in given.items() if value is not None}  # a null once meant: not trained
        plugins = read.get("plugins", ())
        try:
            if isinstance(plugins, list | tuple) and all(isinstance(plugin, str) for plugin in plugins):
                register(plugins)
            for kind in read.keys() - cls.model_fields.keys():
                field: Any = {kind: (spec_of(kind).settings, ...)}  # a fault then has the kind in its location
                read[kind] = getattr(create_model("Kind", **field).model_validate({kind: read[kind]}), kind)
        except SettingsError as error:
            raise ValueError(str(error).removesuffix(".")) from error
        return read

    def __setstate__(self, state: dict[Any, Any]) -> None:
        """Another process sent these settings: it knows the plugins, and this one must too."""
        super().__setstate__(state)
        register(self.plugins)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the kinds of plugins to the form, and let it accept kinds that are unknown when the form is made."""
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        own = handler.resolve_ref_schema(schema)
        for kind, section in cls.further_sections().items():
            values = section().model_dump(mode="json")
            own["properties"][kind] = {**handler(section.__pydantic_core_schema__), "default": values, "title": label_of(kind)}
        in_order(own)
        former = own["properties"]["ncf"]  # runs of earlier versions have a null there
        former["anyOf"] = [{"$ref": former.pop("$ref")}, {"type": "null"}]
        own["additionalProperties"] = {"type": "object"}
        return schema


def _still_valid(kind: str, given: Any) -> Any:
    """Return a stored section without the settings that its kind no longer has or allows."""
    wrong = _wrong_settings(kind, given) if isinstance(given, Mapping) else []
    if not wrong:
        return given
    kept = {name: value for name, value in given.items() if name not in wrong}
    if _wrong_settings(kind, kept):  # what is left does not fit together
        wrong, kept = list(given), {}
    logger.warning(
        "%s of a stored version is ignored, because the kind %s no longer has or allows it.",
        ", ".join(f"models.{kind}.{name}" for name in wrong),
        kind,
    )
    return kept


def _wrong_settings(kind: str, given: Mapping[str, Any]) -> list[str]:
    """Return the names of the settings of a section that are at fault, or an empty text if they do not fit together."""
    try:
        spec_of(kind).settings.model_validate(given)
    except ValidationError as error:
        return sorted({str(place["loc"][0]) if place["loc"] else "" for place in error.errors()})
    return []
