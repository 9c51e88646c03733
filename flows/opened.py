"""`recsys open`: what an artifact or a message names by its address, in the browser of whoever reads it.

A page of the Prefect UI cannot link to the store: browsers follow neither s3:// nor file://, a presigned link would be a secret that
expires, and a console's address is not the same for everyone. So people are given the address and this command.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

import typer

from configs.errors import NotFoundError, SettingsError
from flows.console import Config, Set, settings_of

if TYPE_CHECKING:
    from configs.settings import StoreSettings
    from infra.stores import Store

__all__ = ["app"]

app = typer.Typer()


@app.command("open")
def open_address(
    address: Annotated[str, typer.Argument(help="Address of an object of the store, s3://... or file:..., as it is shown.")],
    to: Annotated[Path | None, typer.Option(help="Write it to this file, and open nothing.")] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Open a page, figure or record that an artifact or a message names by its address; of a version, list the files."""
    store, key = _place(address, settings_of(config, set_).store)
    if not store.exists(key):
        inside = list(store.list(f"{key}/"))
        if not inside:
            raise NotFoundError(
                f"{address} is not in the store, and nothing lies under it. Copy the whole address as it is shown."
            )
        for each in inside:
            typer.echo(store.uri(each))
        return
    path = to or store.local_file(key) or Path(tempfile.mkdtemp(prefix="recsys-")) / key.rpartition("/")[2]
    if path != store.local_file(key):
        path.parent.mkdir(parents=True, exist_ok=True)
        store.fetch(key, path)
    typer.echo(f"{address} is at {path}")
    if to is None and typer.launch(str(path)):
        typer.echo("This machine has no program that opens it; copy the file to one that has.")


def _place(address: str, given: StoreSettings) -> tuple[Store, str]:
    """The bucket or folder that the address is in, and its key there. Raises SettingsError."""
    from infra.stores import open_store

    if address.startswith("s3://"):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        url = f"s3://{bucket}"
    elif address.startswith("file:"):
        path = Path(unquote(address.removeprefix("file:").removeprefix("//")))
        url, key = f"file:{path.parent}", path.name
    else:
        raise SettingsError(
            f"{address} is no address of a store: it begins with s3:// or file:, as it is shown in the Prefect UI."
        )
    key = key.strip("/")
    if not key:
        raise SettingsError(f"{address} names a whole store and nothing in it. Copy the whole address as it is shown.")
    return open_store(given.model_copy(update={"url": url})), key
