"""Settings from YAML files and `key=value` overrides."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from configs.errors import SettingsError

__all__ = ["load_settings", "merged", "named_configs"]

Model = TypeVar("Model", bound=BaseModel)
FOLDER = Path(__file__).parent


def named_configs(model: type[BaseModel]) -> list[str]:
    """Names of the files beside this module that hold settings of `model`; `--config` takes them without a path."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if set(_read_yaml(path)) <= set(model.model_fields))


def load_settings(model: type[Model], configs: str | Sequence[str] | None = None, overrides: Sequence[str] = ()) -> Model:
    """Settings of `model` from YAML files (paths, or names of files that ship; the later win) and overrides `a.b=value`.

    What none names keeps its default. Raises SettingsError naming the key, the value and what is allowed.
    """
    values: dict[str, Any] = {}
    paths = [_config_path(config, model) for config in ([configs] if isinstance(configs, str) else configs or [])]
    for path in paths:
        values = merged(values, _read_yaml(path))
    origin = " with ".join(map(str, paths)) or "the settings"
    for override in overrides:
        _set(values, override)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_describe(error, model, origin)) from error


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


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{path} must hold settings as `name: value`, found a {type(values).__name__}.")
    return values


def _set(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {override}: write key=value, for example --set models.ss4rec.max_epochs=10.")
    *parents, last = key.strip().split(".")
    place = values
    for parent in parents:
        inner = place.get(parent)
        if not isinstance(inner, dict):
            place[parent] = inner = {}
        place = inner
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        raise SettingsError(
            f"--set {override}: the value is not valid YAML ({said}). Quote what has brackets, braces or a colon in it, and give the "
            "shell's own quotes around the whole."
        ) from error


def _describe(error: ValidationError, model: type[BaseModel], origin: str) -> str:
    sentences = []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        if fault["type"] == "extra_forbidden":
            allowed = _fields_at(model, fault["loc"][:-1])
            near = _nearest(str(fault["loc"][-1]), allowed)
            sentences.append(
                f"{key} is no setting" + (f"; did you mean {near}?" if near else f"; known are {', '.join(allowed)}.")
            )
        else:
            said = fault["msg"].removeprefix("Value error, ")
            given = "" if not key or _holds_secret(model, fault["loc"]) else f" (given {_shown(fault['input'])})"
            sentences.append(f"{key}: {said}{given}." if key else f"{said}.")
    return f"{origin[0].upper()}{origin[1:]} cannot be used: {' '.join(sentences)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    current = model
    for part in location:
        field = current.model_fields.get(str(part))
        if field is not None:  # otherwise it is a key of a mapping, and `current` is the model of its values
            current = next(iter(_models_in(field.annotation)), current)
    return list(current.model_fields)


def _holds_secret(model: type[BaseModel], location: tuple[int | str, ...]) -> bool:
    """Whether what stands there is a secret, or has one among its parts."""
    current: Any = model
    for part in location:
        fields = [inner.model_fields[str(part)] for inner in _models_in(current) if str(part) in inner.model_fields]
        current = fields[0].annotation if fields else current
    return _mentions_secret(current)


def _mentions_secret(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_mentions_secret(field.annotation) for field in annotation.model_fields.values())
    return annotation is SecretStr or any(_mentions_secret(part) for part in get_args(annotation))


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def _nearest(name: str, allowed: list[str]) -> str | None:
    import difflib

    found = difflib.get_close_matches(name, allowed, n=1)
    return found[0] if found else None
