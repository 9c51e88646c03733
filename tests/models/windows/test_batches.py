"""Batches of any layout have each target once an epoch: each event except a user's first, after its own past."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.recommender import Sequences
from models.sequences import Vocabulary
from models.training import Replicas
from models.windows import Batch, Batching, TrainingBatches

CPU = torch.device("cpu")
LENGTHS = st.lists(st.integers(1, 23), min_size=1, max_size=8).filter(lambda lengths: max(lengths) > 1)
Triple = tuple[int, float, int]


def sequences(lengths: list[int], seed: int = 0, longest_gap: int = 3) -> Sequences:
    """Sequences in which no item occurs twice, so that an item identifies its event."""
    rng = np.random.default_rng(seed)
    times = np.concatenate([1_700_000_000 + np.cumsum(rng.integers(0, longest_gap, n)) for n in lengths])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Sequences(np.arange(len(lengths)), offsets, np.arange(1, len(times) + 1), times)


def made(train: Sequences, replicas: Replicas = Replicas(), **options: object) -> TrainingBatches:  # noqa: B008
    batching = Batching(**{"max_length": 7, "tokens": 20, "seed": 3, **options})  # type: ignore[arg-type]
    vocabulary = Vocabulary(np.arange(1, len(train.item_ids) + 1))
    return TrainingBatches(train, vocabulary, batching, device=CPU, replicas=replicas)


def triples(batch: Batch) -> list[Triple]:
    real = batch.targets >= 0
    rows = zip(batch.items[real].tolist(), batch.intervals[real].tolist(), (batch.targets[real] + 1).tolist(), strict=True)
    return list(rows)


def fixed(batches: TrainingBatches, epoch: int) -> list[Batch]:
    return [batches.fixed(torch.tensor(step)) for step in range(batches.begin(epoch))]


def expected(train: Sequences) -> Counter[Triple]:
    pairs = np.flatnonzero(np.diff(train.row_of_event) == 0)
    gaps = np.diff(train.timestamps)[pairs]
    return Counter(
        zip(train.item_ids[pairs].tolist(), gaps.astype(float).tolist(), train.item_ids[pairs + 1].tolist(), strict=True)
    )


@given(LENGTHS, st.integers(0, 9), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_batches_of_either_layout_and_of_all_replicas_hold_every_target_once(lengths: list[int], seed: int, count: int) -> None:
    train = sequences(lengths, seed)
    for epoch in (1, 2):
        eager: Counter[Triple] = Counter()
        captured: Counter[Triple] = Counter()
        shares = [made(train, replicas=Replicas(rank, count)) for rank in range(count)]
        totals = [[float(batch.total) for batch in share.eager(epoch)] for share in shares]
        assert all(own == totals[0] for own in totals) and sum(totals[0]) == expected(train).total()
        for share in shares:
            for one, other in zip(share.eager(epoch), fixed(share, epoch), strict=True):
                assert triples(one) == triples(other) and float(one.total) == float(other.total)
                assert len(one.items) == len(triples(one)) and len(other.items) == share.capacity
                assert int(other.segments.offsets[-1]) == share.capacity
                assert int(torch.diff(other.segments.offsets).min()) >= 0
                eager.update(triples(one))
                captured.update(triples(other))
        assert eager == captured == expected(train)


@given(LENGTHS, st.integers(0, 9))
@settings(max_examples=20, deadline=None)
def test_a_window_is_a_users_own_past_without_a_gap(lengths: list[int], seed: int) -> None:
    train = sequences(lengths, seed)
    user_of_item = dict(zip(train.item_ids.tolist(), train.row_of_event.tolist(), strict=True))
    for batch in made(train).eager(1):
        windows = torch.split(batch.items, torch.diff(batch.segments.offsets).tolist())
        for window in windows:
            assert 1 <= len(window) <= 7 and torch.equal(torch.diff(window), torch.ones(len(window) - 1, dtype=torch.int64))
            assert len({user_of_item[int(item)] for item in window}) == 1


@pytest.mark.parametrize("layout", ["eager", "fixed"])
def test_only_events_of_one_second_change_places_and_only_if_their_order_was_drawn(layout: str) -> None:
    def run(epoch: int, ties_drawn: bool) -> list[Triple]:
        batches = made(replace(train, ties_drawn=ties_drawn), shuffle_ties=ties_drawn)
        found = batches.eager(epoch) if layout == "eager" else fixed(batches, epoch)
        return [triple for batch in found for triple in triples(batch)]

    train = sequences([12, 9, 15], longest_gap=2)
    user = dict(zip(train.item_ids.tolist(), train.row_of_event.tolist(), strict=True))
    time = dict(zip(train.item_ids.tolist(), train.timestamps.tolist(), strict=True))
    assert Counter(run(1, False)) == expected(train)
    first, again, other = run(1, True), run(1, True), run(2, True)
    assert first == again and Counter(first) != expected(train) and Counter(other) != Counter(first)
    for item, gap, target in first + other:
        assert user[item] == user[target] and time[target] - time[item] == gap


def test_each_interval_ends_at_the_time_of_its_target() -> None:
    train = sequences([9, 4, 17])
    batches = made(train)
    for batch in [*batches.eager(1), *fixed(batches, 2)]:
        real = batch.targets >= 0
        assert batch.until is not None
        assert torch.equal(batch.until[real], torch.from_numpy(train.timestamps)[batch.targets[real]])


def test_users_with_one_event_make_no_step() -> None:
    batches = made(sequences([1, 1, 1]))
    assert batches.begin(1) == 0 and not list(batches.eager(1))


@pytest.mark.parametrize("shuffled", [False, True])
def test_each_target_keeps_its_weight(shuffled: bool) -> None:
    train = sequences([9, 4, 17], longest_gap=2)
    weighted = replace(train, weights=train.item_ids.astype(np.float32), ties_drawn=True)
    batches = made(weighted, shuffle_ties=shuffled)
    mean = float(train.item_ids.mean())
    for batch in [*batches.eager(1), *fixed(batches, 2)]:
        real = batch.targets >= 0
        assert batch.weights is not None and not batch.weights[~real].any()
        assert torch.allclose(batch.weights[real] * mean, (batch.targets[real] + 1).float())
    assert all(batch.weights is None for batch in made(train).eager(1))
