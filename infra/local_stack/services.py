"""The services of infra/compose.yaml as commands for this machine, with its hosts, ports, paths and secrets."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from configs.errors import SettingsError

__all__ = ["COMPOSE", "ROOT", "Layout", "Service", "localised", "read_services"]

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "infra" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """One service. The fields from `port` on come from its `x-local` section."""

    name: str
    command: list[str]
    environment: dict[str, str]
    after: list[str]  # names of services that must be up, or must have finished successfully
    port: int | None  # port that it listens on
    health: str | None  # path that answers 200 when it is up
    ends: bool  # whether it does its work and exits
    needs: str | None  # secret without which it is left out
    files: dict[str, Path]  # path in the container -> file of the project
    asked: bool = False  # whether it starts only if somebody names it
    entry: dict[str, Any] = field(default_factory=dict)  # what compose says of it, with this machine's variables

    @property
    def own(self) -> bool:
        """Whether its image is one of this project."""
        return "build" in self.entry


@dataclass(frozen=True)
class Layout:
    """The locations of the services and their files on this machine."""

    folder: Path
    ports: dict[str, int]  # service -> port
    store: str
    s3_endpoint: str | None
    usual: dict[str, int] = field(default_factory=dict)  # service -> its port in compose
    images: bool = False  # whether the services of this project run in their images, and keep the paths of compose


def read_services(path: Path = COMPOSE, variables: Mapping[str, str] = os.environ) -> list[Service]:
    """Return the services that can run without Docker, each after its dependencies. They are the ones with `x-local`.

    Raises:
        SettingsError: The file is not a compose file, or its services depend on each other in a cycle.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        services = [
            _service(name, entry, path.parent, variables) for name, entry in content["services"].items() if "x-local" in entry
        ]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} is not a compose file with services: {error!r}.") from error
    ordered: list[Service] = []
    while waiting := [service for service in services if service not in ordered]:
        names = {service.name for service in waiting}
        ready = [service for service in waiting if not names & set(service.after)]
        if not ready:
            raise SettingsError(f"{path}: {', '.join(sorted(names))} wait for each other (depends_on).")
        ordered += ready
    return ordered


def localised(service: Service, layout: Layout) -> Service:
    """Return the service with this machine's addresses and paths. The files that it reads go under the layout's folder.

    A service in an image keeps its paths.
    """
    command = [_text(argument, service, layout) for argument in service.command]
    command = [
        str(layout.ports[service.name]) if argument == str(service.port) else argument
        for argument in (_own_port(argument, service, layout) for argument in command)
    ]
    if layout.s3_endpoint is not None:
        command = [
            each
            for argument in command
            for each in (
                [argument, "--set", f"store.endpoint_url={layout.s3_endpoint}"]
                if argument.startswith("store.url=s3:")
                else [argument]
            )
        ]
    environment = {key: _text(_published(value, layout), service, layout) for key, value in service.environment.items()}
    for key, value in list(environment.items()):
        if value in layout.ports and key.endswith("HOST"):
            environment[key] = "127.0.0.1"
            environment[key.removesuffix("HOST") + "PORT"] = str(layout.ports[value])
        elif key.endswith("_PORT") and value == str(service.port):
            environment[key] = str(layout.ports[service.name])
    written = {inside: layout.folder / "files" / service.name / source.name for inside, source in service.files.items()}
    for inside, source in service.files.items():
        content = _of_file(source.read_text(encoding="utf-8"), service, layout)
        for other, place in written.items():
            content = content.replace(f"include {other};", f"include {place};")
        written[inside].parent.mkdir(parents=True, exist_ok=True)
        written[inside].write_text(content, encoding="utf-8")
    if layout.s3_endpoint is not None and any(argument.startswith("s3:") for argument in command):
        environment["AWS_ENDPOINT_URL"] = layout.s3_endpoint
    if not _in_image(service, layout):
        command = _program([str(written.get(argument, argument)) for argument in command])
    return Service(**{**vars(service), "command": command, "environment": environment})


