"""SS4Rec for serving: the recurrent form in numpy and numba, loaded from a version's files, without torch.

A user's state covers all events except the last. The interval of an event is only known when the next event, or a request,
arrives. A request is answered with a step whose state is discarded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from configs.errors import VersionCorruptError
from configs.settings import SS4RecSettings
from models.calendar import DAYS, HOURS, hours_of_week
from models.intervals import BUCKETS, EDGES
from models.ss4rec.kernels import Floats, Weights, advance, packed, products
from models.ss4rec.spec import settings_of_model

__all__ = ["RecurrentSS4Rec"]

CACHE_LINE = 64  # bytes
NOT_READ = np.empty(0, np.int64)
LOG2_E = 1.4426950408889634  # exp(x) = 2 ** (x LOG2_E)
LEAST_DECAY = 1e-4  # as in `time_aware`
TRAITS = ("gender", "age", "occupation")  # as in `models.users`
IntArray = npt.NDArray[np.int64]


class RecurrentSS4Rec:
    """SS4Rec for serving. States are float32 rows of `state_size` numbers, zero for a user without events."""

    kind = "ss4rec"

    def __init__(self, settings: SS4RecSettings, weights: Weights, power: float, users: _Users, train_events: IntArray) -> None:
        self.settings = settings
        self._weights, self._power, self._users = weights, power, users
        self.cold_scores: Floats = np.log1p(train_events.astype(np.float32))
        taps, rate = weights.taps, weights.rate
        block = 2 * weights.rate_re.shape[1] + (taps.shape[1] - 1) * taps.shape[2] + rate.shape[1] * rate.shape[2]
        self.state_size: int = block * settings.blocks

    @property
    def max_length(self) -> int:
        """The maximum number of events in a training window."""
        return self.settings.max_length

    @property
    def half_precision(self) -> bool:
        """Whether the trained model's own answers on the CPU were computed in bfloat16."""
        return self.settings.precision == "bfloat16"

    @property
    def item_vectors(self) -> Floats:
        """The item embeddings (n_items, H)."""
        return self._weights.items[1:]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load the model that `SS4Rec.save` wrote.

        Raises:
            VersionCorruptError: if a file is incomplete or the files do not match.
        """
        try:
            settings = settings_of_model(json.loads((folder / "config.json").read_text(encoding="utf-8"))["settings"])
            tensors = load_file(folder / "model.safetensors")
            counts = pq.ParquetFile(folder / "vocabulary.parquet").read(["train_events"])["train_events"].to_numpy()
            users = _Users.load(folder / "users.parquet", tensors) if settings.user_features else _Users.none(settings.width)
            weights = _weights_of(tensors, settings)
            power = float(tensors["interval_scale.power"]) if settings.interval == "learned" else 0.0
        except KeyError as error:
            raise VersionCorruptError(f"{folder} lacks {error} in config.json or model.safetensors; train again.") from error
        except (OSError, TypeError, ValueError, ValidationError, SafetensorError, pa.ArrowException) as error:
            raise VersionCorruptError(f"{folder} does not contain a readable SS4Rec model ({error}); train again.") from error
        if len(counts) + 1 != len(weights.items):
            raise VersionCorruptError(
                f"{folder / 'vocabulary.parquet'} has {len(counts)} items, but the weights {len(weights.items) - 1}; train again."
            )
        return cls(settings, weights, power, users, counts.astype(np.int64))

    def start(self, users: int) -> Floats:
        """Return the states (users, state_size) of users without events."""
        return np.zeros((users, self.state_size), np.float32)

    def advance(
        self,
        state: Floats,
        items: IntArray,
        intervals: IntArray,
        offsets: IntArray,
        user_ids: Sequence[int | None],
        until: IntArray,
    ) -> Floats:
        """Process the events offsets[b]:offsets[b + 1] of each user b, and update `state` (B, state_size) in place.

        Releases the GIL.

        Args:
            items: (E,) indices from 0.
            intervals: (E,) seconds from each event to the next event or the request. Negative values count as 0.
            user_ids: The users whose traits to use, or None for an unknown user.
            until: (E,) UTC seconds of the next event or the request.

        Returns:
            The hidden states (B, H), zero for users without events.
        """
        hidden = _aligned(len(state), self._weights.items.shape[1])
        who = self._users.vectors(user_ids)
        seconds = np.maximum(intervals, 0).astype(np.float32)
        buckets = np.searchsorted(EDGES, seconds, side="right") if len(self._weights.intervals) else NOT_READ
        hours = hours_of_week(until) if len(self._weights.hours) else NOT_READ
        advance(self._weights, state, items + 1, self._scaled(seconds), buckets, hours, offsets, who, hidden)
        return hidden

    def scores(self, hidden: Floats) -> Floats:
        """Map hidden states (B, H) to scores (B, n_items)."""
        scores: Floats = np.empty((len(hidden), len(self.item_vectors)), np.float32)
        products(self.item_vectors, hidden, scores)
        return scores

    def scores_of(self, hidden: Floats, items: IntArray | None) -> Floats:
        """See `models.inference.ProductModel`."""
        vectors = self.item_vectors if items is None else self.item_vectors[items]
        scores: Floats = np.empty(len(vectors), np.float32)
        products(vectors, hidden[None], scores[None])
        return scores

    def _scaled(self, seconds: Floats) -> Floats:
        kind = self.settings.interval
        if kind == "none":
            return np.ones_like(seconds)
        if kind == "log1p":
            return np.log1p(seconds)
        if kind == "learned":
            power = np.float32(max(1 / (1 + np.exp(-self._power)), 1e-3))
            return np.asarray(np.expm1(power * np.log1p(seconds)) / power, np.float32)
        return seconds


class _Users:
    """For each user, the sum of the embeddings of the known traits."""

    def __init__(self, places: dict[int, int], vectors: Floats) -> None:
        self._places = places
        self._vectors = vectors  # (users + 1, H); the last row is for unknown users

    @classmethod
    def none(cls, width: int) -> Self:
        return cls({}, np.zeros((1, width), np.float32))

    @classmethod
    def load(cls, path: Path, tensors: dict[str, Any]) -> Self:
        table = pq.ParquetFile(path).read()
        total = 0.0
        for number, trait in enumerate(TRAITS):
            words = table[trait].to_pylist()
            codes = {word: code for code, word in enumerate(sorted({word for word in words if word is not None}), start=1)}
            total = total + tensors[f"traits.{number}.weight"][[codes.get(word, 0) for word in words] + [0]]
        return cls({user: place for place, user in enumerate(table["user_id"].to_pylist())}, np.asarray(total, np.float32))

    def vectors(self, user_ids: Sequence[int | None]) -> Floats:
        if not self._places:
            return np.zeros((len(user_ids), self._vectors.shape[1]), np.float32)
        return self._vectors[[-1 if user is None else self._places.get(user, -1) for user in user_ids]]


def _weights_of(tensors: dict[str, Any], settings: SS4RecSettings) -> Weights:
    """Stack the weights over the blocks. Raises KeyError or ValueError if they do not match the settings."""
    width, states = settings.width, settings.time_state if settings.layers != "relation" else 0
    inner = settings.expand * width if settings.layers != "time" else 0
    rank, memory, taps = -(-width // 16), settings.relation_state, settings.conv_width

    def stacked(name: str, shape: tuple[int, ...], absent: bool = False) -> Any:
        if absent:
            return np.zeros((settings.blocks, *shape), np.float32)
        parts = [tensors[f"blocks.{block}.{name}"] for block in range(settings.blocks)]
        for part in parts:
            if part.shape != shape or part.dtype != np.float32:
                raise ValueError(f"{name} is {part.dtype} {part.shape}, but should be float32 {shape}")
        return np.stack(parts)

    def time(name: str, *shape: int) -> Any:
        return stacked(f"time_aware.{name}", shape, states == 0)

    def relation(name: str, *shape: int) -> Any:
        return stacked(f"relation_aware.{name}", shape, inner == 0)

    b, c = time("B", states, width, 2), time("C", width, states, 2)
    items = tensors["items.weight"]
    if items.ndim != 2 or items.shape[1] != width or items.dtype != np.float32:
        raise ValueError(f"items.weight is {items.dtype} {items.shape}, but should be float32 (items, {width})")
    vectors = _aligned(*items.shape)
    vectors[:] = items

    def single(name: str, *shape: int, absent: bool) -> Floats:
        found = np.zeros((0, *shape[1:]), np.float32) if absent else tensors[name]
        if not absent and (found.shape != shape or found.dtype != np.float32):
            raise ValueError(f"{name} is {found.dtype} {found.shape}, but should be float32 {shape}")
        return np.asarray(found, np.float32)

    in_proj = relation("in_proj.weight", 2 * inner, width)
    post, hours = settings.norm == "post", np.zeros((0, width), np.float32)
    if settings.calendar_input:
        of_days = single("calendar.days.weight", DAYS, width, absent=False)
        hours = (of_days[:, None] + single("calendar.hours.weight", HOURS, width, absent=False)).reshape(DAYS * HOURS, width)
    return Weights(
        items=vectors,
        intervals=single("interval_embedding.vectors.weight", BUCKETS, width, absent=not settings.embeds_intervals),
        hours=hours,
        final_scale=single("final_norm.weight", width, absent=post),
        final_shift=single("final_norm.bias", width, absent=post),
        drive=packed(np.concatenate([b[..., 0], b[..., 1]], axis=1)),
        rate_re=np.float32(-LEAST_DECAY) - np.exp(time("log_decay", states)),
        rate_im=time("frequency", states),
        step=np.exp(time("log_step", states)),
        read=packed(np.concatenate([c[..., 0], -c[..., 1]], axis=2)),
        skip=time("D", width),
        norm_scale=stacked("norm.weight", (width,)),
        norm_shift=stacked("norm.bias", (width,)),
        in_proj=packed(in_proj[:, :inner]),
        gate=packed(in_proj[:, inner:]),
        taps=np.ascontiguousarray(relation("conv1d.weight", inner, 1, taps)[:, :, 0].swapaxes(1, 2)),
        tap_bias=relation("conv1d.bias", inner),
        x_proj=packed(relation("x_proj.weight", rank + 2 * memory, inner)),
        dt_proj=packed(relation("dt_proj.weight", inner, rank)),
        dt_bias=relation("dt_proj.bias", inner),
        rate=-np.exp(relation("A_log", inner, memory)) * np.float32(LOG2_E),
        inner_skip=relation("D", inner),
        out_proj=packed(relation("out_proj.weight", width, inner)),
        relation_scale=stacked("relation_norm.weight", (width,)),
        relation_shift=stacked("relation_norm.bias", (width,)),
    )


def _aligned(rows: int, width: int) -> Floats:
    """Return zeros (rows, width) that start at a cache line.

    Products take 1.5 times as long if each vector spans two cache lines.
    """
    room = np.zeros(4 * rows * width + CACHE_LINE, np.uint8)
    begin = -room.ctypes.data % CACHE_LINE
    return room[begin : begin + 4 * rows * width].view(np.float32).reshape(rows, width)
