"""The stock network, with which speed is compared, is the paper's network and equals ours."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.training.stock import PrefixRows, StockSS4Rec, WindowRows
from configs.loading import load_settings
from configs.settings import RetrainSettings
from models.recommender import Sequences
from models.sequences import Vocabulary
from models.ss4rec import SS4RecNetwork
from models.windows import Segments

CPU = torch.device("cpu")


def small_train() -> Sequences:
    rng = np.random.default_rng(0)
    lengths = [1, 5, 12, 2]
    times = np.concatenate([np.cumsum(rng.integers(0, 300, n)) for n in lengths])
    return Sequences(np.arange(4), np.concatenate([[0], np.cumsum(lengths)]), rng.integers(1, 30, sum(lengths)), times)


def test_prefix_rows_are_every_event_after_a_users_first_with_all_events_before_it() -> None:
    train = small_train()
    vocabulary = Vocabulary(np.arange(1, 30))
    rows = PrefixRows(train, vocabulary, 4, CPU)
    items, intervals, lengths, targets = rows.batch(np.arange(len(rows)))
    wanted = []
    for first, last in zip(train.offsets[:-1], train.offsets[1:], strict=True):
        for target in range(first + 1, last):
            begin = max(first, target - 4)
            wanted.append((train.item_ids[begin:target], np.diff(train.timestamps[begin : target + 1]), train.item_ids[target]))
    assert len(wanted) == len(rows) == 16
    for i, (read, waits, target) in enumerate(wanted):
        n = int(lengths[i])
        assert items[i, :n].tolist() == list(read) and not items[i, n:].any()
        assert intervals[i, :n].tolist() == list(waits) and not intervals[i, n:].any()
        assert int(targets[i]) == target


def test_the_stock_network_scores_like_ours_with_its_weights() -> None:
    torch.manual_seed(0)
    stock = StockSS4Rec(29, device=CPU, width=16, states=8).eval()
    settings = load_settings(RetrainSettings, "paper").models.ss4rec
    ours = SS4RecNetwork(29, settings.model_copy(update={"width": 16, "time_state": 8, "relation_state": 8})).eval()
    with torch.no_grad():
        ours.items.weight.copy_(stock.items.weight)
        for block, time_aware, relation_aware, norm in zip(
            ours.blocks, stock.time_aware, stock.relation_aware, stock.norms, strict=True
        ):
            block.time_aware.load_stock(time_aware.seq.state_dict())
            block.relation_aware.load_state_dict(relation_aware.state_dict())
            block.norm.load_state_dict(norm.state_dict())
        train = small_train()
        rows = PrefixRows(train, Vocabulary(np.arange(1, 30)), 50, CPU)
        items, intervals, lengths, _ = rows.batch(np.arange(len(rows)))
        theirs = stock(items, intervals, lengths)[:, 1:]
        real = torch.arange(items.shape[1]) < lengths[:, None]
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        hidden = ours(items[real], intervals[real], Segments.of(offsets, int(offsets[-1])), "cpu")
        scores = ours.logits(hidden[offsets[1:] - 1])
    torch.testing.assert_close(scores, theirs, rtol=1e-4, atol=1e-5)


def test_window_rows_have_every_event_except_a_users_last_once_with_the_next_as_target() -> None:
    train = small_train()
    rows = WindowRows(train, Vocabulary(np.arange(1, 30)), 4, CPU)
    items, intervals, targets = rows.batch(np.arange(len(rows)))
    read, wanted = [], []
    for row in range(len(rows)):
        n = int((targets[row] > 0).sum())
        assert not items[row, n:].any() and not targets[row, n:].any()
        read += list(zip(items[row, :n].tolist(), intervals[row, :n].tolist(), targets[row, :n].tolist(), strict=True))
    for first, last in zip(train.offsets[:-1], train.offsets[1:], strict=True):
        ids, times = train.item_ids[first:last], train.timestamps[first:last]
        wanted += list(zip(ids[:-1].tolist(), np.diff(times).tolist(), ids[1:].tolist(), strict=True))
    assert sorted(read) == sorted(wanted)


def test_one_pass_over_a_window_predicts_what_a_row_for_each_prefix_predicts() -> None:
    torch.manual_seed(0)
    train, vocabulary = small_train(), Vocabulary(np.arange(1, 30))
    stock = StockSS4Rec(29, device=CPU, width=16, states=8).eval()
    prefixes, windows = PrefixRows(train, vocabulary, 50, CPU), WindowRows(train, vocabulary, 50, CPU)
    with torch.no_grad():
        read, waits, lengths, wanted = prefixes.batch(np.arange(len(prefixes)))
        apart = F.cross_entropy(stock(read, waits, lengths), wanted)
        at_once = stock.loss(*windows.batch(np.arange(len(windows))))
    torch.testing.assert_close(at_once, apart, rtol=1e-4, atol=1e-5)
