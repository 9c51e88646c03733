"""The options --quiet and --verbose of every command."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from enum import Enum
from typing import Annotated, Any

import typer

__all__ = ["Verbosity", "add_verbosity_to", "chosen_verbosity", "reset_verbosity"]

PANEL = "What is said"
QUIET = "Print only the result and errors."
VERBOSE = "Print all logs, with the runs and tasks that they are from."


class Verbosity(Enum):
    """How much a command says besides its result."""

    QUIET = "quiet"
    STORY = "story"
    VERBOSE = "verbose"


_chosen = Verbosity.STORY


def chosen_verbosity() -> Verbosity:
    """Return what the command line asks for."""
    return _chosen


def reset_verbosity() -> None:
    """Forget what an earlier command line of this process asked for."""
    global _chosen
    _chosen = Verbosity.STORY


def add_verbosity_to(app: typer.Typer) -> None:
    """Add --quiet and --verbose to every command below `app`."""
    for command in app.registered_commands:
        if command.callback is not None:
            command.callback = _with_verbosity(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            own = group.typer_instance.registered_callback  # of a group that is a command, too
            if own is not None and own.callback is not None:
                own.callback = _with_verbosity(own.callback)
            add_verbosity_to(group.typer_instance)


def _with_verbosity(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with both options. Its function does not receive them."""

    @functools.wraps(function)
    def command(*args: Any, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        global _chosen
        if quiet and verbose:
            raise typer.BadParameter("--quiet and --verbose exclude each other. Give only one of them.")
        _chosen = Verbosity.QUIET if quiet else Verbosity.VERBOSE if verbose else Verbosity.STORY
        return function(*args, **kwargs)

    own = inspect.signature(function, eval_str=True)
    added = [_option("quiet", "-q", QUIET), _option("verbose", "-v", VERBOSE)]
    command.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in (*own.parameters.values(), *added)}
    return command


def _option(name: str, short: str, said: str) -> inspect.Parameter:
    option = typer.Option(f"--{name}", short, help=said, rich_help_panel=PANEL)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option])
