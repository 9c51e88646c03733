"""The database of Optuna studies: a SQLite file for one machine, or PostgreSQL for several.

Workers are processes that share only the database. A worker sends heartbeats while it runs a trial. If the worker is killed,
the heartbeats stop. The next worker that asks for a trial then fails the stale trial and queues it again.
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
from configs.extras import install_command

__all__ = ["answering", "open_storage", "shown"]

BUSY_S = 120.0
SILENT = (sa.exc.OperationalError, sa.exc.InterfaceError)
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}


def open_storage(url: str, *, lost_after_s: int, retries: int) -> optuna.storages.RDBStorage:
    """Open the storage at `url`. It is created if it does not exist.

    A SQLite file uses a write-ahead log, so that readers and a writer do not block each other. Every writer waits up to two
    minutes for its turn. A write-ahead log needs a local disk, not a network folder.

    Args:
        url: Address of the database.
        lost_after_s: A trial without a heartbeat for so many seconds is failed and queued again.
        retries: How often a trial is queued again.

    Raises:
        SettingsError: The URL is of an unknown kind, or its driver is not installed.
        StoreDeniedError: The database refuses access.
        StoreUnavailableError: The database does not answer. No message shows a password.
    """
    address = _address(url)
    arguments: dict[str, Any] = {"pool_pre_ping": True}
    if address.drivername == "sqlite":
        _write_ahead(Path(address.database or ""))
        # Lock from the first statement: a transaction that reads first and then writes would fail at once instead of waiting.
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
    """Return the URL without its user, password and options."""
    address = _address(url)
    host = f"{address.host or ''}{f':{address.port}' if address.port else ''}"
    return f"{address.drivername.partition('+')[0]}://{host}/{address.database or ''}"


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Turn a database's failure to answer into StoreUnavailableError, so that the caller tries again.

    A missing driver raises SettingsError, and a refused statement raises StoreDeniedError.
    """
    try:
        yield
    except ImportError as error:
        raise SettingsError(
            f"The study's database {shown(url)} needs a driver that is not installed. Install it with "
            f"`{install_command('postgres')}`."
        ) from error
    except (*SILENT, optuna.exceptions.StorageInternalError) as error:
        if not isinstance(error, SILENT) and not isinstance(error.__cause__, SILENT):
            raise
        raise StoreUnavailableError(
            f"The study's database {shown(url)} does not answer ({_reason(error)}). Check that it is running and accepts this "
            "user, or set search.storage to another one. The study's trials are kept; run the search again to continue it."
        ) from error
    except sa.exc.ProgrammingError as error:
        raise StoreDeniedError(
            f"The study's database {shown(url)} refuses access ({_reason(error)}). Give its user the right to create and "
            "use tables."
        ) from error


def _address(url: str) -> sa.URL:
    try:
        address = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise SettingsError(
            "search.storage is not a URL; write sqlite:///<file> or postgresql://<user>@<host>/<database>."
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
            f"The study's database {path} cannot be used ({error}). Point search.storage or work_dir at a folder that this user "
            "can write to. The file must be a SQLite database, or must not exist yet."
        ) from error


def _reason(error: Exception) -> str:
    """Return the database's own message, without the statement and its values."""
    cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
    origin = getattr(cause, "orig", None) or cause or error
    return " ".join(str(origin).split())[:300]
