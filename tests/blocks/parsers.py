"""Each command of a page, read by the parser of its program, without running it."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import typer
from fastapi.routing import APIRoute
from pydantic import TypeAdapter
from typer.main import get_command

from configs.errors import RecsysError
from configs.loading import load_settings
from flows.cli.main import app
from flows.cli.options import MODELS, model_of, models
from tests.blocks.shell import Command
from tests.prose.documents import ROOT

__all__ = ["PROGRAMS", "Unfit", "recsys_settings"]

HOST = re.compile(r"(?:https?://)?(?:localhost|127\.0\.0\.1|\w+)(?::\d+)?(?P<path>/[^?]*)?(?:\?.*)?")


class Unfit(Exception):
    """A command that its own program would refuse, with the reason."""


def recsys_settings(command: Command, folder: Path) -> Any:
    """Parse a command line as `recsys` does, and load the settings that it gives. Files are looked for in `folder`.

    Raises:
        Unfit: The command, an option or a setting does not exist, or has a wrong value.
    """
    words = list(command.words[1:])
    inner: Any = get_command(app)
    name = "recsys"
    while words and hasattr(inner, "commands") and not words[0].startswith("-"):
        name = words.pop(0)
        if name not in inner.commands:
            raise Unfit(f"there is no command {name}")
        inner = inner.commands[name]
    try:
        given = inner.make_context(name, words).params
    except typer.Exit:
        return None  # --help and --version end the command
    except Exception as error:
        said = getattr(error, "format_message", None)
        raise Unfit(said() if said else str(error)) from error
    if inner.hidden:
        raise Unfit(f"{name} is an older name, which pages do not show")
    if not {"set_", "config"} <= given.keys():
        return None
    files = [str(folder / each) if (folder / each).exists() else each for each in given["config"] or ()]
    environment = {key: value for key, _, value in (each.partition("=") for each in command.variables)}
    try:
        return load_settings(model_of(name if name in MODELS else "retrain"), files, given["set_"] or (), environment, models())
    except RecsysError as error:
        raise Unfit(str(error)) from error


def _recsys(command: Command, folder: Path) -> None:
    recsys_settings(command, folder)


def _make(command: Command, folder: Path) -> None:
    done = subprocess.run(["make", "-n", *command.words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unfit(done.stderr.strip())


def _python(command: Command, folder: Path) -> None:
    """`python -m MODULE ...` or `python FILE ...`: options are parsed by the module's own parser."""
    if command.words[1] != "-m":
        if not (ROOT / command.words[1]).exists():
            raise Unfit(f"the file {command.words[1]} does not exist")
        return
    module, arguments = command.words[2], list(command.words[3:])
    if importlib.util.find_spec(module) is None:
        raise Unfit(f"there is no module {module}")
    if module == "infra.backup":
        _typer(module, arguments)
    elif module.split(".")[0] in ("benchmarks", "infra", "tests"):
        _argparse(module, arguments)


def _typer(module: str, arguments: list[str]) -> None:
    """The first argument is one of the module's commands, which takes the others."""
    commands = get_command(importlib.import_module(f"{module}.__main__").app).commands  # type: ignore[attr-defined]
    if arguments[0] not in commands:
        raise Unfit(f"{module} has no command {arguments[0]}")
    try:
        commands[arguments[0]].make_context(arguments[0], arguments[1:])
    except Exception as error:
        raise Unfit(f"{module} refuses it: {error}") from error


class _Parsed(BaseException):
    """The parser took the arguments."""


def _argparse(module: str, arguments: list[str]) -> None:
    main: Callable[[], object] = importlib.import_module(module).main
    parse = argparse.ArgumentParser.parse_args

    def parsed(parser: argparse.ArgumentParser, *given: Any) -> argparse.Namespace:
        parse(parser, arguments)
        raise _Parsed

    def refused(parser: argparse.ArgumentParser, message: str) -> None:
        raise Unfit(message)

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parsed),
        mock.patch.object(argparse.ArgumentParser, "error", refused),
    ):
        try:
            main()
        except (_Parsed, SystemExit):
            return


