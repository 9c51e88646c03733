"""Computes the tables of one piece: the best items of its users, as a server would answer, and the vectors of its users."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from models.columns import Columns
from models.inference import CATALOGUE_FILE, InferenceModel, WindowModel, load_inference_model
from models.loading import load_recommender
from models.recommender import IntArray, Recommender, Requests
from models.top_k import best
from tasks.evaluation import scores_after, served_events_of
from tasks.export.plan import ExportPlan
from tasks.export.users import Piece

__all__ = ["Answers", "answers_in", "parquet", "vectors_of"]

SCORES = 1 << 22  # scores in memory at once
MOST_BATCH = 512  # requests
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Answers:
    """A model version that answers for many users. It is loaded from the folder of its files, without a store."""

    folder: Path

    @cached_property
    def served(self) -> InferenceModel | WindowModel:
        return load_inference_model(self.folder)

    @cached_property
    def trained(self) -> Recommender:
        return load_recommender(self.folder)

    @cached_property
    def items(self) -> IntArray:
        """Raw ids (n_items,) of the model's items, ascending."""
        table = pq.ParquetFile(self.folder / "vocabulary.parquet").read([Columns.ITEM])
        found: IntArray = table[Columns.ITEM].to_numpy().astype(np.int64)
        return found

    @cached_property
    def item_names(self) -> pa.Array:
        """The team's own ids (n_items,) of the items: texts, or int64."""
        path = self.folder / CATALOGUE_FILE
        if path.exists() and Columns.EXTERNAL_ID in pq.read_schema(path).names:
            return pq.ParquetFile(path).read([Columns.EXTERNAL_ID])[Columns.EXTERNAL_ID].combine_chunks()
        return pa.array(self.items)

    @cached_property
    def popular(self) -> FloatArray:
        """Scores (n_items,) for users without known events: those that a server has before any event arrives."""
        for name in (CATALOGUE_FILE, "vocabulary.parquet"):
            path = self.folder / name
            if path.exists() and "train_events" in pq.read_schema(path).names:
                counts = pq.ParquetFile(path).read(["train_events"])["train_events"].to_numpy()
                found: FloatArray = np.log1p(counts.astype(np.float64)).astype(np.float32)
                return found
        return np.zeros(len(self.items), np.float32)

    def tables(self, piece: Piece, names: pa.Array, plan: ExportPlan) -> dict[str, bytes]:
        """Return the Parquet files of a piece, by part.

        Args:
            piece: The users and their events.
            names: The team's own ids (U,) of the users: texts, or int64.
            plan: What is exported.
        """
        requests, found = piece.requests(plan.at), {}
        if "top_k" in plan.parts:
            found["top_k"] = parquet(self._best(requests, names, plan))
        if "user_vectors" in plan.parts:
            found["user_vectors"] = parquet({Columns.USER: names, "vector": vectors_of(self._user_vectors(requests))})
        return found

    def _best(self, requests: Requests, names: pa.Array, plan: ExportPlan) -> dict[str, pa.Array]:
        batch = max(1, min(MOST_BATCH, SCORES // max(len(self.items), 1)))
        rows: list[IntArray] = []
        items: list[IntArray] = []
        values: list[FloatArray] = []
        for begin in range(0, len(requests), batch):
            asked = requests.take(np.arange(begin, min(begin + batch, len(requests))))
            for row, scores in enumerate(self._scores(asked, hide_seen=plan.hide_seen)):
                top = best(scores, plan.k)
                rows.append(np.full(len(top), begin + row, np.int64))
                items.append(top)
                values.append(scores[top])
        which = np.concatenate([np.empty(0, np.int64), *rows])
        ranks = np.concatenate([np.empty(0, np.int64), *(np.arange(1, len(top) + 1) for top in items)])
        return {
            Columns.USER: names.take(pa.array(which)),
            "rank": pa.array(ranks.astype(np.int32)),
            Columns.ITEM: self.item_names.take(pa.array(np.concatenate([np.empty(0, np.int64), *items]))),
            "score": pa.array(np.concatenate([np.empty(0, np.float32), *values])),
        }

    def _scores(self, asked: Requests, *, hide_seen: bool) -> FloatArray:
        """Return the scores (B, n_items) after the events that a server has read. Hidden items have -inf."""
        read = served_events_of(self.served, asked, self.items)
        scores = scores_after(self.served, asked, self.items, read)
        scores[[not len(places) for places in read]] = self.popular
        if hide_seen:
            columns = np.minimum(np.searchsorted(self.items, asked.item_ids), len(self.items) - 1)
            known = self.items[columns] == asked.item_ids
            scores[asked.row_of_event[known], columns[known]] = -np.inf
        return scores

    def _user_vectors(self, requests: Requests) -> FloatArray:
        """Return the vectors (R, H) after the events that a server has read."""
        found = []
        for begin in range(0, len(requests), MOST_BATCH):
            asked = requests.take(np.arange(begin, min(begin + MOST_BATCH, len(requests))))
            read = served_events_of(self.served, asked, self.items)
            places = np.concatenate([np.empty(0, np.int64), *read]).astype(np.int64)
            window = Requests(
                user_ids=asked.user_ids,
                offsets=np.concatenate([[0], np.cumsum([len(each) for each in read])]).astype(np.int64),
                item_ids=asked.item_ids[places],
                timestamps=asked.timestamps[places],
                request_times=asked.request_times,
                targets=asked.targets,
            )
            found.append(self.trained.user_vectors(window).cpu().numpy())
        return np.concatenate(found) if found else np.empty((0, 0), np.float32)


@lru_cache(maxsize=2)
def answers_in(folder: Path) -> Answers:
    """Return the version in a folder. A process loads it once."""
    return Answers(folder)


def vectors_of(matrix: Any) -> pa.Array:
    """Return a matrix (n, H) as an array of n lists of H numbers."""
    found = np.ascontiguousarray(matrix, dtype=np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(found.reshape(-1)), max(found.shape[1], 1))


def parquet(columns: dict[str, pa.Array]) -> bytes:
    """Return a Parquet file with these columns."""
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()
