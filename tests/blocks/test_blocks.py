"""Every code block of README, the site and the examples works: none is there that no test can reach.

Here, commands are read by the parsers of their programs, settings are loaded, and Python is run. `tests/full/documents/test_pages.py`
runs the commands.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.shell_session import shown_json
from configs.errors import RecsysError
from configs.kinds import register, registry
from configs.loading import settings_in
from configs.serving import DemoSettings, ExperimentFile, RuleFile, ServingSettings
from configs.settings import RetrainSettings
from configs.studies import CompareSettings, ReplaySettings, SearchSettings
from infra.prefect_server import EnvironmentSettings
from tests.blocks.elsewhere import ELSEWHERE
from tests.blocks.parsers import PROGRAMS, Unfit
from tests.blocks.shell import LANGUAGES, commands_of
from tests.examples import use_examples
from tests.prose.documents import ROOT, Block, Page, generated_pages, pages, read_page

SETTINGS: dict[str, Any] = {
    "rules.yaml": RuleFile,
    "experiments.yaml": ExperimentFile,
    "serving.yaml": ServingSettings,
    "demo.yaml": DemoSettings,
    "compare.yaml": CompareSettings,
    "production.yaml": EnvironmentSettings,
    "search.yaml": SearchSettings,
    "replay.yaml": ReplaySettings,
    "environment.yaml": EnvironmentSettings,
    "policy.yaml": EnvironmentSettings,
}
"""The settings of a YAML block, by its title. Without one of these, a block has settings of a run."""

MODULE = re.compile(r"(?<![\w/])(?:configs|flows|infra|models|serving|tasks)/[\w/]+\w")


@pytest.fixture(scope="module", autouse=True)
def examples() -> None:
    use_examples()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Provide a folder for the files of a page. Modules in it can be imported, and the plugins in them are forgotten afterwards."""
    modules = set(sys.modules)
    monkeypatch.setattr(registry, "_named", dict(registry._named))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def check_page(page: Page, folder: Path) -> list[str]:
    """Return what is wrong with the blocks of a page, in their order. The files that they show or make are put into `folder`."""
    wrong = []
    for before, block in zip([None, *page.blocks], page.blocks, strict=False):
        try:
            _check(block, before, folder)
        except (Unfit, RecsysError, ValueError, SyntaxError) as error:
            wrong.append(f"{block.place}: {error}")
    return wrong


def _check(block: Block, before: Block | None, folder: Path) -> None:
    if block.title:
        (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.title).write_text(block.text, encoding="utf-8")
    if block.language in LANGUAGES:
        _check_commands(block, folder)
    elif block.language in KINDS:
        KINDS[block.language](block, folder)
    elif block.language:
        raise Unfit(f"no test can reach a block of {block.language}: use one of {', '.join((*LANGUAGES, *KINDS))}")
    else:
        raise Unfit("a block without a language: fence it, and name its language behind the fence")


def _check_commands(block: Block, folder: Path) -> None:
    found = list(commands_of(block))
    if not found:
        raise Unfit("a shell block without a command")
    for command in found:
        if command.program not in PROGRAMS:
            raise Unfit(f"no test knows the program {command.program}: add it to tests/blocks/parsers.py")
        try:
            PROGRAMS[command.program](command, folder)
        except Unfit as error:
            raise Unfit(f"`{command.line}`: {error}") from error
        if command.words[:2] == ("recsys", "init"):  # it writes the settings file that later commands name
            (folder / f"{Path(command.words[2]).name.partition('.')[0]}.yaml").touch()


def _check_yaml(block: Block, folder: Path) -> None:
    name = Path(block.title).name
    settings_in(SETTINGS.get(name, RetrainSettings), block.text.encode(), folder / (name or "block.yaml"))


def _check_python(block: Block, folder: Path) -> None:
    names: dict[str, Any] = {"__name__": Path(block.title).stem or "block"}
    exec(compile(block.text, block.place, "exec"), names)
    if "SPEC" in names and block.title:
        register([f"{Path(block.title).stem}:SPEC"])


def _check_text(block: Block, folder: Path) -> None:
    """The output of a command is compared when the command is run. Other texts show no more than a tree or a formula."""


