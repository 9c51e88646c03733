"""The settings that options and environment variables give, one at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from pydantic import BaseModel

from configs.annotations import annotations_at, as_written, holds_secret, sections_of
from configs.errors import SettingsError
from configs.loading.faults import Source, nearest, short
from configs.plain_yaml import PlainYamlError, read_plain_yaml
from configs.renames import current_key, current_names, former_keys

__all__ = ["from_environment", "from_option", "refuse_both_names"]

PREFIX = "RECSYS__"


def from_option(model: type[BaseModel], override: str) -> Source:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"--set {override}: write key=value, for example --set models.ss4rec.max_epochs=10.")
    return _source(model, f"--set {key.strip()}", key.strip(), text)  # the name omits the value, which may be a secret


def from_environment(
    model: type[BaseModel], environment: Mapping[str, str], others: Iterable[type[BaseModel]]
) -> Iterator[Source]:
    """Yield the variables that set a setting of `model`. Settings of `others` are skipped.

    Raises:
        SettingsError: A variable names no setting of any of these models, or its value is not valid YAML.
    """
    own = {*model.model_fields, *former_keys(model)}
    given = {name: name[len(PREFIX) :].lower() for name in sorted(environment) if name.upper().startswith(PREFIX)}
    for name in sorted(name for name in environment if name.upper().startswith(PREFIX[:-1]) and name not in given):
        if meant := _variable_of([model], name[len(PREFIX) - 1 :].lower()):
            raise SettingsError(f"{name} sets nothing: write two underscores between the parts of the name, as in {meant}.")
    sections = {name: key.partition("__")[0] for name, key in given.items()}
    if not own.issuperset(sections.values()):  # only then are `others` looked at: they may have to be imported
        every = [model, *others]
        known = {section for each in every for section in (*each.model_fields, *former_keys(each))}
        for name, section in sections.items():
            if section not in known:
                near = _variable_of(every, given[name].replace("__", "_")) or nearest(
                    section, sorted({field for each in every for field in each.model_fields})
                )
                hint = f"did you mean {near}?" if near else f"the settings are {', '.join(model.model_fields)}."
                raise SettingsError(f"{name} cannot be used: {section} is not a setting; {hint}")
    for name, key in given.items():
        if sections[name] in own:
            yield _source(model, name, key.replace("__", "."), environment[name])


def _variable_of(models: Iterable[type[BaseModel]], words: str) -> str | None:
    """Return the variable of a setting whose key has these words, joined by single underscores."""
    return next((f"{PREFIX}{'__'.join(key).upper()}" for model in models if (key := _key_of(model, words))), None)


def _key_of(model: type[BaseModel], words: str) -> list[str] | None:
    for name, field in model.model_fields.items():
        if words == name:
            return [name]
        for section in sections_of([field.annotation]) if words.startswith(f"{name}_") else ():
            if below := _key_of(section, words[len(name) + 1 :]):
                return [name, *below]
    return None


def _source(model: type[BaseModel], name: str, written_key: str, text: str) -> Source:
    key = current_key(model, written_key)
    try:
        value, written = read_plain_yaml(text)
    except PlainYamlError as error:
        secret = holds_secret(model, tuple(key.split(".")))
        given, said = ("", "") if secret else (f"={short(ascii(text)[1:-1])}", f" ({error})")
        raise SettingsError(
            f"{name}{given}: the value is not valid YAML{said}. Quote text that contains brackets, braces or a colon, and "
            "put shell quotes around the complete argument."
        ) from error
    annotations = annotations_at(model, key)
    try:
        value, written = current_names(annotations, value, f"{key}."), current_names(annotations, written, f"{key}.")
    except ValueError as error:
        raise SettingsError(f"{name} cannot be used: {error}.") from error
    return Source(name, written_key, key, as_written(value, written, annotations))


def refuse_both_names(sources: Sequence[Source]) -> None:
    """Raise SettingsError if two variables, or two options, give one setting under its former and its current name."""
    seen: dict[str, Source] = {}
    for source in sources:
        other = seen.setdefault(source.key, source)
        if other.written != source.written:
            former, current = sorted((other, source), key=lambda each: each.written == source.key)
            raise SettingsError(
                f"{former.name} and {current.name} are the former and the current name of one setting: give only {current.name}."
            )
