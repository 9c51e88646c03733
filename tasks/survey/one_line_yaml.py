"""Values and comments of a settings file, each in one line: whatever they hold, they cannot become another setting."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from infra.pages import visible

__all__ = ["commented", "in_one_line"]

BARE = re.compile(r"[A-Za-z_/][A-Za-z0-9_./ -]*")


def in_one_line(value: Any) -> str:
    """Return a value in YAML's flow style, in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{in_one_line(key)}: {in_one_line(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(in_one_line, value)) + "]"
    if isinstance(value, str):
        return value if BARE.fullmatch(value) and yaml.safe_load(value) == value else _quoted(value)
    return json.dumps(value)


def commented(text: str) -> str:
    """Return text for a comment. Line ends and other control characters are written as escapes."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _quoted(text: str) -> str:
    """Return text in double quotes. What is not printable is written as an escape, as YAML has no place for most of it."""
    return "".join(char if char.isprintable() else _escape(ord(char)) for char in json.dumps(text, ensure_ascii=False))


def _escape(code: int) -> str:
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
