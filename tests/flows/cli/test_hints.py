"""Every command line that a message or a page names can be run as it is."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from click import ClickException, Command
from typer.main import get_command

from configs.annotations import annotations_at
from flows.cli import main as cli
from flows.cli.old_names import OLD_NAMES
from flows.cli.options import models
from infra.storage.local import LocalStore
from infra.version_names import short_version
from tests.flows.cli.test_main import ALL, commands, recsys
from tests.tasks.stored import NAME, sealed

ROOT = Path(__file__).parents[3]
PACKAGES = ("configs", "flows", "infra", "models", "serving", "tasks")
HINT = re.compile(r"`(recsys(?: [^`]*)?)`")
PLACE = "PLACE"
"""Stands for what the program inserts."""


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield every text of a module except its docstrings, with its line. What the program inserts becomes PLACE."""
    said = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [str(part.value) if isinstance(part, ast.Constant) else PLACE for part in node.values]
            yield node.lineno, "".join(parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in said:
            yield node.lineno, re.sub(r"%s|\{\w+\}", PLACE, node.value)


def hints() -> dict[str, str]:
    """Return each command line that the code names, and one place where it does so."""
    found: dict[str, str] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for line, text in texts(ast.parse(path.read_text(encoding="utf-8"))):
                for hint in HINT.findall(" ".join(text.split())):
                    found.setdefault(hint, f"{path.relative_to(ROOT)}:{line}")
    return found


HINTS = hints()


@pytest.fixture(scope="module")
def parser() -> Command:
    """Return the real command line with commands that do nothing."""
    root = get_command(cli.app)
    for _, command in commands(root):
        command.callback = None
        for parameter in command.params:
            parameter.callback = None
    return root


def test_the_hints_are_found() -> None:
    assert len(HINTS) > 15 and any("model promote" in hint for hint in HINTS)


@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: hint.replace(" ", "_"))
def test_a_command_line_in_a_message_is_valid(hint: str, parser: Command) -> None:
    words = shlex.split(re.sub(r"(?<=\w)PLACE$", "", hint))[1:]  # in some cases an option follows
    if hasattr(ALL.get(tuple(words)), "commands"):
        return  # a group as a whole
    assert "..." not in words
    try:
        parser.main(words, prog_name="recsys", standalone_mode=False)
    except ClickException as error:
        raise AssertionError(f"{HINTS[hint]}: {hint} is refused: {error.format_message()}") from error
    assert not [old for old, new in OLD_NAMES.items() if old != new and words[: len(old.split())] == old.split()], "an old name"
    for setting in re.findall(r"--set (\S+?)=", hint):
        assert any(annotations_at(model, setting) for model in models()), f"{HINTS[hint]}: {setting} is not a setting"


def test_a_hint_names_the_store_and_the_model_that_the_command_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parser: Command
) -> None:
    (tmp_path / "my run.yaml").write_text("seed: 3\n")
    given = ["-c", str(tmp_path / "my run.yaml"), "--set", f"store.url=file:{tmp_path}/store", "--set", "model_name=shop"]
    secret = ["--set", "store.secret_access_key=planted"]
    assert recsys("model", "show", "champion", *given, *secret) == 1
    (hint,) = HINT.findall(capsys.readouterr().err)
    assert shlex.split(hint)[1:] == ["retrain", "--set", "model_name=shop", *given[:4]] and "planted" not in hint
    parser.main(shlex.split(hint)[1:], prog_name="recsys", standalone_mode=False)


def test_after_a_held_first_run_the_hint_is_not_to_run_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], parser: Command
) -> None:
    store = LocalStore(tmp_path / "store")
    ref = sealed(store, tmp_path / "m")
    given = ["--set", f"store.url=file:{tmp_path}/store", "--set", f"model_name={NAME}"]
    assert recsys("model", "list", *given) == 0
    (hint,) = HINT.findall(capsys.readouterr().out)
    assert short_version(ref.version) in hint and shlex.split(hint)[1:3] == [
        "model",
        "show" if ref.outcome == "held" else "promote",
    ]
    parser.main(shlex.split(hint)[1:], prog_name="recsys", standalone_mode=False)
