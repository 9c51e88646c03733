"""Base class of every settings model: frozen, without unknown keys, and with each field described by its docstring.

A model also reads the former names of its settings (`configs.renames`).

The Prefect UI builds the form of a flow's parameters from the JSON schema of these models. The titles, descriptions and order of
the form's fields are defined here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, ValidationInfo, field_validator, model_validator
from pydantic.fields import ComputedFieldInfo, FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from configs.renames import accept_former_keys, section_with_current_names

__all__ = ["MOST_S", "Seed", "Settings", "Share", "in_order", "title_of"]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Seed that every random generator of this project takes."""
MOST_S = 10 * 365 * 86_400
"""Largest number of seconds in a setting. The clocks of the operating system cannot wait for much longer."""

UNITS = {"s": "s", "mb": "MB", "usd": "USD"}
WORDS = {
    "etl": "ETL",
    "url": "URL",
    "ncf": "NCF",
    "ss4rec": "SS4Rec",
    "hr": "HR",
    "ndcg": "NDCG",
    "id": "ID",
    "kms": "KMS",
    "mf": "MF",
    "mlp": "MLP",
}


def title_of(name: str) -> str:
    """Return the display name of a setting: `max_future_s` becomes `Max future (s)`."""
    words = name.split("_")
    unit = UNITS.get(words[-1]) if len(words) > 1 else None
    text = " ".join(WORDS.get(word, word) for word in (words[:-1] if unit else words)).replace(" at 10", "@10")
    return text[0].upper() + text[1:] + (f" ({unit})" if unit else "")


def _title_of_field(name: str, _: FieldInfo | ComputedFieldInfo) -> str:
    return title_of(name)


def _title_of_model(model: type[Any]) -> str:
    return title_of(re.sub(r"(?<=[a-z])(?=[A-Z])", "_", model.__name__.removesuffix("Settings")).lower())


def in_order(schema: dict[str, Any]) -> None:
    """Number the fields of a schema, and title each section by its name.

    The UI sorts fields by `position`. PostgreSQL stores the schema and does not preserve the order of its keys.
    """
    for position, (name, field) in enumerate(schema.get("properties", {}).items()):
        field["position"] = position
        field.setdefault("title", title_of(name))


class Settings(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        use_attribute_docstrings=True,
        field_title_generator=_title_of_field,
        model_title_generator=_title_of_model,
        json_schema_extra=in_order,
    )

    @model_validator(mode="before")
    @classmethod
    def _reads_former_names(cls, given: Any) -> Any:
        return section_with_current_names(cls, given) if isinstance(given, Mapping) else given

    @field_validator("*")
    @classmethod
    def _can_be_waited_for(cls, value: Any, info: ValidationInfo) -> Any:
        if info.field_name is not None and info.field_name.endswith("_s") and isinstance(value, int | float) and value > MOST_S:
            raise ValueError(f"the value must be at most {MOST_S} seconds, which is ten years")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = handler(core_schema)
        accept_former_keys(cls, handler.resolve_ref_schema(schema))
        return schema
