"""Translates the ids that clients send into the numbers that models and stores use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

from models.identity import number_of
from models.schema import DataSchema, IdType

__all__ = ["LARGEST", "LONGEST", "MARK", "TYPES", "AnyId", "TeamIds", "whole_only"]

LARGEST = 2**63 - 1  # the largest id
LONGEST = 500  # characters of a text id
FRACTIONS_BELOW = 2**53  # from here on, a number with a fraction stands for several whole numbers
MARK = "x-id"  # in a JSON schema: whose id it is, `user_id` or `item_id`
Id = int | str


class AnyId:
    """Marks a field as an id: a whole number or text. Which of the two is right depends on the model that is served.

    Both are checked without a call of a Python function, which would take twenty times as long. A fraction such as 3.0 is rare, and
    is taken as 3.
    """

    def __init__(self, of: str) -> None:
        self._of = of

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.union_schema(
            [
                core_schema.int_schema(strict=True, ge=0, le=LARGEST),
                core_schema.str_schema(strict=True, min_length=1, max_length=LONGEST),
                core_schema.no_info_before_validator_function(whole_only, core_schema.int_schema(ge=0, le=LARGEST)),
            ],
            mode="left_to_right",
            custom_error_type="id",
            custom_error_message=f"must be a whole number from 0 to {LARGEST:,}, or text of 1 to {LONGEST} characters if the ids are text",
        )

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": list(TYPES.values()), MARK: self._of}


TYPES: dict[IdType, dict[str, Any]] = {
    "integer": {"type": "integer", "minimum": 0, "maximum": LARGEST},
    "text": {"type": "string", "minLength": 1, "maxLength": LONGEST},
}
"""The JSON schema of an id by its type."""


def whole_only(given: Any) -> Any:
    """Refuse what pydantic would convert to a number: strings, booleans, and fractions too large to be exact."""
    if isinstance(given, (str, bool)) or (isinstance(given, float) and abs(given) >= FRACTIONS_BELOW):
        raise ValueError("must be a whole number")
    return given


class TeamIds:
    """The ids of one dataset, as the team writes them. Each `where` names the place in the request, for the answer to a wrong id."""

    def __init__(self, schema: DataSchema) -> None:
        self._user_type, self._item_type = schema.ids.user_id, schema.ids.item_id

    def user(self, given: Id, *where: str | int) -> int:
        """Return the number of a user. Raises RequestValidationError if the id has the wrong type."""
        return _number(given, self._user_type, where)

    def item(self, given: Id, *where: str | int) -> int:
        """Return the number of an item. Raises RequestValidationError if the id has the wrong type."""
        return _number(given, self._item_type, where)

    def items(self, given: Sequence[Id], *where: str | int, then: str = "") -> list[int]:
        """Return the numbers of items in a list at `where`, or of the field `then` of each element of that list."""
        wanted = str if self._item_type == "text" else int
        for place, each in enumerate(given):
            if type(each) is not wanted:
                raise _unlike(each, self._item_type, (*where, place, *([then] if then else [])))
        return [number_of(each) for each in given] if wanted is str else list(given)  # type: ignore[arg-type]

    def user_in_path(self, given: str) -> int:
        """Return the number of a user whose id is a part of the path."""
        return self.user(_from_path(given, self._user_type), "path", "user_id")

    def item_in_path(self, given: str) -> int:
        """Return the number of an item whose id is a part of the path."""
        return self.item(_from_path(given, self._item_type), "path", "item_id")

    def shown_user(self, given: str) -> Id:
        """Return a user's id from a path as answers show it."""
        return _from_path(given, self._user_type)


def _from_path(given: str, kind: IdType) -> Id:
    is_number = (
        kind == "integer" and given.isascii() and given.isdigit() and len(given) <= len(str(LARGEST)) and int(given) <= LARGEST
    )
    return int(given) if is_number else given


def _number(given: Id, kind: IdType, where: Sequence[str | int]) -> int:
    if kind == "text":
        if type(given) is str and len(given) <= LONGEST:
            return number_of(given)
    elif type(given) is int:
        return given
    raise _unlike(given, kind, where)


def _unlike(given: Id, kind: IdType, where: Sequence[str | int]) -> RequestValidationError:
    wanted = f"a whole number from 0 to {LARGEST:,}" if kind == "integer" else f"text of 1 to {LONGEST} characters"
    return RequestValidationError([{"type": "id", "loc": tuple(where), "msg": f"must be {wanted}", "input": given}])
