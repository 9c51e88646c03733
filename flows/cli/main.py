"""The command line `recsys`: the product without the UI. Each command runs a flow or reads the store.

Flows import torch, Prefect and pandas. Each command imports its flow when it runs, so that --help is instant.
"""

from __future__ import annotations

import logging
import sys
from typing import Annotated

import typer

from configs.errors import RecsysError
from flows.cli import config, data, experiment, gpu, model, old_names, operation, pipeline, serve, study

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="MLOps for a movie recommender, from events to recommendations.\n\nExample: recsys retrain -c quick",
)
# Help shows the panels, and the commands in a panel, in this order.
app.add_typer(pipeline.app)
app.add_typer(data.app, name="data", rich_help_panel="Data, models and studies")
app.add_typer(model.app, name="model", rich_help_panel="Data, models and studies")
app.add_typer(study.app, name="study", rich_help_panel="Data, models and studies")
app.add_typer(experiment.app, name="experiment", rich_help_panel="Data, models and studies")
app.add_typer(serve.app)
app.add_typer(operation.app)
app.add_typer(config.app, name="config", rich_help_panel=operation.PANEL)
app.add_typer(gpu.app, name="gpu", rich_help_panel=operation.PANEL)
old_names.add_to(app)


@app.callback(invoke_without_command=True)
def recsys(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"recsys {installed('movielens-recsys')}")
        raise typer.Exit


def main() -> None:
    """Run a command. An error that the user can fix ends with one paragraph and exit status 1."""
    logging.getLogger("prefect.flow_runs").addFilter(_without_traceback)
    logging.getLogger("prefect.task_runs").addFilter(_without_traceback)
    try:
        app()
    except RecsysError as error:
        typer.echo(f"\nerror: {error}", err=True)
        sys.exit(1)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Remove the traceback from the log record of an error that the user can fix. Defects keep their traceback."""
    if record.exc_info and isinstance(record.exc_info[1], RecsysError):
        record.exc_info = None
    return True
