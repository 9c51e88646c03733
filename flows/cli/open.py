"""`recsys open`: open an object of the store in the reader's browser, by the address shown in an artifact or message.

A page of the Prefect UI cannot link to the store. Browsers follow neither s3:// nor file:// links, a presigned link would be a
secret that expires, and the address of a storage console differs between users. Therefore pages show the address and this
command.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import unquote

import typer

from configs.errors import NotFoundError, SettingsError
from flows.cli.options import Config, Set, settings_of

if TYPE_CHECKING:
    from configs.settings import StoreSettings
    from infra.storage import Store

__all__ = ["app"]

app = typer.Typer()


@app.command("open")
def open_address(
    address: Annotated[str, typer.Argument(help="Address of an object in the store, s3://... or file:..., as shown.")],
    to: Annotated[Path | None, typer.Option(help="Write the object to this file instead of opening it.")] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Open a page, figure or record by the address shown in an artifact or message. For a version, list its files.

    Example: recsys open s3://bucket/prefix/models/movie-ranker/VERSION/recsys_report.html
    """
    store, key = _place(address, settings_of(config, set_).store)
    if not store.exists(key):
        inside = list(store.list(f"{key}/"))
        if not inside:
            raise NotFoundError(
                f"{address} is not in the store, and no object has an address below it. Copy the complete address as shown."
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
        typer.echo("No program on this machine can open the file. Copy it to a machine that can.")


def _place(address: str, given: StoreSettings) -> tuple[Store, str]:
    """Return the bucket or folder that contains the address, and the key in it.

    Raises:
        SettingsError: The text is not an address of an object in a store.
    """
    from infra.storage import open_store

    if address.startswith("s3://"):
        bucket, _, key = address.removeprefix("s3://").partition("/")
        url = f"s3://{bucket}"
    elif address.startswith("file:"):
        path = Path(unquote(address.removeprefix("file:").removeprefix("//")))
        url, key = f"file:{path.parent}", path.name
    else:
        raise SettingsError(
            f"{address} is not a store address. Store addresses start with s3:// or file:, as shown in the Prefect UI."
        )
    key = key.strip("/")
    if not key:
        raise SettingsError(f"{address} names a store, but no object in it. Copy the complete address as shown.")
    return open_store(given.model_copy(update={"url": url})), key
