"""What all artifacts of the Prefect UI share: addresses, inline images, and the rule that a failed artifact fails no run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any, ParamSpec

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.logging import get_run_logger

from infra.pages import code_span, escaped, unlinked
from tasks.best_effort import attempt

__all__ = ["best_effort_artifact", "publish_address_artifact", "publish_table_artifact"]

P = ParamSpec("P")


def best_effort_artifact(publish: Callable[P, None]) -> Callable[P, None]:
    """Make `publish` best-effort within a task: if it raises, the run logs a warning and continues."""

    @wraps(publish)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        attempt(f"The artifact of {publish.__name__}", publish, get_run_logger(), *args, **kwargs)

    return guarded


def publish_address_artifact(uri: str, text: str, *, key: str, description: str) -> None:
    """Publish a store address with the command that opens it.

    It is not a link: a browser does not follow s3:// addresses, nor file:// addresses from a page of the server.
    """
    command = code_span(f"recsys data open {shlex.quote(uri)}")
    shown = f"{text}:\n\n{command}\n\nBrowsers cannot open this address; run the command where the store can be reached.\n"
    create_markdown_artifact(shown, key=key, description=escaped(description))


def publish_table_artifact(rows: Iterable[Mapping[str, Any]], *, key: str, description: str) -> None:
    """Publish rows as a table, with every text as data.

    Of the two UIs of Prefect, one reads a cell as Markdown and the other shows it as it is. Both read the description as Markdown.
    """
    cells = [{unlinked(name): unlinked(cell) if isinstance(cell, str) else cell for name, cell in row.items()} for row in rows]
    create_table_artifact(cells, key=key, description=escaped(description))
