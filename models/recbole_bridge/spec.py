"""What the registry of kinds must know about RecBole's models. It needs neither torch nor RecBole."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter

__all__ = ["GENERAL", "SEQUENTIAL", "SPEC", "RecBoleSettings"]

SEQUENTIAL = (
    "BERT4Rec", "CORE", "Caser", "FEARec", "FOSSIL", "FPMC", "GCSAN", "GRU4Rec", "HGN", "HRM", "LightSANs", "NARM", "NPE", "NextItNet",
    "RepeatNet", "SASRec", "SHAN", "SINE", "SRGNN", "STAMP", "TransRec",
)  # fmt: skip
GENERAL = (
    "ADMMSLIM", "AsymKNN", "BPR", "CDAE", "ConvNCF", "DGCF", "DMF", "DiffRec", "EASE", "ENMF", "FISM", "GCMC", "ItemKNN", "LINE",
    "LightGCN", "MacridVAE", "MultiDAE", "MultiVAE", "NAIS", "NCEPLRec", "NGCF", "NNCF", "NeuMF", "RecVAE", "SGL",
    "SLIMElastic", "SimpleX", "SpectralCF",
)  # fmt: skip
OURS = {
    "data_path": "data",
    "dataset": "data",
    "load_col": "data",
    "benchmark_filename": "data",
    "eval_args": "evaluation",
    "metrics": "evaluation",
    "topk": "evaluation",
    "valid_metric": "evaluation",
    "checkpoint_dir": "work_dir",
    "seed": "seed",
    "reproducibility": "seed",
    "epochs": "models.recbole.max_epochs",
    "stopping_step": "models.recbole.patience",
    "learning_rate": "models.recbole.learning_rate",
    "train_batch_size": "models.recbole.batch_size",
    "MAX_ITEM_LIST_LENGTH": "models.recbole.max_length",
    "device": "models.recbole.device",
    "use_gpu": "models.recbole.device",
    "gpu_id": "models.recbole.device",
    "worker": "models.recbole.device",
    "nproc": "models.recbole.device",
}
"""RecBole's settings that have a setting here."""


class RecBoleSettings(Settings):
    """One of RecBole's sequential or general models by its name, trained by RecBole's trainer on our train part."""

    model: str = "GRU4Rec"
    """RecBole's name of the model, such as GRU4Rec, SASRec, BPR, LightGCN or ItemKNN."""
    max_length: int = Field(default=50, ge=1)
    """Maximum number of a user's events that a sequential model reads. General models do not use it."""
    batch_size: int = Field(default=2048, ge=1)
    """Rows per training step: events, or users for autoencoders."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Step size of the optimizer."""
    max_epochs: int = Field(default=300, ge=1)
    """Maximum number of passes over the train part."""
    patience: int = Field(default=10, ge=1)
    """Training stops after this number of epochs without a better valid NDCG@10."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device for training. `auto` uses a GPU if there is one."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further settings of the model by their RecBole names, such as hidden_size. Others keep RecBole's defaults."""

    @field_validator("model")
    @classmethod
    def _is_supported(cls, given: str) -> str:
        known = {name.lower(): name for name in (*SEQUENTIAL, *GENERAL)}
        if given.lower() not in known:
            raise ValueError(
                f"{given!r} is not one of RecBole's models that this project trains. They are the sequential ones ({', '.join(SEQUENTIAL)}) "
                f"and the general ones ({', '.join(GENERAL)}). Others need data that it does not have."
            )
        return known[given.lower()]

    @field_validator("options")
    @classmethod
    def _leaves_ours_alone(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in given:
            if name in OURS:
                raise ValueError(f"the option {name} belongs to this project: use the setting {OURS[name]}")
        return given

    @property
    def sequential(self) -> bool:
        """Whether the model reads the order of events."""
        return self.model in SEQUENTIAL


SPEC = ModelSpec(
    kind="recbole",
    settings=RecBoleSettings,
    recommender="models.recbole_bridge:RecBoleModel",
    label="RecBole",
    space={
        "learning_rate": Parameter(low=1e-4, high=1e-2, log=True),
        "batch_size": Parameter(choices=(512, 1024, 2048, 4096)),
    },
)
