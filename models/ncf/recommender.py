"""NCF as a `Recommender`: RecBole's NeuMF (arXiv 1708.05031), trained with its loss on sampled negatives.

Scoring uses our own version of NeuMF's forward pass, which splits the first layer into a user half and an item half. Scoring
the whole catalogue for a user therefore takes one addition instead of a concatenation per pair, and serving does not need
RecBole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from configs.errors import TrainingError
from configs.settings import NCFSettings
from models.evaluation import metrics, popularity_level, rank_requests
from models.ncf.inference import hidden_layers
from models.ratings import Features, RatingHead
from models.recommender import FitReport, IntArray, OnEpoch, Program, Recommender, Requests, Sequences, WarmStart
from models.sequences import Vocabulary
from models.training import (
    AdamW,
    Checkpoints,
    EagerEpochs,
    Learner,
    Schedule,
    adopt_weights,
    fingerprint_of,
    resolve_device,
    same_rows,
)
from models.training import train as run_training

__all__ = ["NCF"]

SCORED_AT_ONCE = {"cpu": 1 << 19, "cuda": 1 << 22}  # floats in the largest intermediate tensor; on a CPU, it stays in the cache
EVENTS_AT_ONCE = 1 << 15  # whose features are in memory at once
MOST_BITS = 26  # of a hash: its marks then take 64 MiB
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2 ** 64 divided by the golden ratio


class NCF(Recommender):
    """Neural collaborative filtering. A user who was not in training gets the mean of all users' embeddings."""

    name = "ncf"
    sequential = False

    def __init__(self, settings: NCFSettings) -> None:
        self._settings = settings
        self._device = torch.device(resolve_device(settings.device))
        self.catalogue: IntArray = np.empty(0, dtype=np.int64)
        self._items = self._users = Vocabulary(self.catalogue)
        self._weights: dict[str, torch.Tensor] = {}
        self._rating_head: RatingHead | None = None
        self._start: WarmStart | None = None

    def settings(self) -> dict[str, Any]:
        return self._settings.model_dump(mode="json")

    def begin_with(self, start: WarmStart) -> bool:
        shape = ("mf_width", "mlp_width", "mlp_hidden")
        parent = start.parent
        if not isinstance(parent, NCF) or any(getattr(self._settings, n) != getattr(parent._settings, n) for n in shape):
            return False
        self._start = start
        return True

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
        from models.recbole_bridge import neumf

        settings = self._settings
        self.catalogue, self._items, self._users = catalogue, Vocabulary(catalogue), Vocabulary(train.user_ids)
        users = self._users.indices(train.user_ids)[train.row_of_event]
        items = self._items.indices(train.item_ids)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = neumf(len(train.user_ids), len(catalogue), settings).to(self._device)
        optimizer = AdamW(network.parameters(), settings.learning_rate, settings.weight_decay, coupled=True)
        learnt, start = None, self._start
        if start is not None:
            self._adopt(network, start)
            learnt, self._start = np.flatnonzero(np.isin(train.row_of_event, start.rows)), None
        sampler = _Sampler(users, items, len(catalogue), settings.negatives, train.relative_weights, learnt)

        def batches(epoch: int) -> Iterator[dict[str, torch.Tensor]]:
            return sampler.batches(settings.batch_size, np.random.default_rng([seed, epoch]))

        def loss(batch: dict[str, torch.Tensor]) -> torch.Tensor:
            given = {name: column.to(self._device) for name, column in batch.items()}
            if "weight" in given:
                logits = network(given["user_id"], given["item_id"])
                return F.binary_cross_entropy_with_logits(logits, given["label"], given["weight"])
            value: torch.Tensor = network.calculate_loss(given)  # type: ignore[operator]
            return value

        def validate() -> dict[str, float]:
            self._take_weights(network.state_dict())
            ranking = rank_requests(self, valid, catalogue, mask_seen=mask_seen, batch_size=256)
            return metrics(ranking.ranks, (10,))

        popularity = popularity_level(train, valid, catalogue, mask_seen=mask_seen)
        words = f"ncf, fused {settings.model_dump_json()} {seed} {mask_seen}"
        fingerprint = fingerprint_of(words, train, valid, catalogue)
        report = run_training(
            Learner(network, optimizer, EagerEpochs(network, optimizer, batches, loss)),
            validate,
            Schedule(settings.max_epochs, settings.patience, popularity=popularity),
            seed=seed,
            checkpoints=None if checkpoint_dir is None else Checkpoints(checkpoint_dir, fingerprint),
            on_epoch=on_epoch,
        )
        self._take_weights(network.state_dict())
        if settings.rating_head:
            blocks = np.array_split(np.arange(len(items)), max(1, len(items) // EVENTS_AT_ONCE))
            events = ((block, self._pair_features(users[block], items[block])) for block in blocks)
            self._rating_head = RatingHead.fit(train, self._items, events, valid, self._request_features, kind=self.name)
        return report

    @torch.no_grad()
    def scores(self, requests: Requests) -> torch.Tensor:
        if not self._weights:
            raise TrainingError("NCF has no weights yet: fit it or load a version.")
        w = self._weights
        rows = torch.from_numpy(self._users.indices(requests.user_ids)).to(self._device)
        layers = hidden_layers(w)
        first, width = w[f"{layers[0]}.weight"], self._settings.mlp_width
        user_half = w["user_mlp_embedding.weight"][rows] @ first[:, :width].T + w[f"{layers[0]}.bias"]
        item_half = w["item_mlp_embedding.weight"][1:] @ first[:, width:].T
        out, mf_width = w["predict_layer.weight"][0], self._settings.mf_width
        mf = (w["user_mf_embedding.weight"][rows] * out[:mf_width]) @ w["item_mf_embedding.weight"][1:].T
        scores = torch.empty_like(mf)
        at_once = max(1, SCORED_AT_ONCE[self._device.type] // item_half.numel())
        for start in range(0, len(rows), at_once):
            hidden = (user_half[start : start + at_once, None] + item_half).relu_()  # (chunk, n_items, first hidden)
            for layer in layers[1:]:
                hidden = (hidden @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]).relu_()
            scores[start : start + at_once] = hidden @ out[mf_width:]
        return scores + mf + w["predict_layer.bias"]

    def predict_ratings(self, requests: Requests) -> torch.Tensor | None:
        head = self._rating_head
        return None if head is None else head.predict(requests, self._items, self._request_features(requests))

    def _request_features(self, requests: Requests) -> Features:
        return self._pair_features(self._users.indices(requests.user_ids), self._items.indices(requests.targets))

    @torch.no_grad()
    def _pair_features(self, users: IntArray, items: IntArray) -> Features:
        """Return what the output layer reads of users and items, by their numbers: both factors' product, and the last hidden layer."""
        w, user, item = self._weights, torch.from_numpy(users).to(self._device), torch.from_numpy(items).to(self._device)
        hidden = torch.cat([w["user_mlp_embedding.weight"][user], w["item_mlp_embedding.weight"][item]], dim=1)
        for layer in hidden_layers(w):
            hidden = (hidden @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]).relu_()
        factors = w["user_mf_embedding.weight"][user] * w["item_mf_embedding.weight"][item]
        known = (item > 0)[:, None]
        found: Features = torch.where(known, torch.cat([factors, hidden], dim=1), 0.0).cpu().numpy()
        return found

    def item_vectors(self) -> torch.Tensor:
        """Return both embeddings of each item, one after the other."""
        return torch.cat([self._weights[f"item_{half}_embedding.weight"][1:] for half in ("mf", "mlp")], dim=1)

    def user_vectors(self, requests: Requests) -> torch.Tensor:
        """Return both embeddings of each user, one after the other. A network turns them into scores, not a product."""
        rows = torch.from_numpy(self._users.indices(requests.user_ids)).to(self._device)
        return torch.cat([self._weights[f"user_{half}_embedding.weight"][rows] for half in ("mf", "mlp")], dim=1)

    def program(self) -> Program:
        from models.ncf.program import program_of

        return program_of({name: weight.cpu() for name, weight in self._weights.items()}, self._users.ids)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: weight.cpu().contiguous() for name, weight in self._weights.items()}, folder / "model.safetensors")
        config = {"model": self.name, "format": 1, "settings": self.settings()}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for ids, column, file in ((self.catalogue, "item_id", "vocabulary"), (self._users.ids, "user_id", "users")):
            pd.DataFrame({column: ids, "index": np.arange(1, len(ids) + 1)}).to_parquet(folder / f"{file}.parquet", index=False)
        if self._rating_head is not None:
            self._rating_head.save(folder)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> NCF:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        model = cls(NCFSettings(**config["settings"] | {"device": device}))
        model.catalogue = pd.read_parquet(folder / "vocabulary.parquet")["item_id"].to_numpy(np.int64)
        model._items = Vocabulary(model.catalogue)
        model._users = Vocabulary(pd.read_parquet(folder / "users.parquet")["user_id"].to_numpy(np.int64))
        model._weights = {name: weight.to(model._device) for name, weight in load_file(folder / "model.safetensors").items()}
        model._rating_head = RatingHead.load(folder)
        return model

    def _adopt(self, network: nn.Module, start: WarmStart) -> None:
        """Give the network the weights of an earlier model, with the rows of the users and items that both know."""
        parent = start.parent
        assert isinstance(parent, NCF)
        rows = {"user": same_rows(self._users.ids, parent._users.ids), "item": same_rows(self.catalogue, parent.catalogue)}
        named = {f"{who}_{half}_embedding.weight": found for who, found in rows.items() for half in ("mf", "mlp")}
        adopt_weights(network, parent._weights, named)

    def _take_weights(self, state: dict[str, torch.Tensor]) -> None:
        self._weights = {name: weight.detach().clone() for name, weight in state.items()}
        for name in ("user_mf_embedding.weight", "user_mlp_embedding.weight"):
            self._weights[name][0] = self._weights[name][1:].mean(dim=0)


