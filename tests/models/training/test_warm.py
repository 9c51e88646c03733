from __future__ import annotations

import numpy as np
import torch
from torch import nn

from models.training import adopt_weights, same_rows


def network(items: int, seed: int, width: int = 3) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleDict({"vectors": nn.Embedding(items + 1, width), "out": nn.Linear(width, 2)})


def test_known_ids_keep_their_rows_wherever_they_are_now_and_new_ones_keep_fresh_rows() -> None:
    earlier, now = np.array([10, 20, 40]), np.array([5, 10, 30, 40])
    parent, own, fresh = network(3, 0), network(4, 1), network(4, 1).state_dict()
    assert adopt_weights(own, parent.state_dict(), {"vectors.weight": same_rows(now, earlier)})
    old, found = parent.state_dict()["vectors.weight"], own.state_dict()["vectors.weight"]
    assert torch.equal(found[[2, 4]], old[[1, 3]])
    assert torch.equal(found[[0, 1, 3]], fresh["vectors.weight"][[0, 1, 3]])
    assert torch.equal(own.state_dict()["out.weight"], parent.state_dict()["out.weight"])


def test_a_network_of_another_shape_is_left_as_it_is() -> None:
    own, before = network(3, 0), network(3, 0).state_dict()
    rows = {"vectors.weight": same_rows(np.arange(3), np.arange(3))}
    assert not adopt_weights(own, network(3, 1, width=4).state_dict(), rows)
    assert not adopt_weights(own, nn.Linear(2, 2).state_dict(), rows)
    assert all(torch.equal(weight, before[name]) for name, weight in own.state_dict().items())
