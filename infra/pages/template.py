"""The Jinja environment of all pages."""

from __future__ import annotations

import re
from functools import cache
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.pages import palette, words
from infra.version_names import short_version, shortened, version_html

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["render_template"]

COMMAND = re.compile(r"`([^`\n]+)`")
ROOT = Path(__file__).parents[2]


def render_template(template: str, **values: Any) -> str:
    """Render a template with the values, which are escaped.

    Args:
        template: Path of the template below the folder of the packages, such as "tasks/gate/templates/decision.html".
        **values: What the template names. A name without a value is an error.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined  # pages are few, so not when a process starts

    environment = Environment(
        loader=FileSystemLoader(ROOT), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["style_variables"] = palette.STYLE_VARIABLES
    environment.filters |= {
        "commands": lambda text: COMMAND.sub(r"<code>\1</code>", escape(text)),  # `| commands | safe`: likewise
        "columns": lambda rows: list(dict.fromkeys(name for row in rows for name in row)),
        "count": words.count,
        "day": words.utc_day,
        "digits": words.digits,
        "duration": words.duration,
        "light_or_dark": palette.light_or_dark,
        "minute": words.utc_minute,
        "short_version": short_version,
        "shortened": shortened,
        "signed": lambda value: f"{value:+.4f}",
        "thousands": lambda value: f"{value:,}",
        "version_html": version_html,  # `| version_html | safe`: it has escaped the text
    }
    return environment
