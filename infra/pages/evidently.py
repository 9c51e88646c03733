"""Evidently's pages, with the text of others as data.

Evidently writes titles and genres as they are into a script element, where `</script>` in a title ends the element and what
follows is markup.
"""

from __future__ import annotations

import json
import re

__all__ = ["escaped_page"]

FIRST = re.compile(r"<script>\s*var \w+ = ")
SECOND = re.compile(r"\s*;\s*var \w+ = ")
NO_REQUESTS = (
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
    "script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; font-src data:; img-src data: blob:\">"
)
HEAD = "<head>"
ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def escaped_page(page: str) -> str:
    """Return the page with its data escaped, and forbid it all requests.

    Raises:
        ValueError: The page does not look as Evidently's do.
    """
    head, before = page.find(HEAD), FIRST.search(page)
    if before is None or not 0 <= head < before.start():
        raise ValueError("Evidently's page has no data in its head: an unsupported version of Evidently is installed")
    shown, end = _data(page, before.end())
    between = SECOND.match(page, end)
    if between is None:
        raise ValueError("Evidently's page has no second block of data: an unsupported version of Evidently is installed")
    graphs, end = _data(page, between.end())
    start = head + len(HEAD)
    return "".join([page[:start], NO_REQUESTS, page[start : before.end()], shown, between.group(), graphs, page[end:]])


def _data(page: str, start: int) -> tuple[str, int]:
    """Return the JSON that starts there, escaped, and where it ends. JSON has these characters only within strings."""
    _, end = json.JSONDecoder().raw_decode(page, start)
    return page[start:end].translate(ESCAPES), end
