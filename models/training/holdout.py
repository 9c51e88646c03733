"""Rank the same requests repeatedly while a network trains, without leaving the device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from configs.errors import TrainingError
from models.recommender import IntArray, Requests
from models.sequences import Histories, Vocabulary, histories
from models.training.distributed import Replicas

__all__ = ["HoldoutRanking"]

SCORES = {"cpu": 1 << 22, "cuda": 1 << 28}  # scores in memory at once
NOT_FINITE = 0  # in place of the rank of a request with a score that is not finite
HiddenOf = Callable[[Histories], torch.Tensor]
"""Maps histories, whose offsets are on the host, to the hidden states (R, H) after each request's last event."""


class HoldoutRanking:
    """The full ranking of `models.evaluation.ranking.rank_requests`, with all inputs prepared once.

    It is for networks whose scores are products of a hidden state and the items' vectors. Each replica ranks every count-th request,
    and the replicas share their ranks.
    """

    rows: IntArray
    """The requests that this replica ranks."""

    def __init__(
        self,
        requests: Requests,
        vocabulary: Vocabulary,
        cold_scores: torch.Tensor,
        max_length: int,
        *,
        kind: str,
        mask_seen: bool,
        replicas: Replicas = Replicas(),  # noqa: B008
    ) -> None:
        """`cold_scores` (n_items,) rank the requests without events. All inputs are put on their device. `kind` is named in errors."""
        device = cold_scores.device
        self.rows = np.arange(replicas.rank, len(requests), replicas.count)
        self._kind, self._user_ids, self._replicas, self._device = kind, requests.user_ids, replicas, device
        own = requests.take(self.rows) if replicas.count > 1 else requests
        self._read = histories(own, vocabulary, max_length).to(device)
        self._cold = (torch.diff(self._read.offsets) == 0).to(device)
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
    def ranks(self, hidden_of: HiddenOf, weight: torch.Tensor, miss: int) -> IntArray:
        """Return the rank (R,) of each target, from 1; ties count against it. `miss` if it cannot be recommended.

        Under autocast, the network computes in half precision. Its scores are products in float32 all the same, like those of
        `Recommender.scores`: in half precision a tenth of the scores would tie with others.

        Args:
            hidden_of: The network up to the hidden states.
            weight: (n_items, H) vectors of the items.
            miss: The rank of a target that the vocabulary lacks, or that is masked.

        Raises:
            TrainingError: if a score is NaN or infinite.
        """
        hidden = hidden_of(self._read)
        with torch.autocast(self._device.type, enabled=False):
            found = self._ranks_of(hidden, weight, miss)
        if self._replicas.count > 1:
            together = torch.zeros(len(self._user_ids), dtype=torch.int64, device=self._device)
            together[torch.from_numpy(self.rows).to(self._device)] = found
            self._replicas.sum_(together)
            found = together
        ranks = found.cpu().numpy()
        bad = np.flatnonzero(ranks == NOT_FINITE)
        if len(bad):  # every replica sees it, and none waits for another
            raise TrainingError(
                f"The scores of {self._kind} for user {int(self._user_ids[bad[0]])} are not finite, so they cannot be ranked. Lower "
                "the learning rate."
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
