"""What the demo calls "what came next in truth" is exactly the request that the evaluation made."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
import pytest

from configs.settings import EvaluationSettings
from models.evaluation import MISS, Split, split
from serving.demo.held_out import EvaluatedRequests
from serving.demo.histories import Histories
from tests import synthetic

SETTINGS: list[dict[str, Any]] = [
    {"protocol": "loo-exact", "k_core": 0},
    {"protocol": "loo-exact", "k_core": 0, "query_time": "last", "tie_seed": 7},
    {"protocol": "temporal", "k_core": 0},
]


def events_of(frame: pd.DataFrame) -> Histories:
    """The events of the frame, as the demo holds them."""
    rows = frame.sort_values(["user_id", "timestamp"], kind="stable")
    users, firsts = np.unique(rows["user_id"], return_index=True)
    ratings = rows["rating"].to_numpy(np.float64)
    columns = (rows[name].to_numpy(np.int64) for name in ("item_id", "timestamp"))
    offsets = np.append(firsts, len(rows)).astype(np.int64)
    return Histories(users, offsets, *columns, users.tolist().__getitem__, lambda user, place: ratings[place])


def recorded(parts: Split, settings: dict[str, Any]) -> EvaluatedRequests:
    """What a version records of these requests: the first one is a miss."""
    ranks = np.arange(1, len(parts.test) + 1)
    ranks[0] = MISS
    buffer = io.BytesIO()
    columns = {"user_id": parts.test.user_ids, "target": parts.test.targets, "rank_own": ranks, "rank_other": ranks[::-1]}
    pd.DataFrame(columns).to_parquet(buffer, index=False)
    return EvaluatedRequests.read(buffer.getvalue(), {**settings, "a_setting_of_later": 1})


@pytest.mark.parametrize("repeats", ["newest", "keep"])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_each_user_is_shown_the_history_the_target_and_the_time_of_the_evaluation(settings: dict[str, Any], repeats: Any) -> None:
    frame = synthetic.interactions(40, 30, 20)
    if repeats == "keep":  # the users come back to what they began with, and some of them to the last item
        again = frame.sort_values("timestamp").groupby("user_id")
        first, last = again.head(3), again.tail(1)
        frame = pd.concat([
            frame, first.assign(timestamp=last["timestamp"].max() + first["timestamp"] % 1000), last.assign(timestamp=last["timestamp"] + 50),
        ], ignore_index=True)  # fmt: skip
    parts = split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(**settings), repeats=repeats)
    histories, requests = events_of(frame), recorded(parts, settings)
    assert len(parts.test) > 10
    for place, user in enumerate(parts.test.user_ids):
        found = requests.hide(int(user), histories)
        assert found is not None
        known, hidden = found
        rows = slice(int(parts.test.offsets[place]), int(parts.test.offsets[place + 1]))
        assert known.item_ids.tolist() == parts.test.item_ids[rows].tolist()
        assert known.times.tolist() == parts.test.timestamps[rows].tolist()
        assert (hidden.item_id, hidden.asked_at) == (parts.test.targets[place], parts.test.request_times[place])
        ratings = frame.query("user_id == @user and item_id == @hidden.item_id and timestamp == @hidden.time")["rating"]
        assert hidden.rating in ratings.tolist()
        assert hidden.ranks["own"] == (None if place == 0 else place + 1)


def test_a_user_without_a_test_request_or_whose_event_is_gone_has_nothing_hidden() -> None:
    frame = synthetic.interactions(40, 30, 20)
    parts = split(frame.assign(row=np.arange(len(frame))), EvaluationSettings(k_core=0))
    requests, user = recorded(parts, {}), int(parts.test.user_ids[3])
    assert requests.hide(12345, events_of(frame)) is None
    assert requests.hide(user, events_of(frame)) is not None
    assert requests.hide(user, events_of(frame.query("user_id != @user"))) is None
    of_target = (frame["user_id"] == user) & (frame["item_id"] == parts.test.targets[3])
    assert requests.hide(user, events_of(frame[~of_target])) is None
