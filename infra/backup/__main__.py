"""Back up with `python -m infra.backup KIND FROM --to BACKUPS`, and restore with `python -m infra.backup restore-KIND`."""

from __future__ import annotations

import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import RecsysError, SettingsError
from configs.settings import StoreSettings
from infra.backup.kinds import (
    Backup,
    back_up_database,
    back_up_redis,
    back_up_store,
    restore_database,
    restore_redis,
    restore_store,
)
from infra.backup.schedule import Schedule
from infra.backup.sealed import Seal
from infra.storage import Store, open_store

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

Backups = Annotated[str, typer.Option("--backups", help="Address of the backups: file:<folder> or s3://<bucket>/<prefix>.")]
Passphrase = Annotated[Path | None, typer.Option(help="File with a passphrase. If given, the backups are encrypted.")]
Endpoint = Annotated[str | None, typer.Option(help="Address of an S3 server that is not AWS's.")]
DATABASE = "postgresql://user@host/name, or the path of an SQLite file."


@app.command()
def store(address: str, backups: Backups, passphrase_file: Passphrase = None, endpoint_url: Endpoint = None) -> None:
    """Copy the objects of a store that the backups lack."""
    copied = back_up_store(_open(address, endpoint_url), _backup(backups, passphrase_file, endpoint_url))
    typer.echo(f"{copied} objects were copied to {backups}")


@app.command()
def database(
    address: Annotated[str, typer.Argument(help=DATABASE)],
    backups: Backups,
    passphrase_file: Passphrase = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Dump the Prefect server's database."""
    size = back_up_database(address, _backup(backups, passphrase_file, endpoint_url))
    typer.echo(f"{size} bytes were dumped to {backups}")


@app.command()
def redis(address: str, backups: Backups, passphrase_file: Passphrase = None, endpoint_url: Endpoint = None) -> None:
    """Take a snapshot of Redis at redis://host:port."""
    size = back_up_redis(address, _backup(backups, passphrase_file, endpoint_url))
    typer.echo(f"{size} bytes were saved to {backups}")


@app.command()
def schedule(
    backups: Backups,
    store: Annotated[str, typer.Option(help="Address of the store.")] = "",
    database: Annotated[str, typer.Option(help=DATABASE)] = "",
    redis: Annotated[str, typer.Option(help="redis://host:port")] = "",
    every_hours: Annotated[float, typer.Option(min=0.01, help="Hours between two backups of a kind.")] = 24,
    passphrase_file: Passphrase = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Make all backups now and then, until stopped. An empty passphrase file leaves them as they are; no --backups makes none."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if not backups:
        typer.echo("No backups are made, because --backups is empty. Give the address of a folder or bucket of their own.")
        signal.pause()
    if passphrase_file is not None and not passphrase_file.read_bytes().strip():
        typer.echo(f"The backups are not encrypted, because {passphrase_file} is empty.")
        passphrase_file = None
    given = {
        "store": (store, lambda to: f"{back_up_store(_open(store, endpoint_url), to)} objects were copied"),
        "database": (database, lambda to: f"{back_up_database(database, to)} bytes were dumped"),
        "redis": (redis, lambda to: f"{back_up_redis(redis, to)} bytes were saved"),
    }
    kinds = {kind: make for kind, (address, make) in given.items() if address}
    if not kinds:
        raise SettingsError("There is nothing to back up. Give at least one of --store, --database and --redis.")
    kept = _backup(backups, passphrase_file, endpoint_url)
    Schedule(kept, kinds, timedelta(hours=every_hours), tell=typer.echo).run()


@app.command("restore-store")
def restore_store_(address: str, backups: Backups, passphrase_file: Passphrase = None, endpoint_url: Endpoint = None) -> None:
    """Write the kept objects that a store lacks."""
    restored = restore_store(_backup(backups, passphrase_file, endpoint_url), _open(address, endpoint_url))
    typer.echo(f"{restored} objects were restored to {address}")


@app.command("restore-database")
def restore_database_(
    address: Annotated[str, typer.Argument(help=DATABASE)],
    backups: Backups,
    passphrase_file: Passphrase = None,
    endpoint_url: Endpoint = None,
) -> None:
    """Restore the newest dump into an empty database."""
    restore_database(_backup(backups, passphrase_file, endpoint_url), address)
    typer.echo("the database is restored")


@app.command("restore-redis")
def restore_redis_(folder: Path, backups: Backups, passphrase_file: Passphrase = None, endpoint_url: Endpoint = None) -> None:
    """Write the newest snapshot into the folder of a stopped Redis."""
    typer.echo(f"{restore_redis(_backup(backups, passphrase_file, endpoint_url), folder)} is restored")


def _open(address: str, endpoint_url: str | None) -> Store:
    return open_store(StoreSettings(url=address, endpoint_url=endpoint_url))


def _backup(address: str, passphrase: Path | None, endpoint_url: str | None) -> Backup:
    return Backup(_open(address, endpoint_url), Seal(passphrase))


if __name__ == "__main__":
    try:
        app()
    except RecsysError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
