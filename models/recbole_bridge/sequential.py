"""RecBole's (1.2.1) own sequential models as a `Recommender`.

Importing this module imports RecBole, which takes seconds, so import it only where it is needed.
"""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from configs.errors import TrainingError
from models.recbole_bridge.ncf import ITEM, USER, prepare, recbole_config
from models.recommender import EpochReport, FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences
from models.sequences import Vocabulary, histories

prepare()

from recbole.data import create_dataset, data_preparation  # noqa: E402
from recbole.trainer import Trainer  # noqa: E402
from recbole.utils import get_model  # noqa: E402

__all__ = ["ModelName", "RecBoleSequential", "SequentialSettings", "StoppedBy"]

ModelName = Literal["SASRec", "GRU4Rec"]
StoppedBy = Literal["patience", "max_seconds", "max_epochs"]
SCORED_AT_ONCE = 512  # requests
HIDDEN_SIZE = {"SASRec": 64, "GRU4Rec": 128}


@dataclass(frozen=True)
class SequentialSettings:
    """The settings of a model. Others keep RecBole's defaults."""

    model: ModelName
    max_length: int = 200
    hidden_size: int | None = None
    """None: RecBole's default for the model."""
    batch_size: int = 2048
    eval_batch_size: int = 512
    learning_rate: float = 1e-3
    max_epochs: int = 300
    patience: int = 10
    max_seconds: float | None = None
    """Training ends after the epoch in which so many seconds since the start of `fit` have passed."""
    more: dict[str, Any] = field(default_factory=dict)
    """Overrides any setting by its RecBole name."""


