"""Any of RecBole's sequential and general models as a `Recommender`: its network and its trainer, under our protocol.

RecBole gets the train part and nothing else. Our loop validates with our ranking, stops early, and writes checkpoints.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from scipy.sparse import csr_matrix, issparse
from torch import nn

from configs.errors import TrainingError
from models.evaluation import metrics, popularity_level, rank_requests
from models.recbole_bridge.network import Built, RecBoleEpochs, build, build_from_sizes, interaction, visible_gpus
from models.recbole_bridge.spec import RecBoleSettings
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences
from models.sequences import Vocabulary, histories
from models.training import Checkpoints, Learner, Schedule, judged_once, resolve_device
from models.training import train as run_training

__all__ = ["RecBoleModel"]

SCORED_AT_ONCE = 1 << 24  # scores
PAIRS_AT_ONCE = 1 << 18  # of a model that scores one item at a time
EVENTS_FILE = "events.parquet"


class RecBoleModel(Recommender):
    """RecBole's network for `settings.model`.

    A sequential model ranks a request without known events by popularity, and a general model one of a user without train events.
    """

    name = "recbole"
    sequential = False  # each instance has its own value

    def __init__(self, settings: RecBoleSettings) -> None:
        self._settings = settings
        self.sequential = settings.sequential  # type: ignore[misc]
        self._device = torch.device(resolve_device(settings.device))
        self._events = pd.DataFrame()
        self._network: nn.Module | None = None
        self._others: dict[str, torch.Tensor] = {}  # what some networks keep outside of their weights
        self._know(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))

    def settings(self) -> dict[str, Any]:
        return self._settings.model_dump(mode="json")

    @property
    def max_length(self) -> int | None:
        return self._settings.max_length if self.sequential else None

    @property
    def network(self) -> nn.Module:
        """RecBole's network. Raises TrainingError before `fit` or `load`."""
        if self._network is None:
            raise TrainingError(f"RecBole's {self._settings.model} has no weights yet: fit it or load a version.")
        return self._network

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
        if train.weights is not None and (train.weights != train.weights[:1]).any():
            raise TrainingError(
                "RecBole's losses cannot weight events, but these have different weights. Remove recbole from challenger and baselines, "
                "or data.columns.weight."
            )
        vocabulary = Vocabulary(catalogue)
        counts = np.bincount(vocabulary.indices(train.item_ids), minlength=len(catalogue) + 1)[1:]
        self._events = _events_of(train, vocabulary)
        built = self._built(catalogue, seed)
        self._know(catalogue, counts, _columns(built.items, catalogue), built.users)
        self._network = built.network
        epochs = RecBoleEpochs(built, seed)
        if built.at_once:
            epochs(1)
            self._keep(built.network)
            return judged_once(self, valid, started, mask_seen=mask_seen, on_epoch=on_epoch)

        def validate() -> dict[str, float]:
            return metrics(rank_requests(self, valid, catalogue, mask_seen=mask_seen, batch_size=256).ranks, (10,))

        popularity = popularity_level(train, valid, catalogue, mask_seen=mask_seen)
        report = run_training(
            Learner(built.network, epochs.optimizers, epochs),
            validate,
            Schedule(self._settings.max_epochs, self._settings.patience, popularity=popularity),
            seed=seed,
            checkpoints=Checkpoints.of(checkpoint_dir, self, train, valid, seed, mask_seen=mask_seen),
            on_epoch=on_epoch,
        )
        # Some networks cache what they computed from the last weights, so the best weights go into a new one.
        best = built.network.state_dict()
        self._network = self._untrained()
        self._network.load_state_dict(best)
        return report

    @torch.no_grad()
    def scores(self, requests: Requests) -> torch.Tensor:
        network = self.network.eval()
        users = self._users.indices(requests.user_ids)
        read = histories(requests, self._vocabulary, self._settings.max_length)
        lengths = torch.diff(read.offsets)
        known = lengths.numpy() > 0 if self.sequential else users > 0
        popularity = torch.from_numpy(self._counts).float().log1p().to(self._device)
        scores = popularity.repeat(len(requests), 1)
        rows, at_once = np.flatnonzero(known), max(1, SCORED_AT_ONCE // len(self.catalogue))
        tokens = torch.from_numpy(np.append(0, self._columns))[read.items]
        columns = torch.from_numpy(self._columns).to(self._device)
        for first in range(0, len(rows), at_once):
            some = rows[first : first + at_once]
            asked = {"user_id": torch.from_numpy(users[some])}
            if self.sequential:
                padded = torch.zeros(len(some), self._settings.max_length, dtype=torch.int64)
                for place, row in enumerate(some):
                    padded[place, : int(lengths[row])] = tokens[int(read.offsets[row]) : int(read.offsets[row + 1])]
                asked |= {"item_id_list": padded, "item_length": lengths[some]}
            found = self._all_items(network, asked)[:, columns]
            if not bool(torch.isfinite(found).all()):
                raise TrainingError(
                    f"RecBole's {self._settings.model} returns scores that are not finite. Lower the learning rate."
                )
            scores[torch.from_numpy(some).to(self._device)] = found.float()
        return scores

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        state = {f"weights.{name}": weight for name, weight in self.network.state_dict().items()}
        state |= {f"others.{name}": value for name, value in self._others.items()}
        save_file({name: each.detach().cpu().contiguous().clone() for name, each in state.items()}, folder / "model.safetensors")
        config = {"model": self.name, "format": 1, "settings": self.settings()}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        items = {"item_id": self.catalogue, "index": self._columns, "train_events": self._counts}
        pd.DataFrame(items).to_parquet(folder / "vocabulary.parquet", index=False)
        indices = np.arange(1, len(self._tokens) + 1)
        pd.DataFrame({"user_id": self._tokens, "index": indices}).to_parquet(folder / "users.parquet", index=False)
        if self._from_sizes() is None:  # the network is built from the events, as LightGCN's graph is
            self._events.to_parquet(folder / EVENTS_FILE, index=False)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> RecBoleModel:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = cls(RecBoleSettings(**config["settings"] | {"device": device}))
        items, users = pd.read_parquet(folder / "vocabulary.parquet"), pd.read_parquet(folder / "users.parquet")
        if (folder / EVENTS_FILE).exists():
            model._events = pd.read_parquet(folder / EVENTS_FILE)
        catalogue, counts, columns = (items[name].to_numpy(np.int64) for name in ("item_id", "train_events", "index"))
        model._know(catalogue, counts, columns, users["user_id"].to_numpy(np.int64))
        model._network = model._untrained()
        stored = load_file(folder / "model.safetensors")
        weights = {name.removeprefix("weights."): each for name, each in stored.items() if name.startswith("weights.")}
        model._network.load_state_dict(weights)
        model._others = {name.removeprefix("others."): each for name, each in stored.items() if name.startswith("others.")}
        for name, value in _values_of(model._others).items():
            setattr(model._network, name, value.to(model._device) if isinstance(value, torch.Tensor) else value)
        return model

    def _know(self, catalogue: IntArray, counts: IntArray, columns: IntArray, tokens: IntArray) -> None:
        """Take the ids: `columns` are RecBole's indices of the catalogue's items, `tokens` the users of its indices 1..n."""
        self.catalogue, self._counts, self._columns, self._tokens = catalogue, counts, columns, tokens
        self._vocabulary = Vocabulary(catalogue)
        self._users = _Places(tokens)

    def _keep(self, network: nn.Module) -> None:
        """Remember what a network keeps outside of its weights: ItemKNN its similarities, EASE its matrix."""
        found: dict[str, Any] = network.other_parameter()  # type: ignore[operator]
        self._others = {part: tensor for name, value in found.items() for part, tensor in _tensors_of(name, value).items()}

    def _untrained(self) -> nn.Module:
        network = self._from_sizes()
        return self._built(self.catalogue, 0).network if network is None else network

    def _from_sizes(self) -> nn.Module | None:
        return build_from_sizes(len(self._tokens), self._settings.model, self._options(0), self.catalogue)

    def _built(self, catalogue: IntArray, seed: int) -> Built:
        return build(self._events, self._settings.model, self._options(seed), catalogue, seed)

    def _options(self, seed: int) -> dict[str, Any]:
        own = self._settings
        return own.options | {
            "MAX_ITEM_LIST_LENGTH": own.max_length,
            "train_batch_size": own.batch_size,
            "learning_rate": own.learning_rate,
            "epochs": own.max_epochs,
            "seed": seed % 2**32,
            "gpu_id": visible_gpus() if self._device.type == "cuda" else "",
        }

    def _all_items(self, network: Any, asked: dict[str, torch.Tensor]) -> torch.Tensor:
        """Return the scores (B, n_items + 1) by RecBole's indices."""
        rows, items = len(asked["user_id"]), len(self.catalogue) + 1
        batch = {name: each.to(self._device) for name, each in asked.items()}
        try:
            found: torch.Tensor = network.full_sort_predict(interaction(batch))
        except NotImplementedError:  # it scores pairs
            at_once = max(1, PAIRS_AT_ONCE // items)
            everything = torch.arange(items, device=self._device)
            parts = []
            for first in range(0, rows, at_once):
                some = {name: each[first : first + at_once].repeat_interleave(items, dim=0) for name, each in batch.items()}
                pairs = interaction(some | {"item_id": everything.repeat(len(some["user_id"]) // items)})
                parts.append(network.predict(pairs))
            found = torch.cat(parts)
        return found.view(rows, items)


class _Places:
    """The index 1..n of each raw id, in any order; 0 if it is unknown."""

    def __init__(self, ids: IntArray) -> None:
        self._order = np.argsort(ids, kind="stable")
        self._vocabulary = Vocabulary(ids[self._order])

    def indices(self, raw: IntArray) -> IntArray:
        places = self._vocabulary.indices(raw)
        return np.append(0, self._order + 1)[places].astype(np.int64)


def _events_of(train: Sequences, vocabulary: Vocabulary) -> pd.DataFrame:
    """Return the train events of known items. Times are positions: float32 holds them exactly, and no two of a user are equal."""
    known = vocabulary.indices(train.item_ids) > 0
    rows = train.row_of_event
    positions = np.arange(len(train.item_ids)) - train.offsets[rows]
    columns = {"user_id": train.user_ids[rows], "item_id": train.item_ids, "timestamp": positions}
    return pd.DataFrame({name: column[known] for name, column in columns.items()})


def _columns(items: IntArray, catalogue: IntArray) -> IntArray:
    """Return RecBole's index of each item of the catalogue, given the ids of its indices 1..n."""
    order = np.argsort(items, kind="stable")
    assert np.array_equal(items[order], catalogue)
    return (order + 1).astype(np.int64)


def _tensors_of(name: str, value: Any) -> dict[str, torch.Tensor]:
    """Return a tensor, an array or a sparse matrix as tensors with names that tell which of these it is."""
    if isinstance(value, torch.Tensor):
        return {f"{name}.tensor": value}
    if issparse(value):
        rows = value.tocsr()
        parts = {"values": rows.data, "columns": rows.indices.astype(np.int64), "rows": rows.indptr.astype(np.int64)}
        parts["shape"] = np.array(rows.shape, np.int64)
        return {f"{name}.{part}": torch.from_numpy(array) for part, array in parts.items()}
    return {f"{name}.array": torch.from_numpy(np.asarray(value))}


def _values_of(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return what `_tensors_of` was given, by name."""
    found: dict[str, Any] = {}
    for part, tensor in tensors.items():
        name, _, kind = part.rpartition(".")
        if kind in ("tensor", "array"):
            found[name] = tensor if kind == "tensor" else tensor.numpy()
        elif kind == "values":
            columns, rows, shape = (tensors[f"{name}.{other}"].numpy() for other in ("columns", "rows", "shape"))
            found[name] = csr_matrix((tensor.numpy(), columns, rows), shape=tuple(shape.tolist()))
    return found
