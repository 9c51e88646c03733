"""The form of a run: a preset first, then the settings that people change most, and all others in one field.

The Prefect UI opens every nested object of a form, and a retraining has more than 160 settings. The form therefore shows a few
settings under the keys that `--set` accepts, and takes the others as JSON in `advanced`. The server checks both by the same JSON
schemas. What a schema cannot tell, such as a misspelt key, is refused in one sentence when the run starts. Texts are short, so that
the form fits on two screens: a field has a description only where neither a choice nor a default shows what belongs there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from configs.annotations import annotations_at, sections_of
from configs.base import Settings, title_of
from configs.errors import SettingsError
from configs.loading import Given, about_preset, named_configs, settings_of_run
from configs.renames import FORM_ONLY

__all__ = ["RunForm", "first_sentence"]

Model = TypeVar("Model", bound=Settings)
Schema = dict[str, Any]
NO_PRESET = "default"
ADVANCED = (
    'All other settings, by the keys that "recsys config show" lists, such as {"store.attempts": 2}. They beat the fields above.'
)


@dataclass(frozen=True)
class RunForm(Generic[Model]):
    """The form of the settings of a flow.

    A run's settings come from five places, and each counts above those before: the defaults of `configs`, the parameters that
    `recsys setup` gave the deployment, the preset, the fields of the form that are filled in, and `advanced`.
    """

    model: type[Model]
    common: tuple[str, ...]
    """Keys of the settings that have a field of their own."""
    sections: tuple[str, ...] | None = None
    """The sections and settings of the model that the flow uses. None if it uses all."""

    @property
    def presets(self) -> list[str]:
        """The names of the files in `configs` that fit the model, after `default`, which is none of them."""
        return [NO_PRESET, *named_configs(self.model, self.sections)]

    def settings(self, given: Mapping[str, Any]) -> Model:
        """Return the settings that a filled-in form stands for. Sections of the model, as in a settings file, are read too.

        Raises:
            SettingsError: A setting does not exist, or its value is not allowed. The message names it, and the remedy.
        """
        preset, advanced = given.get("preset") or NO_PRESET, given.get("advanced") or {}
        if preset not in self.presets:
            raise SettingsError(f"There is no preset {preset!r}. The presets are {', '.join(self.presets)}.")
        if not isinstance(advanced, Mapping):
            raise SettingsError('advanced must hold settings by their keys, such as {"promotion.alpha": 0.01}.')
        fields = {key: value for key, value in given.items() if key in self.common or "." in key}
        below = {key: value for key, value in given.items() if key not in {*fields, "preset", "advanced"}}
        filled = [Given("the form", key, value) for key, value in fields.items() if value is not None]
        typed = [Given("the field advanced", key, value) for key, value in self._leaves(advanced)]
        return settings_of_run(self.model, below, None if preset == NO_PRESET else preset, [*filled, *typed])

    def schema(self, whole: Schema, resolve: Callable[[Schema], Schema]) -> Schema:
        """Return the JSON schema of the form, from which the Prefect UI draws it.

        Args:
            whole: The JSON schema of the model.
            resolve: Returns the JSON schema that another one refers to.
        """
        whole = _resolved(whole, resolve)
        known = dict(_fields(whole, resolve, self.sections))
        shown = {"preset": self._preset()} if len(self.presets) > 1 else {}
        shown |= {key: self._field(key, known[key], resolve) for key in self.common}
        checked = {key: {name: part for name, part in field.items() if name not in FORM_ONLY} for key, field in known.items()}
        shown["advanced"] = {
            "type": "object",  # without `properties`, the UI draws a field for JSON
            "title": "Advanced",
            "description": ADVANCED,
            "default": {},
            "patternProperties": {f"^{re.escape(key)}$": field for key, field in checked.items()},
        }
        for position, field in enumerate(shown.values()):
            field["position"] = position
        hidden = {f"^{re.escape(key)}$": field for key, field in checked.items() if key not in shown}
        return {"type": "object", "properties": shown, "patternProperties": whole.get("patternProperties", {}) | hidden}

    def _preset(self) -> Schema:
        said = "; ".join(f"{name}: {about_preset(name)}" for name in self.presets if name != NO_PRESET)
        description = f"Settings that belong together. {said}."
        return {"type": "string", "enum": self.presets, "default": NO_PRESET, "title": "Preset", "description": description}

    def _field(self, key: str, schema: Schema, resolve: Callable[[Schema], Schema]) -> Schema:
        """Return the schema of a field that is empty at first. An empty field leaves the setting to the preset and the defaults."""
        choices = [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
        if len(choices) != 1:
            raise ValueError(f"{key} has no form field, because it takes values of several types")
        default: Any = self.model()
        for part in key.split("."):
            default = getattr(default, part)
        field = {
            name: part for name, part in (schema | _resolved(choices[0], resolve)).items() if name not in ("anyOf", "default")
        }
        field["title"] = title_of(key.replace(".", "_")) + ("" if default is None else f", {default} by default")
        if "enum" in field or (field["type"] == "string" and default is not None):
            del field["description"]
        else:
            field["description"] = first_sentence(field["description"])
        return field

    def _leaves(self, given: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
        """Yield the settings of sections that are given as objects, by their complete keys."""
        for name, value in given.items():
            key = f"{above}{name}"
            if isinstance(value, Mapping) and value and sections_of(annotations_at(self.model, key)):
                yield from self._leaves(value, f"{key}.")
            else:
                yield key, value


def _fields(
    schema: Schema, resolve: Callable[[Schema], Schema], only: tuple[str, ...] | None = None, above: str = ""
) -> Iterator[tuple[str, Schema]]:
    """Yield each setting and section with its key and its JSON schema."""
    for name, field in schema.get("properties", {}).items():
        if only is None or name in only:
            yield f"{above}{name}", field
            for section in [field, *field.get("anyOf", ()), *field.get("allOf", ())]:
                yield from _fields(_resolved(section, resolve), resolve, None, f"{above}{name}.")


def _resolved(schema: Schema, resolve: Callable[[Schema], Schema]) -> Schema:
    return resolve(schema) if "$ref" in schema else schema


def first_sentence(text: str) -> str:
    """Return the first sentence of a description as plain text.

    One of Prefect's two user interfaces shows Markdown as it is written, and the other one reads angle brackets as HTML. Therefore
    code has no backticks, and `<bucket>` becomes BUCKET.
    """
    first = re.split(r"(?<=\.)\s+(?=[A-Z`])", " ".join(text.split()), maxsplit=1)[0]
    return re.sub(r"<(\w+)>", lambda found: found[1].upper(), first.replace("`", ""))