class RecBoleSequential(Recommender):
    """RecBole's SASRec or GRU4Rec, trained by RecBole's own Trainer on our split.

    Needs a leave-one-out protocol. Training ends by RecBole's early stopping on valid NDCG@10, or at a limit of the settings.
    `stopped_by` has the reason. A user with one train event is used for neither training nor validation. A request without known
    events is ranked by popularity in the train part. Fits are not resumed.
    """

    name = "recbole-sequential"
    sequential = True

    def __init__(self, settings: SequentialSettings, device: Literal["auto", "cpu", "cuda"] = "auto") -> None:
        self.stopped_by: StoppedBy | None = None
        self.catalogue: IntArray = np.empty(0, dtype=np.int64)
        self._settings = replace(settings, hidden_size=settings.hidden_size or HIDDEN_SIZE[settings.model])
        cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
        self._device = torch.device("cuda" if cuda else "cpu")
        self._vocabulary = Vocabulary(self.catalogue)
        self._columns: IntArray = np.empty(0, dtype=np.int64)  # RecBole's index of each item in the catalogue
        self._counts: IntArray = np.empty(0, dtype=np.int64)
        self._network: nn.Module | None = None

    def settings(self) -> dict[str, Any]:
        return asdict(self._settings)

    def fit(
        self,
        train: Sequences,
        valid: Requests,
        catalogue: IntArray,
        *,
        seed: int,
        mask_seen: bool,
        checkpoint_dir: Path | None = None,
        on_epoch: OnEpoch | None = None,
    ) -> FitReport:
        started = time.perf_counter()
        events = _leave_one_out_events(train, valid, catalogue)
        self.catalogue, self._vocabulary, self.stopped_by = catalogue, Vocabulary(catalogue), None
        self._counts = np.bincount(self._vocabulary.indices(train.item_ids), minlength=len(catalogue) + 1)[1:]
        reports: list[EpochReport] = []
        best: dict[str, torch.Tensor] = {}
        with self._config(events, catalogue, seed) as config, _seeded(seed, self._device), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # from RecBole's use of pandas 3 and torch's GradScaler
            dataset = create_dataset(config)
            train_data, valid_data, _ = data_preparation(config, dataset)
            self._columns = np.argsort(dataset.field2id_token[ITEM][1:].astype(np.int64)).astype(np.int64) + 1
            network = get_model(config["model"])(config, train_data._dataset).to(self._device)
            trainer = _MaskingTrainer(config, network, self._seen(train, dataset) if mask_seen else None)
            epoch_started = time.perf_counter()

            def after_epoch(epoch: int, ndcg: float) -> None:
                nonlocal epoch_started, best
                if trainer.cur_step == 0:  # the best epoch so far; RecBole's own checkpoint would need unpickling
                    best = {name: weight.detach().clone() for name, weight in network.state_dict().items()}
                now = time.perf_counter()
                report = EpochReport(
                    epoch=epoch + 1,
                    max_epochs=trainer.epochs,
                    loss=trainer.train_loss_dict[epoch] / len(train_data),
                    valid={"ndcg@10": float(ndcg)},
                    seconds=now - epoch_started,
                    best_epoch=epoch + 1 - trainer.cur_step,
                )
                reports.append(report)
                epoch_started = now
                if on_epoch is not None:
                    on_epoch(report)
                limit = self._settings.max_seconds
                if limit is not None and now - started >= limit:
                    raise _TimeIsOver

            try:
                trainer.fit(train_data, valid_data, verbose=False, saved=False, callback_fn=after_epoch)
                self.stopped_by = "patience" if trainer.cur_step > trainer.stopping_step else "max_epochs"
            except _TimeIsOver:
                self.stopped_by = "max_seconds"
            except ValueError as error:
                if "loss is nan" not in str(error):
                    raise
                raise TrainingError(f"Training of {config['model']} diverged in epoch {len(reports) + 1}: {error}.") from error
            finally:
                trainer.tensorboard.close()
        network.load_state_dict(best)
        self._network = network.eval()
        return FitReport(
            epochs=reports,
            best_epoch=reports[-1].best_epoch,
            parameters=sum(weight.numel() for weight in network.parameters()),
            device=str(self._device),
            seconds=time.perf_counter() - started,
        )

    @torch.no_grad()
    def scores(self, requests: Requests) -> torch.Tensor:
        if self._network is None:
            raise TrainingError("The RecBole model has no weights yet: fit it or load a version.")
        read = histories(requests, self._vocabulary, self._settings.max_length)
        tokens = torch.from_numpy(np.append(0, self._columns))[read.items].to(self._device)
        lengths = torch.diff(read.offsets)
        columns = torch.from_numpy(self._columns).to(self._device)
        scores = torch.empty(len(requests), len(self.catalogue), device=self._device)
        for first in range(0, len(requests), SCORED_AT_ONCE):
            rows = slice(first, min(first + SCORED_AT_ONCE, len(requests)))
            stream = tokens[int(read.offsets[rows.start]) : int(read.offsets[rows.stop])]
            own = torch.split(stream, lengths[rows].tolist())
            # A row without events becomes one padding token, and its scores are replaced below.
            padded = nn.utils.rnn.pad_sequence([row if len(row) else row.new_zeros(1) for row in own], batch_first=True)
            asked = {"item_id_list": padded, "item_length": lengths[rows].clamp_min(1).to(self._device)}
            scores[rows] = self._network.full_sort_predict(asked)[:, columns]  # type: ignore[operator]
        popularity = torch.from_numpy(self._counts).float().log1p().to(self._device)
        return torch.where((lengths > 0).to(self._device)[:, None], scores, popularity)

    def save(self, folder: Path) -> None:
        if self._network is None:
            raise TrainingError("The RecBole model has no weights yet: fit it or load a version.")
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: weight.detach().cpu().contiguous() for name, weight in self._network.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        config = {"model": self.name, "format": 1, "settings": self.settings()}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        table = pd.DataFrame({"item_id": self.catalogue, "index": self._columns, "train_events": self._counts})
        table.to_parquet(folder / "vocabulary.parquet", index=False)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> RecBoleSequential:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = cls(SequentialSettings(**config["settings"]), device)  # type: ignore[arg-type]
        vocabulary = pd.read_parquet(folder / "vocabulary.parquet")
        model.catalogue = vocabulary["item_id"].to_numpy(np.int64)
        model._vocabulary = Vocabulary(model.catalogue)
        model._columns = vocabulary["index"].to_numpy(np.int64)
        model._counts = vocabulary["train_events"].to_numpy(np.int64)
        nothing = pd.DataFrame({"user_id": [], "item_id": [], "timestamp": []})
        sizes = SimpleNamespace(num={ITEM: len(model.catalogue) + 1}.__getitem__)
        with model._config(nothing, model.catalogue, seed=0) as settings:
            network: nn.Module = get_model(settings["model"])(settings, sizes)
        network.load_state_dict(load_file(folder / "model.safetensors"))
        model._network = network.to(model._device).eval()
        return model

    @contextmanager
    def _config(self, events: pd.DataFrame, catalogue: IntArray, seed: int) -> Iterator[Any]:
        own = self._settings
        settings = {
            "MAX_ITEM_LIST_LENGTH": own.max_length,
            "hidden_size": own.hidden_size,
            "train_batch_size": own.batch_size,
            "eval_batch_size": own.eval_batch_size,
            "learning_rate": own.learning_rate,
            "epochs": own.max_epochs,
            "stopping_step": own.patience,
            "seed": seed,
            "eval_args": {"split": {"LS": "valid_only"}, "order": "TO", "group_by": "user", "mode": "full"},
            "metrics": ["Hit", "NDCG", "MRR"],
            "topk": [10],
            "valid_metric": "NDCG@10",
        }
        if self._device.type == "cuda":  # RecBole hides all other GPUs from the process
            visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
            settings["gpu_id"] = visible
        with recbole_config(events, own.model, settings | own.more, catalogue) as config:
            yield config

    def _seen(self, train: Sequences, dataset: Any) -> list[torch.Tensor]:
        """Return RecBole's indices of the items that each RecBole user has seen in the train part."""
        tokens = dataset.field2id_token[USER][1:].astype(np.int64)
        items = torch.from_numpy(self._columns[self._vocabulary.indices(train.item_ids) - 1])
        rows = np.searchsorted(train.user_ids, tokens)
        met = [items[train.offsets[row] : train.offsets[row + 1]] for row in rows]
        return [items[:0], *met]


