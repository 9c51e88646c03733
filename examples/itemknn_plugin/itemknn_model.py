"""ItemKNN with numpy and scipy. Torch only appears where the port asks for tensors."""

from time import perf_counter

import numpy as np
import torch
from itemknn_plugin import ItemKNNSettings
from scipy.sparse import csr_array

from models.recommender import Recommender
from models.sequences import Vocabulary
from models.training import judged_once, read_model, write_model


class ItemKNN(Recommender):
    name, sequential = "my_itemknn", False

    def __init__(self, settings: ItemKNNSettings):
        self._settings = settings

    def settings(self):
        return self._settings.model_dump(mode="json")

    def fit(self, train, valid, catalogue, *, seed, mask_seen, checkpoint_dir=None, on_epoch=None):
        started = perf_counter()
        self._know(catalogue)
        met = self._matrix(train)
        met.data[:] = 1  # an item counts once, however often a user returns to it
        together = (met.T @ met).toarray().astype(np.float32)
        self._counts = np.diagonal(together).copy()
        length = np.sqrt(self._counts)
        similar = together / (np.outer(length, length) + self._settings.shrink + 1e-9)
        np.fill_diagonal(similar, 0)
        kept = min(self._settings.neighbours, len(catalogue))
        least = np.partition(similar, -kept, axis=1)[:, -kept, None]
        self._similar = csr_array(np.where(similar >= least, similar, 0))
        return judged_once(self, valid, started, mask_seen=mask_seen, on_epoch=on_epoch)

    def scores(self, requests):
        history = self._matrix(requests)
        scores = (history @ self._similar.T).toarray().astype(np.float32)
        new = np.diff(history.indptr) == 0
        scores[new] = np.log1p(self._counts)
        return torch.from_numpy(scores)

    def save(self, folder):
        s = self._similar
        arrays = {"values": s.data, "columns": s.indices.astype(np.int64), "rows": s.indptr.astype(np.int64)}
        tensors = {name: torch.from_numpy(each) for name, each in arrays.items()}
        write_model(folder, self, tensors, {"train_events": self._counts.astype(np.int64)})

    @classmethod
    def load(cls, folder, device="cpu"):
        saved = read_model(folder)
        model, t = cls(ItemKNNSettings(**saved.settings)), saved.tensors
        model._know(saved.catalogue)
        size = len(saved.catalogue)
        model._similar = csr_array((t["values"].numpy(), t["columns"].numpy(), t["rows"].numpy()), shape=(size, size))
        model._counts = saved.items["train_events"].to_numpy(np.float32)
        return model

    def _know(self, catalogue):
        self.catalogue, self._vocabulary = catalogue, Vocabulary(catalogue)

    def _matrix(self, rows):
        """How often each row has each item (R, n_items). Unknown items are left out."""
        items = self._vocabulary.indices(rows.item_ids)
        known = items > 0
        shape = (len(rows), len(self.catalogue))
        return csr_array((np.ones(known.sum(), np.float32), (rows.row_of_event[known], items[known] - 1)), shape=shape)
