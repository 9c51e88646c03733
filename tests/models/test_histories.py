"""The file with the latest events of every user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import VersionCorruptError
from models.histories import Histories, write_histories


def arrays(events: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    users, items, times = (np.array([event[place] for event in events], np.int64) for place in range(3))
    return users, items, times


EVENTS = st.lists(st.tuples(st.integers(0, 5) | st.just(2**63 - 1), st.integers(0, 2**63 - 1), st.integers(0, 4)), max_size=40)


@settings(max_examples=100, deadline=None)
@given(EVENTS, st.integers(1, 6))
def test_each_user_has_the_latest_events_in_order_and_the_count_of_all(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int]], most: int
) -> None:
    path = tmp_path_factory.mktemp("histories") / "h"
    assert write_histories(path, *arrays(events), most=most) == len({user for user, _, _ in events})
    found = Histories.open(path, "h")
    for user in {user for user, _, _ in events}:
        own = sorted((event for event in events if event[0] == user), key=lambda event: event[2])
        history = found.of(user)
        assert history is not None and history.total == len(own)
        assert list(zip(history.items.tolist(), history.times.tolist(), strict=True)) == [event[1:] for event in own[-most:]]
    assert found.of(77) is None and found.of(6) is None


def test_users_have_their_text_ids(tmp_path: Path) -> None:
    write_histories(tmp_path / "h", *arrays([(9, 1, 1), (3, 2, 2), (9, 3, 3)]), most=9, texts=["müller", ""])
    found = Histories.open(tmp_path / "h", "h")
    assert [found.id_of(place) for place in range(len(found))] == ["müller", ""]
    write_histories(tmp_path / "i", *arrays([(9, 1, 1)]), most=9)
    assert Histories.open(tmp_path / "i", "i").id_of(0) == 9


@pytest.mark.parametrize("content", [b"", b"short", b"NOTHIST1" + bytes(24), None])
def test_another_or_an_incomplete_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "h"
    write_histories(path, *arrays([(9, 1, 1), (3, 2, 2)]), most=9)
    path.write_bytes(path.read_bytes()[:-1] if content is None else content)
    with pytest.raises(VersionCorruptError, match="not a complete file of histories"):
        Histories.open(path, "h")
    with pytest.raises(VersionCorruptError, match="cannot be read"):
        Histories.open(tmp_path / "none", "h")
