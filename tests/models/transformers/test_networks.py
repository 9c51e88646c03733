"""No position reads a later one, what fills a row up changes nothing, and each network is that of its source."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.transformers import HSTUNetwork, SASRecNetwork
from models.transformers.hstu import age_buckets
from models.transformers.lrurec import decayed_sums
from models.transformers.network import ItemNetwork
from models.transformers.settings import HSTUSettings, SASRecSettings
from tests.models.transformers.kinds import KINDS, SMALL, untrained

ITEMS, LENGTH = 20, 8
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{kind: (kind, {"blocks": 2}) for kind in KINDS},
    "sasrec, post-norm": ("sasrec", {"norm": "post", "heads": 4}),
    "esasrec with intervals": ("esasrec", {"interval_embedding": True}),
    "hstu without biases": ("hstu", {"time_bias": False, "position_bias": False}),
}


def network_of(variant: str) -> ItemNetwork:
    kind, changes = VARIANTS[variant]
    torch.manual_seed(3)
    model = untrained(kind, **changes)
    model.catalogue = np.arange(1, ITEMS + 1)
    network = model._untrained().eval()
    for name, weight in network.named_parameters():  # so that every part has an effect
        if "norm" not in name and "rates" not in name:
            nn.init.normal_(weight, std=0.3)
    return network


@pytest.fixture(scope="module", params=VARIANTS)
def network(request: pytest.FixtureRequest) -> Iterator[ItemNetwork]:
    with torch.no_grad():
        yield network_of(request.param)


def rows(seed: int, count: int = 3, length: int = LENGTH) -> tuple[torch.Tensor, torch.Tensor]:
    drawn = torch.Generator().manual_seed(seed)
    items = torch.randint(1, ITEMS + 1, (count, length), generator=drawn)
    return items, (torch.rand(count, length, generator=drawn) ** 4 * 1e7).round()


@given(st.integers(0, 10_000), st.integers(1, LENGTH - 1))
@settings(max_examples=25, deadline=None)
def test_no_position_reads_a_later_event_or_its_time(network: ItemNetwork, seed: int, cut: int) -> None:
    items, seconds = rows(seed)
    other_items, other_seconds = rows(seed + 1)
    other_items[:, :cut], other_seconds[:, :cut] = items[:, :cut], seconds[:, :cut]
    before, after = network(items, seconds), network(other_items, other_seconds)
    assert torch.allclose(before[:, :cut], after[:, :cut], atol=1e-5)
    assert not torch.allclose(before[:, cut:], after[:, cut:], atol=1e-3)


@given(st.integers(0, 10_000), st.integers(1, LENGTH - 1))
@settings(max_examples=25, deadline=None)
def test_what_fills_a_row_up_changes_no_event(network: ItemNetwork, seed: int, length: int) -> None:
    items, seconds = rows(seed)
    short = network(items[:, :length], seconds[:, :length])
    items[:, length:], seconds[:, length:] = 0, 0.0
    filled = network(items, seconds)
    assert torch.allclose(short, filled[:, :length], atol=1e-5)
    alone = network(items[1:2], seconds[1:2])
    assert torch.allclose(alone[:, :length], filled[1:2, :length], atol=1e-5)


@pytest.mark.parametrize("reads_time", [True, False])
def test_hstu_reads_the_time_until_the_request_only_with_its_bias_of_time(reads_time: bool) -> None:
    torch.manual_seed(0)
    network = HSTUNetwork(ITEMS, HSTUSettings(**SMALL, time_bias=reads_time)).eval()
    items, seconds = rows(1)
    later = seconds.clone()
    later[:, -1] += 1e8
    change = (network(items, seconds) - network(items, later)).abs().amax(dim=(0, 2))
    assert not change[:-1].any() and bool(change[-1] > 0) == reads_time


def test_ages_are_exact_over_years_and_their_buckets_those_of_the_authors_code() -> None:
    year = 365 * 86_400
    seconds = torch.tensor([[5.0, 8 * year, 3.0, 1.0, 20 * year]])
    times = np.concatenate([[0], np.cumsum(seconds[0].long().numpy())])
    found = age_buckets(seconds)[0]
    for i in range(5):
        for j in range(i + 1):
            assert int(found[i, j]) == int(np.log(np.float32(max(times[i + 1] - times[j], 1))) / 0.301)
    assert int(found[3, 2]) == int(np.log(4) / 0.301)  # four seconds, eight years after the first event


@given(st.integers(1, 33), st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_scan_of_lrurec_is_its_recurrence(length: int, seed: int) -> None:
    drawn = torch.Generator().manual_seed(seed)
    drive = torch.complex(*torch.randn(2, 3, length, 5, generator=drawn).double())
    decay = torch.polar(torch.rand(5, generator=drawn).double(), torch.rand(5, generator=drawn).double() * 6)
    h, expected = torch.zeros(3, 5, dtype=drive.dtype), []
    for t in range(length):
        h = decay * h + drive[:, t]
        expected.append(h)
    assert torch.allclose(decayed_sums(drive, decay), torch.stack(expected, dim=1))


def test_lrurec_scores_have_the_bias_of_the_item() -> None:
    network = network_of("lrurec")
    hidden = network(*rows(4))
    plain = hidden[..., :-1] @ network.items.weight[1:].T
    assert torch.allclose(hidden @ network.item_vectors().T, plain + network.bias, atol=1e-5)


def test_sasrec_with_post_norm_is_recboles_with_the_same_weights() -> None:
    from models.recbole_bridge.ncf import prepare

    prepare()
    from recbole.model.layers import TransformerEncoder

    torch.manual_seed(2)
    own = SASRecNetwork(ITEMS, SASRecSettings(**SMALL | {"width": 12, "blocks": 2, "heads": 3, "norm": "post"})).eval()
    theirs = TransformerEncoder(
        n_layers=2, n_heads=3, hidden_size=12, inner_size=48, hidden_dropout_prob=0.1, attn_dropout_prob=0.1,
        hidden_act="gelu", layer_norm_eps=1e-5,
    ).eval()  # fmt: skip
    for weight in own.parameters():
        nn.init.normal_(weight, std=0.5)
    for block, layer in zip(own.blocks, theirs.layer, strict=True):
        query, key, value = block.attention.into.weight.chunk(3)
        biases = block.attention.into.bias.chunk(3)
        attention, feed_forward = layer.multi_head_attention, layer.feed_forward
        pairs = [
            (attention.query, query, biases[0]), (attention.key, key, biases[1]), (attention.value, value, biases[2]),
            (attention.dense, block.attention.out.weight, block.attention.out.bias),
            (attention.LayerNorm, block.norms[0].weight, block.norms[0].bias),
            (feed_forward.dense_1, block.feed_forward[0].weight, block.feed_forward[0].bias),
            (feed_forward.dense_2, block.feed_forward[3].weight, block.feed_forward[3].bias),
            (feed_forward.LayerNorm, block.norms[1].weight, block.norms[1].bias),
        ]  # fmt: skip
        for module, weight, bias in pairs:
            module.weight.data, module.bias.data = weight.data, bias.data
    items, seconds = rows(9, length=6)
    embedded = own.norm(own.items(items) + own.places.weight[:6])
    mask = torch.full((6, 6), -10_000.0).triu(1)[None, None]
    with torch.no_grad():
        expected = theirs(embedded, mask, output_all_encoded_layers=True)[-1]
        assert torch.allclose(own(items, seconds), expected, atol=1e-4)
