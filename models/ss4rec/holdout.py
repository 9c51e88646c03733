"""Rank the same requests repeatedly while a network trains, without leaving the device."""

from __future__ import annotations

import numpy as np
import torch

from configs.errors import TrainingError
from models.recommender import IntArray, Requests
from models.sequences import Vocabulary, histories
from models.ss4rec.kernels import Backend, Segments
from models.ss4rec.network import SS4RecNetwork
from models.training import Replicas

__all__ = ["HoldoutRanking", "last_hidden"]

SCORES = {"cpu": 1 << 22, "cuda": 1 << 28}  # scores in memory at once
TOKENS = {"cpu": 1 << 15, "cuda": 1 << 17}  # tokens processed at once
NOT_FINITE = 0  # in place of the rank of a request with a score that is not finite


def last_hidden(
    network: SS4RecNetwork,
    items: torch.Tensor,
    intervals: torch.Tensor,
    offsets: IntArray,
    backend: Backend,
    who: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the hidden state (R, width) after each request's last event, or zero if it has no events.

    `offsets` (R + 1,) are on the host and split the tokens on the device. As many requests are processed at once as fit. `who`
    (R, traits) has the codes that the network takes.
    """
    most = TOKENS[items.device.type]
    hidden = torch.zeros(len(offsets) - 1, network.items.embedding_dim, device=items.device)
    first = 0
    while first < len(hidden):
        last = int(np.searchsorted(offsets, offsets[first] + most, side="right")) - 1
        last = min(max(last, first + 1), len(hidden))
        begin, end = int(offsets[first]), int(offsets[last])
        if end > begin:
            cut = torch.from_numpy(offsets[first : last + 1] - begin).to(items.device)
            some_who = None if who is None else who[first:last]
            out = network(items[begin:end], intervals[begin:end], Segments.of(cut, end - begin), backend, some_who)
            some = torch.diff(cut) > 0
            hidden[first:last] = torch.where(some[:, None], out[(cut[1:] - 1).clamp_min(0)].float(), 0.0)
        first = last
    return hidden


class HoldoutRanking:
    """The full ranking of `models.evaluation.ranking.rank_requests`, for SS4Rec only and with all inputs prepared once.

    Each replica ranks every count-th request, and the replicas share their ranks.
    """

    def __init__(
        self,
        requests: Requests,
        vocabulary: Vocabulary,
        cold_scores: torch.Tensor,
        max_length: int,
        *,
        mask_seen: bool,
        who: IntArray | None = None,
        replicas: Replicas = Replicas(),  # noqa: B008
    ) -> None:
        """`cold_scores` (n_items,) rank the requests without events. All inputs are put on their device."""
        device = cold_scores.device
        self._rows = np.arange(replicas.rank, len(requests), replicas.count)
        self._user_ids, self._replicas, self._device = requests.user_ids, replicas, device
        own = requests.take(self._rows) if replicas.count > 1 else requests
        read = histories(own, vocabulary, max_length)
        self._items, self._intervals = read.items.to(device), read.intervals.to(device)
        self._offsets = read.offsets.numpy()
        self._who = None if who is None else torch.from_numpy(who[self._rows]).to(device)
        self._cold = torch.from_numpy(np.diff(self._offsets) == 0).to(device)
        self._cold_scores = cold_scores.to(device)
        targets = vocabulary.indices(own.targets) - 1
        self._known = torch.from_numpy(targets >= 0).to(device)
        self._targets = torch.from_numpy(np.maximum(targets, 0)).to(device)
        self._seen: tuple[IntArray, torch.Tensor] | None = None
        if mask_seen:
            columns = vocabulary.indices(own.item_ids) - 1
            rows = own.row_of_event[columns >= 0]
            bounds = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(own)))])
            self._seen = bounds, torch.from_numpy(np.stack([rows, columns[columns >= 0]])).to(device)

    @torch.no_grad()
    def ranks(self, network: SS4RecNetwork, backend: Backend, miss: int) -> IntArray:
        """Return the rank (R,) of each target, from 1; ties count against it. `miss` if it cannot be recommended.

        Under autocast, the network computes in half precision. Its scores are products in float32 all the same, like those of
        `SS4Rec.scores`: in half precision a tenth of the scores would tie with others.

        Raises:
            TrainingError: if a score is NaN or infinite.
        """
        hidden = last_hidden(network, self._items, self._intervals, self._offsets, backend, self._who)
        with torch.autocast(self._device.type, enabled=False):
            found = self._ranks_of(hidden, network.items.weight[1:], miss)
        if self._replicas.count > 1:
            together = torch.zeros(len(self._user_ids), dtype=torch.int64, device=self._device)
            together[torch.from_numpy(self._rows).to(self._device)] = found
            self._replicas.sum_(together)
            found = together
        ranks = found.cpu().numpy()
        bad = np.flatnonzero(ranks == NOT_FINITE)
        if len(bad):  # every replica sees it, and none waits for another
            raise TrainingError(
                f"The scores of ss4rec for user {int(self._user_ids[bad[0]])} are not finite, so they cannot be ranked. Lower the "
                "learning rate."
            )
        return ranks

    def _ranks_of(self, hidden: torch.Tensor, weight: torch.Tensor, miss: int) -> torch.Tensor:
        """Return the ranks of this replica's requests, given their hidden states (R, H) and the items' vectors (n_items, H)."""
        chunk = max(1, SCORES[self._device.type] // max(len(weight), 1))
        found = torch.full((len(hidden),), miss, dtype=torch.int64, device=self._device)
        for first in range(0, len(hidden), chunk):
            rows = slice(first, min(first + chunk, len(hidden)))
            scores = hidden[rows] @ weight.T
            scores = torch.where(self._cold[rows, None], self._cold_scores, scores)
            finite = torch.isfinite(scores).all(dim=1)
            if self._seen is not None:
                bounds, pairs = self._seen
                part = pairs[:, int(bounds[rows.start]) : int(bounds[rows.stop])]
                scores[part[0] - first, part[1]] = -torch.inf
            target = scores.gather(1, self._targets[rows, None])
            reachable = self._known[rows] & torch.isfinite(target[:, 0])
            ranks = torch.where(reachable, (scores >= target).sum(dim=1), miss)
            found[rows] = torch.where(finite, ranks, NOT_FINITE)
        return found
