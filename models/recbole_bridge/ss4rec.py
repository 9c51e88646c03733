"""SS4Rec as a model of RecBole (1.2.1), for RecBole's Trainer and Evaluator.

Importing this module imports RecBole, which takes seconds, so import it only where it is needed.
"""

from __future__ import annotations

import copy
import sys
from typing import Any

import torch

from configs.errors import TrainingError
from configs.settings import SS4RecSettings
from models.losses import catalogue_cross_entropy, gbce, sampled_softmax
from models.recbole_bridge.ncf import prepare
from models.ss4rec.kernels import resolve_backend
from models.windows import Segments

prepare()

from recbole.config import Config  # noqa: E402
from recbole.model.abstract_recommender import SequentialRecommender  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import EvaluatorType, InputType, ModelType  # noqa: E402

__all__ = ["SS4RecForRecBole"]


class SS4RecForRecBole(SequentialRecommender):  # type: ignore[misc]
    """SS4Rec for `recbole.config.Config(model=SS4RecForRecBole, ...)`, trained and evaluated by RecBole.

    Once this module is imported, RecBole also finds the model by its name, as `run_recbole(model="SS4RecForRecBole", ...)` needs
    it (RecBole's quick_start imports the package ray, which RecBole does not install). Its checkpoints can be read by torch 2.6
    and later.

    A field of `SS4RecSettings` in RecBole's configuration overrides the field's default. Exceptions are the values that RecBole
    sets itself: device, max_length (MAX_ITEM_LIST_LENGTH), and the Trainer's batches, epochs, patience and optimiser. Weights
    are not averaged and ties are not shuffled. `precision` replaces `enable_amp`. `train_neg_sample_args` must be null,
    `normalize_all` must be false, and `load_col` must include the time field.

    RecBole stores times as float32. For UTC seconds since 2004 their resolution is 128 s (64 s before), so intervals are
    coarse: a shorter one becomes 0 or a whole step. To lose less, subtract the earliest time from all events; the intervals
    stay the same.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any) -> None:
        from models.ss4rec import SS4RecNetwork  # needs s5, which RecBole's own models do not

        super().__init__(config, dataset)
        given = {name: config[name] for name in SS4RecSettings.model_fields if config[name] is not None}
        self.settings = SS4RecSettings(**given | {"device": config["device"].type, "max_length": self.max_seq_length})
        if self.settings.user_features:
            raise TrainingError(
                "SS4Rec reads user_features from the project's own datasets, not from RecBole's user table. Set user_features "
                "to false."
            )
        if self.settings.item_attributes:
            raise TrainingError(
                "SS4Rec reads item_attributes from the project's own datasets, not from RecBole's item table. Set item_attributes "
                "to false."
            )
        self._time = config["TIME_FIELD"]
        self._times = self._time + config["LIST_SUFFIX"]
        negatives = (config["train_neg_sample_args"] or {}).get("distribution", "none")
        if negatives != "none":
            raise TrainingError(
                f"SS4Rec's losses draw their own negatives, but RecBole would add rows with {negatives} negatives as if they "
                "were positives. Set train_neg_sample_args to null."
            )
        times = getattr(dataset, "inter_feat", {self._time: torch.empty(0)})[self._time]
        if len(times) and float(times.max()) <= 1:
            raise TrainingError(
                f"No time in RecBole's field {self._time} is above 1, so the times look normalised. SS4Rec cannot use "
                f"intervals of normalised times. Set normalize_all to false (and leave {self._time} out of normalize_field)."
            )
        self.network = SS4RecNetwork(self.n_items - 1, self.settings)
        self._backend = resolve_backend(self.settings.scan, self.device)

    def forward(self, interaction: Any) -> torch.Tensor:
        """Return the hidden state (B, width) after each row's last event.

        Raises:
            TrainingError: if the times of a row do not ascend.
        """
        items, times, lengths = interaction[self.ITEM_SEQ], interaction[self._times], interaction[self.ITEM_SEQ_LEN]
        following = torch.roll(times, -1, dims=1)
        following[torch.arange(len(times), device=times.device), lengths - 1] = interaction[self._time]
        real = torch.arange(items.shape[1], device=items.device) < lengths[:, None]
        until, intervals = following[real].long(), (following - times)[real].float()
        if bool((intervals < 0).any()):
            raise TrainingError(
                f"RecBole's field {self._times} has an event that is later than the one after it, but SS4Rec does not support "
                "negative intervals. Set order in eval_args to TO, and sort the rows of files that are already split."
            )
        ends = torch.cumsum(lengths, dim=0)
        offsets = torch.cat([ends.new_zeros(1), ends])
        with self._autocast():
            segments = Segments.of(offsets, len(intervals))
            hidden: torch.Tensor = self.network(items[real], intervals, segments, self._backend, until=until)
        return hidden[ends - 1].float()

    def calculate_loss(self, interaction: Any) -> torch.Tensor:
        """Compute the loss that `settings.loss` selects, on the rows' targets."""
        settings, weight = self.settings, self.network.items.weight[1:]
        hidden, targets = self.forward(interaction), interaction[self.POS_ITEM_ID] - 1
        with torch.autocast(self.device.type, enabled=False):
            if settings.loss == "cross_entropy":
                return catalogue_cross_entropy(hidden, weight, targets, settings.label_smoothing)
            total = torch.full((), float(len(hidden)), device=hidden.device)
            shape = (settings.negatives,) if settings.loss == "sampled_softmax" else (len(hidden), settings.negatives)
            negatives = torch.randint(len(weight), shape, device=hidden.device)
            if settings.loss == "sampled_softmax":
                return sampled_softmax(hidden, weight, targets, negatives, total)
            return gbce(hidden, weight, targets, negatives, total, settings.calibration)

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return the score (B,) of each row's item."""
        items: torch.Tensor = self.network.items(interaction[self.ITEM_ID])
        return (self.forward(interaction) * items).sum(dim=-1)

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores (B, n_items) of all items. Column 0 is RecBole's padding item."""
        return self.forward(interaction) @ self.network.items.weight.T

    def _autocast(self) -> torch.autocast:
        wanted, kind = self.settings.precision, self.device.type
        half = wanted == "bfloat16" or (wanted == "auto" and kind == "cuda")
        return torch.autocast(kind, torch.bfloat16, enabled=half, cache_enabled=False)