class _TimeIsOver(Exception):
    """Stops RecBole's Trainer between two epochs."""


class _MaskingTrainer(Trainer):  # type: ignore[misc]
    """RecBole's Trainer. If `seen` is given, it also excludes seen items from a sequential model's ranking."""

    def __init__(self, config: Any, network: nn.Module, seen: list[torch.Tensor] | None) -> None:
        super().__init__(config, network)
        self._seen = seen

    def _full_sort_batch_eval(self, batch: Any) -> Any:
        interaction, history, *positives = batch
        if self._seen is not None:
            met = [self._seen[user] for user in interaction[USER].tolist()]
            lengths = torch.tensor([len(items) for items in met])
            history = torch.arange(len(met)).repeat_interleave(lengths), torch.cat(met)
        return super()._full_sort_batch_eval((interaction, history, *positives))


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _leave_one_out_events(train: Sequences, valid: Requests, catalogue: IntArray) -> pd.DataFrame:
    """Build events from which RecBole's leave-one-out keeps `train` and holds out the targets of `valid`.

    Times are positions: float32 represents them exactly, and no two events of a user have the same time.
    """
    validated = np.isin(train.user_ids, valid.user_ids)
    if (
        not np.array_equal(train.user_ids[validated], valid.user_ids)
        or not np.array_equal(train.item_ids[validated[train.row_of_event]], valid.item_ids)
        or bool((train.lengths[~validated] > 1).any())
        or not np.isin(np.append(train.item_ids, valid.targets), catalogue).all()
    ):
        raise TrainingError(
            "RecBole validates on the event that follows each user's train events, but this split has users without such an "
            "event, with a different history, or with items outside of the catalogue. Use the protocol loo-exact or "
            "loo-recbole (evaluation.protocol)."
        )
    # RecBole trains on a user's only row, so the valid target of a user with one train event would be trained on.
    kept = validated & (train.lengths > 1)
    if not kept.any():
        raise TrainingError("There is nothing to train on: no user has two events in the train part.")
    learnt, held_out = kept[train.row_of_event], kept[validated]
    positions = np.arange(len(train.item_ids)) - train.offsets[train.row_of_event]
    return pd.DataFrame(
        {
            "user_id": np.concatenate([train.user_ids[train.row_of_event][learnt], valid.user_ids[held_out]]),
            "item_id": np.concatenate([train.item_ids[learnt], valid.targets[held_out]]),
            "timestamp": np.concatenate([positions[learnt], train.lengths[kept]]),
        }
    )
