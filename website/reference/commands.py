"""Every command of `recsys`, with its arguments and options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from flows.cli.main import app
from flows.cli.old_names import OLD_NAMES
from website.reference.markdown import code, paragraphs, prose, table

__all__ = ["command_names", "page"]

INTRODUCTION = """# Commands

`recsys --help` prints the commands, and `recsys COMMAND --help` prints the options of one. The exit status is 0 for success, 1 for an
error that you can fix, and 2 for a wrong option ([errors](errors.md)).
"""
EXAMPLE = re.compile(r"\n*Examples?:\s*(.*)\Z", re.DOTALL)


def page() -> str:
    """Return the page of commands."""
    parts = [INTRODUCTION]
    for path, command in _commands():
        text = command.help or ""
        found = EXAMPLE.search(text)
        parts += [f"## recsys {path}\n", paragraphs(EXAMPLE.sub("", text)) + "\n"]
        if found:
            parts.append(f"```sh\n{' '.join(found[1].split())}\n```\n")
        context = typer.Context(command)
        rows = [
            _row(parameter, context)
            for parameter in command.params
            if not getattr(parameter, "hidden", False) and parameter.name != "help"
        ]
        if rows:
            parts.append(table(["argument or option", "default", "meaning"], rows) + "\n")
    rows = [[code(f"recsys {old}"), code(f"recsys {new}")] for old, new in OLD_NAMES.items()]
    parts += ["## Older names\n", "These names still work.\n", table(["older name", "name today"], rows) + "\n"]
    return "\n".join(parts)


def command_names() -> list[str]:
    """Return the names of all commands, such as `data list`."""
    return [path for path, _ in _commands()]


def _commands() -> Iterator[tuple[str, Any]]:
    def below(group: Any, above: str) -> Iterator[tuple[str, Any]]:
        for name, command in group.commands.items():
            if command.hidden:
                continue
            if hasattr(command, "commands"):
                yield from below(command, f"{above}{name} ")
            else:
                yield f"{above}{name}", command

    yield from below(typer.main.get_command(app), "")


def _row(parameter: Any, context: typer.Context) -> list[str]:
    if parameter.param_type_name == "argument":
        name = code((parameter.metavar or parameter.name).upper())
    else:
        value = "" if parameter.is_flag else f" {_value(parameter, context)}"
        name = " ".join(code(option + value) for option in sorted(parameter.opts, key=len, reverse=True))
    default = parameter.default
    if parameter.required:
        shown = "required"
    elif default is None or default is False or default == () or callable(default) or "Sentinel" in type(default).__name__:
        shown = ""
    else:
        shown = code(default)
    return [name, shown, prose(getattr(parameter, "help", "") or "")]


def _value(parameter: Any, context: typer.Context) -> str:
    """Return the placeholder of an option's value, such as PATH."""
    shown = parameter.metavar or parameter.display_type(context)
    return re.sub(r"list\[(.*)\]", r"\1", shown.strip("<>").lower()).replace("str", "text").upper()
