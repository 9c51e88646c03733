"""Any network of this package as a `Recommender`: one pass over a window predicts every position at once.

Windows, order of ties, losses, optimizer, averaging of weights, early stopping by a ranking in float32, collapse and checkpoints
are those of SS4Rec.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from configs.errors import TrainingError
from models.distillation import number_of_teachers, soft_targets, student_settings
from models.evaluation import MISS, metrics, popularity_level
from models.intervals import refuse_milliseconds
from models.losses import NextItemLoss
from models.recommender import FitReport, IntArray, OnEpoch, Recommender, Requests, Sequences, WarmStart
from models.sequences import Histories, Vocabulary, histories
from models.training import (
    AdamW,
    Checkpoints,
    EagerEpochs,
    HoldoutRanking,
    Learner,
    Rates,
    Schedule,
    StepRule,
    adopt_weights,
    autocast,
    half_type,
    read_model,
    resolve_device,
    same_rows,
    same_shapes,
    write_model,
)
from models.training import train as run_training
from models.transformers.last_hidden import last_hidden
from models.transformers.network import ItemNetwork
from models.transformers.settings import SequenceSettings
from models.windows import Batch, Batching, TrainingBatches

__all__ = ["SequenceRecommender"]


class SequenceRecommender(Recommender):
    """A kind of this package. A request without known events is ranked by popularity in the train part."""

    sequential = True
    products = True
    settings_type: ClassVar[type[SequenceSettings]]
    network_type: ClassVar[type[ItemNetwork]]
    reads_time: ClassVar[bool] = False
    """Whether the network reads times even without the setting interval_embedding."""

    item_rows: ClassVar[dict[str, int]] = {"items.weight": 1}
    """The weights with a row for each item, and the row of the first item."""

    def __init__(self, settings: SequenceSettings) -> None:
        self._settings = settings
        self._device = torch.device(resolve_device(settings.device))
        self._take(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
        self._network: ItemNetwork | None = None
        self._start: WarmStart | None = None

    @property
    def max_length(self) -> int:
        return self._settings.max_length

    @property
    def network(self) -> ItemNetwork:
        """The network. Raises TrainingError before `fit` or `load`."""
        if self._network is None:
            raise TrainingError(f"{self.name} has no weights yet: fit it or load a version.")
        return self._network

    def settings(self) -> dict[str, Any]:
        return self._settings.model_dump(mode="json")

    def begin_with(self, start: WarmStart) -> bool:
        parent = start.parent
        if not isinstance(parent, type(self)) or number_of_teachers(self._settings):
            return False
        with torch.random.fork_rng(devices=[]):
            fits = same_shapes(self._untrained(), parent.network.state_dict(), self.item_rows)
        self._start = start if fits else None
        return fits

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
        settings, device, half = self._settings, self._device, half_type(self._settings.precision, self._device)
        if self.reads_time or settings.interval_embedding:
            refuse_milliseconds(train, self.name)
        soft, before = soft_targets(
            self._teacher, settings, train, valid, catalogue, seed=seed, mask_seen=mask_seen, folder=checkpoint_dir, tell=on_epoch
        )
        indices = Vocabulary(catalogue).indices(train.item_ids)
        self._take(catalogue, np.bincount(indices, train.weights, minlength=len(catalogue) + 1)[1:])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = network = self._untrained().to(device)
        learnt, start = train, self._start
        if start is not None:
            assert isinstance(start.parent, SequenceRecommender)
            rows = {name: same_rows(catalogue, start.parent.catalogue, first) for name, first in self.item_rows.items()}
            adopt_weights(network, start.parent.network.state_dict(), rows)
            learnt, self._start = train.of_rows(start.rows), None
        optimizer = AdamW(network.parameters(), settings.learning_rate, settings.weight_decay)
        tokens = max(settings.batch_tokens, settings.max_length)
        batching = Batching(settings.max_length, tokens, seed, shuffle_ties=train.ties_drawn)
        batches = TrainingBatches(learnt, self._vocabulary, batching, device=device)
        rates = Rates(settings.learning_rate, settings.max_epochs, settings.warm_up, settings.schedule)
        rule = StepRule(
            settings.weight_averaging,
            rates=(lambda epoch: rates.of_epoch(epoch, batches.steps(epoch))) if rates.vary else None,
        )
        loss = NextItemLoss.of(settings, soft)
        holdout = HoldoutRanking(
            valid, self._vocabulary, self._cold_scores(), settings.max_length, kind=self.name, mask_seen=mask_seen
        )

        def loss_of(batch: Batch) -> torch.Tensor:
            with self._autocast():
                hidden, vectors = self.predict(batch)  # in float32 after a norm, also under autocast
                return loss(hidden if half is None else hidden.to(half), vectors, batch)

        def hidden_of(read: Histories) -> torch.Tensor:
            return last_hidden(network, read.items, read.intervals, read.offsets.numpy(), settings.max_length)

        def validate() -> dict[str, float]:
            with self._autocast():
                return metrics(holdout.ranks(hidden_of, network.item_vectors(), MISS), (10,))

        report = run_training(
            Learner(network, optimizer, EagerEpochs(network, optimizer, batches.eager, loss_of, rule)),
            validate,
            Schedule(
                settings.max_epochs,
                settings.patience,
                popularity=popularity_level(train, valid, catalogue, mask_seen=mask_seen),
            ),
            seed=seed,
            checkpoints=Checkpoints.of(checkpoint_dir, self, train, valid, seed, mask_seen=mask_seen),
            on_epoch=on_epoch,
        )
        return replace(report, seconds=report.seconds + before)

    def predict(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the states (T, H) after each event of a batch, and the item vectors (n_items, H)."""
        network = self.network
        padded = network(batch.segments.pad(batch.items), batch.segments.pad(batch.intervals))
        return batch.segments.unpad(padded), network.item_vectors()

    @torch.no_grad()
    def scores(self, requests: Requests) -> torch.Tensor:
        hidden, known = self._hidden(requests)
        scores = hidden @ self.item_vectors().T
        return torch.where(known[:, None], scores, self._cold_scores())

    def item_vectors(self) -> torch.Tensor:
        return self.network.item_vectors().detach().float()

    @torch.no_grad()
    def user_vectors(self, requests: Requests) -> torch.Tensor:
        """Return the hidden states (R, H) after the latest `max_length` events. They are zero without known events."""
        return self._hidden(requests)[0]

    def _hidden(self, requests: Requests) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the hidden states (R, H), and which requests have known events (R,)."""
        network, most = self.network.eval(), self._settings.max_length
        read = histories(requests, self._vocabulary, most)
        items, seconds = read.items.to(self._device), read.intervals.to(self._device)
        with self._autocast():
            hidden = last_hidden(network, items, seconds, read.offsets.numpy(), most)
        return hidden, (torch.diff(read.offsets) > 0).to(self._device)

    def save(self, folder: Path) -> None:
        write_model(folder, self, self.network.state_dict(), {"train_events": self._counts})

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        saved = read_model(folder)
        model = cls(cls.settings_type(**saved.settings | {"device": device}))
        model._take(saved.catalogue, saved.items["train_events"].to_numpy())
        model._network = model._untrained()
        model._network.load_state_dict(saved.tensors)
        model._network.to(model._device).eval()
        return model

    def _take(self, catalogue: IntArray, counts: npt.NDArray[Any]) -> None:
        """Take the items, and how many train events each has, or the sum of their weights."""
        self.catalogue, self._vocabulary, self._counts = catalogue, Vocabulary(catalogue), counts

    def _teacher(self) -> Self:
        return type(self)(self._settings.model_copy(update={"teachers": 0}))

    def _untrained(self) -> ItemNetwork:
        return self.network_type(len(self.catalogue), student_settings(self._settings))

    def _cold_scores(self) -> torch.Tensor:
        return torch.from_numpy(self._counts).float().log1p().to(self._device)

    def _autocast(self) -> torch.autocast:
        return autocast(half_type(self._settings.precision, self._device), self._device)
