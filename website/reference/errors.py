"""Errors that a person can fix, exit statuses, and the problems of the API."""

from __future__ import annotations

from configs import errors
from serving.api.documents import RESPONSES
from serving.api.problems import STATUSES
from website.reference.markdown import code, prose, table

__all__ = ["error_names", "page"]

INTRODUCTION = """# Errors

An error that you can fix is one paragraph: what happened, which file, column, row or setting is the cause, and what mends it. It has no
traceback. Anything with a traceback is a defect of the product; please report it.

## Exit statuses

| status | meaning |
|---|---|
| 0 | The command did what it was asked to do. A challenger that the gate held is a success: the gate has decided. |
| 1 | An error that you can fix. `recsys doctor` found something broken or slow. `recsys model check` found a fault. A landing found new files without one good row. |
| 2 | An unknown command or option, or a value of the wrong form. |
| 130 | The command was stopped with Ctrl-C. |
| 143, 129 | The command was stopped by SIGTERM or SIGHUP, after it had cleaned up. |
| 137 | The command was killed (SIGKILL). The same command goes on where it stopped. |

## Kinds of errors

The name of the error is in the log of a run and in the artifact `failure`.
"""
PROBLEMS = """## Problems of the API

Each error is a body of `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): `type`, `title`, `status`,
`detail`, `instance` (the request's id, which the server's log has too), and `errors` with at most ten places and faults.
"""


def page() -> str:
    """Return the page of errors."""
    rows = [[code(name), _parent(name), prose(_class(name).__doc__ or ""), _status(name)] for name in error_names()]
    problems = [
        [code(status), code(_type_of(int(status))), prose(str(response["description"])) + "."]
        for status, response in [
            *RESPONSES.items(),
            (500, {"description": "A defect. The server's log has the details under the request's id"}),
        ]
    ]
    return (
        f"{INTRODUCTION}\n{table(['error', 'is a', 'when', 'in the API'], rows)}\n\n"
        f"{PROBLEMS}\n{table(['status', 'type', 'when'], problems)}\n"
    )


def error_names() -> list[str]:
    """Return the names of all errors that a person can fix."""
    return [name for name in errors.__all__ if name != "RecsysError"]


def _class(name: str) -> type[errors.RecsysError]:
    found: type[errors.RecsysError] = getattr(errors, name)
    return found


def _parent(name: str) -> str:
    parent = _class(name).__base__
    return "" if parent in (errors.RecsysError, None) else code(parent.__name__)


def _status(name: str) -> str:
    return next((code(status) for kind, status in STATUSES.items() if issubclass(_class(name), kind)), "")


def _type_of(status: int) -> str:
    from http import HTTPStatus

    return f"urn:recsys:{HTTPStatus(status).phrase.lower().replace(' ', '-')}"
