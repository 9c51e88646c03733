"""The Prefect server's database on PostgreSQL is backed up by its own programs, lost, and restored."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb

from configs.errors import SettingsError
from infra.backup.kinds import Backup, back_up_database, restore_database
from infra.backup.sealed import Seal
from infra.local_stack.stack import local_stack
from infra.storage.local import LocalStore
from tests.doubles.live_prefect import wait_until

pytestmark = pytest.mark.full
ADDRESS = "postgresql:///prefect"  # as compose gives it: the host, the user and the password are variables of libpq
ROWS = [(1, "nightly", {"state": "completed"}), (2, "naïve \\ 'quoted'", {"state": "failed"})]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Start an empty PostgreSQL with compose's settings, and point libpq's variables to it."""
    folder = Path(tempfile.mkdtemp())  # the user postgres reaches no folder of pytest
    try:
        with local_stack(folder, only=["postgres"], usual_ports=False) as stack:
            monkeypatch.setenv("PGHOST", "127.0.0.1")
            monkeypatch.setenv("PGPORT", str(stack.layout.ports["postgres"]))
            monkeypatch.setenv("PGUSER", "prefect")
            monkeypatch.setenv("PGPASSWORD", (folder / "secrets" / "postgres_password").read_text())
            wait_until(answers, 300, "PostgreSQL")
            yield
    finally:
        shutil.rmtree(folder)


def answers() -> bool:
    try:
        psycopg.connect(ADDRESS).close()
    except psycopg.OperationalError:
        return False
    return True


def rows() -> list[tuple[object, ...]]:
    with psycopg.connect(ADDRESS) as connection:
        return connection.execute("select id, name, state from flow_run order by id").fetchall()


def test_a_lost_database_comes_back_and_a_present_one_is_not_touched(database: None, tmp_path: Path) -> None:
    with psycopg.connect(ADDRESS) as connection:
        connection.execute("create table flow (name text primary key)")
        connection.execute("create table flow_run (id int primary key, name text references flow, state jsonb)")
        connection.execute("create index by_state on flow_run ((state ->> 'state'))")
        for number, name, state in ROWS:
            connection.execute("insert into flow values (%s)", (name,))
            connection.execute("insert into flow_run values (%s, %s, %s)", (number, name, Jsonb(state)))
    (tmp_path / "passphrase").write_text("correct horse battery staple")
    backup = Backup(LocalStore(tmp_path / "backups"), Seal(tmp_path / "passphrase"))
    assert back_up_database(ADDRESS, backup) > 0

    with psycopg.connect(ADDRESS) as connection:
        connection.execute("delete from flow_run where id = 1")
    with pytest.raises(SettingsError, match="already exists"):
        restore_database(backup, ADDRESS)
    assert rows() == ROWS[1:], "a restore wrote into a database that was in use"

    with psycopg.connect("postgresql:///postgres", autocommit=True) as connection:
        connection.execute("drop database prefect")
        connection.execute("create database prefect")
    restore_database(backup, ADDRESS)
    assert rows() == ROWS
    with psycopg.connect(ADDRESS) as connection:
        assert connection.execute("select 1 from pg_indexes where indexname = 'by_state'").fetchone()
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("insert into flow_run values (3, 'unknown', '{}')")


def test_a_wrong_password_is_told_and_leaves_no_backup(database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backup = Backup(LocalStore(tmp_path / "backups"), Seal())
    monkeypatch.setenv("PGPASSWORD", "wrong-one")
    with pytest.raises(SettingsError, match="password authentication failed") as caught:
        back_up_database(ADDRESS, backup)
    assert "wrong-one" not in str(caught.value) and not list(backup.place.list("database/"))