def _pip(command: Command, folder: Path) -> None:
    """`pip install` of a folder of this repository, of extras that pyproject.toml has, or of a package by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for target in command.words[2:]:
        if target.startswith("-"):
            continue
        base, _, extras = target.rstrip("]").partition("[")
        if base in (".", project["name"]):
            for extra in filter(None, extras.split(",")):
                if extra not in project["optional-dependencies"]:
                    raise Unfit(f"{project['name']} has no extra {extra}")
        elif "/" in base and not any((place / base / "pyproject.toml").exists() for place in (ROOT, ROOT / "examples")):
            raise Unfit(f"{base} is not a package")


def _curl(command: Command, folder: Path) -> None:
    """A request to the API has the path, the method and a body of one of its routes."""
    parser = argparse.ArgumentParser(exit_on_error=False)
    for flag in (
        "-s",
        "-S",
        "-f",
        "-i",
        "-sS",
        "-sf",
        "-fsS",
        "--silent",
        "--fail",
        "--no-progress-meter",
        "--retry-connrefused",
        "--retry-all-errors",
    ):
        parser.add_argument(flag, action="store_true")
    for option in ("--retry", "--retry-delay", "--retry-max-time", "--max-time", "-o", "-X", "--output"):
        parser.add_argument(option)
    parser.add_argument("-H", "--header", action="append", default=[])
    parser.add_argument("-d", "--data", "--json", dest="data")
    parser.add_argument("address")
    try:
        given = parser.parse_args(list(command.words[1:]))
    except (argparse.ArgumentError, SystemExit) as error:
        raise Unfit(str(error)) from error
    found = HOST.fullmatch(given.address)
    if not found:
        raise Unfit(f"{given.address} is not an address of the server")
    path, method = found["path"] or "/", given.X or ("POST" if given.data else "GET")
    routes = [route for route in _routes() if route.path_regex.fullmatch(path) and method in route.methods]
    if not routes:
        raise Unfit(f"the API has no route {method} {path}")
    if given.data is not None:
        if "--json" not in command.words and not any("application/json" in header for header in given.header):
            raise Unfit("the header 'content-type: application/json' is missing")
        (body,) = routes[0].dependant.body_params
        try:
            TypeAdapter(body.field_info.annotation).validate_json(given.data)
        except ValueError as error:
            raise Unfit(str(error)) from error


def _routes() -> list[APIRoute]:
    from serving.api import browser, monitoring, routes, user_routes

    routers = (routes.router, user_routes.router, monitoring.router, browser.router)
    return [route for router in routers for route in router.routes if isinstance(route, APIRoute)]


def _files_exist(command: Command, folder: Path) -> None:
    """Files of this repository that an argument names exist. `make-secrets` makes the folder of its argument."""
    made = 1 if command.words[1].endswith("/make-secrets") else len(command.words)
    for word in command.words[1 : made + 1]:
        if re.match(r"(?:infra|examples|configs|docs|benchmarks|requirements)/", word) and not (ROOT / word).exists():
            raise Unfit(f"the file {word} does not exist")


def _prefect(command: Command, folder: Path) -> None:
    group = command.words[1].replace("-", "_")
    try:
        commands = getattr(importlib.import_module(f"prefect.cli.{group}"), f"{group}_app")
        commands.parse_args(list(command.words[2:]), exit_on_error=False, print_error=False)
    except Exception as error:
        raise Unfit(f"prefect refuses it: {error}") from error


def _git(command: Command, folder: Path) -> None:
    """`git clone` names the address that the project publishes."""
    if command.words[1] == "clone" and "$" not in command.line:  # README's first session is run with a variable for the address
        urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
        if command.words[2].removesuffix(".git") not in {each.removesuffix(".git") for each in urls.values()}:
            raise Unfit(f"{command.words[2]} is not in the urls of pyproject.toml")


def _any(command: Command, folder: Path) -> None:
    """The shell's own commands, and those whose arguments are not this project's."""


PROGRAMS: dict[str, Callable[[Command, Path], None]] = {
    "recsys": _recsys,
    "make": _make,
    "python": _python,
    "python3": _python,
    "pip": _pip,
    "curl": _curl,
    "prefect": _prefect,
    "git": _git,
    "sh": _files_exist,
    "docker": _files_exist,
    "kubectl": _files_exist,
    "aws": _files_exist,
    **dict.fromkeys(("export", "cd", ".", "source", "apt-get", "cp", "evidently", "jq", "pre-commit", "wandb"), _any),
}
"""The parser of each program that pages may name. A page that names another one fails its test."""
