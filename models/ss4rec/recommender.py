"""SS4Rec as a `Recommender`: one pass over a window predicts every position at once.

Both layers are causal, and an interval has the same value in the context as in the last step. Training on all positions
therefore has the targets of the authors' one-row-per-prefix augmentation, at about 1/200 of its work.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from configs.errors import TrainingError
from configs.settings import SS4RecSettings
from models.attributes import item_features
from models.distillation import number_of_teachers, soft_targets, student_settings
from models.evaluation import MISS, metrics, popularity_level
from models.intervals import refuse_milliseconds
from models.losses import NextItemLoss
from models.ratings import RatingHead, event_features, pair_features
from models.recommender import FitReport, IntArray, OnEpoch, Program, Recommender, Requests, Sequences, WarmStart
from models.sequences import Histories, Vocabulary, histories
from models.ss4rec.kernels import resolve_backend
from models.ss4rec.last_hidden import last_hidden
from models.ss4rec.network import SS4RecNetwork
from models.ss4rec.spec import settings_of_model
from models.training import (
    AdamW,
    Checkpoints,
    EagerEpochs,
    Epochs,
    GraphedEpochs,
    HoldoutRanking,
    Learner,
    Rates,
    Replicas,
    Schedule,
    StepRule,
    adopt_weights,
    autocast,
    fingerprint_of,
    half_type,
    name_first_nonfinite,
    resolve_device,
    same_rows,
    same_shapes,
)
from models.training import train as run_training
from models.users import UserTraits
from models.windows import Batch, Batching, Segments, TrainingBatches

__all__ = ["SS4Rec"]

ITEM_ROWS = "items.weight"
"""The weight with a row for each item."""


class SS4Rec(Recommender):
    """The SS4Rec recommender; see `models.ss4rec`.

    A request without known events is ranked by popularity in the train part. With `user_features`, the user of a request is
    looked up in the table given to `describe_users`; new users are unknown.
    """

    name = "ss4rec"
    sequential = True
    products = True

    def __init__(self, settings: SS4RecSettings) -> None:
        self._settings = settings
        device = resolve_device(settings.device)
        # Include the GPU's index: work started in a thread would otherwise go to the first GPU.
        self._device = torch.device(device, torch.cuda.current_device()) if device == "cuda" else torch.device(device)
        self._backend = resolve_backend(settings.scan, self._device)
        self.catalogue: IntArray = np.empty(0, dtype=np.int64)
        self._vocabulary = Vocabulary(self.catalogue)
        self._counts: npt.NDArray[Any] = np.empty(0, dtype=np.int64)  # events of each item, or the sum of their weights
        self._traits: UserTraits | None = None
        self._network: SS4RecNetwork | None = None
        self._compiled: Callable[[], None] | None = None
        self._rating_head: RatingHead | None = None
        self._start: WarmStart | None = None
        self._described: pd.DataFrame | None = None  # the dataset's items
        self._features: npt.NDArray[np.float32] | None = None  # (n_items, F) while a network learns from them

    def settings(self) -> dict[str, Any]:
        return self._settings.model_dump(mode="json")

    @property
    def network(self) -> SS4RecNetwork:
        """The network. Raises TrainingError before `fit` or `load`."""
        if self._network is None:
            raise TrainingError("SS4Rec has no weights yet: fit it or load a version.")
        return self._network

    def prepare(self) -> None:
        if self._compiled is None and self._device.type == "cuda" and self._backend == "cuda":
            from models.ss4rec.precompile import precompile

            self._compiled = precompile(self._settings, self._autocast_dtype or torch.float32, self._device)

    def describe_users(self, users: pd.DataFrame) -> None:
        if self._settings.user_features:
            self._traits = UserTraits.of(users)

    def describe_items(self, items: pd.DataFrame) -> None:
        if self._settings.item_attributes:
            self._described = items

    def begin_with(self, start: WarmStart) -> bool:
        parent = start.parent
        if self._settings.item_attributes or number_of_teachers(self._settings):
            return False  # the parent does not tell an item's own vector from that of its attributes, and teachers have no parent
        if not isinstance(parent, SS4Rec) or self._trait_values != parent._trait_values:
            return False
        with torch.random.fork_rng(devices=[]):
            fits = same_shapes(self._untrained(), parent.network.state_dict(), [ITEM_ROWS])
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
        refuse_milliseconds(train, "SS4Rec")
        if self._settings.user_features and self._traits is None:
            raise TrainingError("The setting user_features is on, but there is no user data: call describe_users first.")
        self.prepare()
        settings, device, replicas = self._settings, self._device, Replicas.current()
        soft, before = soft_targets(
            self._teacher, settings, train, valid, catalogue, seed=seed, mask_seen=mask_seen, folder=checkpoint_dir, tell=on_epoch
        )
        loss = NextItemLoss.of(settings, soft)
        self._take_vocabulary(catalogue, train)
        if settings.item_attributes:
            self._take_vocabulary(catalogue[self._counts > 0], train)
            self._features = self._features_of(self.catalogue)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._network = self._untrained().to(device)
        network, learnt, start = self._network, train, self._start
        if start is not None:
            assert isinstance(start.parent, SS4Rec)
            adopt_weights(network, start.parent.network.state_dict(), {ITEM_ROWS: same_rows(catalogue, start.parent.catalogue)})
            learnt, self._start = train.of_rows(start.rows), None
        replicas.adopt_first(network.state_dict().values())
        graphed = device.type == "cuda" and self._backend == "cuda" and not settings.debug
        optimizer = AdamW(network.parameters(), settings.learning_rate, settings.weight_decay)
        batches = TrainingBatches(
            learnt,
            self._vocabulary,
            Batching(
                max_length=settings.max_length,
                tokens=max(settings.batch_tokens, settings.max_length),
                seed=seed,
                full=settings.full_batches,
                shuffle_ties=settings.shuffle_ties and train.ties_drawn,
            ),
            device=device,
            who=self._who(learnt.user_ids),
            replicas=replicas,
        )
        rates = Rates(settings.learning_rate, settings.max_epochs, settings.warm_up, settings.schedule)
        rule = StepRule(
            settings.weight_averaging,
            settings.clip_norm,
            (lambda epoch: rates.of_epoch(epoch, batches.steps(epoch))) if rates.vary else None,
        )

        def loss_of(batch: Batch) -> torch.Tensor:
            return self._loss(batch, loss)

        epochs: Epochs
        if graphed:
            epochs = GraphedEpochs(
                network, optimizer, batches.begin, lambda step: loss_of(batches.fixed(step)), rule, replicas=replicas
            )
        else:
            epochs = EagerEpochs(network, optimizer, batches.eager, loss_of, rule, replicas=replicas)
        holdout = HoldoutRanking(
            valid,
            self._vocabulary,
            self._cold_scores().to(device),
            settings.max_length,
            kind=self.name,
            mask_seen=mask_seen,
            replicas=replicas,
        )
        codes = self._who(valid.user_ids[holdout.rows])
        who = None if codes is None else torch.from_numpy(codes).to(device)

        def hidden_of(read: Histories) -> torch.Tensor:
            return last_hidden(network, read, self._backend, who)

        def validate() -> dict[str, float]:
            with self._autocast():
                return metrics(holdout.ranks(hidden_of, network.item_vectors()[1:], MISS), (10,))

        popularity = popularity_level(train, valid, catalogue, mask_seen=mask_seen)
        # A run may resume with a different number of replicas, on a machine with other GPUs.
        words = f"{settings.model_dump_json(exclude={'replicas'})} {seed} {mask_seen}"
        further = [] if self._features is None else [self._features]
        fingerprint = fingerprint_of(words, train, valid, catalogue, self._who(train.user_ids), *further)
        hooks = name_first_nonfinite(network) if settings.debug else []
        if self._compiled is not None:
            self._compiled()
        try:
            report = run_training(
                Learner(network, optimizer, epochs, replicas),
                validate,
                Schedule(settings.max_epochs, settings.patience, popularity=popularity),
                seed=seed,
                checkpoints=None if checkpoint_dir is None else Checkpoints(checkpoint_dir, fingerprint),
                on_epoch=on_epoch,
            )
        finally:
            for hook in hooks:
                hook.remove()
        if self._features is not None:
            self._give_all_vectors(catalogue, train)
        if settings.rating_head:
            self._fit_rating_head(train, valid)
        return replace(report, seconds=report.seconds + before)

    def _loss(self, batch: Batch, loss: NextItemLoss) -> torch.Tensor:
        with self._autocast():
            hidden, vectors = self.predict(batch)
            return loss(hidden if self._autocast_dtype is None else hidden.to(self._autocast_dtype), vectors, batch)

    def predict(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the states (T, H) after each event of a batch, and the item vectors (n_items, H)."""
        network = self.network
        vectors = network.item_vectors()
        states = network(batch.items, batch.intervals, batch.segments, self._backend, batch.who, batch.until, vectors)
        return states, vectors[1:]

    @property
    def _autocast_dtype(self) -> torch.dtype | None:
        return half_type(self._settings.precision, self._device)

    def _autocast(self) -> torch.autocast:
        return autocast(self._autocast_dtype, self._device)

    @torch.no_grad()
    def scores(self, requests: Requests) -> torch.Tensor:
        hidden, known = self._hidden(requests, self._settings.max_length)
        scores = self.network.logits(hidden)
        cold = torch.from_numpy(~known).to(self._device)
        return torch.where(cold[:, None], self._cold_scores().to(scores), scores)

    def predict_ratings(self, requests: Requests) -> torch.Tensor | None:
        head = self._rating_head
        return None if head is None else head.predict(requests, self._vocabulary, self._pair_features(requests))

    @torch.no_grad()
    def _fit_rating_head(self, train: Sequences, valid: Requests) -> None:
        """Fit the head on the states of the trained network, which stays as it is."""
        network, codes = self.network.eval(), self._who(train.user_ids)

        def hidden(read: Histories, rows: IntArray) -> torch.Tensor:
            segments = Segments.of(read.offsets.to(self._device), len(read.items))
            who = None if codes is None else torch.from_numpy(codes[rows]).to(self._device)
            with self._autocast():
                return network(  # type: ignore[no-any-return]
                    read.items, read.intervals, segments, self._backend, who, read.until
                )

        vectors, most = network.items.weight.detach(), self._settings.max_length
        events = event_features(train, self._vocabulary, vectors, most, hidden)
        self._rating_head = RatingHead.fit(train, self._vocabulary, events, valid, self._pair_features, kind=self.name)

    @torch.no_grad()
    def _pair_features(self, requests: Requests) -> npt.NDArray[np.float32]:
        targets = torch.from_numpy(self._vocabulary.indices(requests.targets)).to(self._device)
        return pair_features(self._hidden(requests, self._settings.max_length)[0], self.network.items.weight[targets])

    def item_vectors(self) -> torch.Tensor:
        return self.network.items.weight[1:].detach().float()

    @torch.no_grad()
    def user_vectors(self, requests: Requests) -> torch.Tensor:
        """Return the hidden states (R, H) after all events of the requests. They are zero without known events."""
        return self._hidden(requests, int(requests.lengths.max(initial=1)))[0].float()

    def program(self) -> Program:
        from models.ss4rec.program import program_of

        return program_of(self.network, self._settings, self._cold_scores(), self._traits)

    def _hidden(self, requests: Requests, most: int) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
        """Return the hidden states (R, H) after at most `most` of the latest events, and which requests have any (R,)."""
        network = self.network.eval()
        read = histories(requests, self._vocabulary, most).to(self._device)
        codes = self._who(requests.user_ids)
        who = None if codes is None else torch.from_numpy(codes).to(self._device)
        with self._autocast():
            hidden = last_hidden(network, read, self._backend, who)
        return hidden, (torch.diff(read.offsets) > 0).numpy()

    def _cold_scores(self) -> torch.Tensor:
        return torch.from_numpy(self._counts).float().log1p()

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # A shared norm appears under two names, and safetensors does not store one tensor twice: clone it.
        state = {k: v.detach().cpu().contiguous().clone() for k, v in self.network.state_dict().items()}
        save_file(state, folder / "model.safetensors")
        config = {"model": self.name, "format": 1, "settings": self.settings()}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        pd.DataFrame(
            {"item_id": self.catalogue, "index": np.arange(1, len(self.catalogue) + 1), "train_events": self._counts}
        ).to_parquet(folder / "vocabulary.parquet", index=False)

        if self._traits is not None:
            self._traits.save(folder / "users.parquet")
        if self._rating_head is not None:
            self._rating_head.save(folder)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> SS4Rec:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        settings = settings_of_model(config["settings"], device)
        if settings.scan == "mamba-ssm":  # the kernels used in training do not matter here and may not be installed
            settings = settings.model_copy(update={"scan": "auto"})
        model = cls(settings)
        vocabulary = pd.read_parquet(folder / "vocabulary.parquet")
        model.catalogue = vocabulary["item_id"].to_numpy(np.int64)
        model._vocabulary = Vocabulary(model.catalogue)
        model._counts = vocabulary["train_events"].to_numpy()
        if settings.user_features:
            model._traits = UserTraits.load(folder / "users.parquet")
        model._network = model._untrained()
        model._network.load_state_dict(load_file(folder / "model.safetensors"))
        model._network.to(model._device).eval()
        model._rating_head = RatingHead.load(folder)
        return model

    def _untrained(self) -> SS4RecNetwork:
        features = None if self._features is None else torch.from_numpy(np.pad(self._features, ((1, 0), (0, 0))))
        traits = self._traits.sizes if self._traits is not None else ()
        return SS4RecNetwork(len(self.catalogue), student_settings(self._settings), traits, features)

    def _teacher(self) -> SS4Rec:
        teacher = SS4Rec(self._settings.model_copy(update={"teachers": 0, "rating_head": False}))
        teacher._traits = self._traits
        return teacher

    def _features_of(self, item_ids: IntArray) -> npt.NDArray[np.float32]:
        if self._described is None:
            raise TrainingError("The setting item_attributes is on, but no items are described: call describe_items first.")
        found: npt.NDArray[np.float32] = item_features(item_ids, self._described)
        return found

    @torch.no_grad()
    def _give_all_vectors(self, catalogue: IntArray, train: Sequences) -> None:
        """Replace the trained network by one that has a vector for each item of the catalogue, also for those without train events.

        It is like any other network: it has the vectors themselves, and no map.
        """
        trained, learnt = self.network.eval(), self.catalogue
        assert trained.described is not None
        features = torch.from_numpy(self._features_of(catalogue)).to(self._device)
        vectors = torch.cat([torch.zeros_like(trained.items.weight[:1]), trained.described.of(features)])
        vectors[1 + torch.from_numpy(np.searchsorted(catalogue, learnt)).to(self._device)] = trained.item_vectors()[1:]
        weights = {name: weight for name, weight in trained.state_dict().items() if not name.startswith("described.")}
        self._features = None
        self._take_vocabulary(catalogue, train)
        with torch.random.fork_rng(devices=[]):
            network = self._untrained().to(self._device)
        network.load_state_dict(weights | {ITEM_ROWS: vectors})
        self._network = network.eval()

    @property
    def _trait_values(self) -> tuple[tuple[str, ...], ...] | None:
        return None if self._traits is None else self._traits.values

    def _who(self, user_ids: IntArray) -> IntArray | None:
        return None if self._traits is None else self._traits.of_users(user_ids)

    def _take_vocabulary(self, catalogue: IntArray, train: Sequences) -> None:
        self.catalogue = catalogue
        self._vocabulary = Vocabulary(catalogue)
        self._counts = np.bincount(self._vocabulary.indices(train.item_ids), train.weights, minlength=len(catalogue) + 1)[1:]
