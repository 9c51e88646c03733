"""Runs the mistakes of the first week, and writes what the commands and the API say into docs/troubleshooting.md.

`python -m tests.flows.cli.troubleshooting` writes the page. `test_mistakes` compares it with what the commands say today, and
`test_wrong_requests` with what the API answers.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest.mock import patch

from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_SERVER_EPHEMERAL_ENABLED, temporary_settings

from flows.cli import main as cli
from tests.flows.cli.mistakes import MISTAKES, SERVER, TAKEN, Mistake, taken_port
from tests.serving.api.wrong_requests import WRONG_REQUESTS, WrongRequest, answer_to_request, serving_a_version

__all__ = ["PAGE", "answer_to", "page_of", "row_of", "row_of_request", "sentence_of"]

PAGE = Path(__file__).parents[3] / "docs/troubleshooting.md"
CLEARED = ("RUNPOD_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE")
NAME = re.compile(r"\b(?:GET|POST)\b(?: /[\w/]*)?|\b[\w.]*(?:\w_\w|:(?=SPEC|NAME))\w*\b|\bSPEC\b")
"""A name of a program, or a request: it becomes code on the page."""
INTRODUCTION = """# Troubleshooting

What goes wrong in the first week, and what the command or the API says about it. Each sentence names the cause and what to do. A command
prints it once, after `error:`, and the exit status is not 0. A server that can go on prints it after `Warning:`. The API answers with the
status and the sentence, as `detail` of a JSON object. In place of `/here`, you see your folder.

If you meet something else, run `recsys doctor`: it checks the store, Prefect, Redis, the GPU and the packages. A Python traceback
is a fault of the product. Please report it.
"""


def answer_to(mistake: Mistake, folder: Path) -> tuple[int, str, str]:
    """Make a mistake in this process, in `folder`, and return the exit status, what was said on stderr, and on stdout."""
    out, err = io.StringIO(), io.StringIO()
    environment = {name: value for name, value in os.environ.items() if name not in CLEARED} | {"COLUMNS": "400"}
    with (
        taken_port() as port,
        patch.dict(os.environ, {**environment, **mistake.environment}, clear=True),
        contextlib.chdir(folder),
        mistake.prepare(folder) as prepared,
        temporary_settings(_of_prefect(mistake)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        server = str(prepared or SERVER)
        given = mistake.command.replace(TAKEN, str(port)).replace(SERVER, server)
        with patch.object(sys, "argv", ["recsys", *shlex.split(given)]):
            try:
                cli.main()
                status = 0
            except SystemExit as end:
                status = int(end.code or 0)
    said = err.getvalue().replace(str(folder), "/here").replace(str(port), "8000").replace(server, SERVER)
    said = said.replace(f"process {os.getpid()}", "process 4711")
    return status, said, out.getvalue()


def _of_prefect(mistake: Mistake) -> dict[Any, object]:
    """Return the settings of Prefect that the mistake changes. This process has read its variables long ago."""
    given = mistake.environment
    if "PREFECT_HOME" in given:
        return {PREFECT_HOME: given["PREFECT_HOME"], PREFECT_API_URL: None, PREFECT_SERVER_EPHEMERAL_ENABLED: True}
    address = given.get("PREFECT_API_URL")
    return {PREFECT_API_URL: address} if address or mistake.command == "setup" else {}


def sentence_of(said: str) -> str:
    """Return the sentence in what a command said on stderr: after `error:` or `Warning:`, or in the box of a wrong command line."""
    for word in ("error: ", "Warning: "):
        if word in said:
            return said[said.rindex(word) + len(word) :].strip()
    return " ".join(line.strip("│ ") for line in said.splitlines() if line.startswith("│")).strip()


def row_of(mistake: Mistake, sentence: str) -> str:
    """Return the row of the page."""
    command = mistake.command.replace(TAKEN, "8000")
    given = " ".join(f"{name}={value}" for name, value in mistake.environment.items() if not name.startswith("AWS"))
    line = f"`{f'{given} ' if given else ''}recsys {command}`"
    return f"| {mistake.what}: {line} | {_cell(sentence)} |"


def row_of_request(wrong: WrongRequest, detail: str) -> str:
    """Return the row of the page for a request. `detail` is the sentence of the answer."""
    as_form = "" if wrong.kind == "application/json" else f" as `{wrong.kind}`"
    return f"| {wrong.what}: `{wrong.line}`{as_form} | {wrong.status}: {_cell(detail)} |"


def page_of(answers: dict[str, str]) -> str:
    """Return the page. `answers` has the sentence to each mistake and to each wrong request, by what was done."""
    parts = [INTRODUCTION]
    for heading, mistakes in MISTAKES.items():
        rows = [row_of(each, answers[each.what]) for each in mistakes]
        parts.append("\n".join([f"## {heading}\n", "| mistake | what the command says |", "|---|---|", *rows]) + "\n")
    rows = [row_of_request(each, answers[each.what]) for each in WRONG_REQUESTS]
    parts.append("\n".join(["## The API\n", "| mistake | what the API answers |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _cell(sentence: str) -> str:
    """Return text for a cell of a table, in which nothing is Markdown except code that the sentence marks itself."""
    pieces = re.split(r"(`[^`]*`)", sentence)
    named = "".join(each if each.startswith("`") else NAME.sub(r"`\g<0>`", each) for each in pieces)
    pieces = re.split(r"(`[^`]*`)", named)
    safe = [each if each.startswith("`") else re.sub(r"([*_<>\[\]])", r"\\\1", each) for each in pieces]
    return "".join(safe).replace("|", "\\|")


def _main() -> None:
    answers = {}
    for mistakes in MISTAKES.values():
        for mistake in mistakes:
            with tempfile.TemporaryDirectory(prefix="mistake-") as folder:
                status, said, _ = answer_to(mistake, Path(folder))
            answers[mistake.what] = sentence_of(said)
            print(f"{status} {mistake.what}: {answers[mistake.what]}", flush=True)
    with tempfile.TemporaryDirectory(prefix="mistake-") as folder, serving_a_version(Path(folder)) as client:
        for wrong in WRONG_REQUESTS:
            status, answers[wrong.what] = answer_to_request(client, wrong)
            print(f"{status} {wrong.what}: {answers[wrong.what]}", flush=True)
    PAGE.write_text(page_of(answers), encoding="utf-8")


if __name__ == "__main__":
    _main()
