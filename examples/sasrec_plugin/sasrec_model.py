"""SASRec: its network, its training, and its answers. `scores` is all that serving needs."""

import numpy as np
import torch
from sasrec_plugin import SASRecSettings
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from models import training
from models.evaluation import metrics, rank_requests
from models.recommender import Recommender
from models.sequences import Vocabulary, histories, training_windows


class Network(nn.Module):
    """Item 0 pads a row after its last item. Attention is causal, so padding never reaches a real item."""

    def __init__(self, n_items, s):
        super().__init__()
        self.register_buffer("popular", torch.zeros(n_items))  # the scores of a user without events
        self.items = nn.Embedding(n_items + 1, s.width, padding_idx=0)
        nn.init.normal_(self.items.weight, std=0.02)
        self.places = nn.Embedding(s.max_length, s.width)
        self.dropout = nn.Dropout(s.dropout)
        block = nn.TransformerEncoderLayer(s.width, s.heads, 4 * s.width, s.dropout, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, s.blocks, nn.LayerNorm(s.width), enable_nested_tensor=False)

    def forward(self, items):  # (B, L) -> hidden states (B, L, width)
        x = self.dropout(self.items(items) + self.places.weight[: items.shape[1]])
        future = torch.ones(items.shape[1], items.shape[1], dtype=torch.bool, device=items.device).triu(1)
        return self.blocks(x, mask=future)


class SASRec(Recommender):
    name, sequential = "my_sasrec", True

    def __init__(self, settings: SASRecSettings, device="auto"):
        self._settings, self._device = settings, torch.device(training.resolve_device(device))

    max_length = property(lambda self: self._settings.max_length)

    def settings(self):
        return self._settings.model_dump(mode="json")

    def fit(self, train, valid, catalogue, *, seed, mask_seen, checkpoint_dir=None, on_epoch=None):
        s, device = self._settings, self._device
        torch.manual_seed(seed)
        self._build(catalogue)
        items = torch.from_numpy(self._vocabulary.indices(train.item_ids))
        self._network.popular += torch.bincount(items, minlength=len(catalogue) + 1)[1:].log1p().to(device)

        def batches(epoch):
            rng = np.random.default_rng([seed, epoch])
            windows = training_windows(train, s.max_length, rng)
            order = rng.permutation(len(windows.begins))
            for rows in np.split(order, range(s.batch_size, len(order), s.batch_size)):
                spans = zip(windows.begins[rows], windows.ends[rows] + 1, strict=True)
                yield pad_sequence([items[begin:end] for begin, end in spans], batch_first=True).to(device)

        def loss(batch):  # each item of a window predicts the next one
            real = batch[:, 1:] > 0
            return nn.functional.cross_entropy(
                self._network(batch[:, :-1])[real] @ self._network.items.weight[1:].T, batch[:, 1:][real] - 1
            )

        def validate():
            return metrics(rank_requests(self, valid, catalogue, mask_seen=mask_seen, batch_size=256).ranks, (10,))

        adam = torch.optim.Adam(self._network.parameters(), s.learning_rate)
        learner = training.Learner(self._network, adam, training.EagerEpochs(self._network, adam, batches, loss))
        schedule = training.Schedule(s.max_epochs, s.patience)
        kept = training.Checkpoints.of(checkpoint_dir, self, train, valid, seed, mask_seen=mask_seen)  # for a killed run
        return training.train(learner, validate, schedule, seed=seed, checkpoints=kept, on_epoch=on_epoch)

    @torch.no_grad()
    def scores(self, requests):
        read = histories(requests, self._vocabulary, self._settings.max_length)
        lengths = torch.diff(read.offsets)
        rows = pad_sequence([*torch.split(read.items, lengths.tolist()), torch.zeros(1, dtype=int)], batch_first=True)[:-1]
        rows, some = rows.to(self._device), (lengths > 0).to(self._device)
        hidden = self._network.eval()(rows)[torch.arange(len(rows)), lengths.clamp_min(1) - 1]
        return torch.where(some[:, None], hidden @ self.item_vectors().T, self._network.popular)

    def item_vectors(self):
        return self._network.items.weight[1:].detach()

    def save(self, folder):
        training.write_model(folder, self, self._network.state_dict())

    @classmethod
    def load(cls, folder, device="cpu"):
        saved = training.read_model(folder)
        model = cls(SASRecSettings(**saved.settings), device)
        model._build(saved.catalogue)
        model._network.load_state_dict(saved.tensors)
        return model

    def _build(self, catalogue):
        self.catalogue, self._vocabulary = catalogue, Vocabulary(catalogue)
        self._network = Network(len(catalogue), self._settings).to(self._device)
