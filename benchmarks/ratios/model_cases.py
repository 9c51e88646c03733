"""Ranking, the gate's statistics and the training of models, beside numpy and plain torch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.ratios.measuring import Case, Place, repeated
from benchmarks.serving.world import drawn_events
from configs.settings import NCFSettings, PopularitySettings, SS4RecSettings
from models.evaluation import paired_test, rank_requests
from models.ncf import NCF
from models.popularity import Popularity
from models.recommender import Requests, Sequences
from models.ss4rec import SS4Rec

__all__ = ["gate", "ncf", "ranking", "ss4rec"]

SEED, LENGTH = 1, 64  # LENGTH: events of a user
SS4REC_LAYERS = (64, 632, 64)
"""Linear layers with the 80,896 weights of SS4Rec's matrices at a width of 64 with 2 blocks. The items follow."""
NCF_LAYERS = (32, 32, 16, 1)
"""The linear layers of NCF at its default widths."""
NEGATIVES = 4


def drawn(users: int, items: int, length: int = LENGTH) -> Sequences:
    """Return `length` events of each user, on items that are drawn at random. Nobody has an item twice."""
    rng = np.random.default_rng(SEED)
    chosen = np.concatenate([rng.choice(items, length, replace=False) + 1 for _ in range(users)]).astype(np.int64)
    times = np.tile(np.arange(length, dtype=np.int64) * 3600, users) + 1_600_000_000
    return Sequences(np.arange(1, users + 1), np.arange(users + 1) * length, chosen, times)


def requests_of(sequences: Sequences, rows: int) -> Requests:
    """Return a request of each of the first users. Each looks for the item 1."""
    part = sequences.of_rows(np.arange(rows))
    return Requests(
        part.user_ids,
        part.offsets,
        part.item_ids,
        part.timestamps,
        request_times=np.full(rows, 1_700_000_000),
        targets=np.ones(rows, np.int64),
    )


def ranking(place: Place) -> Case:
    """Ranking every request against the whole catalogue, without what its user has seen."""
    count, n_items = place.size(300, 5), place.size(3000, 100)
    catalogue, train = drawn_events(n_items, SEED)
    requests = requests_of(drawn(count, n_items), count)
    model = Popularity(PopularitySettings())
    model.fit(train, requests, catalogue, seed=SEED, mask_seen=True)
    scores = np.random.default_rng(SEED).random((count, n_items), dtype=np.float32)
    return Case(
        repeated(lambda: rank_requests(model, requests, catalogue, mask_seen=True, batch_size=256)),
        repeated(lambda: np.argsort(-scores, axis=1)),
    )


def gate(place: Place) -> Case:
    """The test and the interval of a difference between two models."""
    rows, resamples = place.size(2000, 50), place.size(2000, 200)
    rng = np.random.default_rng(SEED)
    ranks = rng.integers(1, 40, (2, rows))
    one, other = np.where(ranks <= 10, 1 / np.log2(1 + ranks), 0.0)

    def means() -> object:
        drawing, differences = np.random.default_rng(SEED), one - other
        return [differences[drawing.integers(0, rows, rows)].mean() for _ in range(resamples)]

    return Case(repeated(lambda: paired_test(one, other, resamples=resamples, seed=SEED)), repeated(means))


def ss4rec(place: Place) -> Case:
    """An epoch of SS4Rec's training, with its validation on few users."""
    users, n_items, batch = place.size(64, 4), place.size(1000, 100), place.size(1024, 128)
    train, catalogue = drawn(users, n_items), np.arange(1, n_items + 1)
    settings = SS4RecSettings(
        width=64, blocks=2, time_state=32, relation_state=16, batch_tokens=batch, max_length=100, max_epochs=1, device="cpu"
    )

    def ours() -> None:
        SS4Rec(settings).fit(train, requests_of(train, 4), catalogue, seed=SEED, mask_seen=True)

    network = _layers((*SS4REC_LAYERS, n_items))
    inputs, targets = torch.randn(batch, SS4REC_LAYERS[0]), torch.randint(n_items, (batch,))
    optimizer = torch.optim.Adam(network.parameters())

    def reference() -> None:
        for _ in range(users * LENGTH // batch):
            optimizer.zero_grad()
            F.cross_entropy(network(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return Case(repeated(ours), repeated(reference))


def ncf(place: Place) -> Case:
    """An epoch of NCF's training, with its validation on few users."""
    users, n_items, batch = place.size(512, 4), place.size(1000, 100), place.size(4096, 128)
    train, catalogue = drawn(users, n_items), np.arange(1, n_items + 1)
    settings = NCFSettings(
        mf_width=32, mlp_width=16, mlp_hidden=(32, 16), negatives=NEGATIVES, batch_size=batch, max_epochs=1, device="cpu"
    )

    def ours() -> None:
        NCF(settings).fit(train, requests_of(train, 4), catalogue, seed=SEED, mask_seen=True)

    rows = batch * (1 + NEGATIVES)
    network = _layers(NCF_LAYERS)
    inputs, targets = torch.randn(rows, NCF_LAYERS[0]), torch.randint(2, (rows, 1)).float()
    optimizer = torch.optim.Adam(network.parameters())

    def reference() -> None:
        for _ in range(users * LENGTH // batch):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(network(inputs), targets).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    return Case(repeated(ours), repeated(reference))


def _layers(widths: Sequence[int]) -> nn.Sequential:
    torch.manual_seed(SEED)
    return nn.Sequential(*(nn.Linear(a, b) for a, b in itertools.pairwise(widths)))
