"""The server finds the histories of its champion's dataset, and goes on without them."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from configs.errors import StoreUnavailableError
from infra.digests import sha256_of
from infra.storage.local import LocalStore
from models.histories import write_histories
from serving.api.app import create_app
from serving.histories import LEFT_S, HistoryShelf
from tests.serving.versions import START, draw, full_pass, promote_version, publish, settings_of

BASE = [(105, START), (110, START + 60), (120, START + 4000)]


def put(store: LocalStore, folder: Path, number: int, users: Sequence[int] = (7,), dataset: str = "small") -> str:
    """Store histories of users, all with the same events."""
    rows = np.array([(user, *event) for user in users for event in BASE], np.int64).reshape(-1, 3)
    path = folder / f"written-{number}"
    write_histories(path, rows[:, 0], rows[:, 1], rows[:, 2], most=1000)
    key = f"histories/{dataset}/{number:08d}-abc-{sha256_of(path)}"
    store.put_new(key, path)
    return key


class Remote(LocalStore):
    """A store whose objects must be fetched. It can fail, and the disk for the copies can be full."""

    fails = full = False

    def local_file(self, key: str) -> Path | None:
        return None

    def fetch(self, key: str, path: Path) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "no space left")
        super().fetch(key, path)

    def list(self, prefix: str = "") -> list[str]:  # type: ignore[override]
        if self.fails:
            raise StoreUnavailableError("the store does not answer")
        return list(super().list(prefix))


def test_readmes_first_call_is_personal(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    trained = draw(tmp_path / "v1", 1)
    promote_version(store, publish(store, tmp_path / "v1").version)
    put(store, tmp_path, 1)
    with TestClient(create_app(settings_of(tmp_path))) as client:
        now = START + 10_000
        found = client.post("/v1/recommendations", json={"user_id": 7, "time": now, "k": 3}).json()
        scores = full_pass(trained, [item for item, _ in BASE], [at for _, at in BASE], now)
        scores[np.isin(trained.catalogue, [item for item, _ in BASE])] = -np.inf
        assert [item["item_id"] for item in found["items"]] == trained.catalogue[np.argsort(-scores)[:3]].tolist()
        assert (found["source"], found["events"]) == ("rebuilt", 3)
        assert client.post("/v1/recommendations", json={"user_id": 8}).json()["source"] == "cold"
        kept = client.get("/v1/users/7/events").json()
        assert kept["count"] == 3 and [(event["item_id"], event["time"]) for event in kept["events"]] == BASE
        assert "recsys_histories_users 1.0" in client.get("/metrics").text
    with TestClient(create_app(settings_of(tmp_path, histories={"enabled": False}))) as client:
        assert client.post("/v1/recommendations", json={"user_id": 7}).json()["source"] == "cold"


def test_a_removed_user_is_gone_and_the_newest_file_counts(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    first = put(store, tmp_path, 1, (3, 7))
    shelf = HistoryShelf(store, tmp_path / "copies")
    shelf.serve(["small", "unknown"])
    known = shelf.of("small")
    assert known is not None and known.of(7) is not None and shelf.of("unknown") is None
    store.delete(first)
    put(store, tmp_path, 2, (3,))
    assert shelf.look()
    known = shelf.of("small")
    assert known is not None and known.of(7) is None and known.of(3) is not None
    store.delete(f"histories/small/{known.name}")
    assert shelf.look() and shelf.of("small") is None


def test_a_file_that_is_not_on_this_machine_is_fetched_once_and_former_copies_are_deleted(tmp_path: Path) -> None:
    store, users = Remote(tmp_path / "store"), []
    put(store, tmp_path, 1, (3, 7))
    shelves = [HistoryShelf(store, tmp_path / "copies", on_change=users.append) for _ in range(2)]
    shelves[0].serve(["small"])
    assert shelves[0].of("small") is None, "no start waits for it"
    assert shelves[0].look() and shelves[0].of("small") is not None and users[-1] == 2
    shelves[1].serve(["small"])
    assert shelves[1].of("small") is not None, "another worker maps the same copy at once"
    put(store, tmp_path, 2, (3,))
    assert shelves[0].look()
    assert [path.name[:8] for path in (tmp_path / "copies/small").iterdir()] == ["00000002"]


def test_a_deleted_file_is_dropped_even_if_the_next_one_cannot_be_fetched(tmp_path: Path) -> None:
    store = Remote(tmp_path / "store")
    first = put(store, tmp_path, 1, (3, 7))
    users: list[int] = []
    shelf = HistoryShelf(store, tmp_path / "copies", on_change=users.append)
    shelf.serve(["small"])
    assert shelf.look() and users[-1] == 2
    store.delete(first)
    put(store, tmp_path, 2, (3,))
    store.full = True
    assert not shelf.look() and shelf.of("small") is None and users[-1] == 0, "a removed user is served"
    store.full = False
    assert shelf.look() and users[-1] == 1


def test_copies_of_killed_workers_and_of_datasets_that_are_no_longer_served_are_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, copies = Remote(tmp_path / "store"), tmp_path / "copies"
    put(store, tmp_path, 1, dataset="small")
    kept = Path(put(store, tmp_path, 2, dataset="large")).name
    shelf = HistoryShelf(store, copies)
    shelf.serve(["small"])
    assert shelf.look()
    (copies / "large").mkdir()
    (copies / "large" / ".00000001-abc.7.8").write_bytes(b"half")
    shelf.serve(["large"])
    assert shelf.look() and list((copies / "small").iterdir()) == []
    assert len(list((copies / "large").iterdir())) == 2, "another worker may be writing to it"
    monkeypatch.setattr("serving.histories.wall_clock", lambda: time.time() + LEFT_S + 1)
    assert shelf.look()
    assert [path.name for path in (copies / "large").iterdir()] == [kept]


def test_a_new_champion_does_not_wait_for_a_file_that_is_arriving(tmp_path: Path) -> None:
    began, go_on = threading.Event(), threading.Event()

    class Slow(Remote):
        def fetch(self, key: str, path: Path) -> None:
            began.set()
            assert go_on.wait(60)
            super().fetch(key, path)

    store = Slow(tmp_path / "store")
    put(store, tmp_path, 1)
    shelf = HistoryShelf(store, tmp_path / "copies")
    shelf.serve(["small"])
    looking = threading.Thread(target=shelf.look)
    looking.start()
    assert began.wait(60)
    shelf.serve(["small"])  # returns
    assert shelf.of("small") is None
    go_on.set()
    looking.join(60)
    assert shelf.of("small") is not None


def test_if_the_store_fails_what_was_mapped_stays_and_the_failure_is_told(tmp_path: Path) -> None:
    store = Remote(tmp_path / "store")
    put(store, tmp_path, 1)
    shelf = HistoryShelf(store, tmp_path / "copies")
    store.fails = True
    shelf.serve(["small"])
    assert not shelf.look() and shelf.of("small") is None
    store.fails = False
    assert shelf.look() and shelf.of("small") is not None
    store.fails = True
    assert not shelf.look() and shelf.of("small") is not None


@pytest.mark.parametrize("harm", [lambda content: content[:-8], lambda content: content[:-8] + bytes(8), lambda content: b""])
def test_a_changed_file_is_not_served(harm: Callable[[bytes], bytes], tmp_path: Path) -> None:
    store = Remote(tmp_path / "store")
    key = put(store, tmp_path, 1)
    store.put(key, harm(store.get(key)))
    shelf = HistoryShelf(store, tmp_path / "copies")
    shelf.serve(["small"])
    assert not shelf.look() and shelf.of("small") is None
    assert list((tmp_path / "copies/small").iterdir()) == []


def test_a_server_whose_store_fails_serves_users_as_unknown_and_counts_it(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    draw(tmp_path / "v1", 1)
    promote_version(store, publish(store, tmp_path / "v1").version)
    store.put_new(f"histories/small/00000001-abc-{'0' * 64}", b"damaged")
    with TestClient(create_app(settings_of(tmp_path))) as client:
        assert client.post("/v1/recommendations", json={"user_id": 7}).json()["source"] == "cold"
        until = time.monotonic() + 60
        while 'recsys_background_failures_total{thread="histories"}' not in client.get("/metrics").text:
            assert time.monotonic() < until
            time.sleep(0.05)
