"""One served model version: its model, its catalogue, and how a user's events become a state or a window.

A state has read between `block` and 2 x `block` of the latest events, with `block` the length of a training window. After every
`block` events, the state is restarted from the latest `block` events. It therefore depends only on the latest events, and is the
same whether it was advanced event by event, rebuilt after a restart, or built by another worker.

A `WindowModel` has no state. It reads the latest `max_length` known events of the log for each request.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from pydantic_core import to_json

from configs.errors import VersionCorruptError
from models.inference import SAMPLE_FILE, Floats, InferenceModel, ProductModel, WindowModel, load_inference_model, served_events
from models.pruning import ItemIndex, UserScores
from models.top_k import best
from serving.catalogue import Catalogue, ItemDescription
from serving.state import UserLog, UserState

__all__ = ["Plan", "ServedModel"]

IntArray = npt.NDArray[np.int64]
TOLERANCE = 1e-4  # relative, for the scores of the stored answers: another CPU sums in a different order
SPARSE, MANY = 64, 1_000_000  # a table of all raw ids may have up to SPARSE x items + MANY entries
INDEXED = 100_000  # from this number of items, an index finds the best of them; a scan of fewer takes a millisecond or two
HALF_TOLERANCE = 5e-2  # if the stored scores were computed in bfloat16


@dataclass(frozen=True, eq=False)
class Plan:
    """How to compute the state of a log: start from `numbers` and read all `items` except the last, which is read later."""

    numbers: Floats | None  # (state_size,) to continue from, or None to start from scratch
    items: IntArray  # (E,) indices of the events to read; the last one waits for its interval
    times: IntArray  # (E,)
    current: bool  # the stored state already matches the log
    rebuilt: bool  # there were events, but no state to continue from

    def state_of(self, log: UserLog, numbers: Floats) -> UserState:
        """Return the state of `log`, from the numbers (state_size,) that this plan led to."""
        item, at = (int(self.items[-1]), int(self.times[-1])) if len(self.items) else (-1, 0)
        return UserState(log.epoch, log.count, item, at, numbers, log.guard)


class ServedModel:
    """A loaded model version. Immutable. `number` is the promotion's number, or 0 if there was no promotion."""

    def __init__(
        self,
        version: str,
        number: int,
        model: InferenceModel | WindowModel,
        catalogue: Catalogue,
        most_events: int,
        dataset: str = "",
    ) -> None:
        self.most_events, self.dataset = most_events, dataset  # the dataset's name, or an empty text if it is unknown
        self.version, self.number, self.model, self.catalogue = version, number, model, catalogue
        self._window = model if isinstance(model, WindowModel) else None
        self._recurrent = cast(InferenceModel, model)  # not used if there is a window
        self.block = max(1, min(model.max_length, most_events // 2))
        self.described = _described(catalogue)
        self._json: dict[int, str] = {}
        self._table = _table(catalogue.item_ids)
        self._folded = [catalogue.name_of(index).casefold() for index in range(len(catalogue))]
        vectors = model.item_vectors
        self.index = ItemIndex.of(vectors) if isinstance(model, ProductModel) and len(vectors) >= INDEXED else None
        """Finds the best items without a scan of all. None for a small catalogue, or if scores are not products of vectors."""
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.directions: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)

    @classmethod
    def load(cls, folder: Path, version: str, number: int, most_events: int, dataset: str = "") -> ServedModel:
        """Load a version from the folder of its files.

        Raises:
            VersionCorruptError: If the files cannot be read or do not belong together.
        """
        catalogue, model = Catalogue.load(folder), load_inference_model(folder)
        if len(catalogue) != len(model.cold_scores) or not len(catalogue):
            raise VersionCorruptError(
                f"{folder} has {len(catalogue)} items, but weights for {len(model.cold_scores)}; train again."
            )
        return cls(version, number, model, catalogue, most_events, dataset)

    def promoted(self, number: int) -> ServedModel:
        """Return the same version with the number of another promotion."""
        other = copy(self)
        other.number = number
        return other

    def indices(self, items: IntArray) -> IntArray:
        """Return the index of each raw id, or -1 if the model does not know it."""
        if self._table is not None:
            return self._table[np.minimum(items.view(np.uint64), len(self._table) - 1)]
        ids = self.catalogue.item_ids
        place = np.minimum(np.searchsorted(ids, items), len(ids) - 1)
        return np.where(ids[place] == items, place, -1)

    def plan(self, log: UserLog, state: UserState | None) -> Plan:
        """Return the shortest way to compute the state of `log`. For a model without a state, return the events that it reads."""
        if self._window is not None:
            items, times = self._known(log, len(log))
            latest = slice(max(len(items) - self._window.max_length, 0), None)
            return Plan(None, items[latest], times[latest], current=True, rebuilt=False)
        length = served_events(log.count, self.block)
        begin = log.count - length
        if (
            state is not None
            and state.epoch == log.epoch
            and state.count <= log.count
            and state.count - served_events(state.count, self.block) == begin
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
        """Return the states (B, state_size) after each plan's events except the last."""
        if self._window is not None:
            return np.empty((len(plans), 0), np.float32)
        numbers = self._recurrent.start(len(plans))
        for row, plan in enumerate(plans):
            if plan.numbers is not None:
                numbers[row] = plan.numbers
        lengths = [max(len(plan.items) - 1, 0) for plan in plans]
        if any(lengths):
            items = np.concatenate([plan.items[:-1] for plan in plans])
            intervals = np.concatenate([np.diff(plan.times) for plan in plans])
            offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            until = np.concatenate([plan.times[1:] for plan in plans])
            self._recurrent.advance(numbers, items, intervals, offsets, users, until)
        return numbers

    def scores(self, numbers: Floats, plans: Sequence[Plan], now: Sequence[int], users: Sequence[int | None]) -> Floats:
        """Return the scores (B, n_items) of requests at `now`. Each plan has at least one event.

        `numbers` (B, state_size) is not modified.
        """
        if self._window is not None:
            offsets = np.concatenate([[0], np.cumsum([len(plan.items) for plan in plans])]).astype(np.int64)
            items, times = np.concatenate([plan.items for plan in plans]), np.concatenate([plan.times for plan in plans])
            return self._window.window_scores(items, times, offsets, np.array(now, np.int64), users)
        return self._recurrent.scores(self._hidden(numbers, plans, now, users))

    def scored(
        self, numbers: Floats, plans: Sequence[Plan], now: Sequence[int], users: Sequence[int | None]
    ) -> Sequence[Floats | UserScores]:
        """Return the scores of each request: those of all items (n_items,), or with an index, those that will be asked for."""
        if self.index is None or not isinstance(self.model, ProductModel):
            return list(self.scores(numbers, plans, now, users))
        hidden = self._hidden(numbers, plans, now, users)
        return [UserScores(self.index, row, self.model.scores_of) for row in hidden]

    def _hidden(self, numbers: Floats, plans: Sequence[Plan], now: Sequence[int], users: Sequence[int | None]) -> Floats:
        """Return the hidden states (B, H) of requests at `now`, for a model with states."""
        items = np.array([plan.items[-1] for plan in plans], np.int64)
        last = np.array([plan.times[-1] for plan in plans], np.int64)
        until = np.maximum(np.array(now, np.int64), last)  # an event may be a little later than the server's clock
        return self._recurrent.advance(numbers.copy(), items, until - last, np.arange(len(plans) + 1), users, until)

    def id_of(self, item_id: int) -> int | str | None:
        """Return the team's id of an item by its number, or None if it is text and the model does not know the item."""
        if self.catalogue.external_ids is None:
            return item_id
        index = self.catalogue.index_of(item_id)
        return None if index is None else self.catalogue.external_ids[index]

    def json_of(self, index: int) -> str:
        """Return the description of an item as JSON without the closing brace, so that an answer can add to it."""
        found = self._json.get(index)
        if found is None:
            found = self._json[index] = to_json(self.described[index]._asdict()).decode()[:-1]
        return found

    def title_of(self, item_id: int) -> str:
        """Return the title of an item by its number. It is empty if the model does not know the item."""
        index = self.catalogue.index_of(item_id)
        return "" if index is None else self.catalogue.titles[index]

    def similar(self, index: int, k: int) -> tuple[IntArray, Floats]:
        """Return the k items with the most similar vectors, and their cosines. The item itself is excluded."""
        likeness = self.directions @ self.directions[index]
        likeness[index] = -np.inf
        items = best(likeness, k) if self.directions.shape[1] else np.empty(0, np.int64)
        return items, likeness[items]

    def search(self, text: str, count: int) -> list[int]:
        """Return the indices of the items whose title, or else whose id, contains the text, most popular first."""
        wanted = text.casefold()
        found = np.array([index for index, name in enumerate(self._folded) if wanted in name], np.int64)
        order = np.argsort(-self.catalogue.popularity[found], kind="stable")
        return [int(index) for index in found[order][:count]]

    def check_samples(self, folder: Path) -> int:
        """Answer the sample requests that were stored with the version, and return their number.

        However long that takes: a busy machine does not justify refusing a version.

        Raises:
            VersionCorruptError: If an answer differs from the trained model's.
            OSError: If the machine cannot read the file, for example because too many are open. This says nothing about the version.
        """
        try:
            samples = json.loads((folder / SAMPLE_FILE).read_text(encoding="utf-8"))
            return sum(self._check(sample) for sample in samples)
        except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
            if isinstance(error, VersionCorruptError):
                raise
            raise VersionCorruptError(f"{folder / SAMPLE_FILE} cannot be read ({error}); train again.") from error

    def _check(self, sample: dict[str, Any]) -> int:
        """Check one sample the way training ranked it: from exactly the latest `max_length` events that the model knows."""
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
        answer = f"The version {self.version} answers the stored request of user {user} differently from the trained model"
        if (top < 0).any() or not np.isfinite(found).all():
            raise VersionCorruptError(f"{answer}: it recommends different items.")
        # Items with scores equal within the tolerance may swap places, but scores must match both by place and by item.
        difference = np.abs(np.stack([found, scores[top]]) - expected) / np.maximum(np.abs(expected), 1.0)
        if not np.max(difference, initial=0.0) <= (HALF_TOLERANCE if self.model.half_precision else TOLERANCE):
            raise VersionCorruptError(f"{answer}: scores differ by {np.max(difference):.2g}.")
        return 1


def _described(catalogue: Catalogue) -> list[ItemDescription]:
    """Return the description of each item. Items with the same genres share one list."""
    listed: dict[bytes, list[str]] = {}
    for index, bits in enumerate(catalogue.genre_bits):
        if bits.tobytes() not in listed:
            listed[bits.tobytes()] = catalogue.genres_of(index)
    genres = [listed[bits.tobytes()] for bits in catalogue.genre_bits]
    years = [year or None for year in catalogue.years.tolist()]
    return [
        ItemDescription(catalogue.id_of(index), title, year, own, catalogue.attributes_of(index))
        for index, (title, year, own) in enumerate(zip(catalogue.titles, years, genres, strict=True))
    ]


def _table(item_ids: IntArray) -> IntArray | None:
    """Return the index by raw id: -1 for unused ids and for the entry after the last. None if the ids are too sparse."""
    most = int(item_ids[-1])
    if most > SPARSE * len(item_ids) + MANY:
        return None
    table = np.full(most + 2, -1, np.int64)
    table[item_ids] = np.arange(len(item_ids))
    return table
