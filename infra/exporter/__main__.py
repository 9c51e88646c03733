"""Start the exporter with `python -m infra.exporter`. It runs until it is stopped."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import httpx
import typer

from configs.errors import RecsysError
from configs.settings import StoreSettings
from infra.exporter.facts import Certificate, Champion, Disks, Drift, Kept, Runs
from infra.exporter.page import Facts, Source
from infra.storage import open_store


def main(
    store: Annotated[str, typer.Option(help="Address of the store.")],
    model_name: Annotated[str, typer.Option(help="Name of the model.")] = "movie-ranker",
    backups: Annotated[str, typer.Option(help="Address of the backups. If empty, they are not watched.")] = "",
    disk: Annotated[list[Path] | None, typer.Option(help="Folder whose disk is watched; repeatable.")] = None,
    certificate: Annotated[str, typer.Option(help="Host, or host:port, whose certificate is watched. If empty, none is.")] = "",
    endpoint_url: Annotated[str | None, typer.Option(help="Address of an S3 server that is not AWS's.")] = None,
    listen: Annotated[str, typer.Option(help="Address and port to listen on.")] = "127.0.0.1:9400",
) -> None:
    """Serve facts about the product to Prometheus, at /metrics."""
    try:
        opened = open_store(StoreSettings(url=store, endpoint_url=endpoint_url))
        sources: dict[str, Source] = {"champion": Champion(opened, model_name), "drift": Drift(opened)}
        if address := os.environ.get("PREFECT_API_URL"):
            user, _, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
            auth = (user, password) if user else None
            sources["runs"] = Runs(httpx.Client(base_url=address.rstrip("/") + "/", auth=auth, timeout=30))
        if backups:
            sources["backups"] = Kept(open_store(StoreSettings(url=backups, endpoint_url=endpoint_url)))
        if disk:
            sources["disks"] = Disks(tuple(disk))
        if certificate:
            name, _, number = certificate.partition(":")
            sources["certificate"] = Certificate(name, int(number or 443))
    except RecsysError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(Facts(sources))
    host, _, port = listen.rpartition(":")
    start_http_server(int(port), host, registry)
    typer.echo(f"facts about {', '.join(sources)} at http://{listen}/metrics")
    signal.sigwait([signal.SIGTERM, signal.SIGINT])


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
    typer.run(main)