def _register() -> None:
    """Let RecBole find the model by its name, and let torch read its checkpoints.

    RecBole looks for a module of its own that has the model's name in lower case. It pickles checkpoints by a protocol, and with
    objects, that `torch.load` refuses since torch 2.6, because it unpickles nothing but weights and classes that are known to be
    harmless.
    """
    sys.modules[f"recbole.model.sequential_recommender.{SS4RecForRecBole.__name__.lower()}"] = sys.modules[__name__]
    torch.serialization.add_safe_globals([Config, EvaluatorType, InputType, ModelType, SS4RecForRecBole])
    save = Trainer._save_checkpoint

    def save_checkpoint(trainer: Any, epoch: int, verbose: bool = True, **options: Any) -> None:
        if not isinstance(trainer.model, SS4RecForRecBole):
            save(trainer, epoch, verbose, **options)
        elif trainer.config["single_spec"] or trainer.config["local_rank"] == 0:
            torch.save(_checkpoint(trainer, epoch), options.get("saved_model_file", trainer.saved_model_file), pickle_protocol=2)

    Trainer._save_checkpoint = save_checkpoint


def _checkpoint(trainer: Any, epoch: int) -> dict[str, Any]:
    """Return what RecBole stores in a checkpoint, without the classes that only its configurator needs."""
    config = copy.copy(trainer.config)
    vars(config).pop("yaml_loader", None)
    return {
        "config": config,
        "epoch": epoch,
        "cur_step": trainer.cur_step,
        "best_valid_score": float(trainer.best_valid_score),
        "state_dict": trainer.model.state_dict(),
        "other_parameter": trainer.model.other_parameter(),
        "optimizer": trainer.optimizer.state_dict(),
    }


_register()