class _Sampler:
    """Yields each event with negatives drawn uniformly from the items that its user has not seen in the train part.

    Negatives have the weight of their event. A drawn pair is looked up among the seen ones only if its hash is marked, because a
    binary search of each one would take longer than the step that it is drawn for.
    """

    def __init__(
        self,
        users: IntArray,
        items: IntArray,
        n_items: int,
        negatives: int,
        weights: npt.NDArray[np.float32] | None = None,
        learnt: IntArray | None = None,
    ) -> None:
        self.learnt = np.arange(len(users)) if learnt is None else learnt  # places of the events to yield
        self.users, self.items, self.n_items, self.negatives, self.weights = users, items, n_items, negatives, weights
        self.seen = np.unique(users * (n_items + 1) + items)
        self._marks = np.zeros(1 << min(MOST_BITS, (16 * len(self.seen) + 1).bit_length()), dtype=np.bool_)
        self._marks[self._slots(self.seen)] = True
        met = np.bincount(self.seen // (n_items + 1))
        if met.max(initial=0) >= n_items:
            raise TrainingError(
                f"A user has seen all {n_items} items in the catalogue, so NCF cannot draw a negative. Drop the user, or train "
                "without the baseline (models.ncf: null)."
            )

    def batches(self, batch_size: int, rng: np.random.Generator) -> Iterator[dict[str, torch.Tensor]]:
        order = self.learnt[rng.permutation(len(self.learnt))]
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            users = np.repeat(self.users[rows], self.negatives)
            drawn = self._unseen(users, rng)
            weights = {}
            if self.weights is not None:
                given = self.weights[rows]
                weights = {"weight": torch.from_numpy(np.concatenate([given, np.repeat(given, self.negatives)]))}
            yield {
                **weights,
                "user_id": torch.from_numpy(np.concatenate([self.users[rows], users])),
                "item_id": torch.from_numpy(np.concatenate([self.items[rows], drawn])),
                "label": torch.cat([torch.ones(len(rows)), torch.zeros(len(users))]),
            }

    def _unseen(self, users: IntArray, rng: np.random.Generator) -> IntArray:
        drawn = rng.integers(1, self.n_items + 1, size=len(users))
        again = self._met(users * (self.n_items + 1) + drawn)
        while len(again) > 0:
            drawn[again] = rng.integers(1, self.n_items + 1, size=len(again))
            again = again[self._met(users[again] * (self.n_items + 1) + drawn[again])]
        return drawn

    def _met(self, keys: IntArray) -> IntArray:
        """Return the places of the keys that are in `seen`. Only those that the marks do not rule out are looked up."""
        possible = np.flatnonzero(self._marks[self._slots(keys)])
        found = keys[possible]
        place = np.minimum(np.searchsorted(self.seen, found), len(self.seen) - 1)
        met: IntArray = possible[self.seen[place] == found]
        return met

    def _slots(self, keys: IntArray) -> IntArray:
        """Return the mark of each key, by multiplicative hashing (Knuth, The Art of Computer Programming, volume 3, 6.4)."""
        slots: IntArray = ((keys.view(np.uint64) * GOLDEN) >> np.uint64(65 - len(self._marks).bit_length())).view(np.int64)
        return slots
