"""Plain YAML: mappings, lists and scalars. Settings need nothing else, and some of the rest can harm the reader.

An alias repeats a part of the document, so that a few hundred bytes stand for gigabytes. A tag chooses how a value is built. Of two
entries with the same name, YAML keeps the last one and says nothing. All of these are refused, and so is a document that is
too large or too deep. A number or date that cannot be, such as 2026-11-31, stays text: the setting's type then refuses it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import yaml

__all__ = ["MOST_BYTES", "PlainYamlError", "read_plain_yaml"]

MOST_BYTES = 4 << 20
MOST_VALUES = 250_000  # each takes about a kilobyte while the document is read
MOST_DEPTH = 50
MOST_DIGITS = 400  # of a number; the time to build one of base 60 grows with the square

# The parser in C is ten times as fast. Not every platform has it.
PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class PlainYamlError(ValueError):
    """A document is not plain YAML. The message is a phrase that says what is wrong, and where."""


def read_plain_yaml(document: str | bytes) -> tuple[Any, Any]:
    """Read a document twice: with YAML's types, and with each scalar as its original text.

    Both results have the same structure. They are None if the document is empty.

    Raises:
        PlainYamlError: The document is not plain YAML, or it is too large.
    """
    try:
        text = document.decode("utf-8-sig") if isinstance(document, bytes) else document
        size = len(document if isinstance(document, bytes) else text.encode())
    except UnicodeError as error:
        raise PlainYamlError(f"it is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error  # type: ignore[attr-defined]
    if size > MOST_BYTES:
        raise PlainYamlError(f"it has {size:,} bytes; at most {MOST_BYTES >> 20} MiB are allowed")
    try:
        _refuse_more_than_plain(text)
        node = yaml.compose(text, Loader=PARSER)
    except yaml.YAMLError as error:
        raise PlainYamlError(_said(error, text)) from error
    if node is None:
        return None, None
    return _Values().construct_document(node), _Texts().construct_document(node)


def _refuse_more_than_plain(text: str) -> None:
    """Look at the document's events one by one, before anything is built from them."""
    depth = values = 0
    for event in yaml.parse(text, Loader=PARSER):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _error(event, "anchors and aliases are not allowed; write the value out")
        if (tag := getattr(event, "tag", None)) is not None:
            raise _error(event, f"the tag {tag} is not allowed; write the value without it")
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.NodeEvent):
            values += 1
            depth += isinstance(event, yaml.CollectionStartEvent)
            if depth > MOST_DEPTH:
                raise _error(event, f"it is nested deeper than {MOST_DEPTH} levels")
            if values > MOST_VALUES:
                raise _error(event, f"it has more than {MOST_VALUES:,} values")


class _Values(yaml.constructor.SafeConstructor):
    """Builds values with YAML's types."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        mapping: dict[Hashable, Any] = {}
        lines: dict[Hashable, int] = {}
        for name_node, value_node in node.value:
            if name_node.tag == "tag:yaml.org,2002:merge":
                raise _error(name_node, "the merge key << is not allowed; write the entries out")
            if not isinstance(name_node, yaml.ScalarNode):
                raise _error(name_node, "a list or mapping cannot be a name")
            name, line = self.construct_object(name_node), name_node.start_mark.line + 1
            if name in mapping:
                raise PlainYamlError(f"{name_node.value!r} is given twice (lines {lines[name]} and {line}); keep one of the two")
            mapping[name], lines[name] = self.construct_object(value_node, deep=deep), line
        return mapping


class _Texts(_Values):
    """Leaves every scalar as it was written."""


def _or_text(build: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a constructor that builds a number or a time, and returns the text if there is no such number or time."""

    def built(constructor: Any, node: Any) -> Any:
        try:
            return build(constructor, node) if len(node.value) <= MOST_DIGITS else node.value
        except (ValueError, ArithmeticError):
            return node.value

    return built


def _text(_: Any, node: Any) -> str:
    return str(node.value)


for _name in ("int", "float", "timestamp"):
    _tag = f"tag:yaml.org,2002:{_name}"
    _Values.add_constructor(_tag, _or_text(yaml.constructor.SafeConstructor.yaml_constructors[_tag]))
for _name in ("bool", "int", "float", "timestamp", "null", "value"):
    _Texts.add_constructor(f"tag:yaml.org,2002:{_name}", _text)
_Values.add_constructor("tag:yaml.org,2002:value", _text)  # a lone equals sign


def _error(at: Any, what: str) -> PlainYamlError:
    return PlainYamlError(f"line {at.start_mark.line + 1}, column {at.start_mark.column + 1}: {what}")


def _said(error: yaml.YAMLError, text: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    line = text.splitlines()[mark.line : mark.line + 1]
    if line and line[0][mark.column : mark.column + 1] == "\t":
        return f"line {mark.line + 1} has a tab where YAML expects spaces; indent it with spaces"
    context = getattr(error, "context", None)
    said = f"{error.problem} {context}" if context else str(error.problem)  # type: ignore[attr-defined]
    return f"line {mark.line + 1}, column {mark.column + 1}: {said}; mend this line or the one before"
