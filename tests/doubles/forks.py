"""Processes that start quickly, wherever the test runs.

A fork of the test's own process would inherit the locks of its threads, and a new interpreter takes seconds to import the product.
Python's fork server does neither: it imports the product once, starts no threads, and forks from there. It keeps the environment of
the first test that needs it, so a variable that a later test sets does not reach these processes.
"""

from __future__ import annotations

import multiprocessing

__all__ = ["PRELOADED", "forks"]

PRELOADED = [
    "models.loading",
    "pandera.typing.dask",  # pandera imports Dask when it first checks a table
    "tasks.evaluation.load_check",
    "tests.doubles.contract",
    "tests.doubles.dying_s3",
    "tests.doubles.promoting",
    "tests.serving.writer",
    "tests.tasks.landed",
    "tests.tasks.stored",
]
"""Modules that these processes need. Importing them must not start a thread."""

forks = multiprocessing.get_context("forkserver")
"""Targets and arguments are pickled: functions of a module, and `functools.partial` of them."""

forks.set_forkserver_preload(PRELOADED)
