"""One model version as it is served: its model, its catalogue, and how a user's events become a state.

A state reads between `block` and 2 block of the latest events, `block` being what a training window held: after every `block`
events it is begun anew from the latest `block`. So it depends on the latest events alone, and is the same whether it was
advanced event by event, rebuilt after a restart, or built by another worker.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from configs.errors import VersionCorruptError
from models.inference import InferenceModel, load_inference_model
from models.ss4rec.kernels_step import Floats
from models.version_files import SAMPLE_FILE
from serving.catalogue import Catalogue, Film
from serving.state import UserState
from serving.user_log import UserLog

__all__ = ["Plan", "ServedModel", "window"]

IntArray = npt.NDArray[np.int64]
TOLERANCE = 1e-4  # relative, of the stored answers' scores: another CPU sums in another order
SPARSE, MANY = 64, 1_000_000  # a table of all raw ids may be so large: times the items, and besides
HALF_TOLERANCE = 5e-2  # where those were computed in bfloat16


def window(count: int, block: int) -> int:
    """How many of a user's latest events a state has read, after `count` in all."""
    return count if count <= 2 * block else count - block * ((count - 1) // block - 1)


@dataclass(frozen=True, eq=False)
class Plan:
    """How to come to the state of a log: read `items` from `numbers`, and leave the last of them for later."""

    numbers: Floats | None  # (state_size,) to go on from, None to begin anew
    items: IntArray  # (E,) indices of the events to read, the last of which waits for its interval
    times: IntArray  # (E,)
    current: bool  # the state was the log's already
    rebuilt: bool  # there were events and no state to go on from


class ServedModel:
    """Immutable. `number` is the promotion's, 0 where there was none."""

    def __init__(self, version: str, number: int, model: InferenceModel, catalogue: Catalogue, most_events: int) -> None:
        self.version, self.number, self.model, self.catalogue = version, number, model, catalogue
        self.block = max(1, min(model.max_length, most_events // 2))
        self.films = _films(catalogue)
        self._table = _table(catalogue.movie_ids)
        self._folded = [title.casefold() for title in catalogue.titles]
        vectors = model.item_vectors
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.directions: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)

    @classmethod
    def load(cls, folder: Path, version: str, number: int, most_events: int) -> ServedModel:
        """Raises VersionCorruptError where the files cannot be read or do not belong together."""
        catalogue, model = Catalogue.load(folder), load_inference_model(folder)
        if len(catalogue) != len(model.cold_scores) or not len(catalogue):
            raise VersionCorruptError(
                f"{folder} has {len(catalogue)} items and weights for {len(model.cold_scores)}; train again."
            )
        return cls(version, number, model, catalogue, most_events)

    def promoted(self, number: int) -> ServedModel:
        """The same, named by another promotion."""
        other = copy(self)
        other.number = number
        return other

    def indices(self, items: IntArray) -> IntArray:
        """Index of each raw id, -1 where the model does not know it."""
        if self._table is not None:
            return self._table[np.minimum(items.view(np.uint64), len(self._table) - 1)]
        ids = self.catalogue.movie_ids
        place = np.minimum(np.searchsorted(ids, items), len(ids) - 1)
        return np.where(ids[place] == items, place, -1)

    def plan(self, log: UserLog, state: UserState | None) -> Plan:
        """The shortest way to the state of `log`."""
        length = window(log.count, self.block)
        begin = log.count - length
        if (
            state is not None
            and state.epoch == log.epoch
            and state.count <= log.count
            and state.count - window(state.count, self.block) == begin
            and log.count - state.count <= len(log)
        ):
            new = log.count - state.count
            waiting = state.last_item >= 0
            items, times = self._known(log, new)
            if waiting:
                items, times = np.append(state.last_item, items), np.append(state.last_time, times)
            return Plan(state.numbers, items, times, current=new == 0, rebuilt=False)
        items, times = self._known(log, min(length, len(log)))
        return Plan(None, items, times, current=False, rebuilt=log.count > 0)

    def _known(self, log: UserLog, latest: int) -> tuple[IntArray, IntArray]:
        items = self.indices(log.items[len(log) - latest :])
        known = items >= 0
        return items[known], log.times[len(log) - latest :][known]

    def states(self, plans: Sequence[Plan], users: Sequence[int | None]) -> Floats:
        """(B, state_size) after each plan's events but the last."""
        numbers = self.model.start(len(plans))
        for row, plan in enumerate(plans):
            if plan.numbers is not None:
                numbers[row] = plan.numbers
        lengths = [max(len(plan.items) - 1, 0) for plan in plans]
        if any(lengths):
            items = np.concatenate([plan.items[:-1] for plan in plans])
            intervals = np.concatenate([np.diff(plan.times) for plan in plans])
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            self.model.advance(numbers, items, intervals, offsets, users)
        return numbers

    def scores(self, numbers: Floats, plans: Sequence[Plan], now: Sequence[int], users: Sequence[int | None]) -> Floats:
        """(B, n_items) of requests at `now`; each plan has at least one event. `numbers` (B, state_size) is left as it was."""
        items = np.array([plan.items[-1] for plan in plans], np.int64)
        intervals = np.array([time - plan.times[-1] for time, plan in zip(now, plans, strict=True)], np.int64)
        hidden = self.model.advance(numbers.copy(), items, intervals, np.arange(len(plans) + 1), users)
        return self.model.scores(hidden)

    def similar(self, index: int, k: int) -> tuple[IntArray, Floats]:
        """The k items of the most similar vectors, by cosine, without the item itself."""
        from serving.top import best

        likeness = self.directions @ self.directions[index]
        likeness[index] = -np.inf
        items = best(likeness, k) if self.directions.shape[1] else np.empty(0, np.int64)
        return items, likeness[items]

    def search(self, text: str, count: int) -> list[int]:
        """Indices of the films whose title holds the text, the most popular first."""
        wanted = text.casefold()
        found = np.array([index for index, title in enumerate(self._folded) if wanted in title], np.int64)
        order = np.argsort(-self.catalogue.popularity[found], kind="stable")
        return [int(index) for index in found[order][:count]]

    def check_samples(self, folder: Path) -> int:
        """Answer the requests that were stored with the version; the number of them.

        Raises VersionCorruptError where an answer is not the trained model's.
        """
        try:
            samples = json.loads((folder / SAMPLE_FILE).read_text(encoding="utf-8"))
            return sum(self._check(sample) for sample in samples)
        except (OSError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, VersionCorruptError):
                raise
            raise VersionCorruptError(f"{folder / SAMPLE_FILE} cannot be read ({error}); train again.") from error

    def _check(self, sample: dict[str, Any]) -> int:
        """As training ranked it: exactly the latest `max_length` events that the model knows."""
        items = self.indices(np.array(sample["item_ids"], np.int64))
        times, now, user = np.array(sample["timestamps"], np.int64), int(sample["request_time"]), int(sample["user_id"])
        known = np.flatnonzero(items >= 0)[-self.model.max_length :]
        scores = self.model.cold_scores.copy()
        if len(known):
            plan = Plan(None, items[known], times[known], current=False, rebuilt=True)
            scores = self.scores(self.states([plan], [user]), [plan], [now], [user])[0]
        scores[items[items >= 0]] = -np.inf
        expected = np.array(sample["top_scores"], np.float64)
        top = self.indices(np.array(sample["top_items"], np.int64))
        found = np.sort(scores)[::-1][: len(expected)].astype(np.float64)
        answer = f"version {self.version} answers the stored request of user {user} otherwise than the trained model"
        if (top < 0).any() or not np.isfinite(found).all():
            raise VersionCorruptError(f"{answer}: with other items.")
        # Items may swap where scores are equal to the tolerance; neither the scores by place nor those by item may differ.
        difference = np.abs(np.stack([found, scores[top]]) - expected) / np.maximum(np.abs(expected), 1.0)
        if not np.max(difference, initial=0.0) <= (HALF_TOLERANCE if self.model.half_precision else TOLERANCE):
            raise VersionCorruptError(f"{answer}: by {np.max(difference):.2g}.")
        return 1


def _films(catalogue: Catalogue) -> list[Film]:
    """What an answer says of each item; those of like genres share one list."""
    listed: dict[bytes, list[str]] = {}
    for index, bits in enumerate(catalogue.genre_bits):
        if bits.tobytes() not in listed:
            listed[bits.tobytes()] = catalogue.genres_of(index)
    genres = [listed[bits.tobytes()] for bits in catalogue.genre_bits]
    ids, years = catalogue.movie_ids.tolist(), [year or None for year in catalogue.years.tolist()]
    return [Film(*described) for described in zip(ids, catalogue.titles, years, genres, strict=True)]


def _table(movie_ids: IntArray) -> IntArray | None:
    """Index by raw id, -1 for those that are none and for the one after the last; None where ids are too far apart for that."""
    most = int(movie_ids[-1])
    if most > SPARSE * len(movie_ids) + MANY:
        return None
    table = np.full(most + 2, -1, np.int64)
    table[movie_ids] = np.arange(len(movie_ids))
    return table
