"""Operator commands of `recsys`: set up a Prefect server."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import Config, Json, Set, settings_of, table, write_json

__all__ = ["app"]

app = typer.Typer()


@app.command()
def setup(
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Take over a server that belongs to another environment.")
    ] = False,
) -> None:
    """Create or update work pools, queues, blocks, deployments with their schedules, and alerts on the Prefect server.

    Running it again changes nothing if the server is up to date.

    Example: recsys setup -c production
    """
    from infra.prefect_server import EnvironmentSettings

    settings = settings_of(config, set_, EnvironmentSettings)
    from dataclasses import asdict

    from infra.prefect_server import set_up

    changes = set_up(settings, take_over=take_over)
    write_json(json_file, [asdict(change) for change in changes])
    table(["", "name", "done"], [[change.kind, change.name, change.done] for change in changes])
    typer.echo(f"{sum(change.changed for change in changes)} of {len(changes)} changed in the environment {settings.environment}")
