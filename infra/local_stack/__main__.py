"""Start the local stack with `python -m infra.local_stack`. It runs until it is stopped."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from configs.errors import RecsysError
from infra.local_stack.stack import local_stack


def main(
    services: Annotated[
        list[str] | None, typer.Argument(help="Services to start, with their dependencies; all by default.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Folder for data, logs and secrets; kept afterwards.")] = Path(".recsys/stack"),
    s3: Annotated[bool, typer.Option("--s3", help="Keep the store on Ceph's radosgw instead of in the folder.")] = False,
    images: Annotated[bool, typer.Option("--images", help="Run the project's services in their images. Needs --s3.")] = False,
) -> None:
    """Run the services of infra/compose.yaml as processes on this machine, without Docker."""
    # Handle these like Ctrl-C, so that the services are stopped too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with local_stack(folder, services or (), s3=s3, images=images):
            typer.echo(f"logs and secrets under {folder}; Ctrl-C stops everything")
            signal.pause()
    except KeyboardInterrupt:
        typer.echo("stopped")
    except RecsysError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    typer.run(main)