def _check_mermaid(block: Block, folder: Path) -> None:
    """The test of the site draws it. The modules that it names exist."""
    for name in MODULE.findall(block.text):
        if not (ROOT / name).exists() and not (ROOT / f"{name}.py").exists():
            raise Unfit(f"there is no module {name}")


KINDS: dict[str, Callable[[Block, Path], object]] = {
    "yaml": _check_yaml,
    "python": _check_python,
    "json": lambda block, folder: shown_json(block.text),
    "toml": lambda block, folder: tomllib.loads(block.text),
    "text": _check_text,
    "mermaid": _check_mermaid,
}


@pytest.mark.parametrize("page", [page for page in pages() if page.blocks], ids=lambda page: page.name)
def test_every_block_of_a_page_works(page: Page, folder: Path) -> None:
    assert not check_page(page, folder)


def test_every_block_of_the_pages_that_are_made_from_the_code_works(folder: Path) -> None:
    assert [wrong for page in generated_pages() for wrong in check_page(page, folder)] == []


def test_the_pages_have_blocks_of_each_kind() -> None:
    blocks = [block for page in pages() for block in page.blocks]
    assert len(blocks) > 30 and {"sh", "yaml", "python", "mermaid"} <= {block.language for block in blocks}


def test_commands_that_no_sandbox_runs_have_a_test_of_their_own() -> None:
    lines = [
        command.line for page in pages() for block in page.blocks if block.language in LANGUAGES for command in commands_of(block)
    ]
    unused = [each.pattern for each in ELSEWHERE if not any(re.search(each.pattern, line) for line in lines)]
    absent = [each.test for each in ELSEWHERE if not (ROOT / each.test).exists()]
    assert not unused and not absent, "mend tests/blocks/elsewhere.py"


@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("```sh\nrecsys retrian\n```", "there is no command retrian"),
        ("```sh\nrecsys retrain --sett a=b\n```", "No such option: --sett"),
        ("```sh\nrecsys retrain --set challengr=ncf\n```", "did you mean challenger"),
        ("```sh\nrecsys retrain -c shop.yaml\n```", "There is no configuration shop.yaml"),
        ("```sh\nrecsys promote VERSION\n```", "older name"),
        ("```sh\nmake retrian\n```", "No rule to make target"),
        ("```sh\npython -m benchmarks.pipeline.gates\n```", "there is no module"),
        ("```sh\npython -m benchmarks.tables --chek README.md\n```", "--chek"),
        ("```sh\npip install 'movielens-recsys[demos]'\n```", "no extra demos"),
        ("```sh\ncurl localhost:8000/v1/recommendation\n```", "no route GET /v1/recommendation"),
        ("```sh\ncurl localhost:8000/v1/recommendations -H 'content-type: application/json' -d '{\"user\": 42}'\n```", "user"),
        ("```sh\nsh infra/compose/make-secret\n```", "does not exist"),
        ("```sh\nfrobnicate\n```", "no test knows the program"),
        ("```sh\n# nothing\n```", "without a command"),
        ("```yaml\nchallengr: ncf\n```", "did you mean challenger"),
        ('```yaml title="rules.yaml"\nchallenger: ncf\n```', "rules.yaml"),
        ("```python\nraise ValueError('no')\n```", "no"),
        ("```json\n{\n```", "Expecting"),
        ("```toml\na = \n```", "Invalid value"),
        ('```mermaid\nflowchart LR\n  a["tasks/gates<br>judge"]\n```', "no module tasks/gates"),
        ("```php\n1\n```", "no test can reach a block of php"),
        ("Text.\n\n    recsys retrain\n", "without a language"),
    ],
)
def test_a_block_that_does_not_work_is_named(block: str, said: str, tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"# Page\n\n{block}\n")
    (wrong,) = check_page(read_page(path), folder)
    assert wrong.startswith("page.md:") and said in wrong


def test_files_that_a_page_shows_or_makes_are_known_to_its_later_commands(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(
        '```yaml title="mine.yaml"\nchallenger: ncf\nbaselines: [popularity]\n```\n\n'
        "```sh\nrecsys retrain -c mine.yaml && recsys init examples/shop.csv\nrecsys retrain -c shop.yaml  # next\n```\n\n"
        '```json\n{"items": [{"item_id": 50, …}, …], "user_id": …}\n```\n'
    )
    assert check_page(read_page(path), folder) == []
