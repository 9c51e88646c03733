"""Commands of `recsys` for those who run it: a Prefect server is set up."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.console import Config, Json, Set, settings_of, table, write_json

__all__ = ["app"]

app = typer.Typer()


@app.command()
def setup(
    config: Config = None,
    set_: Set = None,
    json_file: Json = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="The server is another environment's, and is to be this one's.")
    ] = False,
) -> None:
    """Create or update work pools, queues, blocks, deployments with their schedules, and alerts on the Prefect server."""
    from configs.environment import EnvironmentSettings

    settings = settings_of(config, set_, EnvironmentSettings)
    from dataclasses import asdict

    from infra.setup import set_up

    changes = set_up(settings, take_over=take_over)
    write_json(json_file, [asdict(change) for change in changes])
    table(["", "name", "done"], [[change.kind, change.name, change.done] for change in changes])
    typer.echo(f"{sum(change.changed for change in changes)} of {len(changes)} changed in the environment {settings.environment}")
