from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
import pytest

from configs.errors import SettingsError, StoreDeniedError, StoreUnavailableError
from infra.study_storage import answering, open_storage, shown


def open_at(url: str) -> optuna.storages.RDBStorage:
    return open_storage(url, lost_after_s=60, retries=1)


def test_a_sqlite_file_is_made_with_its_folder_and_a_write_ahead_log(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "studies.db"
    storage = open_at(f"sqlite:///{path}")
    optuna.create_study(storage=storage, study_name="x")
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert storage.get_heartbeat_interval() == 15
    assert [study.study_name for study in open_at(f"sqlite:///{path}").get_all_studies()] == ["x"]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("no url", "search.storage is not a URL"),
        ("mysql://me:hidden@db/x", "search.storage is a mysql database"),
        ("sqlite://", "SQLite in memory"),
        ("sqlite:///:memory:", "SQLite in memory"),
    ],
)
def test_a_database_that_workers_cannot_share_is_refused(url: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        open_at(url)
    assert "hidden" not in str(caught.value)


def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("not a database, but long enough to be looked at " * 50)
    with pytest.raises(StoreDeniedError, match="file is not a database"):
        open_at(f"sqlite:///{tmp_path}/x.db")


def test_the_address_that_is_shown_has_no_user_password_or_options() -> None:
    url = "postgresql://me:hidden@db.example:5433/studies?password=hidden&sslmode=require"
    assert shown(url) == "postgresql://db.example:5433/studies"
    assert shown("sqlite:////var/x.db") == "sqlite:////var/x.db"


def test_a_missing_server_is_a_temporary_failure_and_no_password_is_shown() -> None:
    with pytest.raises(StoreUnavailableError, match=r"postgresql://127\.0\.0\.1:1/x does not answer") as caught:
        open_at("postgresql://me:hidden@127.0.0.1:1/x")
    assert "hidden" not in str(caught.value)


def test_only_temporary_failures_are_worth_another_try() -> None:
    with pytest.raises(SettingsError, match=r"pip install .*psycopg"), answering("postgresql://db/x"):
        raise ImportError("no psycopg")
    with pytest.raises(optuna.exceptions.StorageInternalError), answering("postgresql://db/x"):
        raise optuna.exceptions.StorageInternalError("a value too long") from ValueError("x")
