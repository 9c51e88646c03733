"""What a deep stack and an embedding of intervals add to the network, and what they leave alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.settings import SS4RecSettings
from models.intervals import BUCKETS, EDGES, IntervalEmbedding
from models.ss4rec import SS4RecNetwork
from models.windows import Segments
from tests.plain_ss4rec import PLAIN

TINY = SS4RecSettings(**PLAIN, width=16, blocks=1, time_state=4, relation_state=4)


def test_a_deep_stack_of_pre_norm_starts_with_the_spread_of_a_shallow_one() -> None:
    def spread(blocks: int) -> float:
        torch.manual_seed(0)
        network = SS4RecNetwork(20, TINY.model_copy(update={"norm": "pre", "blocks": blocks})).eval()
        assert network.final_norm is not None
        network.final_norm = None
        hidden = network(torch.randint(1, 21, (60,)), torch.rand(60) * 1e4, Segments.of(torch.tensor([0, 30, 60]), 60), "cpu")
        return float(hidden.detach().square().mean().sqrt())

    assert 0.4 < spread(8) / spread(1) < 2.5


def test_the_new_switches_leave_the_initial_weights_of_other_networks_alone() -> None:
    def drawn(**changes: Any) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        return SS4RecNetwork(20, TINY.model_copy(update=changes)).state_dict()

    plain, switched = drawn(), drawn(interval_embedding=True)
    assert set(switched) - set(plain) == {"interval_embedding.vectors.weight"}
    assert all(torch.equal(switched[name], weight) for name, weight in plain.items())
    both = drawn(interval_embedding=True, calendar_input=True)
    assert set(both) - set(switched) == {"calendar.hours.weight", "calendar.days.weight"}
    assert all(torch.equal(both[name], weight) for name, weight in switched.items())
    assert set(drawn(norm="pre")) - set(plain) == {"final_norm.weight", "final_norm.bias"}
    assert set(drawn(interval_embedding=True, interval="none")) == set(plain)


def test_intervals_of_the_same_bucket_have_the_same_embedding_in_training_and_serving() -> None:
    layer = IntervalEmbedding(4)
    seconds = np.concatenate([EDGES, np.nextafter(EDGES, 0), [0, 1e12]]).astype(np.float32)
    found = layer(torch.from_numpy(seconds)).detach().numpy()
    places = np.searchsorted(EDGES, seconds, side="right")
    assert np.array_equal(found, layer.vectors.weight.detach().numpy()[places])
    assert places.min() == 0 and places.max() == BUCKETS - 1 and len(set(places.tolist())) == BUCKETS


@given(st.integers(0, 99), st.integers(0, 10))
@settings(max_examples=30, deadline=None)
def test_no_later_event_changes_an_earlier_position(seed: int, place: int) -> None:
    torch.manual_seed(seed)
    switched = {"interval_embedding": True, "calendar_input": True, "norm": "pre"}
    network = SS4RecNetwork(20, TINY.model_copy(update=switched)).eval()
    window = Segments.of(torch.tensor([0, 12]), 12)
    items, gaps, until = torch.randint(1, 21, (12,)), torch.rand(12) * 1e6, torch.randint(0, 10**9, (12,))
    before = network(items, gaps, window, "cpu", until=until)
    for part in (items, gaps, until):
        part[place + 1 :] = part[place + 1 :].flip(0) // 2 + 1
    after = network(items, gaps, window, "cpu", until=until)
    assert torch.equal(after[: place + 1], before[: place + 1])
    assert place == 10 or not torch.equal(after[-1], before[-1])


def test_the_hour_and_the_weekday_of_the_request_change_the_answer() -> None:
    torch.manual_seed(0)
    network = SS4RecNetwork(20, TINY.model_copy(update={"calendar_input": True})).eval()
    items, gaps, window = torch.randint(1, 21, (4,)), torch.ones(4), Segments.of(torch.tensor([0, 4]), 4)
    times = torch.arange(4) * 60 + 1_700_000_000
    found = [network(items, gaps, window, "cpu", until=times + add)[-1] for add in (0, 7 * 86_400, 3600, 86_400)]
    assert torch.equal(found[0], found[1])
    assert not torch.allclose(found[0], found[2]) and not torch.allclose(found[0], found[3])
    with pytest.raises(ValueError, match="calendar_input"):
        network(items, gaps, window, "cpu")
