"""Settings from YAML files, environment variables and `key=value` overrides."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from configs.annotations import as_written, below, fields_at, holds_secret
from configs.errors import SettingsError

__all__ = ["load_settings", "merged", "named_configs"]

Model = TypeVar("Model", bound=BaseModel)
FOLDER = Path(__file__).parent
PREFIX = "RECSYS__"


def named_configs(model: type[BaseModel]) -> list[str]:
    """Names of the files beside this module that hold settings of `model`; `--config` takes them without a path."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if set(_read_yaml(path, model)) <= set(model.model_fields))


def load_settings(
    model: type[Model],
    configs: str | Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Model:
    """Settings of `model`. What no source names keeps its default.

    Args:
        model: The settings to load.
        configs: YAML files, as paths or as names of files that ship. The later ones win.
        overrides: Settings as `a.b=value`. They win over everything else.
        environment: Environment variables. RECSYS__STORE__URL is the setting store.url; it wins over the files.

    Raises:
        SettingsError: A source cannot be read, or a value is not allowed. The message names the source, the key and the remedy.
    """
    values: dict[str, Any] = {}
    paths = [_config_path(config, model) for config in ([configs] if isinstance(configs, str) else configs or [])]
    for path in paths:
        values = merged(values, _read_yaml(path, model))
    single = [_Source(name, key, text) for name, key, text in _from_environment(model, environment or {})]
    single += [_from_option(override) for override in overrides]
    for source in single:
        _set(values, source, model)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        files = " with ".join(map(str, paths)) or "the settings"
        raise SettingsError(_describe(error, model, files, single)) from error


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below` with what `above` names in its place, key by key."""
    both = {
        key: merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return below | both


def _config_path(config: str, model: type[BaseModel]) -> Path:
    shipped = FOLDER / f"{config}.yaml"
    path = shipped if shipped.exists() else Path(config)
    if not path.is_file():
        raise SettingsError(f"There is no configuration {config}: give a YAML file, or one of {', '.join(named_configs(model))}.")
    return path


def _read_yaml(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    try:
        values, written = _parsed(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must hold settings as `name: value`, found a {type(values).__name__}.")
    found: dict[str, Any] = as_written(values, written, [model])
    return found


def _parsed(text: str) -> tuple[Any, Any]:
    """What YAML makes of the text, and the same with each scalar as it is written. Raises yaml.YAMLError."""
    return yaml.safe_load(text), yaml.load(text, yaml.BaseLoader)


@dataclass(frozen=True)
class _Source:
    """One setting, and where it comes from."""

    name: str
    key: str
    text: str


def _from_option(override: str) -> _Source:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {override}: write key=value, for example --set models.ss4rec.max_epochs=10.")
    return _Source(f"--set {key.strip()}", key.strip(), text)  # a value may be a secret


def _from_environment(model: type[BaseModel], environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Name, key and text of the variables that set something here. Another command's settings are passed over."""
    for name, text in sorted(environment.items()):
        if name.upper().startswith(PREFIX):
            key = name[len(PREFIX) :].lower().replace("__", ".")
            if key.partition(".")[0] in model.model_fields:
                yield name, key, text


def _set(values: dict[str, Any], source: _Source, model: type[BaseModel]) -> None:
    *parents, last = source.key.split(".")
    place, annotations = values, [model]
    for parent in parents:
        inner = place.get(parent)
        if not isinstance(inner, dict):
            place[parent] = inner = {}
        place, annotations = inner, [found for outer in annotations for found in below(outer, parent)]
    try:
        value, written = _parsed(source.text)
    except yaml.YAMLError as error:
        secret = holds_secret(model, tuple(source.key.split(".")))
        given, said = ("", "") if secret else (f"={source.text}", f" ({' '.join(str(error).split())})")
        raise SettingsError(
            f"{source.name}{given}: the value is not valid YAML{said}. Quote what has brackets, braces or a colon in it, and give the "
            "shell's own quotes around the whole."
        ) from error
    place[last] = as_written(value, written, [found for outer in annotations for found in below(outer, last)])


def _describe(error: ValidationError, model: type[BaseModel], files: str, single: Sequence[_Source]) -> str:
    """One clause for each source that is at fault."""
    sentences: dict[str, list[str]] = {}
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        origin = next((source.name for source in reversed(single) if f"{key}.".startswith(f"{source.key}.")), files)
        if fault["type"] == "extra_forbidden":
            allowed = fields_at(model, fault["loc"][:-1])
            near = _nearest(str(fault["loc"][-1]), allowed)
            sentence = f"{key} is no setting" + (f"; did you mean {near}?" if near else f"; known are {', '.join(allowed)}.")
        else:
            said = fault["msg"].removeprefix("Value error, ")
            given = "" if not key or holds_secret(model, fault["loc"]) else f" (given {_shown(fault['input'])})"
            sentence = f"{key}: {said}{given}." if key else f"{said}."
        sentences.setdefault(origin, []).append(sentence)
    return " ".join(f"{origin[0].upper()}{origin[1:]} cannot be used: {' '.join(said)}" for origin, said in sentences.items())


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def _nearest(name: str, allowed: list[str]) -> str | None:
    import difflib

    found = difflib.get_close_matches(name, allowed, n=1)
    return found[0] if found else None
