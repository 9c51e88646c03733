"""Load settings from YAML files, environment variables and `key=value` overrides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from configs.annotations import annotations_at, as_written, fields_at, holds_secret, sections_of
from configs.errors import SettingsError
from configs.plain_yaml import MOST_BYTES, PlainYamlError, read_plain_yaml
from configs.renames import current_key, current_names, former_keys

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
FOLDER = Path(__file__).parent
PREFIX = "RECSYS__"
MOST_FAULTS = 5  # faults of one source that a message names
IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)|(?<=\?)\S*=\S*(?<!')")
"""What an address holds that others must not read: user, password and query."""


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
    return _loaded(model, _files(model, configs), _singles(model, overrides, environment or {}, others))


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
    singles = [_Source(one.origin, one.key, current_key(model, one.key), one.value) for one in given]
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
    files, singles = _files(model, configs), _singles(model, overrides, environment or {}, others)
    origins = {key: str(path) for path, values in files for key in _keys(values)}
    for source in singles:  # the source replaces a complete section if its key is a section
        origins = {key: origin for key, origin in origins.items() if not _is_at_or_below(key, source.key)}
        below_it = _keys(source.value, f"{source.key}.") if isinstance(source.value, dict) else [source.key]
        origins |= dict.fromkeys(below_it, source.name)

    def origin_of(key: str) -> str:
        """Return the origin of a key.

        The origin of a null section, or of a mapping whose keys are not settings, is recorded above or below the key.
        """
        found = [origin for named, origin in origins.items() if _is_at_or_below(key, named) or _is_at_or_below(named, key)]
        return found[-1] if found else "default"

    return [Effective(key, value, origin_of(key)) for key, value in _leaves(_loaded(model, files, singles))]


def _files(model: type[BaseModel], configs: str | Sequence[str] | None) -> list[tuple[Path, dict[str, Any]]]:
    paths = [_config_path(config, model) for config in ([configs] if isinstance(configs, str) else configs or [])]
    return [(path, _read_yaml(path, model)) for path in paths]


def _singles(
    model: type[BaseModel], overrides: Sequence[str], environment: Mapping[str, str], others: Iterable[type[BaseModel]]
) -> list[_Source]:
    variables = list(_from_environment(model, environment, others))
    options = [_from_option(model, override) for override in overrides]
    for sources in (variables, options):
        _refuse_both_names(sources)
    return [*variables, *options]


def _loaded(model: type[Model], files: list[tuple[Path, dict[str, Any]]], singles: list[_Source]) -> Model:
    values: dict[str, Any] = {}
    for _, content in files:
        values = merged(values, content)
    for source in singles:
        _set(values, source)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        paths = " with ".join(str(path) for path, _ in files) or "the settings"
        raise SettingsError(_describe(error, model, paths, singles)) from error


def _is_at_or_below(key: str, other: str) -> bool:
    return f"{key}.".startswith(f"{other}.")


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
        raise SettingsError(f"{path} must hold settings as `name: value`, found a {type(values).__name__}.")
    try:
        values, written = current_names([model], values), current_names([model], written)
    except ValueError as error:
        raise SettingsError(f"{path} cannot be used: {error}.") from error
    found: dict[str, Any] = as_written(values, written, [model])
    return found


@dataclass(frozen=True)
class _Source:
    """One setting and its source."""

    name: str  # of the variable or option
    written: str  # key of the setting, as the author wrote it
    key: str  # the same with current names
    value: Any


def _from_option(model: type[BaseModel], override: str) -> _Source:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {override}: write key=value, for example --set models.ss4rec.max_epochs=10.")
    return _source(model, f"--set {key.strip()}", key.strip(), text)  # the name omits the value, which may be a secret


def _from_environment(
    model: type[BaseModel], environment: Mapping[str, str], others: Iterable[type[BaseModel]]
) -> Iterator[_Source]:
    """Yield the variables that set a setting of `model`. Settings of `others` are skipped.

    Raises:
        SettingsError: A variable names no setting of any of these models, or its value is not valid YAML.
    """
    own = {*model.model_fields, *former_keys(model)}
    given = {name: name[len(PREFIX) :].lower() for name in sorted(environment) if name.upper().startswith(PREFIX)}
    sections = {name: key.partition("__")[0] for name, key in given.items()}
    if not own.issuperset(sections.values()):  # only then are `others` looked at: they may have to be imported
        every = [model, *others]
        known = {section for each in every for section in (*each.model_fields, *former_keys(each))}
        for name, section in sections.items():
            if section not in known:
                near = _nearest(section, sorted({field for each in every for field in each.model_fields}))
                hint = f"did you mean {near}?" if near else f"the settings are {', '.join(model.model_fields)}."
                raise SettingsError(f"{name} cannot be used: {section} is not a setting; {hint}")
    for name, key in given.items():
        if sections[name] in own:
            yield _source(model, name, key.replace("__", "."), environment[name])


def _source(model: type[BaseModel], name: str, written_key: str, text: str) -> _Source:
    key = current_key(model, written_key)
    try:
        value, written = read_plain_yaml(text)
    except PlainYamlError as error:
        secret = holds_secret(model, tuple(key.split(".")))
        given, said = ("", "") if secret else (f"={_short(ascii(text)[1:-1])}", f" ({error})")
        raise SettingsError(
            f"{name}{given}: the value is not valid YAML{said}. Quote text that contains brackets, braces or a colon, and "
            "put shell quotes around the complete argument."
        ) from error
    annotations = annotations_at(model, key)
    try:
        value, written = current_names(annotations, value, f"{key}."), current_names(annotations, written, f"{key}.")
    except ValueError as error:
        raise SettingsError(f"{name} cannot be used: {error}.") from error
    return _Source(name, written_key, key, as_written(value, written, annotations))


def _refuse_both_names(sources: Sequence[_Source]) -> None:
    """Raise SettingsError if two variables, or two options, give one setting under its former and its current name."""
    seen: dict[str, _Source] = {}
    for source in sources:
        other = seen.setdefault(source.key, source)
        if other.written != source.written:
            former, current = sorted((other, source), key=lambda each: each.written == source.key)
            raise SettingsError(
                f"{former.name} and {current.name} are the former and the current name of one setting: give only {current.name}."
            )


def _set(values: dict[str, Any], source: _Source) -> None:
    *parents, last = source.key.split(".")
    place = values
    for parent in parents:
        inner = place.get(parent)
        if not isinstance(inner, dict):
            place[parent] = inner = {}
        place = inner
    place[last] = source.value


def _describe(error: ValidationError, model: type[BaseModel], files: str, single: Sequence[_Source]) -> str:
    """Describe the errors, grouped by source."""
    sentences: dict[str, list[str]] = {}
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"])
        origin = next((source.name for source in reversed(single) if f"{key}.".startswith(f"{source.key}.")), files)
        if fault["type"] == "extra_forbidden":
            allowed = fields_at(model, fault["loc"][:-1])
            written = next((source.key for source in reversed(single) if _is_at_or_below(source.key, key)), key)
            near = _section_with(model, written) or _nearest(str(fault["loc"][-1]), allowed)
            sentence = f"{key} is not a setting" + (
                f"; did you mean {near}?" if near else f"; the settings are {', '.join(allowed)}."
            )
        else:
            said = fault["msg"].removeprefix("Value error, ")
            given = "" if not key or holds_secret(model, fault["loc"]) else f" (given {_shown(fault['input'])})"
            sentence = f"{key}: {said}{given}." if key else f"{said}."
        sentences.setdefault(origin, []).append(sentence)
    return " ".join(
        f"{origin[0].upper()}{origin[1:]} cannot be used: {' '.join(said[:MOST_FAULTS])}"
        + (f" There are {len(said) - MOST_FAULTS:,} more." if len(said) > MOST_FAULTS else "")
        for origin, said in sentences.items()
    )


def _section_with(model: type[BaseModel], key: str) -> str | None:
    """Return the key of the setting `key` of a section, if just one section of the model has it."""
    sections = [name for name, field in model.model_fields.items() if sections_of([field.annotation])]
    found = [f"{name}.{key}" for name in sections if annotations_at(model, f"{name}.{key}")]
    return found[0] if len(found) == 1 else None


def _shown(value: Any) -> str:
    return _short(IN_ADDRESS.sub("********", repr(value)))


def _short(text: str) -> str:
    return text if len(text) < 80 else text[:77] + "..."


def _nearest(name: str, allowed: list[str]) -> str | None:
    import difflib

    found = difflib.get_close_matches(name, allowed, n=1)
    return found[0] if found else None
