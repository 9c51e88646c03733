"""NCF inference with numpy, without torch. Trained users have their own vectors; other users get the mean user's.

Events after training do not change a user's vectors, so there is no state. The forward pass is that of `models.ncf.recommender`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import SafetensorError
from safetensors.numpy import load_file

from configs.errors import VersionCorruptError
from models.inference import Floats

__all__ = ["NCFScores", "hidden_layers"]

IntArray = npt.NDArray[np.int64]


def hidden_layers(names: Iterable[str]) -> list[str]:
    """Return the names of the hidden layers among all tensor names, first to last.

    They are sorted by number, because a stored file has them in alphabetical order: 10 before 4.
    """
    found = [name.removesuffix(".weight") for name in names if name.startswith("mlp_layers.") and name.endswith(".weight")]
    return sorted(found, key=lambda name: int(name.rsplit(".", 1)[1]))


class NCFScores:
    """Scores from the stored weights of an NCF model.

    The "hidden state" (B, F + M) of a request is the user's half of the first layer (F) and the user's weighted factors (M).
    """

    kind = "ncf"
    state_size = 0
    max_length = 2
    half_precision = False

    def __init__(self, tensors: dict[str, Floats], user_ids: IntArray) -> None:
        layers = hidden_layers(tensors)
        weights, biases = [tensors[f"{layer}.weight"] for layer in layers], [tensors[f"{layer}.bias"] for layer in layers]
        users, items = tensors["user_mlp_embedding.weight"], tensors["item_mlp_embedding.weight"][1:]
        out, factors = tensors["predict_layer.weight"][0], tensors["item_mf_embedding.weight"][1:]
        width, self._factors = users.shape[1], factors
        self._item_half = items @ weights[0][:, width:].T
        self._layers = list(zip(weights[1:], biases[1:], strict=True))
        self._out, self._bias = out[factors.shape[1] :], tensors["predict_layer.bias"]
        halves = users @ weights[0][:, :width].T + biases[0]
        self._users: Floats = np.concatenate([halves, tensors["user_mf_embedding.weight"] * out[: factors.shape[1]]], axis=1)
        self._rows = {int(user): row for row, user in enumerate(user_ids, start=1)}
        self.item_vectors: Floats = np.concatenate([factors, items], axis=1)
        self.cold_scores: Floats = self.scores(self._users[:1])[0]
        if len(self._users) != len(user_ids) + 1:
            raise ValueError(f"{len(self._users) - 1} users have weights, but {len(user_ids)} have ids")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the model that `NCF.save` wrote.

        Raises:
            VersionCorruptError: if a file is incomplete or the files do not match.
        """
        try:
            users = pq.ParquetFile(folder / "users.parquet").read(["user_id"])["user_id"].to_numpy()
            return cls(load_file(folder / "model.safetensors"), users)
        except (OSError, KeyError, IndexError, ValueError, SafetensorError, pa.ArrowException) as error:
            raise VersionCorruptError(f"{folder} does not contain a readable NCF model ({error}); train again.") from error

    def start(self, users: int) -> Floats:
        return np.empty((users, 0), np.float32)

    def advance(
        self,
        state: Floats,
        items: IntArray,
        intervals: IntArray,
        offsets: IntArray,
        user_ids: Sequence[int | None],
        until: IntArray,
    ) -> Floats:
        """Return the vectors (B, F + M) of the users. Events have no effect."""
        rows = [self._rows.get(user, 0) if user is not None else 0 for user in user_ids]
        return self._users[rows]

    def scores(self, hidden: Floats) -> Floats:
        """Map hidden states (B, F + M) to scores (B, n_items)."""
        first = self._item_half.shape[1]
        scores: Floats = hidden[:, first:] @ self._factors.T + self._bias
        for row, user in enumerate(hidden[:, :first]):
            layer = np.maximum(self._item_half + user, 0)
            for weight, bias in self._layers:
                layer = np.maximum(layer @ weight.T + bias, 0)
            scores[row] += layer @ self._out
        return scores
