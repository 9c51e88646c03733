"""The commands on top of `recsys` that show the champion's recommendations: serve and demo. Neither needs what training needs."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.cli.options import Config, Set, say, settings_of

__all__ = ["app"]

PANEL = "Serve"

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def serve(
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes. They share only Redis.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535)] = None,
    redis: Annotated[
        str | None, typer.Option(help="redis://host:port/number of the Redis server for users' events and states.")
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Serve the champion's recommendations over HTTP.

    The server follows the promotion log: it loads each new champion.

    Example: recsys serve --workers 2 --redis redis://127.0.0.1:6379/0
    """
    from configs.serving import ServingSettings

    short = {"workers": workers, "port": port, "redis.url": redis}
    given = [f"{key}={value}" for key, value in short.items() if value is not None]
    settings = settings_of(config, [*(set_ or []), *given], ServingSettings)
    from serving.run import serve as run

    say(f"serving {settings.model_name} of {settings.store.url} at http://{settings.host}:{settings.port}", err=True)
    run(settings)


@app.command(rich_help_panel=PANEL)
def demo(config: Config = None, set_: Set = None) -> None:
    """Show recommendations and decisions in the browser.

    The pages explain recommendations, and show versions, decisions, drift and experiments. They need the extra `demo`.

    Example: recsys demo --set api_url=http://127.0.0.1:8000
    """
    from configs.serving import DemoSettings

    settings = settings_of(config, set_, DemoSettings)
    from serving.demo import run

    say(f"The demo is at http://{settings.host}:{settings.port} until you stop it.")
    run(settings)
