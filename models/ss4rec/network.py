"""The SS4Rec network: item embedding, blocks of a time-aware and a relation-aware layer, and a tied output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from configs.settings import SS4RecSettings
from models.attributes import DescribedItems
from models.calendar import CalendarEmbedding
from models.intervals import IntervalEmbedding
from models.ss4rec.dropout import ByteDropout
from models.ss4rec.kernels import Backend
from models.ss4rec.relation_aware import RelationAwareLayer, RelationState
from models.ss4rec.time_aware import TimeAwareLayer
from models.windows import Segments

__all__ = ["NetworkState", "SS4RecNetwork"]

EMBEDDING_STD = 0.02
NORM_EPSILON = 1e-12
BlockState = tuple[torch.Tensor, RelationState]


@dataclass(frozen=True, eq=False)
class NetworkState:
    """The network's memory of each user after the events it has read, as one row of numbers per user.

    If the network uses traits, the row starts with the user's codes.
    """

    values: torch.Tensor  # (users, numbers) float32


class IntervalScale(nn.Module):
    """Converts seconds to the unit of the time-aware layer.

    `learned` is the Box-Cox transform ((1 + dt)^p - 1) / p, with p in (0, 1) learned from 0.5. It lies between seconds (p = 1)
    and log1p (p to 0).
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        if kind == "learned":
            self.power = nn.Parameter(torch.zeros(()))

    def forward(self, intervals: torch.Tensor) -> torch.Tensor:
        seconds = intervals.clamp_min(0)
        if self.kind == "none":
            return torch.ones_like(seconds)
        if self.kind == "seconds":
            return seconds
        if self.kind == "log1p":
            return seconds.log1p()
        power = torch.sigmoid(self.power).clamp_min(1e-3)
        return torch.expm1(power * seconds.log1p()) / power


