"""The commands of the pages do what the pages say: README's first session in a new installation, all others in a sandbox."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.newcomer import OURS, README, first_session, summary
from benchmarks.shell_session import Block as Shown
from benchmarks.shell_session import ShellSession, keeps_promise
from tests.blocks.elsewhere import covered_by
from tests.blocks.shell import LANGUAGES, commands_of
from tests.prose.documents import ROOT, Block, Page, pages

pytestmark = [pytest.mark.full, pytest.mark.nightly]

# Trainings of seconds, whose results are promoted.
SMALL = {
    "RECSYS__MODELS__SS4REC__WIDTH": "16",
    "RECSYS__MODELS__SS4REC__BLOCKS": "1",
    "RECSYS__MODELS__SS4REC__MAX_LENGTH": "50",
    "RECSYS__MODELS__SS4REC__MAX_EPOCHS": "2",
    "RECSYS__MODELS__NCF__MAX_EPOCHS": "1",
    "RECSYS__PROMOTION__BASELINES": "[]",
    "RECSYS__PROMOTION__FLOORS__HR_AT_10": "0",
    "RECSYS__PROMOTION__FLOORS__NDCG_AT_10": "0",
    "RECSYS__REPORT__EVIDENTLY": "false",
}
BUSY = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "1800"}
"""A machine may be so busy that a command waits for its server."""
PORTS = (8000, 8501, 4200)
"""Ports of the servers that the pages start."""
RUN = [
    page
    for page in pages()
    if any(not covered_by(each) for block in page.blocks if block.language in LANGUAGES for each in commands_of(block))
]


@pytest.fixture(autouse=True)
def ports() -> None:
    for port in PORTS:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)), f"the port {port}, which pages name, is in use"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a copy of the project whose store has a champion and an earlier one."""
    folder = tmp_path_factory.mktemp("prepared") / "project"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    with ShellSession(folder, environment(folder)) as shell:
        for line in (
            "recsys retrain",
            "recsys retrain --set seed=7",
            "recsys model promote latest --force --reason 'a second champion'",
        ):
            ran = shell.run(line)
            assert ran.status == 0, ran.output
    return folder


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in OURS and not name.startswith("RECSYS__")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return (
        kept
        | SMALL
        | BUSY
        | {"PATH": path, "PYTHONPATH": str(folder), "PREFECT_HOME": str(folder / ".prefect"), "REPOSITORY": str(ROOT)}
    )


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_the_commands_of_a_page_do_what_the_page_says(page: Page, prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder)
    with ShellSession(folder, environment(folder)) as shell:
        reader = Reader(shell, folder)
        for block in page.blocks:
            reader.read(block)
    assert not reader.wrong, "\n\n".join(reader.wrong)


class Reader:
    """Types what a page shows, and compares what comes with what the page shows next."""

    def __init__(self, shell: ShellSession, folder: Path) -> None:
        self.wrong: list[str] = []
        self._shell, self._folder = shell, folder
        self._serves = False
        self._printed: str | None = None  # by the block above, if all of it was run

    def read(self, block: Block) -> None:
        if block.title:
            (self._folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (self._folder / block.title).write_text(block.text, encoding="utf-8")
        printed, self._printed = self._printed, None
        if block.language in LANGUAGES:
            commands = {command.line: command for command in commands_of(block)}
            run = [line for line, command in commands.items() if not covered_by(command)]
            outputs = [self._type(line.partition(" # ")[0].strip().replace(".venv/bin/", ""), block.place) for line in run]
            self._printed = "\n".join(outputs) if len(run) == len(commands) else None
        elif printed is not None and block.language in ("text", "json"):
            shown = Shown(block.language, block.text, 0)
            if not keeps_promise(shown, printed):
                self.wrong.append(f"{block.place}: the page shows\n{block.text}\nbut the commands print\n{printed[-1500:]}")

    def _type(self, line: str, place: str) -> str:
        """Run a line. A server goes on in another terminal, in the place of the one before. Pages that ask a server assume that it runs."""
        serves = line.startswith("recsys serve")
        if serves and self._serves:
            self._shell.run("kill $server; wait $server")
        if serves or ("/v1/" in line and not self._serves):
            ran = self._shell.run(f"{line.rstrip('& ') if serves else 'recsys serve'} &")
            self._shell.run("server=$!")
            self._serves = True
        if not serves:
            ran = self._shell.run(line)
        slow = line.startswith("recsys doctor") and "SLOW " in ran.output and "BROKEN " not in ran.output
        if ran.status and not slow:  # the machine is busy, and the doctor says so
            self.wrong.append(f"{place}: `{line}` exits with {ran.status}:\n{ran.output[-1500:]}")
        return ran.output


def test_a_newcomer_gets_a_personal_recommendation(tmp_path: Path) -> None:
    """Clones, installs, trains and asks, as README says. `python -m benchmarks.newcomer` also holds the bar on time."""
    steps = first_session(README.read_text(encoding="utf-8"), str(ROOT), tmp_path)
    assert summary(steps)["commands"] <= 6
