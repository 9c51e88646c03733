"""The commands on top of `recsys` that show the champion's recommendations: serve and demo. Neither needs what training needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.options import Config, Set, settings_of
from flows.cli.terminal import READY, current_display

if TYPE_CHECKING:
    from configs.serving import RedisSettings

__all__ = ["app"]

PANEL = "Serve"
REDIS_S = 2.0  # for which the start of a server waits for an answer

Port = Annotated[int | None, typer.Option(min=0, max=65535, help="Port to listen on.")]

app = typer.Typer()


@app.command(rich_help_panel=PANEL)
def serve(
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes. They share only Redis.")] = None,
    port: Port = None,
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
    from configs.extras import require
    from infra.ports import check_port, tell_when_it_answers

    require("serving", "The server", "uvicorn", "prometheus_client", "redis")
    check_port(settings.host, settings.port)
    from serving.access import refuse_open
    from serving.run import serve as run

    refuse_open(settings)
    _warn_of_redis(settings.redis)

    def tell() -> None:
        current_display().end(READY)
        said = f"serving {settings.model_name} of {settings.store.url} at http://{settings.host}:{settings.port}"
        current_display().message(said)

    current_display().begin(READY)
    tell_when_it_answers(settings.host, settings.port, "/healthz", tell)
    run(settings)


def _warn_of_redis(settings: RedisSettings) -> None:
    """Warn if Redis is set and does not answer. The server starts all the same: it must come back while Redis is away."""
    from flows.cli.doctor import examine_redis

    found = examine_redis(settings, REDIS_S)
    if found.status == "broken":
        current_display().message(
            f"Warning: Redis at {found.said}. The server starts without it, and until it answers, each worker keeps events in its "
            "own memory. Start Redis, or correct redis.url."
        )


@app.command(rich_help_panel=PANEL)
def demo(port: Port = None, config: Config = None, set_: Set = None) -> None:
    """Show recommendations and decisions in the browser.

    The pages explain recommendations, and show versions, decisions, drift and experiments. They need the extra `demo`.

    Example: recsys demo --port 8502 --set api_url=http://127.0.0.1:8000
    """
    from configs.serving import DemoSettings

    given = [] if port is None else [f"port={port}"]
    settings = settings_of(config, [*(set_ or []), *given], DemoSettings)
    from configs.extras import require
    from infra.ports import check_port

    require("demo", "The demo", "streamlit", "altair")
    check_port(settings.host, settings.port)
    from serving.demo import run

    current_display().message("The demo starts. Its address follows when it answers. Ctrl-C ends it.")
    run(settings)
