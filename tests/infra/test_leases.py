from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from configs.errors import NotFoundError, StoreDeniedError
from infra import leases as module
from infra.leases import expired_leases, leased, leases
from infra.storage.local import LocalStore

USED = "datasets/small/abc"


def test_a_lease_names_what_a_run_uses_until_the_run_ends(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with leased(store, "a training of ranker", [USED, "models/ranker/v1"]):
        found = leases(store)
        assert set(found) == {USED, "models/ranker/v1"}
        assert found[USED].said.startswith("used by a training of ranker (process ")
    assert leases(store) == {} and list(store.list()) == []


def test_the_lease_of_a_killed_run_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    monkeypatch.setattr(module, "VALID", timedelta(seconds=-1))
    monkeypatch.setattr(store, "delete", lambda key: None)  # as if the process had been killed before the deletion
    with leased(store, "a training", [USED]):
        assert leases(store) == {}
    assert expired_leases(store) == list(store.list("leases/")) != []


def test_a_long_run_renews_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, renewed = LocalStore(tmp_path), threading.Event()
    write = module._write

    def noticed(*given: object) -> str:
        key = write(*given)  # type: ignore[arg-type]
        keys.append(key)
        if len(keys) > 2:
            renewed.set()
        return key

    keys: list[str] = []
    monkeypatch.setattr(module, "_write", noticed)
    monkeypatch.setattr(module, "RENEW_S", 0.01)
    with leased(store, "a training", [USED]):
        assert renewed.wait(60) and set(leases(store)) == {USED}
    assert list(store.list()) == []


def test_a_version_that_is_being_deleted_cannot_be_used(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put(f"{USED}/pruned.json", b"{}")
    with pytest.raises(NotFoundError, match=r"is being deleted\. Name another version"), leased(store, "a training", [USED]):
        pass
    assert leases(store) == {}


def test_a_role_that_may_not_write_leases_runs_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = LocalStore(tmp_path)

    def deny(key: str, data: object) -> None:
        raise StoreDeniedError("may not write leases/.")

    monkeypatch.setattr(store, "put_new", deny)
    with leased(store, "a training", [USED]):
        assert "not kept from being pruned: may not write leases/." in caplog.text
