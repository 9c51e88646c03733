"""How far a run is: log records that a terminal shows as one line with the time left, and that a log keeps as they are.

A stage says what it does through logging, as always. Here is what its records carry so that they can be told apart. Who shows them
is decided by the command (`flows.cli.terminal`). In a deployment nobody watches, and nothing happens.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

__all__ = ["LOGGER", "STAGE", "STEP", "Stage", "Step", "report", "stage", "step"]

LOGGER = "recsys"
"""The logger of stages that are not Prefect's."""
STEP, STAGE = "recsys_step", "recsys_stage"  # attributes of the log records


@dataclass(frozen=True)
class Step:
    """A step of something that is under way."""

    of: str
    """What is under way. All its steps have the same name."""
    done: float
    total: float


@dataclass(frozen=True)
class Stage:
    """The begin or the end of a stage."""

    name: str
    event: Literal["begins", "ends"]


def step(of: str, done: float, total: float) -> dict[str, Step]:
    """Return the `extra` of the log record of a step, `done` of `total`."""
    return {STEP: Step(of, done, total)}


def report(of: str, done: float, total: float, said: str) -> None:
    """Log a step, with what there is to say about it."""
    logging.getLogger(LOGGER).info("%s", said, extra=step(of, done, total))


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Say that a stage is under way as long as the block runs."""
    log = logging.getLogger(LOGGER)
    log.debug("%s begins", name, extra={STAGE: Stage(name, "begins")})
    try:
        yield
    finally:
        log.debug("%s ends", name, extra={STAGE: Stage(name, "ends")})
