"""Commands of a document, run one after the other in one shell as a reader would, and the outputs that the document promises."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Block", "Ran", "ShellSession", "blocks_of", "keeps_promise", "section_with", "shown_json"]

FENCE = re.compile(r"^```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
VARYING = re.compile(r"\b[0-9](?:[\w.,:-]*\w)?")
"""Numbers, times and versions, which differ from run to run."""
ADDRESS = re.compile(r"https?://\S+")
ENDING_S = 15.0  # that a server has to end in order
ANY = ("…", "...")


@dataclass(frozen=True)
class Block:
    """A fenced block, and the line of the document on which it ends."""

    language: str
    text: str
    last_line: int

    @property
    def commands(self) -> list[str]:
        """The lines of a shell block without their comments."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        lines = (re.sub(r"(?:^|\s+)#(?=\s).*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]


@dataclass(frozen=True)
class Ran:
    command: str
    seconds: float
    status: int
    output: str


def blocks_of(text: str) -> list[Block]:
    """Return the fenced blocks of a document."""
    return [Block(found["language"], found["text"], text.count("\n", 0, found.end()) + 1) for found in FENCE.finditer(text)]


def section_with(text: str, words: str) -> list[Block]:
    """Return the blocks under the first heading of the second level whose shell blocks contain `words`.

    Raises:
        ValueError: No section does.
    """
    starts = [found.start() for found in re.finditer(r"^## ", text, re.MULTILINE)]
    for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
        found = [block for block in blocks_of(text[:end]) if block.last_line > text.count("\n", 0, start)]
        if any(block.language == "sh" and words in block.text for block in found):
            return found
    raise ValueError(f"no section of the document has a shell block with {words!r}")


class ShellSession:
    """A bash in a folder. Use it as a context manager: on exit, everything that it started has ended.

    Args:
        folder: Where it starts.
        environment: Its environment variables.
        patience_s: Seconds that a command may take, and a server until it prints its address.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], patience_s: float = 1800.0) -> None:
        self._folder, self._environment, self._patience_s = folder, dict(environment), patience_s
        self._number = 0

    def __enter__(self) -> ShellSession:
        self._log = (self._folder / "session.log").open("w+b")
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    def __exit__(self, *exception: object) -> None:
        assert self._bash.stdin is not None
        self._bash.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            self._signal(number)
            end = time.monotonic() + ENDING_S
            while self._signal(0) and time.monotonic() < end:
                self._bash.poll()  # a shell that has ended is in its group until someone asks
                time.sleep(0.05)
        self._bash.wait()
        self._log.close()

    def _signal(self, number: int) -> bool:
        """Send a signal to the shell and to all that it started. Returns whether any of them is left."""
        try:
            os.killpg(self._bash.pid, number)
        except ProcessLookupError:
            return False
        return True

    def run(self, command: str) -> Ran:
        """Run a line. One that goes on in the background has run once it has printed an address.

        Raises:
            TimeoutError: It takes longer than the patience.
        """
        self._number += 1
        mark = f"--ran-{os.getpid()}-{self._number}-"
        begun, start = time.monotonic(), len(self._read())
        assert self._bash.stdin is not None
        self._bash.stdin.write(f'{command}\nprintf "\\n{mark}%s\\n" "$?"\n'.encode())
        self._bash.stdin.flush()
        behind = command.rstrip().endswith("&")
        ended = re.compile(rf"\n?{mark}(\d+)\n")
        while time.monotonic() < begun + self._patience_s:
            output = self._read()[start:].decode(errors="replace")
            done = ended.search(output)
            if done and (not behind or ADDRESS.search(ended.sub("", output))):
                return Ran(command, time.monotonic() - begun, int(done[1]), ended.sub("", output))
            if self._bash.poll() is not None:
                return Ran(command, time.monotonic() - begun, self._bash.returncode, output)
            time.sleep(0.05)
        raise TimeoutError(f"`{command}` has not ended after {self._patience_s:.0f} s")

    def _read(self) -> bytes:
        return (self._folder / "session.log").read_bytes()


def keeps_promise(promised: Block, output: str) -> bool:
    """Return whether an output is what the document shows. Numbers and versions of text may differ, and `…` stands for anything.

    Other lines may come before and after JSON: a server that runs behind writes to the same terminal.
    """
    if promised.language == "json":
        try:
            found, _ = json.JSONDecoder().raw_decode(output[max(output.find("{"), 0) :])
        except ValueError:
            return False
        return _contains(shown_json(promised.text), found)
    lines = [_masked(line) for line in output.splitlines()]
    return all(any(re.fullmatch(_pattern(line), shown) for shown in lines) for line in promised.text.splitlines() if line.strip())


def _masked(line: str) -> str:
    return " ".join(VARYING.sub("#", line).split())


def _pattern(line: str) -> str:
    return ".*".join(map(re.escape, re.split(r"…|\.\.\.", _masked(line))))


def shown_json(text: str) -> Any:
    """Return the JSON that a document shows. `…` is a value, or stands for further entries."""
    quoted = re.sub(r"(?<=[:\[,{])\s*(?:…|\.\.\.)(?=\s*[,\]}])", ' "…"', text)
    return json.loads(re.sub(r'(?<=[,{])\s*"…"(?=\s*\})', ' "…": "…"', quoted))


def _contains(promised: Any, found: Any) -> bool:
    if isinstance(promised, str) and promised in ANY:
        return True
    if isinstance(promised, dict):
        return isinstance(found, dict) and all(
            key in ANY or (key in found and _contains(value, found[key])) for key, value in promised.items()
        )
    if isinstance(promised, list):
        given = [each for each in promised if each not in ANY]
        return isinstance(found, list) and len(found) >= len(given) and all(map(_contains, given, found))
    if isinstance(promised, str):
        return isinstance(found, str) and _masked(promised) == _masked(found)
    return type(promised) is type(found)
