"""Specs that are wrong, each in its own way."""

from __future__ import annotations

from pydantic import BaseModel

from configs.base import Settings
from configs.kinds import ModelSpec, Parameter
from tests.plugins.lately import LatelySettings


class Plain(BaseModel):
    """Not a subclass of Settings."""


class Needy(Settings):
    """Has a field without a default."""

    rank: int


LATELY = "tests.plugins.lately:Lately"
NOT_A_SPEC = {"kind": "mine"}
BAD_KIND = ModelSpec("My Model", LatelySettings, LATELY)
RESERVED_KIND = ModelSpec("plugins", LatelySettings, LATELY)
BAD_SETTINGS = ModelSpec("mine", Plain, LATELY)  # type: ignore[arg-type]
REQUIRED_SETTING = ModelSpec("mine", Needy, LATELY)
BAD_CLASS = ModelSpec("mine", LatelySettings, "Lately")
BAD_COLOUR = ModelSpec("mine", LatelySettings, LATELY, colour="green")
NOT_REPLICATED = ModelSpec("mine", LatelySettings, LATELY, replicated=True)
BAD_SPACE = ModelSpec("mine", LatelySettings, LATELY, space={"width": Parameter(low=1, high=2)})
SECOND_NCF = ModelSpec("ncf", LatelySettings, LATELY)
SECOND_LATELY = ModelSpec("lately", LatelySettings, LATELY)
NO_SUCH_CLASS = ModelSpec("no_class", LatelySettings, "tests.plugins.lately:Never")
