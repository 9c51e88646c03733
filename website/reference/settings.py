"""Every setting: its type, bounds, unit, default, variable and meaning, and the files that the product ships."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, StringConstraints
from pydantic.fields import FieldInfo

from configs.annotations import models_in
from configs.base import Settings
from configs.kinds import registered_kinds, spec_of
from configs.serving import ExperimentFile, KeyFile, RuleFile
from configs.settings import RetrainSettings
from flows.cli.options import MODELS, model_of
from infra.runpod import RunPodSettings
from website.reference.markdown import anchor, code, paragraphs, prose, table

__all__ = ["page", "settings_keys"]

CONFIGS = Path(__file__).parents[2] / "configs"
UNITS = {"s": "seconds", "mb": "MiB", "usd": "USD", "days": "days", "bytes": "bytes", "epochs": "epochs"}
PLAIN: dict[Any, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    Path: "path",
    SecretStr: "secret text",
    NoneType: "empty",
    Any: "any value",
}
TYPES = {"AwareDatetime": "time, ISO 8601 with a zone"}
COMMANDS = {
    "retrain": "Most commands: `retrain`, `etl`, `monitor`, `data`, `model`, `config show`",
    "search": "`recsys study search`",
    "compare": "`recsys study compare`",
    "replay": "`recsys study replay`",
    "setup": "`recsys setup`",
    "serve": "`recsys serve`",
    "demo": "`recsys demo`",
}
INTRODUCTION = """# Settings

A setting has a key such as `store.url`. Give it in a YAML file (`--config FILE`), in the environment, or as an option
(`--set store.url=s3://bucket/prefix`). Options override variables, variables override files, and files override defaults.

The variable of a key is `RECSYS__` with the key in capitals, and two underscores for each dot: `RECSYS__STORE__URL` sets `store.url`.
`recsys config show` prints the effective values and the source of each; `recsys config show --all` prints every key.

