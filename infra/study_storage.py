"""The database of Optuna studies: a SQLite file of this machine, or PostgreSQL for several.

Workers are processes that share nothing but the database. A worker gives a sign of life while it runs a trial; one that was
killed stops, and whoever asks for a trial next fails that trial and queues it again.
"""

from __future__ import annotations

import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa

from configs.errors import SettingsError, StoreDeniedError, StoreUnavailableError

__all__ = ["answering", "open_storage", "shown"]

BUSY_S = 120.0
SILENT = (sa.exc.OperationalError, sa.exc.InterfaceError)
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}


def open_storage(url: str, *, lost_after_s: int, retries: int) -> optuna.storages.RDBStorage:
    """The storage at `url`, made when it is new; a trial without a sign of life for `lost_after_s` is queued again `retries` times.

    A SQLite file is set to a write-ahead log, so that readers and a writer do not block each other, and every writer waits its
    turn for up to two minutes; a write-ahead log needs a disk of this machine, not a network folder. Raises SettingsError on a
    URL of no known kind, StoreDeniedError or StoreUnavailableError where the database refuses or does not answer; none of them
    shows a password.
    """
    address = _address(url)
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if address.drivername == "sqlite":
        _write_ahead(Path(address.database or ""))
        # Locked from the first statement: a transaction that reads and then writes cannot wait, it fails at once.
        arguments = {"connect_args": {"timeout": BUSY_S, "isolation_level": "IMMEDIATE"}}
    with answering(url), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # heartbeats
        return optuna.storages.RDBStorage(
            address.render_as_string(hide_password=False),
            engine_kwargs=arguments,
            heartbeat_interval=max(1, lost_after_s // 4),
            grace_period=lost_after_s,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=retries),
        )


def shown(url: str) -> str:
    """The URL without user, password and options."""
    address = _address(url)
    host = f"{address.host or ''}{f':{address.port}' if address.port else ''}"
    return f"{address.drivername.partition('+')[0]}://{host}/{address.database or ''}"


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Turns what the database does not answer into StoreUnavailableError, so that it is tried again."""
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"The study's database {shown(url)} needs a driver that is not installed: pip install 'movielens-recsys[postgres]'."
        ) from error
    except (*SILENT, optuna.exceptions.StorageInternalError) as error:
        if not isinstance(error, SILENT) and not isinstance(error.__cause__, SILENT):
            raise
        raise StoreUnavailableError(
            f"The study's database {shown(url)} does not answer ({_reason(error)}). See that it is there and takes this user, or set "
            "search.storage to another one. What the study holds is kept; run the search again to go on with it."
        ) from error
    except sa.exc.ProgrammingError as error:
        raise StoreDeniedError(
            f"The study's database {shown(url)} refuses ({_reason(error)}). Give its user the right to create and use tables there."
        ) from error


def _address(url: str) -> sa.URL:
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise SettingsError(
            "search.storage is no URL; write sqlite:///<file> or postgresql://<user>@<host>/<database>."
        ) from error
    driver = DRIVERS.get(address.drivername.partition("+")[0])
    if driver is None:
        raise SettingsError(
            f"search.storage is a {address.drivername} database; write sqlite:///<file> or postgresql://<user>@<host>/<database>."
        )
    if driver == "sqlite" and address.database in (None, "", ":memory:"):
        raise SettingsError("search.storage is SQLite in memory, which workers cannot share; write sqlite:///<file>.")
    return address.set(drivername=driver)


def _write_ahead(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=BUSY_S)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except (OSError, sqlite3.Error) as error:
        raise StoreDeniedError(
            f"The study's database {path} cannot be used ({error}). Give search.storage or work_dir a folder that this user can "
            "write to, and a file that is a SQLite database or not there yet."
        ) from error


def _reason(error: Exception) -> str:
    """The database's own words, without the statement and its values."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    origin = getattr(cause, "orig", None) or cause or error
    return " ".join(str(origin).split())[:300]
