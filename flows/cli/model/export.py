"""`recsys model export`: what other systems read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.model.versions import app
from flows.cli.options import Config, Dataset, Json, Set, needs_prefect, say, settings_of, write_json
from infra.progress import stage

__all__ = ["export"]


@app.command()
def export(
    version: Annotated[
        str, typer.Option("--version", help="Version or its beginning, or `latest`, `champion`, `previous`.")
    ] = "champion",
    to: Annotated[str | None, typer.Option(help="Folder, or s3://bucket/prefix (export.to).")] = None,
    users: Annotated[
        Path | None, typer.Option(help="File with the id of one user in each line, in your own ids. By default all users.")
    ] = None,
    k: Annotated[int | None, typer.Option("-k", min=1, help="Recommended items for each user (export.k).")] = None,
    seen: Annotated[str | None, typer.Option(help="hide or show items of a user's own events (export.seen).")] = None,
    dataset: Dataset = None,
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
) -> None:
    """Write vectors, the best items of users, and the model itself.

    The files have your own ids. A killed export goes on where it stopped if the command is run again.

    Example: recsys model export --to s3://bucket/nightly -k 50
    """
    given = {"to": to, "k": k, "seen": seen}
    more = [f"export.{name}={value}" for name, value in given.items() if value is not None]
    settings = settings_of(config, [*(set_ or ()), *more])
    needs_prefect("flows.export")
    from flows.export import export as flow

    with stage("export"):
        found = flow(version, dataset, users, settings.model_name, settings.export, settings.store, settings.etl)
    write_json(json_file, found.to_dict())
    for why in found.left_out.values():
        say(f"- {why}")
    said = f"{found.users:,} users, " if found.users else ""
    say(f"{found.model_name} {found.version}: {said}{found.items:,} items, {found.files:,} files in {found.seconds:.0f} s")
    say(f"exported to {found.uri}")
