"""Serving for every kind that has no serving form of its own: the model's own forward pass, in batches.

There is no state besides the user's latest events. A request reads them again, and calls `Recommender.scores` as the gate does.
This module imports torch, so only a worker that serves such a model loads it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch

from configs.errors import CannotExportError, RecsysError, VersionCorruptError
from models.inference import Floats, check_item_vectors
from models.loading import load_recommender
from models.recommender import IntArray, Recommender, Requests

__all__ = ["NOBODY", "GeneralModel"]

NOBODY = int(np.iinfo(np.int64).min)
"""The user id of a request without a user. No user has it, so a model treats it as an unknown user."""
ALL_EVENTS = 1 << 31  # of a model that reads all of them
logger = logging.getLogger(__name__)


class GeneralModel:
    """Any trained model as serving uses it.

    A model that raises an error, or returns a score that is not finite, harms only the requests for which it does so: they get the
    scores of a user without events, and the log says why.
    """

    state_size = 0
    half_precision = False

    def __init__(self, model: Recommender) -> None:
        self._model, self._told = model, False
        self.kind = model.name
        self.item_vectors: Floats = _item_vectors(model)
        check_item_vectors(self.item_vectors, len(model.catalogue), self.kind)
        self.cold_scores: Floats = np.zeros(len(model.catalogue), np.float32)
        empty = np.empty(0, np.int64)
        self.cold_scores = self._scores(self._requests(empty, empty, np.zeros(2, np.int64), np.zeros(1, np.int64), [None]))[0]
        if not np.isfinite(self.cold_scores).all():
            raise VersionCorruptError(
                f"The model {self.kind} returns scores that are not finite for a user without events; train again."
            )

    @property
    def max_length(self) -> int:
        """The number of latest known events that the model reads."""
        return self._model.max_length or ALL_EVENTS

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the model that `Recommender.save` wrote.

        Raises:
            VersionCorruptError: if the model cannot be loaded, or cannot rank a request without events.
        """
        try:
            return cls(load_recommender(folder))
        except RecsysError:
            raise
        except (Exception, SystemExit) as error:  # of a plugin, which can raise anything
            reason = f"{type(error).__name__}: {error}"
            raise VersionCorruptError(f"{folder} does not contain a readable model ({reason}); train again.") from error

    def window_scores(
        self, items: IntArray, times: IntArray, offsets: IntArray, now: IntArray, user_ids: Sequence[int | None]
    ) -> Floats:
        """See `models.inference.WindowModel`."""
        requests = self._requests(items, times, offsets, now, user_ids)
        try:
            scores = self._scores(requests)
        except (Exception, SystemExit) as error:
            if len(requests) == 1:
                self._tell(f"{type(error).__name__}: {error}")
                return self.cold_scores[None].copy()
            rows = [self._alone(requests, row) for row in range(len(requests))]
            return np.concatenate(rows)
        # One sum for each row costs a tenth of looking at each score.
        wrong = ~np.isfinite(scores.sum(axis=1))
        if wrong.any():
            self._tell("some of its scores are not finite")
            scores[wrong] = self.cold_scores
        return scores

    def _alone(self, requests: Requests, row: int) -> Floats:
        one = requests.take(np.array([row]))
        items = np.searchsorted(self._model.catalogue, one.item_ids)
        user = int(one.user_ids[0])
        return self.window_scores(items, one.timestamps, one.offsets, one.request_times, [None if user == NOBODY else user])

    def _requests(
        self, items: IntArray, times: IntArray, offsets: IntArray, now: IntArray, user_ids: Sequence[int | None]
    ) -> Requests:
        last = np.append(times, 0)[offsets[1:] - 1]  # of a request without events, any time
        return Requests(
            user_ids=np.array([NOBODY if user is None else user for user in user_ids], np.int64),
            offsets=offsets,
            item_ids=self._model.catalogue[items],
            timestamps=times,
            # An event may be a little later than the server's clock, but no request is earlier than its events.
            request_times=np.where(np.diff(offsets) > 0, np.maximum(now, last), now),
            targets=np.full(len(user_ids), self._model.catalogue[0]),
        )

    def _scores(self, requests: Requests) -> Floats:
        with torch.inference_mode():
            found = self._model.scores(requests)
        shape = (len(requests), len(self._model.catalogue))
        if tuple(found.shape) != shape or found.dtype != torch.float32:
            raise VersionCorruptError(
                f"The model {self.kind} returned scores of the shape {tuple(found.shape)} and type {found.dtype}, but they must be "
                f"float32 of the shape {shape}."
            )
        scores: Floats = np.array(found.cpu().numpy(), np.float32)  # a copy, because ranking writes into it
        return scores

    def _tell(self, reason: str) -> None:
        """Log a failure of the model. One line is enough: a faulty model may fail with each request."""
        if not self._told:
            self._told = True
            logger.error(
                "a model cannot score a request, which gets the scores of a new user", extra={"kind": self.kind, "reason": reason}
            )


def _item_vectors(model: Recommender) -> Floats:
    try:
        return np.array(model.item_vectors().detach().cpu().numpy(), np.float32)
    except CannotExportError:  # items are then not similar to each other, and no answer is explained
        return np.empty((len(model.catalogue), 0), np.float32)