def _in_image(service: Service, layout: Layout) -> bool:
    return layout.images and service.own


def free_port(wanted: int) -> int:
    """Return the port `wanted` if it is free, or another free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise SettingsError("This machine has no free port.")


def _service(name: str, entry: dict[str, Any], folder: Path, variables: Mapping[str, str]) -> Service:
    entry = _given(entry, variables)
    local = entry["x-local"]
    return Service(
        name=name,
        command=[str(argument) for argument in entry["command"]],
        environment={key: str(value) for key, value in entry.get("environment", {}).items()},
        after=list(entry.get("depends_on", ())),
        port=local.get("port"),
        health=local.get("health"),
        ends=bool(local.get("ends")),
        needs=local.get("needs"),
        files={inside: (folder / source).resolve() for inside, source in local.get("files", {}).items()},
        asked=bool(local.get("asked")),
        entry=entry,
    )


def _given(value: Any, variables: Mapping[str, str]) -> Any:
    """Fill in the variables of compose in all texts of a value."""
    if isinstance(value, str):
        return VARIABLE.sub(lambda match: variables.get(match[1]) or match[2] or "", value)
    if isinstance(value, dict):
        return {key: _given(each, variables) for key, each in value.items()}
    return [_given(each, variables) for each in value] if isinstance(value, list) else value


def _text(value: str, service: Service, layout: Layout) -> str:
    """Replace the addresses and paths in a text."""
    own = layout.folder / "var" / ("work" if service.name == "worker" else service.name)
    for name, port in layout.ports.items():
        value = re.sub(rf"(?<![\w.-]){re.escape(name)}:\d+", f"127.0.0.1:{port}", value)
    paths = [
        ("/run/secrets/", f"{layout.folder}/secrets/"),
        ("/var/lib/recsys", str(own)),
        ("/var/lib/postgresql/data", f"{layout.folder}/var/postgres"),
        *([("/data", str(own))] if value == "/data" else []),
    ]
    for inside, here in [*([] if _in_image(service, layout) else paths), ("s3://recsys/production", layout.store)]:
        value = value.replace(inside, here)
    return re.sub(r"(?<![\d.])0\.0\.0\.0(?![\d.])", "127.0.0.1", value)  # 10.0.0.0/8 is another address


def _own_port(argument: str, service: Service, layout: Layout) -> str:
    if service.port is not None and argument.endswith((f"={service.port}", f"0.1:{service.port}")):
        return argument.removesuffix(str(service.port)) + str(layout.ports[service.name])
    return argument


def _published(value: str, layout: Layout) -> str:
    """Replace the addresses that browsers on this machine use. Another program may have taken a service's usual port."""
    for name, port in layout.usual.items():
        value = re.sub(rf"(://127\.0\.0\.1):{port}\b", rf"\g<1>:{layout.ports[name]}", value)
    return value


def _of_file(content: str, service: Service, layout: Layout) -> str:
    if layout.s3_endpoint is not None:
        content = re.sub(r"^( *)url: s3://.*$", rf"\g<0>\n\1endpoint_url: {layout.s3_endpoint}", content, flags=re.MULTILINE)
    if _in_image(service, layout):
        return _text(content, service, layout)
    content = content.replace("/tmp/", f"{layout.folder}/var/{service.name}/")
    content = re.sub(r"(?m)^code: .*$", f"code: {ROOT}", _text(content, service, layout))
    if service.port is not None:
        content = re.sub(rf"(?m)^(\s*listen ){service.port};", rf"\g<1>127.0.0.1:{layout.ports[service.name]};", content)
    # Settings refer to the worker's folder, because runs see that one.
    return content.replace(f"{layout.folder}/var/setup", f"{layout.folder}/var/work")


def _program(command: list[str]) -> list[str]:
    if command[0] == "recsys":
        return [sys.executable, "-m", "flows.cli", *command[1:]]
    if command[0] == "python":
        return [sys.executable, *command[1:]]
    if command[0] == "prefect":
        return [str(Path(sys.executable).with_name("prefect")), *command[1:]]
    return command
