"""README's first session is short, and does what README shows; the script that runs it notices where it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.newcomer import README, UnlikeReadmeError, commands_of, first_session, summary
from benchmarks.pipeline_tables import newcomer
from benchmarks.shell_session import Block, Ran, ShellSession, blocks_of, keeps_promise, section_with

ANSWER = '{"version": "20261201T090000Z-ab", "source": "rebuilt", "events": 183, "items": [{"item_id": 50, "score": 1.5}]}'
SESSION = """# A project

## Before

```sh
make test
```

## First

```sh
git clone "$REPOSITORY" there && cd there   # a comment
(sleep 0.1; echo "at http://127.0.0.1:1"; sleep 60) &
```

It prints:

```text
at http://127.0.0.1:8
```

```sh
curl -s http://127.0.0.1:1/v1/recommendations
```

```json
{"version": "20261124T092748Z-3d77", "source": "rebuilt", "events": 12, "items": [{"item_id": 7, …}, …]}
```
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Provide a repository, and a curl that gets the answer of a server."""
    curl = tmp_path / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text(f"#!/bin/sh\necho '{ANSWER}'\n")
    curl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{curl.parent}:{os.environ['PATH']}")
    with ShellSession(tmp_path, os.environ) as shell:
        made = shell.run(
            "git init -q repository && cd repository && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m a"
        )
    assert made.status == 0
    return str(tmp_path / "repository")


def test_readmes_first_session_is_short_and_shows_the_answer() -> None:
    blocks = section_with(README.read_text(encoding="utf-8"), "git clone")
    commands = commands_of(blocks)
    assert commands[0].startswith("git clone") and any("/v1/recommendations" in command for command in commands)
    assert "json" in {block.language for block in blocks}, "the expected answer"


def test_a_session_is_run_as_it_stands_and_each_command_is_timed(repository: str, tmp_path: Path) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    steps = first_session(SESSION, repository, place)
    found = summary(steps)
    assert (place / "there" / ".git").exists() and found["commands"] == 3 and len(found["steps"]) == 3
    assert 0.1 <= found["steps"][1]["seconds"] < 30, "a server has started once it has printed its address"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("cd there", "cd nowhere", "exits with 1"),
        ("at http://127.0.0.1:8", "listening at …", "README shows"),
        ('"source": "rebuilt"', '"source": "kept"', "README shows"),
        ("make test", 'git clone "$REPOSITORY" other', "no answer is a personal recommendation"),
        ("curl -s", "\n".join(["true"] * 6) + "\ncurl -s", "it has 9 commands"),
        ("It prints:", "\n" * 60, "ends on line"),
    ],
)
def test_a_session_unlike_readme_is_refused(before: str, after: str, said: str, repository: str, tmp_path: Path) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    with pytest.raises(UnlikeReadmeError, match=said):
        first_session(SESSION.replace(before, after, 1), repository, place)


@pytest.mark.parametrize(
    ("language", "shown", "output", "kept"),
    [
        ("text", "verdict: promoted. version 2026T1Z-ab", "log\nverdict: promoted. version 2027T2Z-cd\n", True),
        ("text", "verdict: promoted. version 2026T1Z-ab", "verdict: held. version 2027T2Z-cd\n", False),
        ("text", "3 files, … rows", "40 files, 7,000 rows\n", True),
        ("json", '{"a": 1, "b": ["x", …], …}', 'log\n{"a": 2, "b": ["x", "y"], "c": null}', True),
        ("json", '{"a": 1}', '{"a": 2}\na line of the server that runs behind {', True),
        ("json", '{"a": 1}', "no answer", False),
        ("json", '{"a": 1}', '{"a": ', False),
        ("json", '{"a": 1}', '{"a": "1"}', False),
        ("json", '{"a": ["x", "y"]}', '{"a": ["x"]}', False),
        ("json", '{"a": ...}', '{"b": 1}', False),
    ],
)
def test_an_output_keeps_the_promise_of_a_document(language: str, shown: str, output: str, kept: bool) -> None:
    assert keeps_promise(Block(language, shown + "\n", 3), output) is kept


def test_the_table_has_each_command_and_the_bar() -> None:
    steps = [
        Ran("git clone x", 0.4, 0, ""),
        Ran("curl http://127.0.0.1:8000/v1/recommendations", 299.1, 0, ANSWER),
        Ran("true", 9.0, 0, ""),
    ]
    table = newcomer(summary(steps) | {"hardware": {"load_1_min": 1.5}})
    assert "| `git clone x` | 0 |" in table and "| to the personal answer, 2 commands | 300 (bar < 300: met) |" in table


def test_commands_are_the_lines_without_comments() -> None:
    (block,) = blocks_of("Text.\n\n```sh\n# first\nmake retrain   # trains\ncurl -d '{\"a\": 1}' \\\n    http://host/#top\n```\n")
    assert block.commands == ["make retrain", "curl -d '{\"a\": 1}'  http://host/#top"] and block.last_line == 8
