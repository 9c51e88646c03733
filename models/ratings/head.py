"""A linear model of ratings on the features of a model that has learnt to rank.

    rating = mean + w0 + w1 * offset of the item + w2 * offset of the user + w * features

The weights are those of a ridge regression, in closed form. Its penalty is the one of PENALTIES with the lowest RMSE on the valid
requests. Features are standardised, so that one penalty suits all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from models.ratings.offsets import RatingOffsets, given_ratings
from models.recommender import IntArray, Requests, Sequences
from models.sequences import Vocabulary

__all__ = ["Features", "RatingHead"]

Floats = npt.NDArray[np.float64]
Features = npt.NDArray[np.float32]
FILE = "rating_head.safetensors"
PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
UNCHOSEN = 1e-2  # the penalty if no valid request has a rating
PLAIN = 3  # the constant and two offsets come before the features


@dataclass(frozen=True, eq=False)
class RatingHead:
    """Offsets and weights. `features` are what the model knows of a user and an item, (n, F)."""

    offsets: RatingOffsets
    weights: Floats  # (3 + F,)

    @classmethod
    def fit(
        cls,
        train: Sequences,
        items: Vocabulary,
        events: Iterable[tuple[IntArray, Features]],
        valid: Requests,
        features_of: Callable[[Requests], Features],
        *,
        kind: str,
    ) -> RatingHead:
        """Fit the head.

        Args:
            train: Events with ratings. The weights of events count.
            items: The catalogue.
            events: Train events in blocks: their numbers (n,) and their features (n, F), as they were before the event.
            valid: Requests that choose the penalty, if they have ratings.
            features_of: Returns the features of requests.
            kind: Kind of the model, for a message.

        Raises:
            TrainingError: The events have no ratings.
        """
        offsets = RatingOffsets.of(train, items, kind)
        ratings, columns = given_ratings(train, kind), items.indices(train.item_ids)
        plain = np.stack(
            [np.ones(len(ratings)), offsets.of_events(columns, ratings), offsets.before_events(train, items)], axis=1
        )
        weights, products, sums, total = train.relative_weights, np.zeros((0, 0)), np.zeros(0), 0.0
        for chosen, features in events:
            block = np.concatenate([plain[chosen], features], axis=1)
            weighted = block if weights is None else block * weights[chosen, None]
            if not len(sums):
                products, sums = np.zeros((block.shape[1],) * 2), np.zeros(block.shape[1])
            products += weighted.T @ block
            sums += weighted.T @ (ratings[chosen] - offsets.mean)
            total += len(chosen)
        found = [cls(offsets, _ridge(products / total, sums / total, penalty)) for penalty in (*PENALTIES, UNCHOSEN)]
        if valid.target_ratings is None or not len(valid):
            return found[-1]
        inputs, wanted = found[0]._inputs(valid, items, features_of(valid)), valid.target_ratings.astype(np.float64)
        errors = [float(np.mean((head._predicted(inputs) - wanted) ** 2)) for head in found[:-1]]
        return found[int(np.argmin(errors))]

    def predict(self, requests: Requests, items: Vocabulary, features: Features) -> torch.Tensor:
        """Return the rating (R,) of each target. `features` (R, F) are those of the requests."""
        return torch.from_numpy(self._predicted(self._inputs(requests, items, features)))

    def save(self, folder: Path) -> None:
        """Write `rating_head.safetensors` into the folder of a model."""
        offsets = self.offsets
        arrays: Mapping[str, Floats] = {
            "range": np.array([offsets.mean, offsets.lowest, offsets.highest]),
            "sums": offsets.sums,
            "counts": offsets.counts,
            "weights": self.weights,
        }
        save_file({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> RatingHead | None:
        """Read what `save` wrote, or return None if the model has no head."""
        if not (folder / FILE).exists():
            return None
        stored = {name: tensor.numpy() for name, tensor in load_file(folder / FILE).items()}
        mean, lowest, highest = (float(number) for number in stored["range"])
        return cls(RatingOffsets(mean, lowest, highest, stored["sums"], stored["counts"]), stored["weights"])

    def _inputs(self, requests: Requests, items: Vocabulary, features: Features) -> Floats:
        of_items = self.offsets.of_items[items.indices(requests.targets)]
        of_users = self.offsets.of_users(requests, items)
        return np.concatenate([np.stack([np.ones(len(requests)), of_items, of_users], axis=1), features], axis=1)

    def _predicted(self, inputs: Floats) -> npt.NDArray[np.float32]:
        return self.offsets.clipped(self.offsets.mean + inputs @ self.weights)


def _ridge(products: Floats, sums: Floats, penalty: float) -> Floats:
    """Return the weights for the mean products of the inputs with each other, and with the ratings. The first three are free."""
    scale = np.sqrt(np.maximum(np.diagonal(products), 1e-12))
    scale[scale < 1e-6] = 1.0
    ridge = np.full(len(sums), penalty)
    ridge[:PLAIN] = 1e-9
    weights: Floats = np.linalg.solve(products / np.outer(scale, scale) + np.diag(ridge), sums / scale) / scale
    return weights
