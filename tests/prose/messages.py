"""The sentences that the product says: in errors that a user can fix, in its log and at the command line, found in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from configs import errors

__all__ = ["PACKAGES", "Message", "messages"]

PACKAGES = ("configs", "flows", "infra", "models", "serving", "tasks")
LOGGED = {"debug", "info", "warning", "error", "critical", "exception"}
PLACEHOLDER = re.compile(r"%(?:\.\d+)?[sdfgr]|\{\}")


@dataclass(frozen=True)
class Message:
    """A sentence of the product, with a short word in the place of each value."""

    place: str
    text: str


def messages(root: Path) -> list[Message]:
    """Return the messages of all packages that are at least a few words."""
    found = []
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            for text, line in _said(tree):
                shown = re.sub(r"`[^`]*`", "this", PLACEHOLDER.sub("this", text))
                if len(shown.split()) >= 4:
                    found.append(Message(f"{path.relative_to(root).as_posix()}:{line}", " ".join(shown.split())))
    return found


def _said(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (_is_error(node) or _is_told(node)):
            for argument in node.args:
                for text in _texts(argument):
                    yield text, argument.lineno


def _is_error(call: ast.Call) -> bool:
    """Return whether the call makes an error: one of the project's, or a ValueError, which pydantic puts into a message."""
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    return name in errors.__all__ or name.endswith("Error")


def _is_told(call: ast.Call) -> bool:
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    return name in ("say", "echo") or (isinstance(call.func, ast.Attribute) and name in LOGGED)


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the texts of an expression: both branches of a condition, and the parts of a sum as one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "this" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield " ".join([*_texts(node.left), *_texts(node.right)])
