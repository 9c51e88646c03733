"""The names of versions, and their short form, which people read and type.

A model version is `20261129T121055Z-<32 digits>`, its time and its content. A dataset version is `<12 digits>` or
`<12 digits>-<12 digits>`, its content and how that is stored. The short form is the first part. Where a command, a file or a request
names a version, the beginning of its name suffices.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape

from configs.errors import NotFoundError

__all__ = ["MOST_NAMED", "matching_version", "short_version", "shortened", "version_html"]

MOST_NAMED = 10  # versions that a message lists

LEAST_DIGITS = 4  # of the second part, if the first one does not tell a version from the others
LONG = re.compile(r"(?<![\w/.-])((?:[\w.-]+/)?(?:\d{8}T\d{6}Z-[0-9a-f]{32}|[0-9a-f]{12}-[0-9a-f]{12}))(?![\w/-]|\.\w)", re.ASCII)
"""A version, or `dataset/version`, in a text. What is part of a longer path or address is not one."""


def short_version(version: str, among: Iterable[str] = ()) -> str:
    """Return the short form of a version's name, which every command accepts.

    Args:
        version: The name of a version of a model or of a dataset, or `dataset/version`. Any other text is returned as it is.
        among: The names of the other versions, in the same form. The short form has as many digits as tell it from these.
    """
    if not LONG.fullmatch(version):
        return version
    start = version.index("-", version.find("/") + 1)
    ends = [start, *range(start + 1 + LEAST_DIGITS, len(version))]
    others = [other for other in among if other != version]
    return next((version[:end] for end in ends if not any(other.startswith(version[:end]) for other in others)), version)


def shortened(text: str) -> str:
    """Return a text with each version in its short form. Paths and addresses keep the complete names."""
    return LONG.sub(lambda found: short_version(found[0]), text)


def version_html(text: str) -> str:
    """Return a version, or a text that names versions, as HTML: each in its short form, with the complete name as its title."""
    parts = LONG.split(text)  # the text between versions, and each version
    return "".join(
        f'<span title="{escape(part)}">{escape(short_version(part))}</span>' if place % 2 else escape(part)
        for place, part in enumerate(parts)
    )


def matching_version(asked: str, names: Sequence[str]) -> str | None:
    """Return the one name that a person means: the name itself, or the only one that begins with it. None if there is no such name.

    Args:
        asked: What the person wrote.
        names: The names of all versions.

    Raises:
        NotFoundError: Several names begin with it. The message lists them.
    """
    if asked in names:
        return asked
    found = [name for name in names if asked and name.startswith(asked)]
    if len(found) > 1:
        shown = ", ".join(short_version(name, names) for name in found[:MOST_NAMED])
        more = f" and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
        raise NotFoundError(f"{asked} may be any of {len(found)} versions: {shown}{more}. Write more of the one that you mean.")
    return found[0] if found else None
