"""Takes the log records of a command and its runs, and passes on what a person wants to know.

Prefect says when each flow and task begins, and repeats an error at every level that it passes through. A person wants the story of
the stages, and the error once: `flows.cli.main` prints it at the end. The Prefect UI keeps all records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flows.cli.terminal.display import close_display, current_display
from flows.cli.terminal.verbosity import Verbosity, chosen_verbosity, reset_verbosity

__all__ = ["Story", "listening", "tell_runs"]

RUNS = ("prefect.flow_runs", "prefect.task_runs")
_replaced: ExitStack | None = None
"""Puts Prefect's handlers back."""


class Story(logging.Handler):
    """Shows the story of a command: its stages, their steps, and what they say."""

    def emit(self, record: logging.LogRecord) -> None:
        from infra.progress import LOGGER, STAGE, STEP

        try:
            stage, step = getattr(record, STAGE, None), getattr(record, STEP, None)
            if stage is not None:
                (current_display().begin if stage.event == "begins" else current_display().end)(stage.name)
            elif record.name in RUNS and _is_of_prefect(record):
                return
            elif step is not None:
                current_display().advance(step, record.getMessage())
            elif record.levelno >= logging.WARNING:
                current_display().message(f"Warning: {record.getMessage()}")
            elif record.name in (*RUNS, LOGGER) and record.levelno >= logging.INFO:
                current_display().message(record.getMessage())
        except Exception:
            self.handleError(record)


def _is_of_prefect(record: logging.LogRecord) -> bool:
    """Whether Prefect's own code wrote the record of a run. What our stages say has the path of their module."""
    import prefect

    return Path(record.pathname).is_relative_to(Path(prefect.__file__).parent)


@contextmanager
def listening() -> Iterator[None]:
    """Show the story of the command that runs in the block."""
    global _replaced
    from infra.progress import LOGGER

    log, story = logging.getLogger(LOGGER), Story()
    before = (log.level, log.propagate)
    reset_verbosity()
    log.setLevel(logging.DEBUG)
    log.propagate = False
    log.addHandler(story)
    with ExitStack() as put_back:
        _replaced = put_back
        try:
            yield
        finally:
            _replaced = None
            log.removeHandler(story)
            log.setLevel(before[0])
            log.propagate = before[1]
            close_display()


def tell_runs() -> None:
    """Let the story replace what Prefect prints. It must be called when Prefect has set up its logging."""
    if chosen_verbosity() is Verbosity.VERBOSE or _replaced is None:
        return
    from prefect.logging.configuration import ensure_logging_setup
    from prefect.logging.handlers import PrefectConsoleHandler

    ensure_logging_setup()
    root, story = logging.getLogger(), Story()
    for handler in [each for each in root.handlers if isinstance(each, PrefectConsoleHandler)]:
        root.removeHandler(handler)
        _replaced.callback(root.addHandler, handler)
    root.addHandler(story)
    _replaced.callback(root.removeHandler, story)
