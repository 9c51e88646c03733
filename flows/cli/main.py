"""The command line `recsys`: the product without the UI. Each command runs a flow or reads the store.

Flows import torch, Prefect and pandas. Each command imports its flow when it runs, so that --help is instant.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from configs.errors import RecsysError
from flows.cli import config, data, experiment, gpu, key, model, old_names, operation, pipeline, rollout, serve, study
from flows.cli.options import as_given, say
from flows.cli.terminal import add_verbosity_to, listening

__all__ = ["app", "main"]

ENDING = (signal.SIGTERM, signal.SIGHUP)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="MLOps for a recommender, from events to recommendations.\n\nExample: recsys retrain -c quick",
)
# Help shows the panels, and the commands in a panel, in this order.
app.add_typer(pipeline.app)
app.add_typer(data.app, name="data", rich_help_panel="Data, models and studies")
app.add_typer(model.app, name="model", rich_help_panel="Data, models and studies")
app.add_typer(study.app, name="study", rich_help_panel="Data, models and studies")
app.add_typer(experiment.app, name="experiment", rich_help_panel="Data, models and studies")
app.add_typer(serve.app)
app.add_typer(rollout.app, name="rollout", rich_help_panel=operation.PANEL)
app.add_typer(operation.app)
app.add_typer(config.app, name="config", rich_help_panel=operation.PANEL)
app.add_typer(key.app, name="key", rich_help_panel=operation.PANEL)
app.add_typer(gpu.app, name="gpu", rich_help_panel=operation.PANEL)
old_names.add_to(app)
add_verbosity_to(app)


@app.callback(invoke_without_command=True)
def recsys(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"recsys {installed('movielens-recsys')}")
        raise typer.Exit


class _SignalledError(BaseException):
    """A signal asks the process to end."""

    def __init__(self, number: int) -> None:
        self.number = number


def main() -> None:
    """Run a command. An error that the user can fix ends with one paragraph and exit status 1."""
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        for change in (_without_traceback, _visible):
            logging.getLogger(name).addFilter(change)
    warnings.filterwarnings("ignore", "Failed to create the Prefect home")  # a command that needs it says what to do
    try:
        with _ended_in_order(), listening():
            app()
    except RecsysError as error:
        say(f"\nerror: {as_given(str(error))}", err=True)
        sys.exit(1)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Leave the block as Ctrl-C does if SIGTERM or SIGHUP asks for it, and then die of the signal.

    So locks, child processes and started runs are cleaned up, and whoever sent the signal sees that it was obeyed. A signal that
    is ignored, as by nohup, stays ignored.
    """
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {each: signal.getsignal(each) for each in ENDING if signal.getsignal(each) is signal.SIG_DFL}

    def end(number: int, frame: object) -> None:
        raise _SignalledError(number)

    for each in before:
        signal.signal(each, end)
    try:
        yield
    except _SignalledError as error:
        signal.signal(error.number, signal.SIG_DFL)
        signal.raise_signal(error.number)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _visible(record: logging.LogRecord) -> bool:
    """Show control characters in the log record as escapes: it may quote titles, reasons and file names."""
    from infra.pages import visible

    record.msg, record.args = visible(record.getMessage()), None
    return True


def _without_traceback(record: logging.LogRecord) -> bool:
    """Remove the traceback from the log record of an error that the user can fix. Defects keep their traceback."""
    if record.exc_info and isinstance(record.exc_info[1], RecsysError):
        record.exc_info = None
    return True
