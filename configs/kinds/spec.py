"""What a kind of model is: its name, its settings, its classes, and how it is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import StringConstraints

from configs.base import Settings
from configs.kinds.search_space import Parameter

__all__ = ["KindName", "ModelSpec"]

KIND = re.compile(r"[a-z][a-z0-9_]{0,30}")
KindName = Annotated[str, StringConstraints(pattern=f"^{KIND.pattern}$")]
PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
RESERVED = ("plugins", "plugin_silence_s", "challenger", "champion")


@dataclass(frozen=True)
class ModelSpec:
    """A kind of model. Classes are named as `package.module:Class` and imported when they are first needed."""

    kind: str
    """Name in settings, files and reports: lower-case letters, digits and underscores."""
    settings: type[Settings]
    """Settings of the kind, a subclass of `configs.base.Settings`. Every field needs a default."""
    recommender: str
    """The `models.recommender.Recommender` that is trained. It is called with the settings."""
    serving: str | None = None
    """The `models.inference.InferenceModel` that serves. Without one, the kind is served by the general form."""
    label: str = ""
    """Name in pages and tables; by default the kind."""
    colour: str | None = None
    """Colour in figures, such as `#1f6f8b`. Without one, a kind gets a colour that no other one has, as far as they reach."""
    replicated: bool = False
    """Whether several processes can train one model. The settings then have the fields `device` and `replicas`."""
    seeded: bool = True
    """Whether the seed changes the result. A comparison trains a kind without a seed only once."""
    space: Mapping[str, Parameter] = field(default_factory=dict)
    """Default search space: the values that a search may choose, by the name of a setting."""
    not_searched: Mapping[str, str] = field(default_factory=dict)
    """Settings that a search must not choose, each with the reason and the remedy."""

    @property
    def name(self) -> str:
        """The label, or the kind if there is none."""
        return self.label or self.kind

    def fault(self) -> str | None:
        """Return what is wrong with this spec, as the end of a sentence, or None."""
        if not isinstance(self.kind, str) or not KIND.fullmatch(self.kind) or self.kind in RESERVED:
            return (
                f"its kind is {self.kind!r}; a kind has up to 31 lower-case letters, digits and underscores, starts with a letter, "
                f"and is none of {', '.join(RESERVED)}"
            )
        if not isinstance(self.settings, type) or not issubclass(self.settings, Settings):
            return f"its settings are {self.settings!r}; give a subclass of configs.base.Settings"
        if needed := [name for name, each in self.settings.model_fields.items() if each.is_required()]:
            return f"its settings {self.settings.__name__} have no default for {', '.join(needed)}; give each field a default"
        for name in ("recommender", "serving"):
            given = getattr(self, name)
            if not (isinstance(given, str) and PATH.fullmatch(given)) and not (name == "serving" and given is None):
                return f"its {name} is {given!r}; name the class as package.module:Class"
        if self.colour is not None and not (isinstance(self.colour, str) and COLOUR.fullmatch(self.colour)):
            return f"its colour is {self.colour!r}; write it as #rrggbb"
        if self.replicated and not {"device", "replicas"} <= set(self.settings.model_fields):
            return "it is replicated, but its settings lack device or replicas; add both, or leave out replicated"
        if unknown := [name for name in (*self.space, *self.not_searched) if name not in self.settings.model_fields]:
            return f"its search space names {', '.join(unknown)}, which {self.settings.__name__} does not have"
        return None
