"""Load settings from YAML files, environment variables and `key=value` overrides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile, tee
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from configs.annotations import as_written
from configs.errors import SettingsError
from configs.loading.faults import IN_ADDRESS, Source, describe, is_at_or_below, section_with
from configs.loading.sources import from_environment, from_option, refuse_both_names
from configs.plain_yaml import MOST_BYTES, PlainYamlError, read_plain_yaml
from configs.renames import current_key, current_names

__all__ = [
    "Effective",
    "Given",
    "about_preset",
    "effective_settings",
    "load_settings",
    "merged",
    "named_configs",
    "read_settings_file",
    "settings_in",
    "settings_of_run",
]

Model = TypeVar("Model", bound=BaseModel)
FOLDER = Path(__file__).parents[1]


def named_configs(model: type[BaseModel], sections: Iterable[str] | None = None) -> list[str]:
    """Return the names of the shipped files that contain settings of `model`. `--config` accepts these names without a path.

    Args:
        model: The settings model.
        sections: The fields of the model that a file may set. By default all.
    """
    allowed = set(model.model_fields if sections is None else sections)
    return sorted(path.stem for path in FOLDER.glob("*.yaml") if set(_read_yaml(path, model)) <= allowed)


def about_preset(name: str) -> str:
    """Return what a shipped file is for: the first sentence of the comment at its head, without the stop."""
    lines = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines))
    return re.split(r"[.:](?=\s|$)", comment, maxsplit=1)[0]


def load_settings(
    model: type[Model],
    configs: str | Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    others: Iterable[type[BaseModel]] = (),
) -> Model:
    """Load the settings of `model`. Settings that no source mentions keep their defaults.

    Args:
        model: The settings model to load.
        configs: YAML files, as paths or as names of shipped files. Later files override earlier ones.
        overrides: Settings as `a.b=value`. They override all other sources.
        environment: Environment variables. RECSYS__STORE__URL sets store.url. Variables override the files.
        others: The settings models of other commands. Variables that set one of their settings are skipped.

    Raises:
        SettingsError: A source cannot be read, or a value is not allowed. The message names the source, the key and the remedy.
    """
    once, again = tee(others)
    return _loaded(model, _files(model, configs, once), _singles(model, overrides, environment or {}, again))


def settings_in(model: type[Model], content: bytes, path: Path) -> Model:
    """Return the settings that the content of a YAML file holds.

    Args:
        model: The settings model.
        content: The content of the file.
        path: The file, for messages.

    Raises:
        SettingsError: The content is not plain YAML, or a value is not allowed. The message names the file and the key.
    """
    return _loaded(model, [(path, _values(content, path, model))], [])


@dataclass(frozen=True)
class Given:
    """One setting of a run, and where it was given, for messages."""

    origin: str
    key: str
    value: Any


def settings_of_run(model: type[Model], parameters: Mapping[str, Any], preset: str | None, given: Sequence[Given]) -> Model:
    """Return the settings of a run. What it does not mention keeps its default.

    Args:
        model: The settings model.
        parameters: Sections of the model, as in a settings file.
        preset: Name of a shipped file, which counts above the parameters.
        given: Settings that count above both, the last one most.

    Raises:
        SettingsError: A value is not allowed. The message names the place, the key and the remedy.
    """
    try:
        below = current_names([model], dict(parameters))
    except ValueError as error:
        raise SettingsError(f"The parameters of the run cannot be used: {error}.") from error
    files = [(Path("the parameters of the run"), below)] if below else []
    singles = [Source(one.origin, one.key, current_key(model, one.key), one.value) for one in given]
    return _loaded(model, [*files, *_files(model, preset)], singles)


def read_settings_file(path: Path) -> bytes:
    """Return the content of a settings file. Raises SettingsError if it cannot be read, or is too large."""
    try:
        if path.exists() and not path.is_file():
            raise SettingsError(f"{path} is not a file.")  # reading a pipe could wait for ever
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise SettingsError(f"{path} does not exist. Create it, or remove it from the settings.") from error
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(content) > MOST_BYTES:
        raise SettingsError(f"{path} has more than {MOST_BYTES >> 20} MiB, which no settings file needs.")
    return content


@dataclass(frozen=True)
class Effective:
    """The effective value of one setting."""

    key: str
    """Key of the setting, as --set accepts it."""
    value: Any
    """Value of the setting. Secrets are masked."""
    origin: str
    """A file, an environment variable, an option, or `default`."""


def effective_settings(
    model: type[BaseModel],
    configs: str | Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    others: Iterable[type[BaseModel]] = (),
) -> list[Effective]:
    """Return every setting that `load_settings` would load, and its source.

    The parameters and errors are those of `load_settings`.
    """
    once, again = tee(others)
    files, singles = _files(model, configs, once), _singles(model, overrides, environment or {}, again)
    origins = {key: str(path) for path, values in files for key in _keys(values)}
    for source in singles:  # the source replaces a complete section if its key is a section
        origins = {key: origin for key, origin in origins.items() if not is_at_or_below(key, source.key)}
        below_it = _keys(source.value, f"{source.key}.") if isinstance(source.value, dict) else [source.key]
        origins |= dict.fromkeys(below_it, source.name)

    def origin_of(key: str) -> str:
        """Return the origin of a key.

        The origin of a null section, or of a mapping whose keys are not settings, is recorded above or below the key.
        """
        found = [origin for named, origin in origins.items() if is_at_or_below(key, named) or is_at_or_below(named, key)]
        return found[-1] if found else "default"

    return [Effective(key, value, origin_of(key)) for key, value in _leaves(_loaded(model, files, singles))]


def _files(
    model: type[BaseModel], configs: str | Sequence[str] | None, others: Iterable[type[BaseModel]] = ()
) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for config in [configs] if isinstance(configs, str) else configs or []:
        path = _config_path(config, model)
        values = _read_yaml(path, model)
        if unknown := [name for name in values if name not in model.model_fields]:
            _refuse_file_of_another_command(config, unknown, model, others)
        found.append((path, values))
    return found


def _refuse_file_of_another_command(
    config: str, unknown: list[str], model: type[BaseModel], others: Iterable[type[BaseModel]]
) -> None:
    """Raise SettingsError if a file has the settings of another command, and none that are misspelt.

    Sections that this command has below another one are left to the message that names them.
    """
    if any(section_with(model, name) for name in unknown):
        return
    if any(set(unknown) <= set(other.model_fields) for other in others):
        named = ", ".join(named_configs(model))
        fitting = f" Shipped files that fit: {named}." if named else ""
        raise SettingsError(
            f"{config} holds settings of another command ({', '.join(unknown)}), which this one does not have. Leave it out, or take "
            f"these settings out of a copy of it.{fitting}"
        )


def _singles(
    model: type[BaseModel], overrides: Sequence[str], environment: Mapping[str, str], others: Iterable[type[BaseModel]]
) -> list[Source]:
    variables = list(from_environment(model, environment, others))
    options = [from_option(model, override) for override in overrides]
    for sources in (variables, options):
        refuse_both_names(sources)
    return [*variables, *options]


def _loaded(model: type[Model], files: list[tuple[Path, dict[str, Any]]], singles: list[Source]) -> Model:
    values: dict[str, Any] = {}
    for _, content in files:
        values = merged(values, content)
    for source in singles:
        _set(values, source)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        paths = " with ".join(str(path) for path, _ in files) or "the settings"
        raise SettingsError(describe(error, model, paths, singles)) from error


def _keys(values: dict[str, Any], above: str = "") -> Iterator[str]:
    """Yield the keys of all values that are not sections themselves."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _keys(value, f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _leaves(settings: BaseModel, above: str = "") -> Iterator[tuple[str, Any]]:
    for name in (*type(settings).model_fields, *(settings.model_extra or ())):
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _leaves(value, f"{above}{name}.")
        else:
            found = settings.model_dump(mode="json", include={name})[name]
            yield f"{above}{name}", IN_ADDRESS.sub("********", found) if isinstance(found, str) else found


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return `below` with the values of `above` replacing its own, key by key."""
    both = {
        key: merged(below[key], value) if isinstance(value, dict) and isinstance(below.get(key), dict) else value
        for key, value in above.items()
    }
    return below | both


def _config_path(config: str, model: type[BaseModel]) -> Path:
    shipped = FOLDER / f"{config}.yaml"
    path = shipped if shipped.exists() else Path(config)
    if path.is_dir():
        raise SettingsError(f"{config} is a folder. Name a YAML file in it.")
    if not path.is_file():
        named = ", ".join(named_configs(model))
        or_named = f", or one of {named}" if named else ""
        raise SettingsError(f"There is no configuration {config}: give a YAML file{or_named}.")
    return path


def _read_yaml(path: Path, model: type[BaseModel]) -> dict[str, Any]:
    return _values(read_settings_file(path), path, model)


def _values(content: bytes, path: Path, model: type[BaseModel]) -> dict[str, Any]:
    try:
        values, written = read_plain_yaml(content)
    except PlainYamlError as error:
        raise SettingsError(f"{path} is not valid YAML for settings: {error}.") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path} is not a file of settings: its content is not of the form `name: value`. Name another file. A file of events "
            "belongs in data.local_path."
        )
    try:
        values, written = current_names([model], values), current_names([model], written)
    except ValueError as error:
        raise SettingsError(f"{path} cannot be used: {error}.") from error
    found: dict[str, Any] = as_written(values, written, [model])
    return found


def _set(values: dict[str, Any], source: Source) -> None:
    *parents, last = source.key.split(".")
    place = values
    for parent in parents:
        inner = place.get(parent)
        if not isinstance(inner, dict):
            place[parent] = inner = {}
        place = inner
    place[last] = source.value
