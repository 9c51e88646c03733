"""`recsys key`: the file of API keys, which running servers reload."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.options import Json, say, table, write_json

if TYPE_CHECKING:
    from configs.serving import KeyFile

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    help="Add, list and remove API keys of the server (access.keys).\n\nExample: recsys key add shop --keys keys.yaml",
)
Keys = Annotated[Path, typer.Option("--keys", help="YAML file of API keys (access.keys).")]
BYTES = 24
HEAD = "# API keys of `recsys serve`, made by `recsys key add NAME --keys FILE`. Only their SHA-256 is kept. Running servers reload this file.\n"


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name of the client.")],
    keys: Keys,
    scope: Annotated[
        list[str] | None, typer.Option(help="read, events or admin; may be given several times. By default, read and events.")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Requests per second of the client in each worker.")] = None,
    until: Annotated[datetime | None, typer.Option(help="UTC time at which the key stops to work.")] = None,
) -> None:
    """Make a key, and print it once.

    To change a client's key, add another one with the same name, let the client change, and remove the former one.

    Example: recsys key add shop --keys keys.yaml
    """
    import hashlib
    import secrets

    file, key = _file(keys), secrets.token_urlsafe(BYTES)
    digest = hashlib.sha256(key.encode()).hexdigest()
    made: dict[str, Any] = {"name": name, "sha256": digest, "scopes": scope or ["read", "events"]}
    made |= {} if rate is None else {"rate_per_s": rate}
    made |= {} if until is None else {"until": until.isoformat()}
    _write(keys, [*_plain(file), made])
    say(f"The key of {name}. It is shown only now:\n{key}")


@app.command("list")
def list_(keys: Keys, json_file: Json = None) -> None:
    """List the keys by name.

    The beginning of the SHA-256 tells keys of one name apart.

    Example: recsys key list --keys keys.yaml
    """
    file = _file(keys)
    write_json(json_file, file.model_dump(mode="json"))
    rows = [
        [
            each.name,
            each.sha256[:8],
            ", ".join(each.scopes),
            "" if each.rate_per_s is None else f"{each.rate_per_s:g}",
            "" if each.until is None else each.until.isoformat(),
        ]
        for each in file.keys
    ]
    table(["name", "sha256", "scopes", "requests per second", "until"], rows)


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="Name of the client.")],
    keys: Keys,
    sha256: Annotated[str | None, typer.Option(help="Beginning of the key's SHA-256. By default, all keys of the name.")] = None,
) -> None:
    """Remove keys of a client.

    Running servers refuse them within seconds.

    Example: recsys key remove shop --keys keys.yaml
    """
    from configs.errors import SettingsError

    all_keys = _plain(_file(keys))
    stay = [each for each in all_keys if each["name"] != name or not each["sha256"].startswith(sha256 or "")]
    if len(stay) == len(all_keys):
        known = ", ".join(f"{each['name']} ({each['sha256'][:8]})" for each in all_keys) or "none"
        raise SettingsError(f"{keys} has no such key of {name!r}. Its keys are: {known}.")
    _write(keys, stay)
    say(f"{len(all_keys) - len(stay)} removed, {len(stay)} left")


def _file(path: Path) -> KeyFile:
    from configs.loading import settings_in
    from configs.serving import KeyFile

    content = path.read_bytes() if path.exists() else b""
    empty = all(not line.strip() or line.startswith(b"#") for line in content.splitlines())
    return KeyFile() if empty else settings_in(KeyFile, content, path)


def _plain(file: KeyFile) -> list[dict[str, Any]]:
    return [each.model_dump(mode="json", exclude_none=True) for each in file.keys]


def _write(path: Path, keys: list[dict[str, Any]]) -> None:
    """Write the file in its place: a container that it is mounted into would not see another file of its name.

    Servers take a file once they have read the same content twice, so they never take half of it.
    """
    import os

    import yaml

    from configs.errors import SettingsError
    from configs.loading import settings_in
    from configs.serving import KeyFile

    content = HEAD + (yaml.safe_dump({"keys": keys}, sort_keys=False) if keys else "{}\n")
    settings_in(KeyFile, content.encode(), path)  # a wrong name or scope is refused before anything is written
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(content)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error.strerror or error}.") from error
