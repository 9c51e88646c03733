"""Users come in the same pieces however the events are cut into chunks, and a file of users is read or refused by its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs.errors import SettingsError
from models.identity import number_of
from tasks.export.users import Piece, pieces_of, read_users

Events = list[tuple[int, int, int]]


def chunks(events: Events, size: int) -> list[dict[str, np.ndarray]]:
    rows = np.array(sorted(events, key=lambda event: (event[0], event[2], event[1])), np.int64).reshape(-1, 3)
    return [
        {"user_id": part[:, 0], "item_id": part[:, 1], "timestamp": part[:, 2], "row": part[:, 1]}
        for begin in range(0, len(rows), size)
        if len(part := rows[begin : begin + size])
    ]


def told(pieces: list[Piece]) -> list[list[tuple[int, list[int]]]]:
    return [
        [
            (int(user), piece.item_ids[piece.offsets[row] : piece.offsets[row + 1]].tolist())
            for row, user in enumerate(piece.user_ids)
        ]
        for piece in pieces
    ]


@settings(max_examples=150, deadline=None)
@given(
    events=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(0, 9)), max_size=40),
    size=st.integers(1, 12),
    users=st.integers(1, 5),
    chosen=st.none() | st.sets(st.integers(0, 14), min_size=1),
)
def test_pieces_have_each_user_once_with_all_events(events: Events, size: int, users: int, chosen: set[int] | None) -> None:
    wanted = None if chosen is None else np.array(sorted(chosen), np.int64)
    found = told(list(pieces_of(chunks(events, size), users, wanted)))
    ids = sorted({event[0] for event in events}) if chosen is None else sorted(chosen)
    flat = [
        (user, [item for _, item, _ in sorted((e for e in events if e[0] == user), key=lambda e: (e[2], e[1]))]) for user in ids
    ]
    assert found == [flat[begin : begin + users] for begin in range(0, len(flat), users)]


def test_a_request_knows_no_event_after_its_time() -> None:
    piece = Piece(0, np.array([1, 2, 3]), np.array([0, 2, 2, 4]), np.array([7, 8, 9, 7]), np.array([5, 20, 11, 30]))
    asked = piece.requests(20)
    assert asked.offsets.tolist() == [0, 2, 2, 3] and asked.item_ids.tolist() == [7, 8, 9] and set(asked.request_times) == {20}


def test_a_file_of_users_has_one_id_in_each_line(tmp_path: Path) -> None:
    path = tmp_path / "users.txt"
    path.write_text("\ufeff 42 \n\n7\n42\n", encoding="utf-8")
    assert read_users(path, text=False).ids.tolist() == [7, 42]
    texts = read_users(path, text=True)
    assert texts.texts is not None and dict(zip(texts.texts, texts.ids.tolist(), strict=True)) == {
        text: number_of(text) for text in ("7", "42")
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [("user_id\n7\n", "Line 1 of .* is 'user_id'"), ("7\n-1\n", "Line 2"), (" \n", "no id"), (str(2**63), "2.63 - 1")],
)
def test_a_bad_file_of_users_is_refused_with_its_line(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "users.txt").write_text(content)
    with pytest.raises(SettingsError, match=said):
        read_users(tmp_path / "users.txt", text=False)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_users(tmp_path, text=False)