The tables below give the type, bounds, unit and default of each key. "Empty" is `null` in YAML.
"""


def page() -> str:
    """Return the page of settings."""
    parts, told = [INTRODUCTION], dict[str, Told]()
    for command in MODELS:
        model = model_of(command)
        parts += [f"## Settings of {command}\n", f"{COMMANDS[command]}. {paragraphs(model.__doc__ or '')}\n"]
        parts += _section(model, "", command, told)
    parts += ["## Kinds of models\n", "These kinds have a section `models.<kind>` too. A plugin adds its own.\n"]
    for kind in registered_kinds():
        if f"models.{kind}" not in told:
            parts += [f"### models.{kind}\n", paragraphs(spec_of(kind).settings.__doc__ or "") + "\n"]
            parts.append(_rows(spec_of(kind).settings, f"models.{kind}.", "retrain"))
    parts += ["## rules.yaml\n", "The file that `rules` names. The server reads it again when it changes.\n", *_file(RuleFile)]
    parts += ["## experiments.yaml\n", "The file that `experiments` names.\n", *_file(ExperimentFile)]
    keys = "The file that `access.keys` names. `recsys key` writes it. The server reads it again when it changes.\n"
    parts += ["## keys.yaml\n", keys, *_file(KeyFile)]
    parts += ["## Worker of rented pods\n", paragraphs(RunPodSettings.__doc__ or "") + "\n"]
    rows = [
        [code(f"RECSYS_RUNPOD_{name.upper()}"), _kind(name, field), _default(field), prose(field.description or "")]
        for name, field in RunPodSettings.model_fields.items()
    ]
    parts += [table(["variable", "type", "default", "meaning"], rows) + "\n", "## Shipped files\n"]
    parts.append("`-c NAME` takes each of these. Several can be combined; a later one overrides an earlier one.\n")
    for path in sorted(CONFIGS.glob("*.yaml")):
        parts.append(f"### {path.stem}.yaml\n\n```yaml title='{path.name}'\n{path.read_text(encoding='utf-8')}```\n")
    return "\n".join(parts)


def settings_keys() -> set[str]:
    """Return the key of every setting, each once."""
    return {key for command in MODELS for key in _leaves(model_of(command))}


def _leaves(model: type[BaseModel], above: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        sections = [section for section in _sections(field) if section is not RetrainSettings]
        if not sections:
            yield above + name
        for section in sections:
            yield from _leaves(section, f"{above}{name}.")


def _sections(field: FieldInfo) -> list[type[BaseModel]]:
    """Return the settings model of a field that is a section, as a list of one. A list or mapping of models is not a section."""
    parts = (
        [field.annotation, *get_args(field.annotation)]
        if get_origin(field.annotation) in (Union, UnionType)
        else [field.annotation]
    )
    return [part for part in parts if isinstance(part, type) and issubclass(part, Settings)]


class Told(NamedTuple):
    """A setting that the page has already told."""

    field: FieldInfo
    place: str
    """Anchor of the row or heading."""


def _section(model: type[BaseModel], above: str, command: str, told: dict[str, Told]) -> Iterator[str]:
    """Yield the settings of a section and of those below it. What an earlier command has too is named, and not told again."""
    known = [name for name, field in model.model_fields.items() if _same(field, told.get(above + name))]
    if known and not above:
        yield f"As above: {', '.join(f'[{code(name)}](#{told[name].place})' for name in known)}.\n"
    if own := [name for name, field in model.model_fields.items() if not _sections(field) and name not in known]:
        yield _rows(model, above, command, own)
    for name, field in model.model_fields.items():
        key, sections = above + name, _sections(field)
        told.setdefault(key, Told(field, _place(command, key, heading=bool(sections))))
        for section in sections if name not in known else ():
            yield f"### {key} {{ #{_place(command, key, heading=True)} }}\n"
            if section is RetrainSettings:
                yield f"{prose(field.description or '')} The keys are `{key}.` with those of [retrain](#settings-of-retrain).\n"
                continue
            yield paragraphs(section.__doc__ or "") + "\n"
            yield from _section(section, f"{key}.", command, told)


def _place(command: str, key: str, *, heading: bool) -> str:
    """Return the anchor of a setting. Those of a retraining are short, because most pages link to them."""
    own = key.replace(".", "-") if heading else key
    return own if command == "retrain" else f"{command}{'-' if heading else ':'}{own}"


def _same(field: FieldInfo, known: Told | None) -> bool:
    return known is not None and (field.annotation, field.description, field.default) == (
        known.field.annotation,
        known.field.description,
        known.field.default,
    )


def _rows(model: type[BaseModel], above: str, command: str, names: list[str] | None = None) -> str:
    rows = [
        [
            anchor(_place(command, above + name, heading=False)) + code(above + name),
            _kind(name, field),
            _default(field),
            prose(field.description or ""),
        ]
        for name, field in model.model_fields.items()
        if names is None or name in names
    ]
    return table(["key", "type", "default", "meaning"], rows) + "\n"


def _file(model: type[BaseModel]) -> Iterator[str]:
    """Yield the keys of a settings file, and of each model below it."""
    waiting, seen = [("the file", model)], {model}
    while waiting:
        name, current = waiting.pop(0)
        yield f"**{name}**: {paragraphs(current.__doc__ or '')}\n"
        rows = [
            [code(key), _kind(key, field), _default(field), prose(field.description or "")]
            for key, field in current.model_fields.items()
        ]
        yield table(["key", "type", "default", "meaning"], rows) + "\n"
        for key, field in current.model_fields.items():
            for below in models_in(field.annotation):
                if below not in seen:
                    seen.add(below)
                    waiting.append((f"{key}: {below.__name__}" if key != below.__name__.lower() else key, below))


def _kind(name: str, field: FieldInfo) -> str:
    unit = UNITS.get(name.rsplit("_", 1)[-1])
    bounds = _bounds(field.metadata)
    said = _words(field.annotation)
    return said + (f", {bounds}" if bounds else "") + (f" ({unit})" if unit and "number" in said else "")


def _words(annotation: Any) -> str:
    """Return a type in words, with its bounds."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if origin is Annotated:
        bounds = _bounds(annotation.__metadata__)
        return _words(inner[0]) + (f", {bounds}" if bounds else "")
    if origin is Literal:
        return " or ".join(code(value) for value in inner)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_words(part) for part in sorted(inner, key=lambda part: part is NoneType)))
    if origin in (tuple, list, frozenset, set):
        return f"list of {_words(inner[0])}" if inner and (len(inner) == 1 or inner[-1] is ...) else f"{len(inner)} values"
    if origin in (dict, Mapping):
        return f"mapping to {_words(inner[1])}"
    if hasattr(annotation, "__value__"):
        return _words(annotation.__value__)
    return TYPES.get(name := str(getattr(annotation, "__name__", annotation)), code(name))


def _bounds(metadata: Any) -> str:
    said = []
    for bound in metadata:
        for name, words in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
            value = getattr(bound, name, None)
            if value is not None:
                said.append(f"{words} {value:,}" if isinstance(value, int) and value >= 10_000 else f"{words} {value}")
        if getattr(bound, "min_length", None):
            said.append("at least one")
        pattern = bound.pattern if isinstance(bound, StringConstraints) else getattr(bound, "pattern", None)
        if isinstance(pattern, str):
            said.append(f"like {code(pattern)}" if "|" not in pattern else "with a pattern")
        if isinstance(bound, FieldInfo):
            said.append(_bounds(bound.metadata))
    return ", ".join(filter(None, said))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, Path | SecretStr):
        return code(value)
    if value is None or value == "":
        return "empty"
    if isinstance(value, tuple | list | frozenset | dict):
        if not value:
            return "none"
        written = json.dumps(value if isinstance(value, dict) else list(value), default=str)
        return code(written) if len(written) < 80 else "see its meaning"
    return code(str(value).lower() if isinstance(value, bool) else value)
