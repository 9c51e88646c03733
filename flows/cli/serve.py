"""`recsys serve`: serve recommendations from the registry's champion, and follow its promotion log."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import Config, Set, settings_of

__all__ = ["app"]

app = typer.Typer()


@app.command()
def serve(
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes. They share only Redis.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    redis: Annotated[
        str | None, typer.Option(help="redis://host:port/number of the Redis server for users' events and states.")
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Serve recommendations over HTTP from the champion of the registry.

    Example: recsys serve --workers 2 --redis redis://127.0.0.1:6379/0
    """
    from configs.serving import ServingSettings

    short = {"workers": workers, "port": port, "redis.url": redis}
    given = [f"{key}={value}" for key, value in short.items() if value is not None]
    settings = settings_of(config, [*(set_ or []), *given], ServingSettings)
    from serving.run import serve as run

    typer.echo(f"serving {settings.model_name} of {settings.store.url} at http://{settings.host}:{settings.port}", err=True)
    run(settings)