class Block(nn.Module):
    """A time-aware and a relation-aware layer, each with a residual connection.

    With post-norm, as in the authors' code: h = LN(x + Dropout(S5(x, dt))), x' = LN(h + Dropout(Mamba(h))). With pre-norm:
    h = x + Dropout(S5(LN(x), dt)), x' = h + Dropout(Mamba(LN(h))), so that a deep stack passes its input and its gradients on. The
    layers of a pre-norm stack start with outputs that are scaled by 1 / sqrt(number of layers), like GPT-2's and Mamba's.
    """

    def __init__(self, settings: SS4RecSettings) -> None:
        super().__init__()
        width = settings.width
        self.pre = settings.norm == "pre"
        self.time_aware = (
            TimeAwareLayer(width, settings.time_state, settings.step_min, settings.step_max)
            if settings.layers != "relation"
            else None
        )
        self.relation_aware = (
            RelationAwareLayer(width, settings.relation_state, settings.conv_width, settings.expand)
            if settings.layers != "time"
            else None
        )
        self.dropout = ByteDropout(settings.dropout)
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)
        self.relation_norm = nn.LayerNorm(width, eps=NORM_EPSILON) if settings.two_norms else self.norm
        if self.pre:
            layers = [layer for layer in (self.time_aware, self.relation_aware) if layer is not None]
            for layer in layers:
                layer.scale_output((settings.blocks * len(layers)) ** -0.5)

    def forward(
        self,
        x: torch.Tensor,
        read: torch.Tensor,
        intervals: torch.Tensor,
        segments: Segments,
        state: list[torch.Tensor] | None,
        backend: Backend,
        keep_state: bool,
    ) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """Run the layers on the residual stream `x`.

        `read` is `x` in the type that products are computed in; a post-norm layer reads it. Returns both after the block, and the
        states that were kept.
        """
        if backend == "cuda" and not self.pre and state is None and not keep_state and len(x) > 0:
            return *self._fused(x, read, intervals, segments), []
        kept: list[torch.Tensor] = []
        given = iter(state or [])
        if self.time_aware is not None:
            y, final = self.time_aware(self.input_of(self.norm, x), intervals, segments, next(given, None), backend)
            x = self.output_of(self.norm, x + self.dropout(y))
            kept.append(final)
        if self.relation_aware is not None:
            before = (next(given), next(given)) if state is not None else None
            y, after = self.relation_aware(self.input_of(self.relation_norm, x), segments, before, backend, keep_state)
            x = self.output_of(self.relation_norm, x + self.dropout(y))
            kept.extend(after or ())
        return x, x, kept

    def _fused(
        self, x: torch.Tensor, read: torch.Tensor, intervals: torch.Tensor, segments: Segments
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Run the layers with the kernels that are made for a training step."""
        from models.ss4rec.kernels import add_and_normalise

        device = x.device.type
        half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        dropped = self.dropout.dropped if self.training else 0
        if self.time_aware is not None:
            y = self.time_aware.fused(read, intervals, segments, half)
            x, read = add_and_normalise(x, y, self.time_aware.D, self.norm, dropped, half)
        if self.relation_aware is not None:
            y = self.relation_aware.fused(read, segments, half)
            x, read = add_and_normalise(x, y, None, self.relation_norm, dropped, half)
        return x, read

    def input_of(self, norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        """Return what a layer reads of the residual stream `x`."""
        return norm(x) if self.pre else x

    def output_of(self, norm: nn.LayerNorm, x: torch.Tensor) -> torch.Tensor:
        """Return the residual stream after a layer was added to it."""
        return x if self.pre else norm(x)


class SS4RecNetwork(nn.Module):
    """The SS4Rec network. Items are 1..n_items; 0 stands for no item.

    `traits` has the number of values of each user trait (`models.users`). The codes of a trait are 1..n. Code 0 adds nothing,
    like a user without known traits. `features` (n_items + 1, F) are those of the items, for a network that learns from them; row 0 is
    zero.
    """

    def __init__(
        self, n_items: int, settings: SS4RecSettings, traits: Sequence[int] = (), features: torch.Tensor | None = None
    ) -> None:
        super().__init__()
        self.items = _embedding(n_items, settings.width)
        self.traits = nn.ModuleList(_embedding(values, settings.width) for values in traits)
        self.interval_scale = IntervalScale(settings.interval)
        self.dropout = ByteDropout(settings.embedding_dropout)
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.blocks))
        # New parts come last, so that a network without them draws the weights that it always drew.
        self.interval_embedding = IntervalEmbedding(settings.width) if settings.embeds_intervals else None
        self.final_norm = nn.LayerNorm(settings.width, eps=NORM_EPSILON) if settings.norm == "pre" else None
        self.calendar = CalendarEmbedding(settings.width) if settings.calendar_input else None
        self.described = None if features is None else DescribedItems(features, settings.width, settings.identity_dropout)
        self._state_shapes = self._shapes(settings)

    def forward(
        self,
        items: torch.Tensor,
        intervals: torch.Tensor,
        segments: Segments,
        backend: Backend,
        who: torch.Tensor | None = None,
        until: torch.Tensor | None = None,
        vectors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the hidden state (T, width) after each event.

        Args:
            items: (T,) int64.
            intervals: (T,) seconds from each event to the next one in its window, or to the request.
            segments: The windows.
            backend: Of the recurrences.
            who: (W, traits) int64 codes of each window's user.
            until: (T,) int64 UTC seconds of the next event or the request, for a network that reads the calendar.
            vectors: What `item_vectors` returned, if the loss of this step uses it too.
        """
        x = self._input(self.embedded(items, intervals, until, vectors), segments, who)
        return self._run(x, intervals, segments, None, backend, keep_state=False)[0]

    def start(self, users: int, who: torch.Tensor | None = None) -> NetworkState:
        """Return the state of users without events. `who` (users, traits) has int64 codes."""
        nothing = self.items.weight.new_zeros(users, len(self.traits) + sum(shape.numel() for shape in self._state_shapes))
        if who is not None:
            nothing[:, : len(self.traits)] = who.to(nothing)
        return NetworkState(nothing)

    def step(
        self,
        state: NetworkState,
        item: torch.Tensor,
        interval: torch.Tensor,
        backend: Backend,
        until: torch.Tensor | None = None,
    ) -> tuple[NetworkState, torch.Tensor]:
        """Process one more event for each of B users, at a cost that does not grow with their histories.

        This is the recurrent form. A request is answered with a step whose state is discarded, because the interval of the last
        event is only known when the next event arrives.

        Args:
            item: (B,) int64.
            interval: (B,) seconds from that event to the next event or the request.
            until: (B,) int64 UTC seconds of the next event or the request, for a network that reads the calendar.

        Returns:
            The state after the event, and the hidden state (B, width).
        """
        return self.advance(state, item, interval, Segments.single(len(item), item.device), backend, until)

    def advance(
        self,
        state: NetworkState,
        items: torch.Tensor,
        intervals: torch.Tensor,
        segments: Segments,
        backend: Backend,
        until: torch.Tensor | None = None,
    ) -> tuple[NetworkState, torch.Tensor]:
        """Run `forward` from a state. Returns the state after each window and the hidden states (T, width)."""
        own = state.values[:, : len(self.traits)]
        x = self._input(self.embedded(items, intervals, until), segments, own.long() if self.traits else None)
        hidden, kept = self._run(x, intervals, segments, self._unpack(state), backend, keep_state=True)
        return NetworkState(torch.cat([own, *(part.float().flatten(1) for part in kept)], dim=1)), hidden

    def item_vectors(self) -> torch.Tensor:
        """Return the vectors (n_items + 1, width) of the items. In training, each call drops other items' own vectors."""
        vectors: torch.Tensor = self.items.weight if self.described is None else self.described(self.items.weight)
        return vectors

    def embedded(
        self,
        items: torch.Tensor,
        intervals: torch.Tensor,
        until: torch.Tensor | None = None,
        vectors: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the input (..., width) of events: the vectors of the item, the interval after it, and the moment at its end.

        Raises:
            ValueError: if the network reads the calendar, and `until` is missing.
        """
        if self.described is None:
            found: torch.Tensor = self.items(items)
        else:
            found = F.embedding(items, self.item_vectors() if vectors is None else vectors, padding_idx=0)
        if self.interval_embedding is not None:
            found = found + self.interval_embedding(intervals)
        if self.calendar is not None:
            if until is None:
                raise ValueError("a network with calendar_input needs the times of the next events")
            found = found + self.calendar(until)
        return found

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map hidden states (..., width) to logits (..., n_items). The output is tied to the embedding, without bias."""
        logits: torch.Tensor = hidden @ self.item_vectors()[1:].T
        return logits

    def _input(self, embedded: torch.Tensor, segments: Segments, who: torch.Tensor | None) -> torch.Tensor:
        """Return the input (T, width) of the first block."""
        if self.traits and who is not None:
            described = torch.stack([table(who[:, i]) for i, table in enumerate(self.traits)]).sum(0)
            embedded = embedded + described[segments.windows]
        x: torch.Tensor = self.dropout(embedded)
        return x

    def _run(
        self,
        x: torch.Tensor,
        intervals: torch.Tensor,
        segments: Segments,
        state: list[list[torch.Tensor]] | None,
        backend: Backend,
        keep_state: bool,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        scaled = self.interval_scale(intervals)
        kept: list[torch.Tensor] = []
        read = x
        for i, block in enumerate(self.blocks):
            x, read, after = block(x, read, scaled, segments, None if state is None else state[i], backend, keep_state)
            kept += after
        if self.final_norm is not None:
            return self.final_norm(x), kept
        return (read if self.training else x), kept  # a loss reads what a layer reads; states for requests keep their precision

    @staticmethod
    def _shapes(settings: SS4RecSettings) -> list[torch.Size]:
        inner = settings.expand * settings.width
        block = []
        if settings.layers != "relation":
            block.append(torch.Size([2 * settings.time_state]))
        if settings.layers != "time":
            block += [torch.Size([settings.conv_width - 1, inner]), torch.Size([inner, settings.relation_state])]
        return block * settings.blocks

    def _unpack(self, state: NetworkState) -> list[list[torch.Tensor]]:
        layers = state.values[:, len(self.traits) :]
        parts = torch.split(layers, [shape.numel() for shape in self._state_shapes], dim=1)
        shaped = [part.reshape(len(part), *shape) for part, shape in zip(parts, self._state_shapes, strict=True)]
        each = len(shaped) // len(self.blocks)
        return [shaped[i : i + each] for i in range(0, len(shaped), each)]


def _embedding(values: int, width: int) -> nn.Embedding:
    """Return an embedding of 1..values. Row 0 is zero and stays zero."""
    table = nn.Embedding(values + 1, width, padding_idx=0)
    nn.init.normal_(table.weight, std=EMBEDDING_STD)
    with torch.no_grad():
        table.weight[0].zero_()
    return table
