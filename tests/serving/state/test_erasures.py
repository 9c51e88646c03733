"""An erased user stays away: from every copy in a server, and whatever fault brings the data back."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from configs.errors import StoreUnavailableError
from configs.serving import StateSettings
from infra.erasures import erase_user, erased_users, finished_users, read_erasure, record_finished
from infra.storage.local import LocalStore
from serving.api.app import create_app
from serving.erasures import Erasures
from serving.experiments import Exposure, ExposureLog, all_outcomes, logged_exposures, rewrite_logs
from serving.state import LocalStates, entry, key_of
from tests.serving.experiments.test_showing import Collected
from tests.serving.versions import draw, promote_version, publish, settings_of

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("erasures")
    draw(root / "v1", 1)
    promote_version(LocalStore(root / "store"), publish(LocalStore(root / "store"), root / "v1").version)
    return root


def told(client: TestClient, user: int, item: int, **more: Any) -> Any:
    event = {"user_id": user, "item_id": item} | more
    return client.post("/v1/events", json={"events": [event]}).json()["results"][0]["outcome"]


def count(client: TestClient, user: int) -> int:
    found: int = client.get(f"/v1/users/{user}/events").json()["count"]
    return found


def source(client: TestClient, user: int) -> Any:
    return client.post("/v1/recommendations", json={"user_id": user, "k": 3}).json()["source"]


def test_an_erased_user_is_unknown_at_once_and_late_reports_are_not_stored(root: Path) -> None:
    sink = Collected()
    app = create_app(settings_of(root), sink)
    with TestClient(app) as client:
        assert told(client, 1, 105) == told(client, 2, 105) == "applied" and source(client, 1) == "state"
        answer = client.delete("/v1/users/1")
        assert answer.status_code == 200 and answer.json()["user_id"] == 1
        assert any("landing zones" in each["what"] for each in answer.json()["remains"])
        assert client.delete("/v1/users/1").json()["erased"] == answer.json()["erased"]
        assert count(client, 1) == 0 and source(client, 1) == "cold" and app.state.worker.states.log_of(1) is None
        events = [{"user_id": 1, "item_id": 110, "time": 5}, {"user_id": 2, "item_id": 110}, {"user_id": 1, "item_id": 120}]
        results = client.post("/v1/events", json={"events": events}).json()["results"]
        assert [each["outcome"] for each in results] == ["erased", "applied", "erased"]
        outcome = {"user_id": 1, "kind": "buy", "item_id": 105, "request_id": "r"}
        assert client.post("/v1/outcomes", json={"outcomes": [outcome]}).json()["results"] == [{"result": "erased"}]
        assert count(client, 1) == 0 and count(client, 2) == 2
        assert 'recsys_events_total{outcome="erased"} 2.0' in client.get("/metrics").text
    assert [each.user for each in sink.all] == [1]  # before the erasure
    assert all_outcomes(LocalStore(root / "store")).empty


def test_faults_do_not_bring_an_erased_user_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(root / "store")
    erase_user(store, 7, reason="asked", by="boss", now=NOW)
    app = create_app(settings_of(root))  # a restart
    with TestClient(app) as client:
        worker = app.state.worker
        copied = entry(105, 1_700_000_000, key_of(None, 105, 1_700_000_000))
        for _ in range(3):
            worker.states.append([(7, copied), (8, copied)], worker.engine.serving().version)  # a restored copy
            assert count(client, 7) == 0 and source(client, 7) == "cold" and count(client, 8) > 0
        worker.erasures.sweep()
        worker._delete_erased()
        assert worker.states.log_of(7) is None and worker.states.log_of(8) is not None
        told(client, 9, 105)
        erase_user(store, 9, reason="by another replica", by="boss", now=NOW)
        with monkeypatch.context() as patch:  # the store is away: who is erased stays erased
            patch.setattr(LocalStore, "list", lambda *_: (_ for _ in ()).throw(StoreUnavailableError("gone")))
            assert not worker.erasures.look() and count(client, 7) == 0
        assert worker.erasures.look()
        worker._delete_erased()
        assert count(client, 9) == 0 and worker.states.log_of(9) is None


def test_nobody_is_served_before_it_is_known_who_was_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    erasures = Erasures(LocalStore(tmp_path))
    assert not erasures.known and 1 in erasures
    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "list", lambda *_: (_ for _ in ()).throw(StoreUnavailableError("gone")))
        assert not erasures.look() and 1 in erasures
    assert erasures.look() and erasures.known and 1 not in erasures


def test_data_that_cannot_be_deleted_now_is_deleted_later(tmp_path: Path) -> None:
    erasures, tried = Erasures(LocalStore(tmp_path)), list[list[int]]()
    erasures.look()
    erasures.erase(3, reason="asked", by="")
    for answer in (False, False, True, True):
        erasures.delete_with(lambda users, answer=answer: (tried.append(users), answer)[1])  # type: ignore[misc]
    assert tried == [[3]] * 3


def test_users_without_any_other_copy_are_forgotten_too() -> None:
    states = LocalStates(StateSettings())
    states.append([(1, bytes(24)), (2, bytes(24))], "v1", unsent=True)
    assert states.erase([1], []) and states.log_of(1) is None and states.log_of(2) is not None


def test_the_logs_are_written_again_without_erased_users(tmp_path: Path) -> None:
    from configs.serving import ExposureSettings

    store = LocalStore(tmp_path / "store")
    log = ExposureLog(ExposureSettings(folder=tmp_path / "log"), store)
    for number in (1, 2, 3, 1):
        log.write(Exposure(1_790_000_000, number, f"r{number}", "v1", [3]))
    log.close(60)
    (tmp_path / "one.jsonl").write_text('{"user_id":1,"timestamp":1790000000,"kind":"buy","key":"a","received":1790000000}\n')
    store.put_new("outcomes/20260922/one.jsonl", tmp_path / "one.jsonl")
    erase_user(store, 1, reason="asked", by="", now=NOW)
    assert [each.user for each in logged_exposures(store)] == [2, 3] and all_outcomes(store).empty  # before anything is written
    assert rewrite_logs(store, erased_users(store)) == (2, 3)
    for key in [*store.list("exposures/"), *store.list("outcomes/")]:
        assert b'"user":1' not in store.get(key) and b'"user_id":1' not in store.get(key)
    assert [each.user for each in logged_exposures(store)] == [2, 3] and rewrite_logs(store, erased_users(store)) == (0, 0)
    erase_user(store, 2, reason="asked", by="", now=NOW)
    assert rewrite_logs(store, erased_users(store)) == (1, 1)
    assert [key.rpartition("-")[2] for key in store.list("exposures/")] == ["e2.jsonl"]


def test_a_record_of_an_erasure_is_kept_and_says_what_was_done(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    erase_user(store, 5, reason="asked", by="boss", now=NOW)
    assert erase_user(store, 5, reason="again", by="x", now=datetime.now(UTC)) == read_erasure(store, 5)
    assert erased_users(store) == {5} and finished_users(store) == frozenset()
    record_finished(store, 5, [{"what": "dataset films", "done": "3 events removed"}], NOW)
    assert erased_users(store) == finished_users(store) == {5}


def test_events_wait_while_it_is_not_known_who_was_erased(root: Path) -> None:
    app = create_app(settings_of(root))
    with TestClient(app, raise_server_exceptions=False) as client:
        app.state.worker.erasures.close(60)  # no look comes in between
        app.state.worker.erasures._users = None
        refused = client.post("/v1/events", json={"events": [{"user_id": 1, "item_id": 105, "time": int(time.time())}]})
        assert refused.status_code == 503 and "who was erased" in refused.json()["detail"]
        assert client.post("/v1/recommendations", json={"user_id": 2}).json()["source"] == "cold"
